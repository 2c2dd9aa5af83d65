"""What pages call for work: the exact command, the run's folder and job, and workers that outlive the server."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import workbench
from hdpo.cli import args as cli_args
from hdpo.cli import main as cli
from hdpo.config import ScanConfig, SweepConfig, TrainConfig, replace_knobs
from hdpo.errors import BadInput, Busy, HdpoError
from hdpo.record.folder import Run, State, stop_requested
from hdpo.work import jobs
from tests.conftest import needs_model
from tests.fakes import fake_pair, fake_train_run
from workbench import forms, launch, workers
from workbench.components import session
from workbench.data import estimate

MODULES = [
    name
    for _, name, package in pkgutil.walk_packages(workbench.__path__, "workbench.")
    if not package and name not in ("workbench.app", "workbench.__main__")  # these two run when they are imported
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_the_docstrings_hold(name: str) -> None:
    assert doctest.testmod(importlib.import_module(name)).failed == 0


# --- the command ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(),
        replace_knobs(TrainConfig(), {"lambda_": 0.1, "steps": 5}),
        replace_knobs(
            TrainConfig(), {"lambda_": 0.1234567891, "learning_rate": 3e-7, "teacher": "frozen", "ks": (1, 2)}
        ),
        replace_knobs(
            TrainConfig(),
            {"model": "/a folder/it's", "problems": "/x/y z.jsonl", "privileged": "{problem}\n{reference} $"},
        ),
        replace_knobs(TrainConfig(), {"model": "/other"}),
        SweepConfig(train=replace_knobs(TrainConfig(), {"steps": 5}), lambdas=(0.0, 1.0), seeds=(3,)),
        ScanConfig(split="validation", rollouts=16),
    ],
)
def test_the_command_gives_exactly_this_config(config: object) -> None:
    words = shlex.split(launch.command_of(config))
    assert words[:3] == ["python", "-m", "hdpo"]
    args = cli.make_parser().parse_args(words[3:])
    assert cli_args.config_from(args, type(config)()) == config


def test_the_command_names_only_what_differs() -> None:
    assert launch.command_of(TrainConfig()) == "python -m hdpo train"
    assert launch.command_of(replace_knobs(TrainConfig(), {"lambda_": 0.1})) == "python -m hdpo train --lambda 0.1"


def test_a_pair_is_a_sweep_over_zero_and_this_lambda() -> None:
    config = replace_knobs(TrainConfig(), {"lambda_": 1.0, "seed": 7, "steps": 20})
    pair = forms.as_pair(config)
    assert [(m.objective.lambda_, m.seed, m.step.steps) for m in pair.members()] == [(0.0, 7, 20), (1.0, 7, 20)]
    assert pair.members()[1] == config
    with pytest.raises(BadInput, match="above 0"):
        forms.as_pair(replace_knobs(config, {"lambda_": 0.0}))


# --- runs and jobs ----------------------------------------------------------------------------------------


def test_start_makes_a_run_and_its_job(runs_folder: Path) -> None:
    config = replace_knobs(TrainConfig(), {"lambda_": 1.0})
    run = Run(runs_folder / launch.start_heavy(config, name="mine"))
    assert run.load_config() == config and run.name == "mine" and run.status().state is State.QUEUED
    assert run.frozen()["command"] == "python -m hdpo train --lambda 1"
    (job,) = jobs.pending_heavy()
    assert job.payload == {"run": run.id, "resume": False} and launch.pending_job(run) == job
    assert launch.running_run() == run


def test_a_waiting_run_leaves_the_queue_and_comes_back(runs_folder: Path) -> None:
    run = Run(runs_folder / launch.start_heavy(TrainConfig()))
    launch.stop_run(run)
    assert run.status().state is State.STOPPED and jobs.pending_heavy() == [] and launch.running_run() is None
    assert launch.resumable(run)
    launch.resume_run(run)
    assert run.status().state is State.QUEUED and launch.pending_job(run).payload["resume"] is True  # type: ignore[union-attr]
    with pytest.raises(Busy, match="queued already"):
        launch.resume_run(run)


def test_a_running_run_is_asked_to_stop(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder, state=State.RUNNING))
    assert launch.running_run() == run
    launch.stop_run(run)
    assert stop_requested(run.path)


def test_what_cannot_go_on_says_so(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Run(fake_train_run(runs_folder))
    assert not launch.resumable(done)
    with pytest.raises(BadInput, match="found it done"):
        launch.resume_run(done)
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", runs_folder)
    assert done.recorded and not launch.resumable(done)
    with pytest.raises(BadInput, match="comes with the project"):
        launch.resume_run(done)


def test_a_runs_folder_that_cannot_be_written_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv("HDPO_RUNS", str(blocked / "runs"))
    monkeypatch.setenv("HDPO_NO_WORKERS", "1")
    with pytest.raises(HdpoError, match="expected to write"):
        launch.start_heavy(TrainConfig())


def test_a_job_without_a_trainer_is_said_where_none_may_be_started(runs_folder: Path) -> None:
    assert launch.tend() == ""
    launch.start_heavy(TrainConfig())
    assert "HDPO_NO_WORKERS" in launch.tend()


# --- workers ----------------------------------------------------------------------------------------------


@pytest.fixture
def spawned(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Roles that would have been started; the child is a real process that sleeps."""
    roles: list[str] = []
    children = []

    def start(role: str, lifeline: int) -> subprocess.Popen[bytes]:
        roles.append(role)
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return children[-1]

    monkeypatch.delenv("HDPO_NO_WORKERS")
    monkeypatch.setattr(workers.worker, "start", start)
    yield roles
    for child in children:
        child.kill()
        child.wait()


def test_each_role_is_started_once(spawned: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_SPAWNS", 0.0)
    for _ in range(3):
        launch.ensure_workers()
    assert sorted(spawned) == ["interactive", "trainer"]


def test_a_worker_of_another_server_is_found(spawned: list[str]) -> None:
    jobs.register_worker("interactive")  # this very process, as the other server's
    launch.ensure_workers()
    assert spawned == ["trainer"]


def test_a_worker_that_dies_at_once_is_not_started_in_a_loop(
    spawned: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    launch.ensure_worker("trainer")
    child = next(c for key, c in workers._children.items() if c.poll() is None and key[1] == "trainer")
    child.kill()
    child.wait()
    launch.ensure_worker("trainer")
    assert spawned == ["trainer"], "the second start came too early"
    monkeypatch.setattr(workers, "SECONDS_BETWEEN_SPAWNS", 0.0)
    launch.ensure_worker("trainer")
    assert spawned == ["trainer", "trainer"]


def test_a_real_worker_answers(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_model()
    monkeypatch.delenv("HDPO_NO_WORKERS")
    job = launch.ask({"request": "info", **launch.model_payload()})
    events, offset, end = [], 0, time.monotonic() + 120
    while time.monotonic() < end and not any(e["event"] in ("done", "error") for e in events):
        new, offset = launch.answer(job, offset)
        events += new
        time.sleep(0.1)
    for pid in jobs.live_workers("interactive"):
        psutil.Process(pid).kill()
    assert events and events[-1]["event"] == "done", events
    assert events[-1]["result"]["parameters"] > 0


# --- before the start -------------------------------------------------------------------------------------


def test_time_is_scaled_from_the_nearest_timed_run(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", runs_folder / "none")
    config = replace_knobs(TrainConfig(), {"steps": 10, "eval_every": 5})
    assert estimate.duration(config).seconds is None
    fake_train_run(runs_folder)  # 8 × 4 in 2 s a step; 240 × 16 in 6 s an evaluation
    found = estimate.duration(config)
    assert found.seconds == pytest.approx(10 * 2.0 * (32 * 8) / (8 * 4) + 3 * 6.0)
    assert "λ = 0.3, seed 0" in found.source and "scaled" in found.source
    pair = forms.as_pair(config)
    assert estimate.duration(pair).seconds == pytest.approx(2 * found.seconds)
    fake_train_run(runs_folder, lam=0.0)  # without privileged rollouts a step is quicker
    assert estimate.duration(pair).seconds == pytest.approx(2 * found.seconds - 10 * 1.0 * 8)
    assert estimate.duration(replace_knobs(config, {"model": "/another"})).seconds is None


def test_memory_of_a_model_that_is_not_there_is_not_known() -> None:
    assert 0.5e9 < estimate.memory_bytes(TrainConfig()) < 2e9
    assert estimate.memory_bytes(replace_knobs(TrainConfig(), {"model": "/nowhere"})) == 0


def test_what_a_session_can_detect_comes_from_the_baseline(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", runs_folder / "none")
    config = TrainConfig()
    assert "not known yet" in estimate.detectable(config)
    fake_train_run(runs_folder)
    words = estimate.detectable(config)
    assert "pass@1" in words and "pass@8" in words and "one seed knows nothing" in words
    assert "not known yet" in estimate.detectable(replace_knobs(config, {"problems": "bundled:gentle"}))


def test_files_and_models_are_looked_at_before_the_start(runs_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "p.csv").write_text("a,b\n1,2\n")
    for change, words in (
        ({"problems": str(tmp_path / "absent.jsonl")}, "no file"),
        ({"validation_problems": str(tmp_path / "absent.jsonl")}, "no file"),
        ({"problems": "bundled:none"}, "bundled:steep"),
        ({"problems": str(tmp_path / "p.csv")}, "has the columns"),
        ({"model": str(tmp_path)}, "model: expected"),
        ({"vllm_url": "http://localhost:1"}, "with --sampler vllm alone"),
    ):
        with pytest.raises(BadInput, match=words):
            launch.start_heavy(replace_knobs(TrainConfig(), change))
    assert not list(runs_folder.glob("*/config.json"))


def test_another_model_gets_whole_paths_and_its_wording(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = forms.settled(replace_knobs(TrainConfig(), {"model": "m", "problems": "p.jsonl"}))
    assert found.model.model == str(tmp_path / "m") and found.data.problems == str(tmp_path / "p.jsonl")
    assert "boxed" in found.prompts.student and found.step.learning_rate == 1e-5
    own = replace_knobs(TrainConfig(), {"model": "m", "student": "Q: {problem}"})
    assert forms.settled(own).prompts.student == "Q: {problem}"
    assert forms.settled(TrainConfig()) == TrainConfig()


def test_families_are_drawn_together(runs_folder: Path) -> None:
    pair = Run(fake_pair(runs_folder))
    first, second = session.family(pair)
    assert [r.id for r in session.family(second)] == [second.id, first.id]
    alone = Run(fake_train_run(runs_folder))
    assert session.family(alone) == [alone]
