"""Rows of files: separators, packing, arrays, line ends, folders of shards."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from hdpo.errors import BadInput
from tests.data.reading import read_problems

CASES = Path(__file__).parent / "cases"
ROWS = [{"text": f"{n}+1?", "solution": f"{n}+1={n + 1}", "answer": str(n + 1)} for n in range(3)]
LINES = "".join(json.dumps(row) + "\n" for row in ROWS)


def table(mark: str, end: str = "\n") -> str:
    return end.join(mark.join(row) for row in [list(ROWS[0]), *(row.values() for row in ROWS)]) + end


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("set.csv", table(";").encode()),
        ("set.csv", table("\t").encode()),
        ("set.tsv", table("\t").encode()),
        ("set.csv", table(", ").encode()),
        ("set.csv", table(",", "\r").encode()),
        ("set.csv", ("\n" + table(",", "\r\n")).encode("utf-8-sig")),
        ("set.csv.gz", gzip.compress(table(",").encode(), mtime=0)),
        ("set.jsonl.gz", gzip.compress(LINES.encode(), mtime=0)),
        ("set.JSONL", LINES.replace("\n", "\r").encode()),
        ("set.json", json.dumps(ROWS, indent=2).encode("utf-8-sig")),
        ("set.json", LINES.encode()),
    ],
)
def test_every_way_of_writing_the_same_rows(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    found = read_problems(tmp_path / name)
    assert [(p.text, p.solution, p.answer) for p in found.problems] == [tuple(row.values()) for row in ROWS]
    assert found.problems[0].source == "set" and found.problems[0].id.startswith("set-")


def test_old_line_ends_and_long_cells(tmp_path: Path) -> None:
    assert [p.answer for p in read_problems(CASES / "old_lines.csv").problems] == ["4", "6"]
    (tmp_path / "long.csv").write_text(f'text,solution,answer\n"Two and two?","{"so " * 60_000}",4\n3+3?,6,6\n')
    assert [p.answer for p in read_problems(tmp_path / "long.csv").problems] == ["4", "6"]


@pytest.mark.parametrize(
    ("name", "limit", "most"),
    [
        ("set.jsonl.gz", "LARGEST", 60),
        ("set.csv.gz", "MOST_LINES", 1),
        ("set.json.gz", "LARGEST", 60),
        ("set.jsonl", "LONGEST_LINE", 20),
    ],
)
def test_a_small_file_that_unpacks_to_a_large_one_is_not_read_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, limit: str, most: int
) -> None:
    (tmp_path / name).write_bytes((gzip.compress if name.endswith("gz") else bytes)(LINES.encode()))
    monkeypatch.setattr(f"hdpo.data.readers.{limit}", most)
    with pytest.raises(BadInput, match=f"{name} is too large: expected at most .* found more at line [12]"):
        read_problems(tmp_path / name)


def test_a_row_is_named_by_the_line_on_which_it_begins(tmp_path: Path) -> None:
    (tmp_path / "set.csv").write_text('text,answer\n\n"a\nb?",1\n"c\nd?",\n')
    assert read_problems(tmp_path / "set.csv").skipped == ("Line 5 of set.csv has no gold answer; it was left out.",)


def test_a_folder_of_shards_is_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for n in (10, 9):
        (tmp_path / f"train-{n}-of-11.jsonl").write_text(json.dumps({**ROWS[0], "text": f"{n}?"}) + '\n{"text": "a"}\n')
    (tmp_path / "README.md").write_text("about")
    (tmp_path / "._train-9-of-11.jsonl").write_text("a Mac's")
    found = read_problems(tmp_path)
    assert [p.text for p in found.problems] == ["9?", "10?"]
    assert [s.split(" has ")[0] for s in found.skipped] == [f"Line 2 of train-{n}-of-11.jsonl" for n in (9, 10)]


def test_a_folder_that_is_no_single_set_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="is a folder: .* found none that ends in .jsonl"):
        read_problems(tmp_path)
    for name in ("train.jsonl", "test.jsonl"):
        (tmp_path / name).write_text(LINES)
    with pytest.raises(BadInput, match="is a folder: .* found test.jsonl, train.jsonl. Give one file"):
        read_problems(tmp_path)
