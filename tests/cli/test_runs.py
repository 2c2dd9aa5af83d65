"""`python -m hdpo runs`: what is listed, shown, compared, taken along, and taken away and brought back."""

from __future__ import annotations

import csv
import io
import json
import re
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from hdpo.cli.main import main
from hdpo.config import ScanConfig, replace_knobs
from hdpo.record.fingerprint import Fingerprint
from hdpo.record.folder import Run, RunWriter, State, find_run
from hdpo.work import jobs
from hdpo.work.execute import execute
from tests.fakes import fake_pair, fake_scan_run, fake_train_run


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    return tmp_path


def told(capsys, *arguments: str, code: int = 0):
    """What a command prints on standard output, as JSON; or on standard error, where it is refused."""
    assert main([*arguments, "--json"]) == code
    out = json.loads(capsys.readouterr().out)
    return out["error"] if code else out


# --- looking ----------------------------------------------------------------------------------------------------------


def test_the_list_says_what_ran_on_what_and_what_came_out(root, capsys):
    run = Run(fake_train_run(root, 0.1))
    pair = Run(fake_pair(root))
    rows = {r["run"]: r for r in told(capsys, "runs")}
    last = run.metrics("eval")[-1]["pass_at"]
    mine = rows[run.id]
    assert (mine["λ"], mine["model"], mine["data"], mine["state"]) == ("0.1", "bundled", "bundled:steep", "done")
    assert (mine["pass@1"], mine["pass@8"]) == (round(last["1"]["value"], 3), round(last["8"]["value"], 3))
    assert rows[pair.id]["λ"] == "0,0.3"
    assert main(["runs", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[0].split()[:3] == ["run", "name", "kind"]


def test_a_damaged_folder_has_a_line_a_sentence_and_can_be_deleted(root, capsys):
    run = Run(fake_train_run(root))
    (run.path / "config.json").write_text("")
    assert main(["runs"]) == 0
    shown = capsys.readouterr()
    assert re.search(rf"{run.id} .*damaged", shown.out) and f"runs delete {run.id}" in shown.err
    assert main(["runs", "delete", run.id, "--yes"]) == 0
    assert not run.path.exists()


@pytest.mark.parametrize("name", ["id", "ending", "name", "latest", "folder"])
def test_a_run_answers_to_its_id_its_ending_its_name_and_latest(root, capsys, name):
    fake_train_run(root, 0.1)
    pair = Run(fake_pair(root))
    for member in pair.path.parent.glob("*-train-*"):  # what a sweep makes is not the latest run
        frozen = json.loads((member / "config.json").read_text())
        (member / "config.json").write_text(json.dumps({**frozen, "command": f"member of {pair.id}"}))
    names = {"id": pair.id, "ending": pair.id[-4:], "name": "a pair", "latest": "latest", "folder": str(pair.path)}
    assert told(capsys, "runs", "show", names[name])["run"] == pair.id


def test_what_may_mean_two_runs_is_refused_with_their_ids(root, capsys):
    ids = [Path(fake_train_run(root)).name for _ in range(2)]
    error = told(capsys, "runs", "show", "λ = 0.3, seed 0", code=2)
    assert "found 2 that 'λ = 0.3, seed 0' may mean" in error and all(i in error for i in ids)
    assert "`python -m hdpo runs` lists all" in told(capsys, "runs", "show", "nothing", code=2)


def test_what_a_scan_and_a_sweep_came_to(root, capsys):
    scan, sweep = Run(fake_scan_run(root)), Run(fake_pair(root))
    assert main(["runs", "show", scan.id]) == 0
    text = capsys.readouterr().out
    assert (
        "12 problems: 4 cliff (33%)" in text
        and "48 graded rollouts: 24 correct, 20 wrong, 0 without an answer, 4 cut off" in text
    )
    assert main(["runs", "show", sweep.id]) == 0
    text = capsys.readouterr().out
    assert "λ = 0, seed 0: step" in text and "λ = 0.3, seed 0: step" in text


def test_compare_shows_what_differs_in_settings_and_results(root, capsys):
    a, b = (Run(fake_train_run(root, lam)) for lam in (0.0, 1.0))
    found = told(capsys, "runs", "compare", a.id, b.id)
    assert found["settings"] == [{"setting": "--lambda", a.id: 0.0, b.id: 1.0}]
    rows = {r["at the end"]: r for r in found["results"]}
    value = b.metrics("eval")[-1]["pass_at"]["8"]["value"]
    assert rows["pass@8"][b.id].startswith(f"{value:.3f} [") and "cliffs" in rows
    assert "points" in rows["pass@8"]["difference"] or "no visible" in rows["pass@8"]["difference"]
    assert main(["runs", "compare", a.id, a.id]) == 0
    out = capsys.readouterr().out
    assert "same settings" in out and "unknown: an older run does not say its model, adapter, problems" in out


def test_compare_refuses_results_that_do_not_measure_the_same_and_names_the_fields(root, capsys):
    a, b = (Run(fake_train_run(root)) for _ in range(2))
    whole = Fingerprint(*(["same"] * 11))
    for run, made_of in ((a, whole), (b, replace(whole, problems="other", grader="other"))):
        RunWriter(run.path, 0).pin(fingerprint=asdict(made_of))
    found = told(capsys, "runs", "compare", a.id, b.id)
    assert found["measured"] == "Not to be compared: they differ in problems and grader." and not found["results"]
    assert found["settings"][0] == {"setting": "fingerprint: problems", a.id: "same", b.id: "other"}


# --- taking along -----------------------------------------------------------------------------------------------------


def test_export_writes_every_metric_or_one_kind(root, tmp_path, capsys):
    run, out = Run(fake_train_run(root)), tmp_path / "metrics.csv"
    assert main(["runs", "export", run.id, "--out", str(out)]) == 0
    head, *lines = out.read_text().splitlines()
    assert "pass_at.8.value" in head.split(",")
    assert len(lines) == len(run.metrics())
    capsys.readouterr()
    assert main(["runs", "export", run.id, "--kind", "step"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [r["step"] for r in rows] == ["1", "2", "3", "4"] and "pass_at.8.value" not in rows[0]
    assert told(capsys, "runs", "export", run.id, "--kind", "eval") == run.metrics("eval")
    everything = told(capsys, "runs", "export", run.id)
    assert everything["metrics"] == run.metrics() and everything["config"] == run.frozen()["config"]


def test_a_pair_exports_its_members(root, capsys):
    pair = Run(fake_pair(root))
    assert main(["runs", "export", pair.id, "--kind", "eval"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert {(r["lambda"], r["seed"]) for r in rows} == {("0.0", "0"), ("0.3", "0")} and len(
        {r["run"] for r in rows}
    ) == 2
    assert [len(m["metrics"]) > 0 for m in told(capsys, "runs", "export", pair.id)["members"]] == [True, True]


def test_an_export_that_cannot_be_is_a_sentence(root, tmp_path, capsys):
    run = Run(fake_train_run(root))
    assert "found a folder" in told(capsys, "runs", "export", run.id, "--out", str(tmp_path), code=2)
    assert "no folder" in told(capsys, "runs", "export", run.id, "--out", str(tmp_path / "no" / "x.csv"), code=2)
    assert "found csv" in told(capsys, "runs", "export", run.id, "--format", "csv", code=2)
    assert "that " + run.id + " has (eval, probe, step), found stp" in told(
        capsys, "runs", "export", run.id, "--kind", "stp", code=2
    )


# --- doing ------------------------------------------------------------------------------------------------------------


def test_a_name_is_one_line_and_of_one_run(root, capsys):
    run, other = (Run(fake_train_run(root, lam)) for lam in (0.1, 1.0))
    assert told(capsys, "runs", "rename", run.id, "ein Name mit π")["name"] == "ein Name mit π"
    assert run.id in told(capsys, "runs", "rename", other.id, "ein Name mit π", code=2)
    assert "one line" in told(capsys, "runs", "rename", other.id, "two\nlines", code=2)
    assert find_run("ein Name mit π").id == run.id


def test_a_deleted_run_comes_back_and_a_sweep_with_its_members(root, capsys):
    pair = Run(fake_pair(root))
    before = sorted(p.name for p in root.glob("*/config.json"))
    assert "--yes" in told(capsys, "runs", "delete", pair.id, code=2)
    assert len(told(capsys, "runs", "delete", pair.id, "--yes")["runs"]) == 3
    assert not list(root.glob("*/config.json"))
    assert told(capsys, "runs", "restore", pair.id)["run"] == pair.id
    assert sorted(p.name for p in root.glob("*/config.json")) == before
    assert "expected" in told(capsys, "runs", "restore", pair.id, code=2)


def test_what_waits_is_stopped_before_it_is_deleted(root, capsys):
    run = Run(RunWriter.create("train", Run(fake_train_run(root)).load_config()).path)
    jobs.submit(jobs.HEAVY, {"run": run.id, "resume": False})
    error = told(capsys, "runs", "delete", run.id, "--yes", code=3)
    assert f"runs stop {run.id}" in error
    assert told(capsys, "runs", "stop", run.id)["state"] == State.STOPPED.value
    assert "found it stopped" in told(capsys, "runs", "stop", run.id, code=2)
    assert told(capsys, "runs", "delete", run.id, "--yes")["run"] == run.id


def test_what_comes_with_the_project_stays(root, capsys):
    recorded = next(r["run"] for r in told(capsys, "runs"))
    assert "comes with the project" in told(capsys, "runs", "delete", recorded, "--yes", code=2)


def test_show_says_whose_forward_pass_computed(root, capsys):
    path = RunWriter.create(
        "scan", replace_knobs(ScanConfig(), {"limit": 2, "rollouts": 2, "max_new_tokens": 4}), root
    ).path
    assert execute(path, resume=False).state is State.DONE
    assert main(["runs", "show", path.name]) == 0
    assert "Forward pass: flat" in capsys.readouterr().out
