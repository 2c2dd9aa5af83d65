"""Process control: who lives, who ends with whom, and who holds a folder. POSIX and Windows differ here alone.

A process is named by its pid and its start. The start is free of the clock, which people and time servers set: on Linux
the host, the boot and the ticks since that boot; elsewhere the system keeps the moment of the start itself.
"""

import math
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from enum import Enum
from functools import cache
from pathlib import Path
from typing import IO, Any

import psutil

from hdpo.errors import Busy

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

HOLD_PATIENCE = 2.0  # seconds: somebody who only looks whether a folder is held holds it for a moment
GRACE = 20.0  # seconds that processes have to end by themselves
HOST = platform.node() or "this machine"
BOOT = ""  # what changes with every start of the machine and with nothing else, where the system has such a thing
with suppress(OSError):
    BOOT = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
Start = str | float  # a float, the wall clock's, in folders of older versions


class Life(Enum):
    """What can be known of a process from here."""

    ALIVE = "alive"
    DEAD = "dead"
    ELSEWHERE = "on another machine"


def me() -> tuple[int, str]:
    """This process: its pid and its start."""
    return os.getpid(), f"{HOST} {BOOT} {_ticks(os.getpid())}"


def life(pid: int, start: Start) -> Life:
    """Whether that very process still runs: the start guards against a pid that is used again."""
    if isinstance(start, str):
        host, boot, ticks = (["", "", ""] + start.rsplit(" ", 2))[-3:]
        if boot != BOOT or (not boot and host != HOST):
            return Life.DEAD if host == HOST else Life.ELSEWHERE  # a boot that is over, or another machine's
        return Life.ALIVE if ticks and ticks == _ticks(pid) else Life.DEAD
    return Life.ALIVE if abs(_created(pid) - start) < 1.0 else Life.DEAD


def host_of(start: Start) -> str:
    return str(start).rsplit(" ", 2)[0]


def _ticks(pid: int) -> str:
    """When a process started; '' for one that is gone or waits to be buried."""
    if not BOOT:
        return str(created) if (created := _created(pid)) > 0.0 else ""
    with suppress(OSError, ValueError):
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
        return "" if fields[0] in b"ZX" else fields[19].decode()
    return ""


def _created(pid: int) -> float:
    """When a process started, by the system's clock; -inf for one that is gone or waits to be buried."""
    with suppress(psutil.Error, ValueError, OverflowError):
        process = psutil.Process(pid)
        return -math.inf if process.status() == psutil.STATUS_ZOMBIE else process.create_time()
    return -math.inf


@contextmanager
def holding(folder: Path) -> Iterator[None]:
    """Hold a folder by a lock on its file `lock` until the block ends, or the process does, however it ends. Raises
    Busy where another process holds it. The lock is the system's own and looks at no clock. Over NFS it counts between
    machines from version 4 on; where a file system has no locks, that is said on standard error, and the liveness of
    the last writer is all there is."""
    with (folder / "lock").open("ab") as file:
        until = time.monotonic() + HOLD_PATIENCE
        try:
            while not _lock(file):
                if time.monotonic() > until:
                    found = "found another process at work in it. Wait for it, or stop it."
                    raise Busy(f"{folder.name}: expected to be its only writer, {found}")
                time.sleep(0.05)
        except OSError as e:
            print(f"lock: expected a file system with locks, found '{e.strerror}' in {folder}.", file=sys.stderr)
        yield


def held(folder: Path) -> bool:
    """Whether a process holds this folder now."""
    try:
        with (folder / "lock").open("rb") as file:
            return not _lock(file, look=True)
    except OSError:  # never held, or no locks here
        return False


def _lock(file: IO[bytes], look: bool = False) -> bool:
    """Take the lock if it is free; closing the file gives it back. look: beside others who only look."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, (fcntl.LOCK_SH if look else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except (BlockingIOError, PermissionError):
        return False
    return True


@cache
def lifeline() -> int:
    """For the stdin of a child that shall know when this process is gone: a pipe that is open as long as it lives."""
    return os.pipe()[0]  # nobody closes the other end but the system, when this process is over


def when_parent_ends(do: Callable[[], object]) -> None:
    """In a child with a lifeline: call `do` once, from a thread, when the process at the other end is gone."""

    def wait() -> None:
        while os.read(0, 1):
            pass
        do()

    threading.Thread(target=wait, daemon=True).start()


def end_group(group: subprocess.Popen[Any], ask: bool = True) -> None:
    """End a process that was started with start_new_session, and all that it started: asked first, if so, then killed.
    On Windows, which has no such groups, its descendants are looked up; those of a child that is gone are not found."""
    for asking in (True, False) if ask else (False,):
        if sys.platform == "win32":
            with suppress(psutil.Error):
                for p in [*psutil.Process(group.pid).children(recursive=True), psutil.Process(group.pid)]:
                    p.terminate()
        else:
            with suppress(ProcessLookupError):
                os.killpg(group.pid, signal.SIGTERM if asking else signal.SIGKILL)
        with suppress(subprocess.TimeoutExpired):
            group.wait(GRACE)


def step_back() -> None:
    """Let other processes of this machine go first."""
    with suppress(psutil.Error, OSError):
        psutil.Process().nice(10 if sys.platform != "win32" else psutil.BELOW_NORMAL_PRIORITY_CLASS)
