"""What the pages call for work: start, stop and resume a run, ask the interactive worker, keep workers alive.

The work itself happens in processes of their own (`workbench.workers`). A run's truth is its folder, a job's the table:
nothing is kept here.
"""

from __future__ import annotations

import shutil
from contextlib import suppress
from shlex import quote
from typing import Any

from hdpo.config import KINDS, ModelConfig, knobs, to_json
from hdpo.errors import HdpoError
from hdpo.presets import brought
from hdpo.record.folder import Run, RunWriter, State, all_runs, runs_root
from hdpo.work import jobs
from hdpo.work.jobs import HEAVY, INTERACTIVE
from hdpo.work.jobs import pending_of as pending_job
from hdpo.work.jobs import stop as stop_run
from hdpo.work.preflight import UNREAD, changed, check, refuse_idle
from workbench.data import estimate
from workbench.workers import ensure_worker, ensure_workers, workers_wanted

__all__ = [
    "answer",
    "ask",
    "command_of",
    "ensure_worker",
    "ensure_workers",
    "kind_of",
    "model_payload",
    "pending_job",
    "queue_words",
    "resumable",
    "resume_run",
    "running_run",
    "start_heavy",
    "stop_run",
    "submit_run",
    "tend",
    "workers_wanted",
]

# --- runs -------------------------------------------------------------------------------------------------


def kind_of(config: Any) -> str:
    return next(name for name, cls in KINDS.items() if isinstance(config, cls))


def command_of(config: Any) -> str:
    """The exact command that does the same: only settings that differ from the defaults.

    >>> from hdpo.config import TrainConfig, replace_knobs
    >>> command_of(replace_knobs(TrainConfig(), {"lambda_": 0.1, "steps": 5}))
    'python -m hdpo train --lambda 0.1 --steps 5'
    """
    kind = kind_of(config)
    defaults = {k.path: k.default for k in knobs(KINDS[kind]())}
    model = getattr(config, "train", config).model
    follows = {*brought(model.model), *(("rank", "alpha", "targets") if model.adapter else ())}
    words = ["python", "-m", "hdpo", kind, *([quote(config.data.problems)] if kind == "import" else [])]
    for k in knobs(config):
        # What another model or an adapter brings along on the command line unless it is given, is given.
        if k.name not in UNREAD[kind] and (k.name in follows or k.default != defaults[k.path]):
            words += k.words(k.default if isinstance(k.default, bool) else quote(word(k.default)))
    return " ".join(words)


def word(value: Any) -> str:
    """A value as the command line takes it: lists with commas, numbers short."""
    if isinstance(value, tuple):
        return ",".join(word(v) for v in value)
    if isinstance(value, float):
        return f"{value:g}" if float(f"{value:g}") == value else repr(value)
    return str(getattr(value, "value", value))


def start_heavy(config: Any, name: str = "", command: str = "") -> str:
    """Create the run folder, submit its job, and make sure that a trainer takes it. Returns the run's id.

    Raises BadInput for what the run would refuse, HdpoError where nothing can be written. The run waits its turn where
    another one is running.
    """
    refuse_idle(config, changed(config))
    check(config)
    writer = RunWriter.create(kind_of(config), config, name=name, command=command or command_of(config))
    try:
        submit_run(writer.path.name, config, resume=False)
    except HdpoError:  # a job table that is locked or cannot be written
        shutil.rmtree(writer.path)
        raise
    return writer.path.name


def submit_run(run_id: str, config: Any, resume: bool) -> int:
    payload = {"run": run_id, "resume": resume}
    job = jobs.submit(HEAVY, payload, memory_bytes=estimate.memory_bytes(config))
    with suppress(HdpoError):  # whoever watches the run asks again, and is told
        ensure_worker("trainer")
    return job


def resume_run(run: Run) -> int:
    """Go on from the last checkpoint (a scan or sweep: from what is done); the button that calls this says where that takes
    a run over from another machine. Raises BadInput or Busy where nothing can go on."""
    config = run.load_config()
    jobs.check_resumable(run, take_over=True)
    RunWriter(run.path, 0).status(State.QUEUED, phase="waiting for its turn")
    return submit_run(run.id, config, resume=True)


def resumable(run: Run) -> bool:
    """Whether `resume_run` has something to go on with."""
    state = run.status().state
    return not run.recorded and (state is State.UNHEARD or (state is not State.DONE and pending_job(run) is None))


def running_run() -> Run | None:
    """The run that computes now, or else the first that waits: what a page shows after a reload."""
    pending = jobs.pending_heavy()
    found = next((j for j in pending if j.state is State.RUNNING), pending[0] if pending else None)
    if found is None:  # one that runs outside of the table, if there is any
        return next((r for r in all_runs()[:20] if r.status().state is State.RUNNING), None)
    path = runs_root() / str(found.payload.get("run"))
    return Run(path) if (path / "config.json").is_file() else None


def queue_words(run: Run) -> str:
    """Why a queued run does not compute yet."""
    if pending_job(run) is None:
        return "has no job that would take it; resume it"
    running = jobs.running_heavy()
    if running is not None and running.payload["run"] != run.id:
        return f"waits for {Run(runs_root() / running.payload['run']).name}, one heavy job at a time"
    if jobs.live_workers("trainer"):
        return "a trainer takes it now"
    return "a trainer is starting, which takes some seconds"


def tend() -> str:
    """For a page that watches: bury the dead, and start a trainer where a job waits for one.

    Returns a sentence where a waiting job cannot be taken, and otherwise nothing.
    """
    jobs.recover()
    if not any(j.state is State.QUEUED for j in jobs.pending_heavy()):
        return ""
    if not workers_wanted():
        return (
            "A job waits, and HDPO_NO_WORKERS=1 forbids to start a trainer: start `python -m hdpo.work.worker trainer`."
        )
    ensure_worker("trainer")
    return ""


# --- interactive requests ---------------------------------------------------------------------------------


def ask(payload: dict[str, Any]) -> int:
    """Submit a request to the interactive worker and make sure it lives. Returns the job's id, for `answer`."""
    job = jobs.submit(INTERACTIVE, payload)
    ensure_worker("interactive")
    return job


def answer(job_id: int, offset: int = 0) -> tuple[list[dict[str, Any]], int]:
    """The request's events from a byte offset on, and the new offset. The last one is 'done' or 'error'."""
    return jobs.events(job_id, offset)


def model_payload(model: ModelConfig | None = None, checkpoint: str = "") -> dict[str, Any]:
    """The part of every request that says which weights: {'model', 'checkpoint'}."""
    return {"model": to_json(model or ModelConfig()), "checkpoint": checkpoint}
