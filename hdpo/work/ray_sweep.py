"""The members of a sweep as tasks of Ray, where a cluster is given: one GPU each, wherever one is free.

Each task is the command that a launcher would start, `python -m hdpo.work.execute RUN`, so a member is the same run as
without Ray. The runs folder must lie on a file system that every machine of the cluster sees.
"""

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hdpo.assets import HOME
from hdpo.config import SweepConfig, model_of
from hdpo.errors import BadInput, HdpoError, Stopped, first_line
from hdpo.processes import lifeline
from hdpo.record.folder import Run, request_stop

LOOK = 1.0  # seconds between looks at the tasks and at the stop flag


def run_members(members: Mapping[Path, bool], config: SweepConfig, tell: Callable[[str, int], None]) -> None:
    """Run the members that are not done (folder → whether it is) and return when all have ended; how, stands in the status
    of each. tell(phase, steps of all) is called every second; where it raises Stopped, the members are asked to stop, and
    have ended when that is raised here. Raises BadInput where Ray is missing or does not answer at `config.ray`: 'auto'
    is the cluster that this machine belongs to, 'local' this machine alone."""
    try:
        import ray
    except ImportError as e:
        raise BadInput("ray: expected the ray package, found none. pip install ray==2.60.0, or leave --ray out.") from e
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    where = None if config.ray == "local" else config.ray
    try:
        ray.init(where, log_to_driver=False, include_dashboard=False, logging_level="error")
    except Exception as e:  # connection, version, resources: one sentence for all
        words = f"expected a cluster at {config.ray!r}, found '{first_line(e)}'"
        raise BadInput(f"ray: {words}. Use auto, local or ray://host:port.") from e
    model, paths = model_of(config), [p for p, done in members.items() if not done]
    gpus = model.processes if model.device != "cpu" and ray.cluster_resources().get("GPU") else 0
    task: Any = ray.remote(num_gpus=gpus, num_cpus=1, max_retries=0)(member)
    waiting = [task.remote(str(p)) for p in paths]
    try:
        while waiting:
            ended, waiting = ray.wait(waiting, num_returns=len(waiting), timeout=LOOK)
            ray.get(ended)
            tell(f"{len(waiting)} of {len(members)} members on Ray", sum(Run(p).status().done for p in members))
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
