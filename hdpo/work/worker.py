"""The processes that take jobs: `python -m hdpo.work.worker trainer` and `python -m hdpo.work.worker interactive`.

A trainer imports the engine, waits as a spare, runs one heavy job and exits; when it takes a job it starts the next
spare, so that the engine's seconds of import never stand before a first step. The interactive worker stays, with one
model of its own. Neither is started by multiprocessing, whose children would run the app's script again.
"""

import argparse
import importlib
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from threading import Event
from typing import Any

import psutil

from hdpo.assets import HOME
from hdpo.config import ModelConfig
from hdpo.errors import BadInput, HdpoError, Stopped
from hdpo.processes import step_back, when_parent_ends
from hdpo.record.folder import State, request_stop, runs_root
from hdpo.work import jobs, prepare_libraries
from hdpo.work.execute import execute

POLL = 0.05  # seconds between looks at the job table
IDLE = 900.0  # seconds after which a worker without work exits
HEAD_START = 10.0  # seconds that a job runs before the next spare imports the engine
SPARE_BYTES = 2 << 30  # what must be free beside a job before another process with the engine is started
ENGINE = ("hdpo.method.run", "pandas", "pyarrow.parquet")


def start(role: str, lifeline: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start a worker, which finds the same code and the same runs wherever it is started from, and logs beside the runs.
    Harmless where one is there: the second finds it and exits. Raises HdpoError where it cannot start.

    lifeline: of the app (`hdpo.processes`). When that is gone the worker ends too, after the work that it has.
    """
    root = runs_root()
    path = os.pathsep.join(filter(None, (str(HOME), os.environ.get("PYTHONPATH"))))
    # All cores: beside a page that takes a quarter of one, that still is the quicker way. Idle threads sleep.
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "HDPO_RUNS": str(root), "PYTHONPATH": path}
    command = [sys.executable, "-m", "hdpo.work.worker", role, *["--with-app"] * (lifeline != subprocess.DEVNULL)]
    log = root / "workers" / f"{role}.log"
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            return subprocess.Popen(
                command, stdin=lifeline, stdout=out, stderr=subprocess.STDOUT, env=env, start_new_session=True
            )
    except OSError as e:
        words = f"expected to start it with logs in {log.parent}, found '{e.strerror or e}'"
        raise HdpoError(f"{role} worker: {words}. Free some space or memory, then reload.") from e


def trainer(root: Path, idle: float = IDLE, app_gone: Event | None = None) -> int:
    """Wait for one heavy job, run it, and exit with 0 if it did not fail."""
    if not jobs.register_worker("trainer", root):
        return 0
    step_back()
    _let_it_begin(root)
    _warm_up()
    job = _wait(root, idle, app_gone)
    if job is None:
        return 0
    run_path = root / job.payload["run"]
    signal.signal(signal.SIGTERM, lambda *_: request_stop(run_path))
    jobs.register_worker("training", root, single=False)
    if psutil.virtual_memory().available - job.memory_bytes > SPARE_BYTES:
        start("trainer", subprocess.DEVNULL if app_gone is None else sys.stdin.fileno())
    _log_to(run_path / "log.txt")
    ending = execute(run_path, bool(job.payload.get("resume")))
    print(f"{ending.state.value}. {ending.message}")
    jobs.finish(job.id, ending.state, ending.message, root)
    return int(ending.state is State.FAILED)


def _warm_up() -> None:
    """What would stand before a first step is done ahead: the imports, and the model of the default session. A job with
    another model finds at least what transformers sets up at its first one."""
    for name in ENGINE:
        importlib.import_module(name)
    from hdpo.model.policy import load_ahead

    with suppress(BadInput):  # the job that wants it says for itself what is wrong
        load_ahead(ModelConfig(), seed=0)


def _let_it_begin(root: Path) -> None:
    """A job that has just begun has the machine for itself: a spare's imports would stand before its first step."""
    while (job := jobs.running_heavy(root)) is not None and time.time() - job.started < HEAD_START:
        time.sleep(10 * POLL)


def _wait(
    root: Path,
    idle: float,
    app_gone: Event | None = None,
    lane: str = jobs.HEAVY,
    meanwhile: Callable[[], None] = lambda: None,
) -> jobs.Job | None:
    """The next job of a lane, or None after `idle` seconds without one, or where the app or the runs folder is gone."""
    since = time.monotonic()
    while root.is_dir():
        meanwhile()
        if (job := jobs.claim(lane, root)) is not None:
            return job
        over = time.monotonic() - since > idle or (app_gone is not None and app_gone.is_set())
        if over and jobs.retire(lane, root):
            return None
        time.sleep(POLL)
    return None


def _log_to(path: Path) -> None:
    """What this process prints, and what its libraries print below Python, goes to the run's log."""
    with path.open("ab") as log:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
            os.dup2(log.fileno(), stream.fileno())
            stream.reconfigure(line_buffering=True)  # type: ignore[union-attr]


def interactive(root: Path, idle: float = IDLE, app_gone: Event | None = None) -> int:
    """Answer requests one after another until none came for `idle` seconds."""
    if not jobs.register_worker("interactive", root):
        return 0
    from hdpo.work.interactive import Desk

    jobs.prune(root)
    desk, room = Desk(), Room(root)
    if not room.needed_elsewhere():
        desk.warm_up()

    def step_aside() -> None:
        if room.needed_elsewhere() and desk.drop():
            print(room.sentence, flush=True)

    while (job := _wait(root, idle, app_gone, jobs.INTERACTIVE, step_aside)) is not None:
        answer(desk, room, job, root)
    return 0


class Room:
    """Whether a heavy job needs the memory that the interactive model takes; then until that job ends."""

    def __init__(self, root: Path) -> None:
        self.root, self.sentence = root, ""
        self._looked, self._yielded_to = float("-inf"), 0

    def needed_elsewhere(self) -> bool:
        """Looks at the job table once a second, and at once while the answer is yes."""
        if not self._yielded_to and time.monotonic() - self._looked < 1.0:
            return False
        self._looked = time.monotonic()
        heavy = jobs.pending_heavy(self.root)
        if any(j.id == self._yielded_to for j in heavy):
            return True
        free = psutil.virtual_memory().available
        short = next((j for j in heavy if still_needed(j) > free), None)
        self._yielded_to = short.id if short else 0
        if short:
            need = f"{still_needed(short) / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free"
            aside = "the model for questions stepped aside. Ask again when the run has ended, or stop it."
            self.sentence = f"The run {short.payload['run']} needs {need}, so {aside}"
        return short is not None


def still_needed(job: jobs.Job) -> int:
    """Bytes that a heavy job has yet to take: what it announced without what its process holds already."""
    with suppress(psutil.Error):
        return job.memory_bytes - (psutil.Process(job.pid).memory_info().rss if job.pid else 0)
    return job.memory_bytes


def answer(desk: Any, room: Room, job: jobs.Job, root: Path) -> None:
    """Answer one request; its events end with done or error, whatever happens."""
    emit = partial(jobs.emit, job.id, root=root)
    state, words = State.FAILED, ""
    try:
        if room.needed_elsewhere():
            raise HdpoError(room.sentence)
        result = desk.answer(job.payload, emit, lambda: jobs.cancelled(job.id, root))
        emit({"event": "done", "result": result})
        state = State.DONE
    except Stopped as e:
        state, words = State.STOPPED, str(e)
    except HdpoError as e:
        words = str(e)
    except Exception as e:
        traceback.print_exc()
        words = f"Expected an answer, found {type(e).__name__}: {e}. interactive.log holds the details; ask again or ask otherwise."
    if words:
        with suppress(HdpoError):  # on a full disk the table alone can say it
            emit({"event": "error", "text": words})
    jobs.finish(job.id, state, words, root)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m hdpo.work.worker", description=__doc__)
    parser.add_argument("role", choices=("interactive", "trainer"))
    parser.add_argument("--idle", type=float, default=IDLE, help="seconds without work after which it exits")
    parser.add_argument("--with-app", action="store_true", help="exit when the app at the other end of stdin is gone")
    given = parser.parse_args(arguments)
    app_gone = Event() if given.with_app else None
    if app_gone is not None:
        when_parent_ends(app_gone.set)
    prepare_libraries()
    work = interactive if given.role == "interactive" else trainer
    return work(runs_root(), given.idle, app_gone)


if __name__ == "__main__":
    sys.exit(main())
