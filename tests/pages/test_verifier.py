"""Others' rollouts on the pages Cliffs and Verifier: taken in, browsed without a model, held against the verifier."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hdpo.record.folder import Run, all_runs
from hdpo.work import jobs
from hdpo.work.execute import execute
from tests.fakes import open_page
from tests.pages.test_explore import answer_all, errors
from tests.pages.test_problems import shown
from tests.work.test_imports import imported, log


@pytest.fixture(scope="module")
def desk() -> Any:
    from hdpo.work.interactive import Desk

    return Desk()


def test_a_file_is_said_imported_and_opened_with_our_verdicts_beside_its_labels(
    runs_folder: Path, tmp_path: Path
) -> None:
    at = open_page("cliffs", cliffs_file=str(log(tmp_path / "log.jsonl")))
    assert not errors(at) and "is a log for RLLoggingBoard" in shown(at)
    assert f"python -m hdpo import {tmp_path / 'log.jsonl'}" in shown(at)
    at.button("cliffs_import").click().run()
    assert not errors(at)
    (run,) = all_runs(runs_folder)
    job = jobs.claim("heavy")
    assert job is not None and job.payload["run"] == run.id and run.name == "log.jsonl"
    jobs.finish(job.id, execute(run.path, resume=False).state)
    at = open_page("cliffs", cliffs_scan=run.id)
    assert not errors(at) and "7 prompts: 3 cliffs, 2 mixed, 2 solved. pass@1" in shown(at)
    mixed = next(r["problem_id"] for r in run.metrics("scan_group") if r["group"] == "mixed")
    at.selectbox("cliffs_prompt").select(mixed).run()
    assert not errors(at) and "These rollouts were drawn elsewhere" in shown(at)
    notes = [t.value for t in at.text]
    assert "by its label; our verifier says: correct (compared as numbers)" in notes
    assert not [
        j
        for j in jobs.jobs("interactive")
        if j.payload["request"] == "gradient" and j.payload["problem"]["id"] == mixed
    ]
    assert any("verifier" in p.proto.page for p in at.get("page_link"))


def test_an_upload_is_taken_and_a_bad_file_is_a_sentence(runs_folder: Path, tmp_path: Path) -> None:
    at = open_page("cliffs")
    data = log(tmp_path / "log.jsonl").read_bytes()
    at.file_uploader("cliffs_rollouts_file").upload("../my log.jsonl", data, "text/plain").run()
    assert not errors(at) and "my_log.jsonl is a log for RLLoggingBoard" in shown(at)
    at = open_page("cliffs", cliffs_file=str(tmp_path / "nowhere.jsonl"))
    assert "There is no file" in errors(at)[0]
    (tmp_path / "bad.jsonl").write_text(json.dumps({"<b>x</b>": 1}) + "\n")
    at = open_page("cliffs", cliffs_file=str(tmp_path / "bad.jsonl"))
    assert "its columns are <b>x</b>" in errors(at)[0] and not at.exception


def test_the_bench_shows_both_parses_and_the_rule(runs_folder: Path, desk: Any) -> None:
    at = open_page("verifier", verifier_gold="12 cm", verifier_answer="\\boxed{12\\text{ m}}")
    assert "No labels yet" in shown(at)
    at = answer_all(desk, at)
    assert not errors(at)
    assert "Wrong: units are not converted." in shown(at) and "12 (in m), compared by math-verify" in shown(at)
    at = open_page("verifier", verifier_grader="pattern:(")
    assert "expected a regular expression" in errors(at)[0]


def test_labels_give_errors_with_intervals_and_each_disagreement(runs_folder: Path, tmp_path: Path) -> None:
    run: Run = imported(runs_folder, log(tmp_path / "log.jsonl"))
    at = open_page("verifier", verifier_run=run.id)
    assert not errors(at)
    assert "0 false negatives in 11 rollouts, 1 false positives in 13 rollouts." in shown(at)
    assert "4 labelled rollouts have no verdict of ours" in shown(at)
    table, listed = (d.value for d in at.dataframe[:2])
    assert list(table["prompts"]) == [4, 4] and list(listed["answer"]) == ["2.0"]
