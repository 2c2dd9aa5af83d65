"""What a problem set is before anything runs: counts as reading has them, golds, lengths, and what y* will be."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from hdpo.config import ScanConfig, replace_knobs
from hdpo.data.problems import divided, load_problems
from hdpo.errors import BadInput, Stopped
from hdpo.work import survey as under_test
from hdpo.work.survey import survey
from tests.conftest import needs_model


def rows(path: Path, number: int, **more: str) -> Path:
    text = ({"question": f"What is {i} + 1?", "answer": str(i + 1), **more} for i in range(number))
    path.write_text("".join(json.dumps(row) + "\n" for row in text), encoding="utf-8")
    return path


def config(problems: Path | str, **values: Any) -> ScanConfig:
    return replace_knobs(ScanConfig(), {"problems": str(problems), **values})


@pytest.mark.parametrize("problems", ["bundled:steep", "file", "apart"])
def test_it_divides_a_set_as_reading_does(tmp_path: Path, problems: str) -> None:
    data = config(problems).data
    if problems != "bundled:steep":
        apart = str(rows(tmp_path / "apart.jsonl", 7)) if problems == "apart" else ""
        share = 0.05 if apart else 0.3
        values = {"validation_problems": apart, "validation_share": share}
        data = config(rows(tmp_path / "set.jsonl", 40), **values).data
    found = [(side, p.text) for side, p in divided(data, Counter(), [], lambda read: None)]
    for side in ("train", "validation"):
        assert [t for s, t in found if s == side] == [p.text for p in load_problems(data, side).problems]


def test_a_set_without_solutions_says_what_y_star_will_be(tmp_path: Path) -> None:
    needs_model()
    file = rows(tmp_path / "qa.jsonl", 60)
    found = survey(config(file))
    assert found["counts"]["unsolved"] == 60
    assert any("--information answer" in words and r"\boxed" in words for words in found["told"])
    assert any("below 50" in words for words in found["warnings"])
    assert found["lengths"]["student"]["longest"] < found["lengths"]["privileged"]["longest"]
    wide = survey(config(file, validation_share=0.9, information="answer"))
    assert wide["sides"]["validation"] >= 50 and wide["warnings"] == []
    assert any(words.startswith("y* is the final answer alone") for words in wide["told"])


def test_golds_that_the_grader_refuses_and_prompts_that_do_not_fit_are_told(tmp_path: Path) -> None:
    needs_model()
    rows(tmp_path / "set.jsonl", 3)
    with (tmp_path / "set.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"question": "How do you feel?", "answer": "quite well"}) + "\n")
        file.write(json.dumps({"question": "What is 1 + 1? " * 200, "answer": "2"}) + "\n")
        file.write(json.dumps({"question": "No answer?", "answer": None}) + "\n")
    found = survey(config(tmp_path / "set.jsonl", grader="number"))
    assert [bad["gold"] for bad in found["grader"]["first"]] == ["quite well"]
    assert found["counts"]["skipped"] == 1 and "null" in found["counts"]["skipped_first"][0]
    assert found["lengths"]["student"]["too_long"] == 1
    words = " ".join(found["warnings"])
    assert "quite well" in words and "1 prompts, and 1 with y*" in words


def test_a_grader_that_does_not_read_this_set_is_told_and_a_bug_in_one_is_a_sentence(tmp_path: Path) -> None:
    file = rows(tmp_path / "set.jsonl", 5, solution="It is as it is.")
    found = survey(config(file, grader="pattern:#### (.+)"))
    assert (found["grader"]["accepted"], found["grader"]["tried"]) == (0, 5)
    assert any("says wrong of most y*" in words for words in found["warnings"])
    mine = tmp_path / "mine.py"
    mine.write_text("def right(completion, gold, problem):\n    return completion.split('#')[1] == gold\n")
    with pytest.raises(BadInput, match=r"line 2 of mine\.py"):
        survey(config(file, grader=f"{mine}:right"))


def test_of_a_large_set_golds_and_lengths_are_those_of_a_draw(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_model()
    monkeypatch.setattr(under_test, "SAMPLE", 10)
    found = survey(config(rows(tmp_path / "set.jsonl", 200)))
    assert found["counts"]["problems"] == 200 and found["lengths"]["looked_at"] == 10
    assert any("of 10 drawn" in words for words in found["told"])
    assert len(found["shown"]) == 3 and found["shown"][0]["text"] == "What is 0 + 1?"


def test_it_can_be_stopped_while_it_reads_rows_that_are_no_problems(tmp_path: Path) -> None:
    def gone(read: int) -> None:
        if read:
            raise Stopped("gone")

    path = rows(tmp_path / "set.jsonl", 1)
    path.write_text(path.read_text() * 1500)
    with pytest.raises(Stopped):
        survey(config(path), gone)


def test_of_very_long_texts_a_few_are_counted_and_that_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_model()
    monkeypatch.setattr(under_test, "CHARACTERS", 50)
    found = survey(config(rows(tmp_path / "set.jsonl", 60)))
    assert found["lengths"]["looked_at"] == 3
    assert any(words.startswith("Prompts, of 3 drawn: median") for words in found["told"])


def test_the_columns_are_named_and_a_model_that_is_not_here_is_no_error(tmp_path: Path) -> None:
    gsm = tmp_path / "gsm.jsonl"
    gsm.write_text(json.dumps({"question": "1+1?", "answer": "1+1=2\n#### 2"}) + "\n")
    found = survey(config(gsm, model=str(tmp_path / "nowhere")))
    assert found["fields"] == {"text": "question", "solution": "answer", "answer": "answer"}
    assert "nowhere" in found["lengths"]["unknown"]
