"""An import as a run: its census by labels in any order of rows, our verdicts beside them, stopped and gone on with."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from hdpo.config import ImportConfig, ProblemConfig, replace_knobs
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.work import imports
from hdpo.work.execute import execute
from hdpo.work.imports import compared, disagreements, errors, unjudged
from tests.conftest import execute_here
from tests.grading.test_verify import GSM8K


def log(path: Path, prompts: int = 7, labelled: bool = True, shuffled: bool = False) -> Path:
    """Prompt i of 4 rollouts, i mod 3 · 2 of them right (none, two, all); the gold of prompt 6 is a remark, of prompt 1 the
    first right rollout is labelled wrong."""
    rows = []
    for i in range(prompts):
        for k in range(4):
            right = k < 2 * (i % 3)
            row = {
                "prompt": f"{i}+1?",
                "response": f"{k}: \\boxed{{{i + (1 if right else 7)}.0}}",
                "response_tokens": ["a"] * k,
            }
            row |= {"ground_truth": "see text" if i == 6 else str(i + 1)}
            rows.append(row | ({"reward": float(right and (i, k) != (1, 0))} if labelled else {}))
    if shuffled:
        random.Random(0).shuffle(rows)
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def imported(root: Path, file: Path, **settings: Any) -> Run:
    config = replace_knobs(ImportConfig(), {"problems": str(file), **settings})
    return Run(execute_here(root, "import", config))


def census(run: Run) -> dict[str, tuple[str, int, int]]:
    texts = {p["id"]: p["text"] for p in run.table("problems", 0)}
    return {texts[r["problem_id"]]: (r["group"], r["n"], r["correct"]) for r in run.metrics("scan_group")}


@pytest.fixture
def small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(imports, "CHUNK", 2)


@pytest.mark.parametrize("shuffled", [False, True])
def test_the_census_is_the_labels_in_any_order_of_the_rows(tmp_path: Path, small_parts: None, shuffled: bool) -> None:
    run = imported(tmp_path / "runs", log(tmp_path / "log.jsonl", shuffled=shuffled))
    found = census(run)
    assert [found[f"{i}+1?"] for i in range(3)] == [("cliff", 4, 0), ("mixed", 4, 1), ("solved", 4, 4)]
    assert sum(kind == "cliff" for kind, _, _ in found.values()) == 3
    rows = run.rollouts()
    assert len(rows) == 28 and all(r["tokens"] == int(r["text"][0]) for r in rows)
    assert {r["logprob_sum"] for r in rows} == {r["length"] for r in run.metrics("scan_group")} == {None}
    assert not list(run.path.glob(".rows*")) and run.damage() == []


def test_our_verdicts_stand_beside_the_labels_and_errors_are_counted_by_prompt(
    tmp_path: Path, small_parts: None
) -> None:
    run = imported(tmp_path / "runs", log(tmp_path / "log.jsonl"))
    rows = compared(run)
    negatives, positives = errors(rows)
    assert (negatives["found"], negatives["rollouts"], negatives["prompts"]) == (0, 11, 4)
    assert (positives["found"], positives["rollouts"], positives["prompts"]) == (1, 13, 4)
    assert (
        positives["share"] == pytest.approx(1 / 3 / 4) and positives["low"] <= positives["share"] <= positives["high"]
    )
    assert negatives["low"] == 0.0 and negatives["high"] > 0.5 and unjudged(rows) == 4
    (one,) = disagreements(run, rows)
    assert (one["label"], one["verdict"], one["gold"], one["answer"]) == ("wrong", "correct", "2", "2.0")
    by_number = compared(imported(tmp_path / "runs", tmp_path / "log.jsonl", grader="number"))
    assert unjudged(by_number) == 4, "no number is in the gold"
    assert one["rule"] == "compared as numbers" and one["answer_read"] == "2.0, compared by math-verify"


@pytest.mark.skipif(not GSM8K.is_dir(), reason="shared/data/gsm8k is not beside this checkout")
def test_the_census_of_real_model_solutions_is_known_and_no_label_contradicts_our_verifier(tmp_path: Path) -> None:
    run = imported(tmp_path / "runs", GSM8K / "model_solutions_sample.jsonl", grader="pattern:A: (.+)")
    groups = Counter(r["group"] for r in run.metrics("scan_group"))
    assert groups == {"cliff": 219, "mixed": 353, "solved": 88}
    rows = compared(run)
    assert [(e["rollouts"], e["found"]) for e in errors(rows)] == [(1008, 0), (1632, 0)] and not unjudged(rows)


def test_without_labels_our_verdicts_are_the_outcomes(tmp_path: Path) -> None:
    run = imported(tmp_path / "runs", log(tmp_path / "log.jsonl", labelled=False))
    found = census(run)
    assert found["1+1?"] == ("mixed", 4, 2) and found["6+1?"][0] == "gold unparsable" and compared(run) == []


def test_the_same_prompt_at_another_step_is_another_group(tmp_path: Path) -> None:
    rows = [{"step": s, "prompt": "q", "completion": "x", "advantage": 0.0, "reward": s - 1} for s in (1, 2, 2, 1)]
    file = tmp_path / "log.jsonl"
    file.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    found = imported(tmp_path / "runs", file).metrics("scan_group")
    assert [(r["problem_id"][-2:], r["group"]) for r in found] == [("@1", "cliff"), ("@2", "solved")]


def test_a_limit_takes_the_first_prompts_whole(tmp_path: Path) -> None:
    run = imported(tmp_path / "runs", log(tmp_path / "log.jsonl", shuffled=True), limit=2)
    assert [n for _, n, _ in census(run).values()] == [4, 4]


def test_a_stopped_import_goes_on_and_ends_as_an_unbroken_one(
    tmp_path: Path, small_parts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = ImportConfig(data=ProblemConfig(str(log(tmp_path / "log.jsonl"))))
    path = RunWriter.create("import", config, root=tmp_path / "runs").path
    write, verdicts = imports.write, imports.verdicts

    def stop_after(real: Any, when: int) -> Any:
        def wrapped(*args: Sequence[Any]) -> Any:
            nonlocal when
            if (when := when - 1) == 0:
                request_stop(path)
            return real(*args)

        return wrapped

    for name, real in (("write", write), ("verdicts", verdicts)):
        monkeypatch.setattr(imports, name, stop_after(real, 2))
        ending = execute(path, resume=True)
        assert ending.state is State.STOPPED and "goes on where it ended" in ending.message
        monkeypatch.setattr(imports, name, real)
        (path / "stop").unlink()
    first = Run(path).tables("verdicts")
    assert 0 < len(first) < 4
    written = first[0].stat().st_mtime_ns
    assert execute(path, resume=True).state is State.DONE and first[0].stat().st_mtime_ns == written
    whole = imported(tmp_path / "others", log(tmp_path / "log.jsonl"))
    assert census(Run(path)) == census(whole) and compared(Run(path)) == compared(whole)


def test_another_file_under_the_same_name_is_refused_by_a_resume(tmp_path: Path, small_parts: None) -> None:
    run = imported(tmp_path / "runs", log(tmp_path / "log.jsonl"))
    log(tmp_path / "log.jsonl", prompts=3)
    ending = execute(run.path, resume=True)
    assert ending.bad_input and "expected the file that this import began with" in ending.message
