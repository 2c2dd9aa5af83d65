"""`python -m hdpo import` and `verify`: what they say, and what machines get."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdpo.cli.main import main
from tests.work.test_imports import log


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path / "runs"))
    return tmp_path


def test_an_import_says_form_census_passes_and_what_our_verifier_says_otherwise(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = str(log(root / "log.jsonl"))
    assert main(["import", file]) == 0
    said = capsys.readouterr().out
    for words in (
        "log.jsonl is a log for RLLoggingBoard: prompt from prompt, gold from ground_truth",
        "3 cliff (43%)",
        "pass@4 0.571 [",
        "beyond that unknown",
        "false positives of our verifier: 1 of 13 rollouts",
        "no verdict of our verifier on 4 labelled rollouts",
        "labelled wrong, ours says correct: '2.0' for '2' (compared as numbers)",
        "28 rows: 7 problems, 0 left out; 28 rollouts, 28 of them labelled.",
    ):
        assert words in said
    assert main(["runs", "show", "latest", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)["result"]
    assert result["groups"] == {"cliff": 3, "mixed": 2, "solved": 2} and len(result["disagreements"]) == 1


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([], "expected a file of rollouts, found none"),
        (["nowhere.jsonl"], "There is no file"),
        (["log.jsonl", "--columns", "text=nothing"], "no nothing; its columns are prompt"),
        (["log.jsonl", "--grader", "mine"], "grader: expected"),
    ],
)
def test_a_bad_import_is_a_sentence_and_leaves_no_run(
    root: Path, given: list[str], words: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    log(root / "log.jsonl")
    monkeypatch.chdir(root)
    assert main(["import", *given]) == 2
    assert words in capsys.readouterr().err and not (root / "runs").exists()


def test_both_parses_are_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", r"x = \dfrac12", r"50\%"]) == 0
    said = capsys.readouterr().out
    assert r"gold     \frac{1}{2} (named x), compared by math-verify" in said
    assert "answer   50 (per cent), compared by math-verify" in said and "verdict  correct" in said
