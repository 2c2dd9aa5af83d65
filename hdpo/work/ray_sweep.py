"""The members of a sweep as tasks of Ray, where a cluster is given: one GPU each, wherever one is free.

Each task is the command that a launcher would start, `python -m hdpo.work.execute RUN`, so a member is the same run as
without Ray. The runs folder must lie on a file system that every machine of the cluster sees.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hdpo.assets import HOME
from hdpo.errors import BadInput, HdpoError, Stopped, first_line
from hdpo.processes import lifeline
from hdpo.record.folder import request_stop

LOOK = 1.0  # seconds between looks at the tasks and at the stop flag


def run_members(paths: Sequence[Path], address: str, gpus: int, look: Callable[[int], None]) -> None:
    """Run the members and return when all have ended. look(number that has ended) is called every second; where it
    raises Stopped, the members are asked to stop, and have ended when that is raised here.

    address: 'auto' for the cluster that this machine belongs to, 'local' for this machine alone, or ray://host:port.
    gpus: of each member, where the cluster has any. Raises BadInput where Ray is missing or does not answer. How each
    member ended stands in its own status.
    """
    try:
        import ray
    except ImportError as e:
        raise BadInput("ray: expected the ray package, found none. pip install ray==2.60.0, or leave --ray out.") from e
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = None if address == "local" else address
    try:
        ray.init(where, log_to_driver=False, include_dashboard=False, logging_level="error")
    except Exception as e:  # connection, version, resources: one sentence for all
        words = f"expected a cluster at {address!r}, found '{first_line(e)}'"
        raise BadInput(f"ray: {words}. Use auto, local or ray://host:port.") from e
    gpus = gpus if ray.cluster_resources().get("GPU") else 0
    task: Any = ray.remote(num_gpus=gpus, num_cpus=1, max_retries=0)(member)
    waiting = [task.remote(str(p)) for p in paths]
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK)
            ray.get(ended)
            look(len(paths) - len(waiting))
    except Stopped:
        for p in paths:
            request_stop(p)
        if waiting:
            ray.wait(waiting, num_returns=len(waiting))
        raise
    except ray.exceptions.RayError as e:
        words = f"expected the members to run, found '{first_line(e)}'"
        raise HdpoError(f"ray: {words}. Resume goes on with those that are left.") from e
    finally:
        ray.shutdown()  # ends what still runs


def member(path: str) -> int:
    """One member to its end, in a process of its own; its exit code."""
    command = [sys.executable, "-m", "hdpo.work.execute", path, "--resume", "--with-parent"]
    return subprocess.run(command, cwd=HOME, stdin=lifeline(), check=False).returncode
