"""The worker processes, as they are started by the app: spare, heavy job, kill, resume, questions."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace

import psutil
import pytest

from hdpo.config import ModelConfig, TrainConfig, replace_knobs, to_json
from hdpo.errors import HdpoError, Stopped
from hdpo.record.folder import Run, RunWriter, State
from hdpo.work import jobs, worker
from tests.conftest import needs_model

TINY = {
    "prompts_per_step": 4,
    "rollouts": 2,
    "privileged_rollouts": 1,
    "eval_every": 1000,
    "eval_problems": 4,
    "eval_samples": 2,
    "ks": (1,),
    "probe_cliffs": 0,
    "max_new_tokens": 16,
    "checkpoint_every": 1,
}
PATIENCE = 280.0  # seconds: on an idle machine three are enough, on a busy one the import alone takes minutes


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Runs folder; whatever worker lives in it at the end is ended."""
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield tmp_path
    for role in ("trainer", "training", "interactive"):
        for pid in jobs.live_workers(role):
            if pid != os.getpid():
                psutil.Process(pid).kill()


def wait_for(what: Callable[[], object]) -> object:
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        if found := what():
            return found
        time.sleep(0.05)
    raise AssertionError("waited in vain")


def submit(steps: int = 2) -> tuple[Run, int]:
    run = Run(RunWriter.create("train", replace_knobs(TrainConfig(), {**TINY, "steps": steps})).path)
    return run, jobs.submit("heavy", {"run": run.id, "resume": False})


# --- processes --------------------------------------------------------------------------------------------------------


def test_a_trainer_runs_one_job_logs_it_and_leaves_a_spare(root):
    needs_model()
    run, job = submit()
    trainer = worker.start("trainer")
    wait_for(lambda: run.status().state.ended)
    assert run.status().state is State.DONE, run.status().message
    assert trainer.wait(30) == 0
    assert jobs.job(job).state is State.DONE
    assert "done." in (run.path / "log.txt").read_text()
    assert jobs.live_workers("trainer") != [trainer.pid]
    assert [r["step"] for r in run.metrics("step")] == [1, 2]


def test_a_killed_job_says_so_and_the_spare_resumes_it_then_sigterm_stops_it(root):
    needs_model()
    run, job = submit(steps=100_000)
    trainer = worker.start("trainer")
    wait_for(lambda: run.checkpoints() and run.metrics("step"))
    assert run.status().state is State.RUNNING
    os.kill(trainer.pid, signal.SIGKILL)
    trainer.wait()
    assert run.status().state is State.KILLED
    again = jobs.submit("heavy", {"run": run.id, "resume": True})
    wait_for(lambda: run.metrics("resume") and run.metrics("step")[-1]["attempt"] == 2)
    assert jobs.job(job).state is State.KILLED
    spare = jobs.job(again).pid
    os.kill(spare, signal.SIGTERM)
    wait_for(lambda: run.status().state.ended)
    assert run.status().state is State.STOPPED
    assert "Resume goes on after step" in run.status().message
    wait_for(lambda: jobs.job(again).state is State.STOPPED)
    steps = [r["step"] for r in run.metrics("step")]
    assert steps == list(range(1, len(steps) + 1))


def test_a_second_spare_and_a_second_interactive_worker_exit_at_once(root):
    for role in ("trainer", "interactive"):
        jobs.register_worker(role)
        assert worker.start(role).wait(PATIENCE) == 0


def test_an_idle_worker_exits_and_one_whose_runs_folder_is_gone_too(root, monkeypatch):
    monkeypatch.setattr(worker, "_warm_up", lambda: None)
    monkeypatch.setattr(worker, "step_back", lambda: None)
    assert worker.trainer(root, idle=0.1) == 0
    assert jobs.live_workers("trainer") == []
    assert worker._wait(root / "gone", idle=60.0) is None
    gone = threading.Event()
    gone.set()
    assert worker._wait(root, idle=60.0, app_gone=gone) is None
    jobs.submit("heavy", {"run": RunWriter.create("train", TrainConfig()).path.name, "resume": False})
    assert worker._wait(root, idle=60.0, app_gone=gone) is not None, "a job that waits is still taken"
    assert not (root / "gone").exists()


def test_questions_are_answered_by_one_resident_worker(root):
    needs_model()
    payload = {"request": "info", "model": to_json(ModelConfig()), "checkpoint": ""}
    worker.start("interactive")
    answers = []
    for request in ("info", "nonsense", "info"):
        job = jobs.submit("interactive", {**payload, "request": request})
        wait_for(lambda job=job: jobs.job(job).state.ended)
        answers.append(jobs.events(job)[0][-1])
    assert [a["event"] for a in answers] == ["done", "error", "done"]
    assert "request: expected one of" in answers[1]["text"]
    assert len({j.pid for j in jobs.jobs("interactive")}) == 1


# --- parts ------------------------------------------------------------------------------------------------------------


class Desk:
    """Answers as its script says."""

    def __init__(self, script: Callable[[], object]) -> None:
        self.script = script

    def answer(self, payload, emit, cancelled):
        emit({"event": "phase", "text": "thinking"})
        return self.script()


def throw(error: Exception) -> Callable[[], object]:
    def script() -> object:
        raise error

    return script


@pytest.mark.parametrize(
    ("script", "event", "state"),
    [
        (lambda: {"n": 1}, {"event": "done", "result": {"n": 1}}, State.DONE),
        (throw(HdpoError("Sorry.")), {"event": "error", "text": "Sorry."}, State.FAILED),
        (throw(Stopped("Cancelled.")), {"event": "error", "text": "Cancelled."}, State.STOPPED),
        (throw(KeyError("x")), "found KeyError", State.FAILED),
        (lambda: {"n": float("nan")}, "found ValueError", State.FAILED),
    ],
)
def test_whatever_happens_a_question_ends_with_done_or_error(root, script, event, state, capsys):
    job = jobs.submit("interactive", {"request": "info"})
    worker.answer(Desk(script), worker.Room(root), jobs.claim("interactive"), root)
    last = jobs.events(job)[0][-1]
    assert event in last["text"] if isinstance(event, str) else last == event
    assert jobs.job(job).state is state


def test_a_question_that_cannot_be_answered_for_a_full_disk_ends_all_the_same(root, monkeypatch):
    def full(*_: object, **__: object) -> None:
        raise HdpoError("events.jsonl: no space")

    job = jobs.submit("interactive", {"request": "info"})
    claimed = jobs.claim("interactive")
    monkeypatch.setattr(jobs, "emit", full)
    worker.answer(Desk(dict), worker.Room(root), claimed, root)
    assert (jobs.job(job).state, jobs.job(job).message) == (State.FAILED, "events.jsonl: no space")


def test_the_model_for_questions_steps_aside_until_the_heavy_job_ends(root, monkeypatch):
    monkeypatch.setattr(worker.psutil, "virtual_memory", lambda: SimpleNamespace(available=4 << 30))
    room = worker.Room(root)
    small, large = ((RunWriter.create("train", TrainConfig()).path.name, g << 30) for g in (3, 5))
    first = jobs.submit("heavy", {"run": small[0], "resume": False}, small[1])
    assert not room.needed_elsewhere()
    jobs.cancel(first)
    second = jobs.submit("heavy", {"run": large[0], "resume": False}, large[1])
    room = worker.Room(root)
    assert room.needed_elsewhere()
    assert large[0] in room.sentence and "5.0 GiB" in room.sentence
    monkeypatch.setattr(worker.psutil, "virtual_memory", lambda: SimpleNamespace(available=64 << 30))
    assert room.needed_elsewhere(), "it has its word until the job ends"
    question = jobs.submit("interactive", {"request": "info"})
    worker.answer(Desk(dict), room, jobs.claim("interactive"), root)
    assert jobs.events(question)[0] == [{"event": "error", "text": room.sentence}]
    jobs.cancel(second)
    assert not room.needed_elsewhere()


def test_memory_that_a_job_holds_already_is_not_needed_again(root):
    run = RunWriter.create("train", TrainConfig()).path.name
    jobs.submit("heavy", {"run": run, "resume": False}, memory_bytes=1 << 40)
    job = jobs.claim("heavy")
    held = (1 << 40) - worker.still_needed(job)
    assert held == pytest.approx(psutil.Process().memory_info().rss, rel=0.2)


def test_a_spare_leaves_a_job_its_first_seconds(root, monkeypatch):
    run = RunWriter.create("train", TrainConfig()).path.name
    job = jobs.submit("heavy", {"run": run, "resume": False})
    jobs.claim("heavy")
    monkeypatch.setattr(worker, "HEAD_START", 0.3)
    start = time.monotonic()
    worker._let_it_begin(root)
    assert 0.2 < time.monotonic() - start < 5.0
    monkeypatch.setattr(worker, "HEAD_START", 600.0)
    jobs.finish(job, State.DONE)
    worker._let_it_begin(root)
