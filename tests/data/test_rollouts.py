"""Others' rollouts: each form known by what stands in it, what is read of a row, and what is refused by a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest

from hdpo.config import ProblemConfig
from hdpo.data.rollouts import Said, opened
from hdpo.errors import BadInput

TALK = [{"role": "user", "content": "1+1?"}]


def trl(**more: Any) -> dict[str, Any]:
    reply = [{"role": "assistant", "content": "\\boxed{2}"}]
    row = {"step": 3, "prompt": TALK, "completion": reply, "format_reward": 0.0, "accuracy_reward": 1.0}
    return row | {"solution": "2", "advantage": 0.7} | more


def parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def jsonl(path: Path, *rows: Any) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def read(path: Path, columns: str = "") -> tuple[str, list[Said], list[str]]:
    """What the file is, its rollouts, and what is wrong with rows."""
    log = opened(ProblemConfig(str(path), columns=columns))
    rows = list(log.said())
    return log.form, [s for _, found, _ in rows for s in found], [f"{place} {w}" for place, _, w in rows if w]


def test_a_folder_of_trls_logs_is_read_in_the_order_of_its_steps(tmp_path: Path) -> None:
    folder = tmp_path / "completions"
    folder.mkdir()
    for step in (10, 2):
        parquet(folder / f"completions_{step:05d}.parquet", [trl(step=step), trl(step=step, accuracy_reward=None)])
    form, said, _ = read(folder)
    assert form == "a completion log of TRL"
    assert [(s.step, s.right) for s in said] == [(2, True), (2, None), (10, True), (10, None)]
    assert said[0] == Said("1+1?", "2", 2, "\\boxed{2}", True, None)


def test_another_reward_function_is_the_label_where_it_speaks_of_what_is_correct(tmp_path: Path) -> None:
    row = trl(my_correctness_fn=0.0)
    del row["accuracy_reward"]
    _, (said,), _ = read(parquet(tmp_path / "log.parquet", [row]))
    assert said.right is False


def test_rlloggingboards_lines_have_their_lengths(tmp_path: Path) -> None:
    row = {"prompt": "1+1?", "response": "2", "response_tokens": ["2", "<e>"], "logprobs": [0.0, 0.0], "reward": -1}
    form, said, _ = read(jsonl(tmp_path / "log.jsonl", row | {"ground_truth": 2}))
    assert (form, said) == ("a log for RLLoggingBoard", [Said("1+1?", "2", None, "2", False, 2)])


@pytest.mark.parametrize(
    "row",
    [
        {"a": {"is_correct": True, "solution": "x"}, "b": {"is_correct": False, "solution": "y"}},
        {"responses": ["x", "y"], "correct": [True, False]},
        {"samples": [{"text": "x", "label": "correct"}, {"text": "y", "label": "wrong"}]},
        {"generations": [{"response": "x", "reward": 1.0}, {"response": "y", "reward": 0}, {"response": None}]},
    ],
)
def test_several_responses_in_a_row_are_several_rollouts(tmp_path: Path, row: dict[str, Any]) -> None:
    form, said, wrong = read(jsonl(tmp_path / "rows.jsonl", {"question": "q", "ground_truth": "g", **row}))
    assert (form, wrong) == ("rows with several responses each", [])
    assert [(s.response, s.right) for s in said] == [("x", True), ("y", False)]


def test_one_label_of_several_responses_is_none_of_each(tmp_path: Path) -> None:
    row = {"question": "q", "answer": "g", "responses": ["x", "y"], "correct": 2}
    _, said, _ = read(jsonl(tmp_path / "rows.jsonl", row))
    assert [s.right for s in said] == [None, None]


def test_a_mapping_names_columns_and_from_which_label_on_a_response_is_right(tmp_path: Path) -> None:
    rows = [{"Aufgabe": "q", "Antwort": "x", "Note": note} for note in (0.4, 0.6)]
    path = jsonl(tmp_path / "rows.jsonl", *rows)
    with pytest.raises(BadInput, match="no prompt, no response; its columns are Aufgabe, Antwort, Note. Name them"):
        read(path)
    columns = "text=Aufgabe,response=Antwort,label=Note"
    assert [s.right for s in read(path, f"{columns}>=0.5")[1]] == [False, True]
    assert "there is 0.4 among them" in " ".join(opened(ProblemConfig(str(path), columns=columns)).told("math"))
    with pytest.raises(BadInput, match="no Notiz"):
        read(path, "text=Aufgabe,response=Antwort,label=Notiz")


def test_the_grader_of_worked_golds_is_offered(tmp_path: Path) -> None:
    rows = [{"question": "q", "ground_truth": f"so\nA: 1{n}", "a": {"solution": "A: 1"}} for n in range(3)]
    log = opened(ProblemConfig(str(jsonl(tmp_path / "rows.jsonl", *rows))))
    assert log.grader == "pattern:A: (.+)" and log.grader in log.told("math")[-1]
    assert log.grader not in " ".join(log.told(log.grader))


def test_rows_that_are_none_are_left_out_by_their_place(tmp_path: Path) -> None:
    good = {"prompt": "q", "response": "x", "label": 1}
    bad = [{**good, "prompt": None}, {**good, "response": "\ud800"}, {**good, "response": None}]
    _, said, wrong = read(jsonl(tmp_path / "rows.jsonl", good, *bad))
    assert len(said) == 1
    assert [w.split(" of rows.jsonl ")[1][:12] for w in wrong] == ["has no promp", "holds half o", "has no respo"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "q", "response": "x"}, "no label and no gold"),
        ({"prompt": "q", "label": 1}, "no response"),
        ({"prompt": None, "response": "x", "label": 1}, "no row with both"),
        ([], "should be a JSON object"),
    ],
)
def test_what_is_no_log_is_a_sentence(tmp_path: Path, row: Any, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        read(jsonl(tmp_path / "rows.jsonl", row))
    with pytest.raises(BadInput, match="expected a file of rollouts, found none"):
        opened(ProblemConfig())
