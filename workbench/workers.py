"""Worker processes, started without waiting for them and in a session of their own, so that work outlives a closed browser
and a killed server; those without work end with the server, however it ends. The truth about them is in the job table;
what is kept here reaps children and avoids two of a kind.

Imports no Streamlit: `python -m workbench` starts the workers before the server.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time

from hdpo.processes import lifeline
from hdpo.record.folder import runs_root
from hdpo.work import jobs, worker

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
        _children[key], _spawned[key] = worker.start(role, lifeline=lifeline()), time.monotonic()
