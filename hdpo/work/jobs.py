"""The job table: submit, claim, watch, cancel, recover. App and command line use it alike; nothing here imports torch.

    runs/jobs.sqlite           jobs and workers (WAL); small rows only
    runs/jobs/<id>/events.jsonl  what an interactive request answers, one event a line; readers keep a byte offset
    runs/jobs/<id>/cancel        a flag: nobody waits for that answer any more

Two lanes. `heavy` jobs are run folders (scan, train, sweep, evaluate): one at a time, first come first served.
`interactive` jobs are requests to the resident worker. A process is named by its pid and its start, so that a pid used
again is no life sign: a running job whose process is gone is killed, and the next claim or resume sees that.

This file is long: the table has one owner.
"""

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import NoneType
from typing import Any

from hdpo.errors import BadInput, Busy, HdpoError
from hdpo.processes import Life, Start, held, life, me
from hdpo.record.files import append_line, writing
from hdpo.record.folder import Run, RunWriter, State, request_stop, runs_root
from hdpo.record.shapes import NUMBER, has

HEAVY, INTERACTIVE = "heavy", "interactive"
KEPT_ANSWERS = 200  # interactive jobs whose events stay readable
LOCKED = 10.0  # seconds that a call waits for others to let go of the table
PATIENCE = 600.0  # seconds after which nobody waits for an interactive answer any more

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    id INTEGER PRIMARY KEY AUTOINCREMENT, lane TEXT NOT NULL, payload TEXT NOT NULL, state TEXT NOT NULL,
    message TEXT NOT NULL DEFAULT '', memory_bytes INTEGER NOT NULL DEFAULT 0,
    owner INTEGER, owner_start REAL, pid INTEGER NOT NULL DEFAULT 0, pid_start REAL NOT NULL DEFAULT 0,
    created REAL NOT NULL, started REAL NOT NULL DEFAULT 0, ended REAL NOT NULL DEFAULT 0);
CREATE INDEX IF NOT EXISTS jobs_by_state ON jobs (lane, state);
CREATE TABLE IF NOT EXISTS workers (
    pid INTEGER PRIMARY KEY, pid_start REAL NOT NULL, role TEXT NOT NULL, since REAL NOT NULL);
"""


@dataclass(frozen=True)
class Job:
    """One row. owner: the only process that may claim it (a terminal), None for any worker. Times in seconds since 1970."""

    id: int
    lane: str
    payload: dict[str, Any]
    state: State
    message: str
    memory_bytes: int
    owner: int | None
    owner_start: Start | None
    pid: int
    pid_start: Start
    created: float
    started: float
    ended: float


def submit(
    lane: str, payload: dict[str, Any], memory_bytes: int = 0, root: Path | None = None, own: bool = False
) -> int:
    """Queue a job and return its id. own: only this very process may claim it (a run in a terminal).

    A heavy payload is {"run": run id, "resume": bool}; a stop that an earlier attempt was asked for is forgotten.
    """
    if lane not in (HEAVY, INTERACTIVE):
        raise BadInput(f"lane: expected {HEAVY} or {INTERACTIVE}, found {lane!r}. Choose one of them.")
    if lane == HEAVY:
        ((root or runs_root()) / payload["run"] / "stop").unlink(missing_ok=True)
    owner, start = me() if own else (None, None)
    row = (lane, json.dumps(payload), State.QUEUED.value, int(memory_bytes), owner, start, time.time())
    columns = "lane, payload, state, memory_bytes, owner, owner_start, created"
    with _transaction(root) as db:
        return int(db.execute(f"INSERT INTO jobs ({columns}) VALUES (?,?,?,?,?,?,?)", row).lastrowid or 0)


def claim(lane: str, root: Path | None = None, only: int | None = None) -> Job | None:
    """Take the next job of a lane for this process, or None. Atomic: of two claimers one gets it.

    A heavy job is given only while no other heavy job of a live process runs. only: this job or none, and none before
    its turn; the others leave jobs alone that have an owner.
    """
    root = root or runs_root()
    with _connection(root) as db:  # most polls find nothing: those take no write lock
        if not db.execute("SELECT 1 FROM jobs WHERE lane=? AND state='queued' LIMIT 1", (lane,)).fetchone():
            return None
    recover(root)
    with _transaction(root) as db:
        if lane == HEAVY and any(_at_work(j, root) for j in _rows(db, "lane='heavy' AND state='running'")):
            return None
        queue = _rows(db, "lane=? AND state='queued'", lane)
        if only and not _live(db, "trainer"):  # nobody could take what has no owner: whoever waits behind it goes first
            queue = [j for j in queue if j.owner is not None]
        if not queue or (queue[0].id != only if only else queue[0].owner is not None):
            return None
        row = (*me(), time.time(), queue[0].id)
        db.execute("UPDATE jobs SET state='running', pid=?, pid_start=?, started=? WHERE id=?", row)
    return job(queue[0].id, root)


def finish(job_id: int, state: State, message: str = "", root: Path | None = None) -> None:
    """Record how a job ended."""
    if not state.ended:
        raise BadInput(f"job {job_id}: expected an end (done, stopped, failed, killed), found {state.value}.")
    with _transaction(root) as db:
        _end(db, job_id, state, message)


def cancel(job_id: int, root: Path | None = None) -> None:
    """A queued job ends at once as stopped; a running one is asked to stop at its next safe place."""
    root = root or runs_root()
    with _transaction(root) as db:
        found = _one(db, job_id)
        if found.state is State.QUEUED:
            words = "Cancelled before it began"
            _bury(db, root, found, State.STOPPED, f"{words}.", f"{words}; resume starts it.")
    if found.lane == INTERACTIVE:
        flag = _folder(job_id, root) / "cancel"
        flag.parent.mkdir(parents=True, exist_ok=True)
        flag.touch()
    elif found.state is State.RUNNING:
        request_stop(root / found.payload["run"])


def cancelled(job_id: int, root: Path | None = None) -> bool:
    """Whether nobody waits for an interactive answer any more."""
    return (_folder(job_id, root) / "cancel").exists()


def recover(root: Path | None = None) -> list[Job]:
    """Mark jobs whose process is gone as killed, and forget dead workers. Returns the jobs so marked."""
    root = root or runs_root()
    words, kept = "The process ended without a word.", "Everything up to the last checkpoint is kept; resume goes on."
    with _transaction(root) as db:
        gone = [j for j in _rows(db, "state='running'") if not _at_work(j, root, (Life.ALIVE, Life.ELSEWHERE))]
        owned = _rows(db, "state='queued' AND owner IS NOT NULL")
        gone += [j for j in owned if life(j.owner or 0, j.owner_start or 0.0) is not Life.ALIVE]
        for j in gone:
            _bury(db, root, j, State.KILLED, words, f"{words} {kept}")
            if j.lane == INTERACTIVE:
                emit(j.id, {"event": "error", "text": f"{words} Ask again."}, root)
        for pid, start in db.execute("SELECT pid, pid_start FROM workers").fetchall():
            if life(pid, start) is Life.DEAD:
                db.execute("DELETE FROM workers WHERE pid=?", (pid,))
    return gone


def _at_work(found: Job, root: Path, living: tuple[Life, ...] = (Life.ALIVE,)) -> bool:
    """Whether a running job's process lives, or somebody holds its run folder all the same."""
    return life(found.pid, found.pid_start) in living or (found.lane == HEAVY and held(root / found.payload["run"]))


def _bury(db: sqlite3.Connection, root: Path, ended: Job, state: State, words: str, told: str) -> None:
    """End a job that no process ends, and let its run folder say so (told), where its own process could not."""
    _end(db, ended.id, state, words)
    if ended.lane == HEAVY and (path := root / ended.payload["run"]).is_dir():
        was = Run(path).status()
        if was.state in (State.QUEUED, State.RUNNING, State.KILLED):
            RunWriter(path, 0).status(state, phase=was.phase, done=was.done, total=was.total, message=told)


def _end(db: sqlite3.Connection, job_id: int, state: State, message: str) -> None:
    db.execute("UPDATE jobs SET state=?, message=?, ended=? WHERE id=?", (state.value, message, time.time(), job_id))


def job(job_id: int, root: Path | None = None) -> Job:
    """One job. Raises BadInput for a number that is none."""
    with _connection(root) as db:
        return _one(db, job_id)


def jobs(lane: str, root: Path | None = None) -> list[Job]:
    """The jobs of a lane, newest first."""
    with _connection(root) as db:
        return _rows(db, "lane=?", lane)[::-1]


def running_heavy(root: Path | None = None) -> Job | None:
    """The heavy job that holds the machine now, if its process lives."""
    root = root or runs_root()
    if not (root / "jobs.sqlite").exists():  # asked by those who only look, also where nothing can be written
        return None
    return next((j for j in pending_heavy(root) if j.state is State.RUNNING and _at_work(j, root)), None)


def pending_heavy(root: Path | None = None) -> list[Job]:
    """Heavy jobs queued or running, oldest first."""
    with _connection(root) as db:
        return _rows(db, "lane='heavy' AND state IN ('queued', 'running')")


def pending_of(run: Run) -> Job | None:
    """The job of a run that waits or runs, if there is one; a recorded run has none, and its folder no job table."""
    if run.recorded:
        return None
    return next((j for j in pending_heavy(run.path.parent) if j.payload.get("run") == run.id), None)


def stop(run: Run) -> None:
    """A waiting run leaves the queue; a running one stops at its next step edge, with a checkpoint. Nothing happens to one
    that has ended."""
    if (job := pending_of(run)) is not None:
        cancel(job.id, run.path.parent)
    elif not run.status().state.ended:
        request_stop(run.path)  # a member of a sweep: the sweep's job is not its own


def check_resumable(run: Run, take_over: bool = False, extend: bool = False) -> None:
    """Raises BadInput or Busy where nothing can go on. The dead are buried first: a killed run goes on at once.

    take_over: go on also with a run of another machine that is not heard of any more. extend: also with one that is done.
    """
    if run.recorded:
        raise BadInput(f"{run.id}: expected a run of yours, found one that comes with the project. Start a new one.")
    root = run.path.parent
    recover(root)
    status = run.status()
    if status.state is State.DONE and not extend:
        longer = f"Extend it: python -m hdpo train --resume {run.id} --steps N"
        way = longer if run.kind == "train" else "Start a new one."
        raise BadInput(f"{run.id}: expected an unfinished run, found it done. {way}")
    if status.state is State.UNHEARD and not take_over:
        command = f"python -m hdpo {run.kind} --resume {run.id} --take-over"
        words = f"{status.message} If it never will be again, take it over: {command}"
        raise Busy(f"{run.id} may still be at work. {words}")
    pending = pending_of(run)
    if status.state is State.RUNNING or held(run.path) or (pending and pending.state is State.QUEUED):
        raise Busy(f"{run.id} is {status.state.value} already. Wait for it, or stop it.")
    if pending is not None:
        finish(pending.id, State.KILLED, "Taken over.", root)


def register_worker(role: str, root: Path | None = None, single: bool = True) -> bool:
    """Enter this process under a role (an earlier role of it is replaced).

    single: False is returned, and nothing entered, where another live process has that role.
    """
    with _transaction(root) as db:
        pid, start = me()
        if single and set(_live(db, role)) - {pid}:
            return False
        db.execute("INSERT OR REPLACE INTO workers VALUES (?,?,?,?)", (pid, start, role, time.time()))
    return True


def retire(lane: str, root: Path | None = None) -> bool:
    """Leave, unless a job waits: so a job submitted to a worker that was seen alive is never left lying."""
    with _transaction(root) as db:
        if _rows(db, "lane=? AND state='queued'", lane):
            return False
        db.execute("DELETE FROM workers WHERE pid=?", (me()[0],))
    return True


def live_workers(role: str, root: Path | None = None) -> list[int]:
    """Pids of the live processes under a role: 'interactive', 'trainer' (a spare that waits), 'training' (at work)."""
    with _connection(root) as db:
        return _live(db, role)


def emit(job_id: int, event: dict[str, Any], root: Path | None = None) -> None:
    """Append one event; whole lines, so a reader never sees half of one."""
    log = _folder(job_id, root) / "events.jsonl"
    with writing(log):
        log.parent.mkdir(parents=True, exist_ok=True)
    append_line(log, event)


def events(job_id: int, offset: int = 0, root: Path | None = None) -> tuple[list[dict[str, Any]], int]:
    """Events from a byte offset on, and the offset for the next call."""
    try:
        data = (_folder(job_id, root) / "events.jsonl").read_bytes()[offset:]
    except OSError:
        return [], offset
    whole = data[: data.rfind(b"\n") + 1]
    return [json.loads(line) for line in whole.splitlines()], offset + len(whole)


def prune(root: Path | None = None) -> None:
    """Drop the oldest answers, and requests that nobody can still be waiting for."""
    with _transaction(root) as db:
        for stale in _rows(db, "lane='interactive' AND state='queued' AND created<?", time.time() - PATIENCE):
            _end(db, stale.id, State.KILLED, "No worker was there to answer it.")
        for old in _rows(db, "lane='interactive' AND state NOT IN ('queued', 'running')")[:-KEPT_ANSWERS]:
            db.execute("DELETE FROM jobs WHERE id=?", (old.id,))
            shutil.rmtree(_folder(old.id, root), ignore_errors=True)


def _folder(job_id: int, root: Path | None) -> Path:
    return (root or runs_root()) / "jobs" / str(int(job_id))


def _one(db: sqlite3.Connection, job_id: int) -> Job:
    """Raises BadInput for a number that is none."""
    if not (found := _rows(db, "id=?", job_id)):
        words = "It may be too old to be kept; `python -m hdpo runs` lists what runs."
        raise BadInput(f"job: expected the number of a job, found {job_id}. {words}")
    return found[0]


def _rows(db: sqlite3.Connection, where: str, *values: Any) -> list[Job]:
    """Oldest first."""
    found = db.execute(f"SELECT * FROM jobs WHERE {where} ORDER BY id", values).fetchall()
    return [job for r in found if (job := _readable(dict(r))) is not None]


def _readable(row: dict[str, Any]) -> Job | None:
    """A row as a job; None for a damaged one, which nobody takes: it holds no results, the run folders do."""
    with suppress(ValueError, TypeError, RecursionError):
        whole = has(row, id=int, memory_bytes=int, pid=int, created=NUMBER, started=NUMBER, ended=NUMBER)
        whole = whole and has(row, owner=(int, NoneType), pid_start=(str, *NUMBER))
        job = Job(**{**row, "payload": json.loads(row["payload"]), "state": State(row["state"])})
        if whole and has(job.payload, **({"run": str} if job.lane == HEAVY else {})):
            return job
    return None


def _live(db: sqlite3.Connection, role: str) -> list[int]:
    found = db.execute("SELECT pid, pid_start FROM workers WHERE role=? ORDER BY since", (role,)).fetchall()
    return [pid for pid, start in found if life(pid, start) is Life.ALIVE]


@contextmanager
def _connection(root: Path | None) -> Iterator[sqlite3.Connection]:
    """One short-lived connection a call: none is carried into another thread or process."""
    root = root or runs_root()
    path = root / "jobs.sqlite"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with closing(sqlite3.connect(path, timeout=LOCKED, isolation_level=None)) as db:
            db.row_factory, db.text_factory = sqlite3.Row, partial(str, encoding="utf-8", errors="replace")
            if not db.execute("PRAGMA user_version").fetchone()[0]:
                db.execute("PRAGMA journal_mode=WAL")
                db.executescript(_SCHEMA + "PRAGMA user_version=1;")
            yield db
    except (OSError, sqlite3.DatabaseError, UnicodeDecodeError) as e:
        expected, way = "the job table", f"Delete {path}: it holds no results, the run folders do."
        if isinstance(e, OSError) or "unable to open" in str(e):
            expected, way = f"to write to {root}", "Choose another folder with HDPO_RUNS."
        elif isinstance(e, sqlite3.OperationalError):
            kept = f"Another program has kept {path} for {LOCKED:.0f} s: end it"
            expected = "to read and write the job table"
            way = f"{kept if 'locked' in str(e) else 'Free some space'} and try again."
        raise HdpoError(f"jobs.sqlite: expected {expected}, found '{e}'. {way}") from e


@contextmanager
def _transaction(root: Path | None) -> Iterator[sqlite3.Connection]:
    """All or nothing; the write lock is taken first, so that what was read still holds when it is written."""
    with _connection(root) as db:
        db.execute("BEGIN IMMEDIATE")
        with db:
            yield db
