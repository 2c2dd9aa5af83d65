"""Worker processes, started without waiting for them and in a session of their own, so that they outlive a closed browser
and a killed server. The truth about them is in the job table; what is kept here reaps children and avoids two of a kind.

Imports no Streamlit: `python -m workbench` starts the workers before the server.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

from hdpo.errors import HdpoError
from hdpo.record.folder import runs_root
from hdpo.work import jobs

REPOSITORY = Path(__file__).resolve().parent.parent
ROLES = ("interactive", "trainer")

SECONDS_BETWEEN_SPAWNS = 5.0  # a worker that dies at its start is not started again and again

_children: dict[tuple[str, str], subprocess.Popen[bytes]] = {}
_spawned: dict[tuple[str, str], float] = {}
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
        if child is not None and child.poll() is None:
            return
        recent = time.monotonic() - _spawned.get(key, float("-inf")) < SECONDS_BETWEEN_SPAWNS
        if recent or jobs.live_workers(role):
            return
        _children[key], _spawned[key] = spawn(role), time.monotonic()


def spawn(role: str) -> subprocess.Popen[bytes]:
    """A worker process that outlives this server; it logs beside the runs. Raises HdpoError where it cannot start."""
    folder = runs_root() / "workers"
    # All cores: beside a page that takes a quarter of one, that still is the quicker way. Idle threads sleep.
    env = {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, "HDPO_RUNS": str(runs_root())}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / f"{role}.log").open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "hdpo.work.worker", role],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=REPOSITORY,
                env=env,
                start_new_session=True,
            )
    except OSError as e:
        raise HdpoError(
            f"{role} worker: expected to start it with logs in {folder}, found '{e.strerror or e}'. Free some space or memory, then reload."
        ) from e
