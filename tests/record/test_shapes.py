"""One damaged run is called damaged, by what is wrong with it, and takes nothing else down."""

from __future__ import annotations

import json

import pytest

from hdpo.cli.runs import result_of, result_text
from hdpo.config import SweepConfig, TrainConfig
from hdpo.record.folder import Run, RunWriter, State, all_runs
from workbench.data import catalog

INTERVAL = {"value": 0.5, "low": 0.4, "high": 0.6}
EVALUATION = {"pass_at": {"1": INTERVAL}, "cliff": INTERVAL, "n_problems": 4}


@pytest.fixture
def run(runs_folder) -> Run:
    """A whole run beside the one that is harmed."""
    for name in ("whole", "harmed"):
        writer = RunWriter.create("train", TrainConfig(), name=name)
        writer.metric("step", 1, reward=0.5, seconds=1.0)
        writer.metric("eval", 1, **EVALUATION)
        writer.status(State.DONE, done=1, total=1)
    return next(r for r in all_runs() if r.name == "harmed")


def seen(run: Run) -> str:
    """What every list and reader makes of all runs; the sentences on the harmed one."""
    frame = catalog.runs_frame()
    assert len(frame) == 2 and len(all_runs()) == 2
    for each in all_runs():
        each.status(), each.parts(), each.rollouts(), each.checkpoints(), each.members(), each.newest_checkpoint()
        catalog.steps_frame(each), catalog.evals_frame(each), catalog.slices_frame(each), catalog.probe_frame(each)
        if frame.set_index("id").loc[each.id, "kind"] != "damaged":
            result_of(each), result_text(each)
    whole = next(r for r in all_runs() if r.name != run.name)
    assert whole.damage() == [] and len(whole.metrics()) == 2
    return " ".join(run.damage())


LINES = {
    "a resume row of wrong types": '{"kind": "resume", "step": "2", "attempt": []}',
    "a row without a kind's name": '{"kind": 3, "step": 1, "attempt": 1}',
    "an interval that is none": json.dumps(
        {"kind": "eval", "step": 1, "attempt": 1, **EVALUATION, "pass_at": {"1": None}}
    ),
    "a count that is none": '{"kind": "scan_group", "step": 0, "attempt": 1, "problem_id": "a", "group": "cliff", "doubt": "", "n": null}',
    "a slice that is none": json.dumps({"kind": "eval", "step": 1, "attempt": 1, **EVALUATION, "by_level": [1]}),
    "a hundred thousand brackets": "[" * 100_000,
    "a step that is a text": '{"kind": "step", "step": "3", "attempt": 1}',
    "a number that is none": '{"kind": "step", "step": 3, "attempt": 1, "reward": 1e999}',
    "a number that no table holds": f'{{"kind": "step", "step": 3, "attempt": 1, "reward": {10**400}}}',
    "a value that is a list": '{"kind": "step", "step": 3, "attempt": 1, "reward": [1]}',
}


@pytest.mark.parametrize("line", LINES.values(), ids=LINES)
def test_a_damaged_row_is_left_out_and_counted(run, line) -> None:
    with (run.path / "metrics.jsonl").open("a") as f:
        f.write(line + "\n")
    assert "1 line left out, which cannot be read" in seen(run)
    assert [r["step"] for r in run.metrics("step")] == [1] and len(run.metrics()) == 2


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("status.json", '{"state": "done", "done": "many"}', "status.json"),
        ("status.json", '{"state": []}', "status.json"),
        ("status.json", "[" * 100_000, "status.json"),
        ("members.json", '[{"id": 5}]', "members.json"),
        ("members.json", "{}", "members.json"),
        ("rollouts/parts.jsonl", '{"step": 1, "attempt": 1, "role": 7, "part": "x", "groups": {}}\n', "parts.jsonl"),
        (
            "rollouts/parts.jsonl",
            '{"step": 1, "attempt": 1, "role": "student", "part": "../x", "groups": {}}\n',
            "parts.jsonl",
        ),
        ("config.json", "", "config.json"),
        ("config.json", '{"kind": ["train"], "config": {}}', "config.json"),
        ("config.json", '{"kind": "dance", "config": {}}', "config.json"),
        ("config.json", '{"kind": "train", "config": {}, "created": "today"}', "config.json"),
        ("config.json", '{"kind": "train", "config": {"future": {}}}', "future"),
    ],
)
def test_a_damaged_file_is_named(run, name, text, words) -> None:
    (run.path / name).write_text(text)
    assert words in seen(run)
    assert "Nothing" not in words and run.id in [r.id for r in all_runs()]


def test_a_file_that_is_missing_or_a_folder_is_named(run) -> None:
    (run.path / "metrics.jsonl").unlink()
    assert "metrics.jsonl: expected the run's rows" in seen(run)
    (run.path / "metrics.jsonl").mkdir()
    assert "metrics.jsonl: expected the run's rows" in seen(run)
    (run.path / "config.json").unlink()
    assert "config.json" in seen(run) and run.status().state is State.DONE


def test_members_that_are_none_are_left_out(runs_folder) -> None:
    sweep = RunWriter.create("sweep", SweepConfig())
    good = {"id": "a", "lambda": 0.3, "seed": 1}
    (sweep.path / "members.json").write_text(json.dumps([good, {"id": 5}, "x", {**good, "id": "../b"}]))
    assert Run(sweep.path).members() == [good]
    assert "members.json" in " ".join(Run(sweep.path).damage())
