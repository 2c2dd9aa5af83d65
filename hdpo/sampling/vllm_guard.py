"""`python -m hdpo.sampling.vllm_guard NAME`: outlives a trainer for a moment, to end the vLLM that it started.

A trainer that is killed can tell nobody, and vLLM, which waits minutes for its own start, would stay with the memory it
holds. The guard reads from a pipe that only the trainer holds open; at its end it kills what bears the name.
"""

import os
import subprocess
import sys
from contextlib import suppress

import psutil

NAMED = "HDPO_ENGINE"  # in the environment of what a guard ends


def guard(name: str) -> subprocess.Popen[bytes]:
    """Start one; every process that this one starts from now on bears the name. Close its stdin to have them ended."""
    os.environ[NAMED] = name
    command = [sys.executable, "-m", "hdpo.sampling.vllm_guard", name]
    environment = {k: v for k, v in os.environ.items() if k != NAMED}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def bearing(name: str) -> list[psutil.Process]:
    """The processes that run under this name."""
    running = psutil.process_iter(["environ", "status"])  # None where it may not be asked, or is gone
    named = [p for p in running if (p.info["environ"] or {}).get(NAMED) == name]
    return [p for p in named if p.info["status"] != psutil.STATUS_ZOMBIE]


def end_all(name: str) -> None:
    for p in bearing(name):
        with suppress(psutil.Error):
            p.kill()


if __name__ == "__main__":
    sys.stdin.read()
    end_all(sys.argv[1])
