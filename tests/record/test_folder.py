"""The run folder under a crash, a resume, a cut at any byte, and a full disk."""

import errno
import json
import os
import shutil
import subprocess
import sys

import pytest
from safetensors import SafetensorError

from hdpo import processes
from hdpo.config import TrainConfig, replace_knobs
from hdpo.errors import BadInput, HdpoError
from hdpo.record.folder import Run, RunWriter, State, all_runs, find_run
from hdpo.records import Group, Outcome, Problem, Rollout

PROBLEM = Problem("a", "1+1?", "1+1=2 \\boxed{2}", "2", "doc", 1)
GROUP = Group(
    PROBLEM, (1, 2), tuple(Rollout("a", i, (3, 4), (-0.5, -0.25), f"t{i}", Outcome.WRONG, "7") for i in range(3))
)


@pytest.fixture
def writer(tmp_path):
    return RunWriter.create(
        "train", replace_knobs(TrainConfig(), {"lambda_": 0.1}), tmp_path, name="mine", command="do it"
    )


def filled(writer: RunWriter) -> Run:
    for step in (1, 2, 3):
        writer.metric("step", step, reward=step / 10)
        writer.rollouts(step, [GROUP], "student", advantage=[0.0] * 3)
    writer.table("eval", 0, [{"problem_id": "a", "n": 4, "correct": 1}])
    return Run(writer.path)


def test_what_was_written_is_read(writer) -> None:
    run = filled(writer)
    assert run.load_config().objective.lambda_ == 0.1 and run.kind == "train" and run.name == "mine"
    assert [m["reward"] for m in run.metrics("step")] == [0.1, 0.2, 0.3]
    rows = run.rollouts(step=2, role="student")
    assert [(r["index"], r["text"], r["outcome"], r["logprob_sum"]) for r in rows] == [
        (i, f"t{i}", "wrong", -0.75) for i in range(3)
    ]
    assert run.parts()[0]["groups"]["cliff"] == 1 and run.table("eval", 0)[0]["correct"] == 1
    assert run.damage() == []


@pytest.mark.parametrize("kind", ["data", "gold"])
def test_a_count_that_is_no_number_is_damage(writer, kind) -> None:
    writer.metric(kind, 0, ungradable=2)
    writer.metric(kind, 1, ungradable={"two": 2})
    run = Run(writer.path)
    assert [r["step"] for r in run.metrics(kind)] == [0] and "1 line left out" in run.damage()[0]


def test_a_value_without_an_interval_is_no_damage(writer) -> None:
    """As in a probe of one trace."""
    writer.metric("probe", 0, on="own", n_traces=1, kl={"value": 0.3, "low": None, "high": None})
    writer.metric("probe", 1, on="own", n_traces=1, kl={"value": 0.3})
    run = Run(writer.path)
    assert [m["step"] for m in run.metrics("probe")] == [0] and "1 line left out" in run.damage()[0]


def test_rows_beyond_the_checkpoint_are_superseded(writer) -> None:
    filled(writer)
    again = RunWriter.resume(writer.path, 1)
    run = Run(writer.path)
    assert [m["step"] for m in run.metrics("step")] == [1] and [p["step"] for p in run.parts()] == [1]
    again.metric("step", 2, reward=0.9)
    again.rollouts(2, [GROUP], "student", advantage=[1.0] * 3)
    assert [(m["step"], m["reward"], m["attempt"]) for m in run.metrics("step")] == [(1, 0.1, 1), (2, 0.9, 2)]
    assert {r["advantage"] for r in run.rollouts(step=2)} == {1.0}


def test_a_torn_line_is_left_out_and_cut_before_the_next_attempt(writer) -> None:
    run = filled(writer)
    with (run.path / "metrics.jsonl").open("a") as f:
        f.write('{"kind": "step", "st')
    assert len(run.metrics("step")) == 3 and any("metrics.jsonl" in d for d in run.damage())
    RunWriter.resume(run.path, 3).metric("step", 4, reward=0.4)
    assert [m["step"] for m in run.metrics("step")] == [1, 2, 3, 4] and run.damage() == []


def test_a_running_status_of_a_dead_process_reads_as_killed(writer) -> None:
    code = f"from pathlib import Path; from hdpo.record.folder import *; RunWriter(Path({str(writer.path)!r}), 1).status(State.RUNNING, done=3, total=9)"
    subprocess.run([sys.executable, "-c", code], check=True)
    status = Run(writer.path).status()
    assert status.state is State.KILLED and (status.done, status.total) == (3, 9) and "resume" in status.message
    writer.status(State.RUNNING)
    assert Run(writer.path).status().state is State.RUNNING, "this very process lives"


def test_a_pid_used_again_is_another_process() -> None:
    assert processes.life(os.getpid(), 1.0) is processes.Life.DEAD


@pytest.mark.parametrize(
    "name", ["config.json", "status.json", "metrics.jsonl", "rollouts/parts.jsonl", "part", "table"]
)
def test_a_folder_cut_off_at_any_byte_is_read_or_told(writer, tmp_path, name) -> None:
    run = filled(writer)
    files = {
        "part": next((run.path / "rollouts").glob("*.parquet")),
        "table": next((run.path / "tables").glob("*.parquet")),
    }
    whole = files.get(name, run.path / name)
    data = whole.read_bytes()
    for cut in {0, 1, len(data) // 3, len(data) // 2, len(data) - 1}:
        copy = tmp_path / f"cut-{cut}"
        shutil.copytree(run.path, copy)
        (copy / whole.relative_to(run.path)).write_bytes(data[:cut])
        damaged = Run(copy)
        (
            damaged.status(),
            damaged.metrics(),
            damaged.parts(),
            damaged.rollouts(),
            damaged.table("eval", 0),
            damaged.checkpoints(),
        )
        # a file of lines may be cut between two of them, which no reader can tell
        told = damaged.damage() or data[:cut].endswith(b"\n") or (whole.suffix == ".jsonl" and cut == 0)
        assert told, cut
        if name == "config.json":
            with pytest.raises(BadInput, match="config.json"):
                damaged.load_config()
        shutil.rmtree(copy)


def test_a_full_disk_is_a_sentence_and_leaves_what_was_there(writer, monkeypatch) -> None:
    before = (writer.path / "status.json").read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HdpoError, match="No space left on device"):
        writer.status(State.RUNNING)
    assert (writer.path / "status.json").read_bytes() == before
    assert not list(writer.path.glob(".*tmp"))


def test_a_full_disk_for_real(tmp_path) -> None:
    """A 64 KB file system, where mounting is allowed."""
    small = tmp_path / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True).returncode:
        pytest.skip("mounting a small file system is not allowed here")
    try:
        writer = RunWriter.create("train", TrainConfig(), small)
        with pytest.raises(HdpoError, match="HDPO_RUNS"):
            for step in range(4000):
                writer.metric("step", step, reward=0.5)
        rows = Run(writer.path).metrics("step")
        assert [r["step"] for r in rows] == list(range(len(rows))) and len(rows) > 10
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_checkpoints_appear_whole_and_old_ones_go(writer) -> None:
    for step in (1, 2, 3):
        with writer.checkpoint(step) as aside:
            (aside / "state.json").write_text(json.dumps({"step": step}))
            there = [p.name for p in Run(writer.path).checkpoints()]
            assert there == [f"step-{s:06d}" for s in range(max(1, step - 2), step)]
    assert [p.name for p in Run(writer.path).checkpoints()] == ["step-000002", "step-000003"]


def test_the_best_checkpoint_stays(writer) -> None:
    for step, chosen_on in ((1, 0.2), (2, 0.6), (3, 0.4), (4, 0.6), (5, None)):
        interval = {"value": 0.5, "low": 0.4, "high": 0.6}
        writer.metric("eval", step, pass_at={"1": interval}, cliff=interval, chosen_on=chosen_on)
        with writer.checkpoint(step) as aside:
            (aside / "state.json").write_text(json.dumps({"step": step}))
    assert [p.name for p in Run(writer.path).checkpoints()] == ["step-000002", "step-000004", "step-000005"]
    assert Run(writer.path).best() == 2


@pytest.mark.parametrize("error", [OSError(errno.ENOSPC, "No space left on device"), SafetensorError("No space left")])
def test_a_disk_that_fills_under_a_checkpoint_is_a_sentence_and_leaves_nothing_half(writer, error) -> None:
    with pytest.raises(HdpoError, match="No space left.*Free some space"), writer.checkpoint(4) as aside:
        (aside / "adapter.safetensors").write_bytes(b"half")
        raise error
    assert list((writer.path / "checkpoints").iterdir()) == []


def test_what_every_attempt_says_anew_is_read_once(writer) -> None:
    for attempt in (1, 2, 3):
        again = RunWriter(writer.path, attempt)
        if attempt > 1:
            again.metric("resume", 1)
        again.metric("data", 0, read=9)
        again.metric("gold", 0, train=9)
        again.metric("step", attempt, reward=0.5)
    rows = Run(writer.path).metrics("data", "gold", "step")
    assert [(r["kind"], r["attempt"]) for r in rows] == [("data", 1), ("gold", 1), ("step", 1), ("step", 3)]


def test_a_scan_has_its_whole_chunks_on_the_disk(writer) -> None:
    for number in range(3):
        writer.rollouts(number, [GROUP, GROUP], "student")
        for _ in range(2 if number < 2 else 1):  # killed inside the third
            writer.metric("scan_group", number, problem_id="a", group="cliff", doubt="")
    assert [len(c) for c in Run(writer.path).chunks()] == [2, 2]
    part = next((writer.path / "rollouts").glob("step-000000-*.parquet"))
    part.write_bytes(part.read_bytes()[:9])
    assert Run(writer.path).chunks() == []


def test_runs_are_found_by_id_name_and_folder(writer, tmp_path) -> None:
    for name in (writer.path.name, "mine", str(writer.path)):
        assert find_run(name, tmp_path).path == writer.path
    Run(writer.path).rename("yours")
    assert find_run("yours", tmp_path).id == writer.path.name
    with pytest.raises(BadInput, match="mine"):
        find_run("mine", tmp_path)
    assert all_runs(tmp_path)[0].path == writer.path


def test_a_folder_that_is_no_run_is_told(tmp_path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="no run"):
        Run(tmp_path / "x").load_config()
