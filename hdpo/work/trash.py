"""Deleted runs: they move to `runs/.trash` and come back from there. A sweep goes and comes with its members."""

import os
from pathlib import Path

from hdpo.errors import BadInput, Busy
from hdpo.processes import held
from hdpo.record.export import members
from hdpo.record.files import writing
from hdpo.record.folder import Run, State, all_runs, find_run, runs_root
from hdpo.work import jobs

TRASH = ".trash"


def discard(run: Run) -> list[Run]:
    """Move a run to the trash. Returns what was moved, as it lies there. Raises BadInput for one that came with the
    project, Busy for one that waits or is at work."""
    if run.recorded:
        raise BadInput(f"{run.id}: expected a run of yours, found one that comes with the project. Those stay.")
    root, several = run.path.parent, [run, *(m for _, m in members(run))]
    jobs.recover(root)
    pending = {j.payload.get("run") for j in jobs.pending_heavy(root)}
    for r in several:
        if r.id in pending or held(r.path) or r.status().state in (State.RUNNING, State.UNHEARD):
            raise Busy(f"{r.id} waits or is at work. Stop it first: python -m hdpo runs stop {r.id}")
    return [_moved(r, root / TRASH) for r in several]


def deleted() -> list[Run]:
    """What lies in the trash, newest first; a sweep stands for its members."""
    trash = runs_root() / TRASH
    found = [r for r in all_runs(trash) if r.path.parent == trash] if trash.is_dir() else []
    parts = {m.id for r in found for _, m in members(r)}
    return [r for r in found if r.id not in parts]


def restore(name: str) -> list[Run]:
    """Take a run back out of the trash. Raises BadInput where there is none of that name."""
    root = runs_root()
    run = find_run(name, root / TRASH)
    if run.path.parent != root / TRASH:
        raise BadInput(f"run: expected one that was deleted, found {run.id}. `python -m hdpo runs` lists what is here.")
    return [_moved(r, root) for r in [run, *(m for _, m in members(run))]]


def _moved(run: Run, folder: Path) -> Run:
    place = folder / run.id
    with writing(place):
        folder.mkdir(exist_ok=True)
        os.replace(run.path, place)
    return Run(place)
