"""A log is read on from where it was, and from its start where it is another one."""

import json
import os
from pathlib import Path

import pytest

from hdpo.errors import HdpoError
from hdpo.record import files
from hdpo.record.files import append_line, beside, broken_lines, read_lines, readable_table, write_table


def steps(path: Path) -> list[int]:
    return [r["step"] for r in read_lines(path)]


def test_only_what_is_new_is_parsed(tmp_path: Path, monkeypatch) -> None:
    log, parsed = tmp_path / "log.jsonl", []
    whole = json.loads
    monkeypatch.setattr(files.json, "loads", lambda line: parsed.append(line) or whole(line))
    for step in range(5):
        append_line(log, {"step": step, "attempt": 1})
    assert steps(log) == [0, 1, 2, 3, 4] and len(parsed) == 5
    append_line(log, {"step": 5, "attempt": 1})
    assert steps(log) == [0, 1, 2, 3, 4, 5] and len(parsed) == 6


def test_a_line_that_is_being_written_counts_when_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    append_line(log, {"step": 0, "attempt": 1})
    with log.open("a") as f:
        f.write('{"step": 1, ')
        f.flush()
        assert steps(log) == [0] and broken_lines(log) == 1
        f.write('"attempt": 1}\n')
    assert steps(log) == [0, 1] and broken_lines(log) == 0


def test_another_file_of_that_name_is_read_from_its_start(tmp_path: Path) -> None:
    log, other = tmp_path / "log.jsonl", tmp_path / "other"
    for step in range(3):
        append_line(log, {"step": step, "attempt": 1})
    assert steps(log) == [0, 1, 2]
    log.write_text(json.dumps({"step": 7, "attempt": 1}) + "\n")  # shorter, in place
    assert steps(log) == [7]
    log.write_text("".join(json.dumps({"step": s, "attempt": 1}) + "\n" for s in (8, 9, 10, 11)))  # longer, in place
    assert steps(log) == [8, 9, 10, 11]
    append_line(other, {"step": 1, "attempt": 1})
    os.replace(other, log)
    assert steps(log) == [1]
    log.unlink()
    assert steps(log) == []


def test_a_broken_line_is_counted_once_and_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text('{"step": 0, "attempt": 1}\nnonsense\n{"no": "step"}\n')
    assert steps(log) == [0] and broken_lines(log) == 2
    append_line(log, {"step": 1, "attempt": 1})
    assert steps(log) == [0, 1] and broken_lines(log) == 2


def test_a_table_is_asked_again_when_it_changes(tmp_path: Path) -> None:
    table = tmp_path / "t.parquet"
    write_table(table, [{"a": 1}])
    assert readable_table(table)
    table.write_bytes(table.read_bytes()[:20])
    assert not readable_table(table) and not readable_table(tmp_path / "absent.parquet")


def test_a_folder_gives_way_only_to_a_whole_one(tmp_path: Path) -> None:
    for text in ("old", "new"):
        with beside(tmp_path / "model") as aside:
            aside.mkdir()
            (aside / "weights").write_text(text)
    assert [(tmp_path / "model" / "weights").read_text()] == ["new"] and len(list(tmp_path.iterdir())) == 1
    with pytest.raises(HdpoError), beside(tmp_path / "model"):
        pass  # nothing was made, so that the rename fails
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")] == ["model", "model/weights"]
    assert (tmp_path / "model" / "weights").read_text() == "new"  # not lost with it, and where it was
