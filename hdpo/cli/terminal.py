"""A heavy job in a terminal: waits its turn in the same job table as the app, shows progress, and stops at Ctrl-C.

The first Ctrl-C asks for a stop at the next step edge, the second ends at once. Nothing here imports torch.
"""

import json
import shutil
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

from hdpo.errors import OK, Busy, HdpoError
from hdpo.model import fit
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.record.ranks import ALONE, Ranks
from hdpo.work import jobs
from hdpo.work.execute import Ending, execute

ECHO = 1.0  # seconds within which a launcher passes on the Ctrl-C that its processes had from the terminal too
POLL = 0.2  # seconds between looks at the queue
SECONDS_BETWEEN_WORDS = 30.0  # while waiting


def say(words: str) -> None:
    """To a person: standard error, so that standard output stays for results."""
    print(words, file=sys.stderr, flush=True)


def tell(args: Any, facts: Any, words: str) -> int:
    """On standard output: with --json the facts as one object, else the words for a person. Returns 0, for done."""
    print(json.dumps(facts, ensure_ascii=False) if args.json else words)
    return OK


def run_here(run: Run, config: fit.Config, resume: bool, wait: bool, ranks: Ranks = ALONE) -> Ending:
    """Submit the run, wait for its turn, and execute it in this process.

    wait: False raises Busy at once where another heavy job runs. A run made for this that never begins is taken away
    again.
    """
    from hdpo.cli.follow import Bar  # whose tqdm only a run that runs needs

    root, job_id, found = run.path.parent, 0, fit.need(config)
    payload = {"run": run.id, "resume": resume}
    try:
        job_id = jobs.submit(jobs.HEAVY, payload, found.total if found else 0, root, own=True)
        if resume:
            was = run.status()
            RunWriter(run.path, 0).status(State.QUEUED, phase="waiting for its turn", done=was.done, total=was.total)
        _take_turn(run, job_id, wait)
    except (HdpoError, KeyboardInterrupt):
        with suppress(HdpoError):
            jobs.cancel(job_id, root)
        if not resume:
            shutil.rmtree(run.path)  # it was made a moment ago and holds nothing
        raise
    try:
        with _stop_on_signals(run.path), closing(Bar(run)) as bar:
            ending = execute(run.path, resume, bar.show, ranks)
    except KeyboardInterrupt:
        ending = Ending(State.STOPPED, run.status().message)
    jobs.finish(job_id, ending.state, ending.message, root)
    return ending


def _take_turn(run: Run, job_id: int, wait: bool) -> None:
    """Return once the job is claimed; until then say now and then who has the machine. Raises Busy if it may not wait."""
    root, spoke = run.path.parent, float("-inf")
    while jobs.claim(jobs.HEAVY, root, only=job_id) is None:
        words = "Another heavy job has just ended."
        if first := next((j for j in jobs.pending_heavy(root) if j.id != job_id), None):
            other = Run(root / first.payload["run"])
            status = other.status()
            name = other.id if other.name == other.id else f"{other.id} ({other.name})"
            left = f", about {status.seconds_left:.0f} s left" if status.seconds_left else ""
            now = f"{first.state.value}: {status.phase} {status.done} of {status.total}{left}"
            words = f"One heavy job runs at a time, and {name} is {now}."
        if not wait:
            raise Busy(f"{words} Wait for it, stop it, or leave out --no-wait to queue behind it.")
        if time.monotonic() - spoke > SECONDS_BETWEEN_WORDS:
            spoke = time.monotonic()
            say(f"{words} {run.id} waits its turn; Ctrl-C leaves the queue.")
        time.sleep(POLL)


@contextmanager
def _stop_on_signals(path: Path) -> Iterator[None]:
    """SIGTERM and the first Ctrl-C ask for a stop; the second Ctrl-C raises KeyboardInterrupt."""
    asked = 0.0

    def interrupted(*_: Any) -> None:
        nonlocal asked
        if not asked:
            asked = time.monotonic()
            request_stop(path)
            say("\nStopping at the next step edge. Ctrl-C again ends at once.")
        elif time.monotonic() - asked > ECHO:
            raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread alone
        return
    old = signal.signal(signal.SIGINT, interrupted), signal.signal(signal.SIGTERM, lambda *_: request_stop(path))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, old[0])
        signal.signal(signal.SIGTERM, old[1])
