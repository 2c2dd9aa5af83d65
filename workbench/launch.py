"""What the pages call for work: start, stop and resume a run, ask the interactive worker, keep workers alive.

The work itself happens in processes of their own (`python -m hdpo.worker`), started without waiting for them and in
a session of their own, so that they outlive a closed browser and a killed server. The truth about them is in the job
table and the run folders; what is kept here only reaps children and avoids starting one twice.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

from hdpo import jobs
from hdpo.config import KINDS, ModelConfig, ScanConfig, from_json, knobs, to_json
from hdpo.errors import BadInput
from hdpo.runs import Run, RunWriter, State, request_stop, runs_root

REPOSITORY = Path(__file__).resolve().parent.parent
ROLES = ("interactive", "trainer")

_children: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
_lock = threading.Lock()


def workers_wanted() -> bool:
    """`HDPO_NO_WORKERS=1` starts none: for tests, and for a machine that only looks at runs."""
    return os.environ.get("HDPO_NO_WORKERS") != "1"


def ensure_workers() -> None:
    """At the app's start: the interactive worker and a spare trainer, imports done before they are needed."""
    for role in ROLES:
        ensure_worker(role)


def ensure_worker(role: str) -> None:
    """Make sure that a worker of this role lives or is on its way. Returns at once."""
    if not workers_wanted():
        return
    key = (str(runs_root()), role)
    with _lock:
        child = _children.get(key)
        if (child is not None and child.poll() is None) or jobs.live_workers(role):
            return
        _children[key] = spawn(role)


def spawn(role: str) -> subprocess.Popen[bytes]:
    """A worker process that outlives this server; it logs beside the runs."""
    folder = runs_root() / "workers"
    folder.mkdir(parents=True, exist_ok=True)
    threads = str(max(1, (os.cpu_count() or 2) - 1))
    env = {
        "OMP_NUM_THREADS": threads,
        "OMP_WAIT_POLICY": "PASSIVE",
        **os.environ,
        "HDPO_RUNS": str(runs_root()),
    }
    with (folder / f"{role}.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "hdpo.worker", role],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=REPOSITORY,
            env=env,
            start_new_session=True,
        )


# --- runs -------------------------------------------------------------------------------------------------------------


def kind_of(config: Any) -> str:
    return next(name for name, cls in KINDS.items() if isinstance(config, cls))


def command_of(config: Any) -> str:
    """The exact command that does the same: only settings that differ from the defaults.

    >>> from hdpo.config import TrainConfig, replace_knobs
    >>> command_of(replace_knobs(TrainConfig(), {"lambda_": 0.1, "steps": 5}))
    'python -m hdpo train --lambda 0.1 --steps 5'
    """
    from shlex import quote

    kind = kind_of(config)
    default = {(k.path, k.name): k.default for k in knobs(type(config)())}
    words = ["python", "-m", "hdpo", kind]
    for k in knobs(config):
        if k.default != default[k.path, k.name]:
            words += [k.flag, quote(word(k.default))]
    return " ".join(words)


def word(value: Any) -> str:
    """A value as the command line takes it: lists with commas, numbers short."""
    if isinstance(value, tuple):
        return ",".join(word(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}"
    return str(getattr(value, "value", value))


def start_heavy(config: Any, name: str = "", command: str = "") -> str:
    """Create the run folder, submit its job, and make sure that a trainer takes it. Returns the run's id.

    Raises HdpoError where nothing can be written. The run waits its turn where another one is running.
    """
    writer = RunWriter.create(kind_of(config), config, name=name, command=command or command_of(config))
    submit_run(writer.path.name, resume=False)
    return writer.path.name


def submit_run(run_id: str, resume: bool) -> int:
    job = jobs.submit("heavy", {"run": run_id, "resume": resume})
    ensure_worker("trainer")
    return job


def resume_run(run: Run) -> int:
    """Go on from the last checkpoint (a scan or sweep: from what is done). Raises BadInput where nothing can go on."""
    if run.recorded:
        raise BadInput(f"{run.id}: expected a run of yours, found one that comes with the project. Start it anew in the λ lab.")  # fmt: skip
    run.load_config()
    state = run.status().state
    if not state.ended:
        raise BadInput(
            f"{run.id}: expected a run that has ended, found it {state.value}. Wait, or stop it first."
        )
    if state is State.DONE:
        raise BadInput(
            f"{run.id}: expected an unfinished run, found it done. Start a new one with more steps."
        )
    if run_job(run.id) is not None:
        raise BadInput(
            f"{run.id}: expected a run without a job, found one that waits its turn. Wait for it, or stop it."
        )
    RunWriter(run.path, 0).status(State.QUEUED, phase="waiting for its turn")
    return submit_run(run.id, resume=True)


def run_job(run_id: str) -> jobs.Job | None:
    """The job of a run that waits or runs, if there is one."""
    for job in jobs.jobs("heavy", 50):
        if job.payload.get("run") == run_id and job.state in ("queued", "running"):
            return job
    return None


def stop_run(run: Run) -> None:
    """A waiting run leaves the queue; a running one stops at its next step edge, with a checkpoint."""
    job = run_job(run.id)
    request_stop(run.path)
    if job is not None and job.state == "queued":
        jobs.cancel(job.id)


def running_run() -> Run | None:
    """The run that computes now, or the first that waits: what a page shows after a reload."""
    job = jobs.running_heavy()
    queued = [j for j in jobs.jobs("heavy", 50) if j.state == "queued"]
    found = job or (min(queued, key=lambda j: j.id) if queued else None)
    if found is None:
        return None
    path = runs_root() / str(found.payload.get("run"))
    return Run(path) if (path / "config.json").is_file() else None


# --- interactive requests ---------------------------------------------------------------------------------------------


def ask(payload: dict[str, Any]) -> int:
    """Submit a request to the interactive worker and make sure it lives. Returns the job's id, for `answer`."""
    job = jobs.submit("interactive", payload)
    ensure_worker("interactive")
    return job


def answer(job_id: int, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The request's events from a byte offset on, and the new offset. Ends with a 'done' or 'error' event."""
    return jobs.events(job_id, offset)


def model_payload(model: ModelConfig | None = None, checkpoint: str = "") -> dict[str, Any]:
    """The part of every request that says which weights: {'model', 'checkpoint'}."""
    return {"model": to_json(model or ScanConfig().model), "checkpoint": checkpoint}


def read_config(kind: str, data: Any) -> Any:
    """A config object from JSON, for a page that restores one. Raises BadInput."""
    return from_json(KINDS[kind], data)
