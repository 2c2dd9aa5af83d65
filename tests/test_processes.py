"""Who lives, whatever the clock says; who holds a folder; who ends with whom."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from hdpo import processes
from hdpo.errors import Busy
from hdpo.processes import Life, held, holding, life, me

HOME = Path(__file__).resolve().parents[1]


def child(code: str) -> subprocess.Popen[str]:
    """Another process; its first line is read, so that it is there."""
    code = f"from pathlib import Path\nfrom hdpo import processes\n{code}"
    pipe = subprocess.PIPE
    made = subprocess.Popen([sys.executable, "-c", code], cwd=HOME, stdin=pipe, stdout=pipe, text=True)
    made.first = made.stdout.readline().strip()
    return made


def test_a_process_is_known_by_its_start_and_the_start_by_no_clock(monkeypatch) -> None:
    other = child("print(processes.me()[1], flush=True); input()")
    monkeypatch.setattr(psutil, "boot_time", lambda: 0.0)  # the clock was set
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert life(other.pid, other.first) is Life.ALIVE
    assert life(*me()) is Life.ALIVE
    host, boot, ticks = other.first.rsplit(" ", 2)
    assert life(other.pid, f"{host} {boot} {int(ticks) + 1}") is Life.DEAD, "its pid was used again"
    assert life(other.pid, f"{host} another-boot {ticks}") is Life.DEAD, "the machine was started anew"
    assert life(other.pid, f"elsewhere another-boot {ticks}") is Life.ELSEWHERE
    other.kill()
    time.sleep(0.2)
    assert life(other.pid, other.first) is Life.DEAD, "it waits to be buried"
    other.wait()
    assert life(other.pid, other.first) is Life.DEAD


def test_what_an_older_version_wrote_is_still_read() -> None:
    assert life(os.getpid(), psutil.Process().create_time()) is Life.ALIVE
    assert life(os.getpid(), 1.0) is Life.DEAD
    assert life(2**70, 1.0) is Life.DEAD and life(os.getpid(), "nonsense") is not Life.ALIVE


def test_where_the_system_has_no_boot_id_its_own_start_time_tells(monkeypatch) -> None:
    monkeypatch.setattr(processes, "BOOT", "")
    assert life(*me()) is Life.ALIVE
    assert life(os.getpid(), f"{processes.HOST}  1.0") is Life.DEAD
    assert life(os.getpid(), f"elsewhere  {psutil.Process().create_time()}") is Life.ELSEWHERE


def test_a_folder_has_one_holder_and_a_killed_one_lets_go(tmp_path) -> None:
    assert not held(tmp_path)
    other = child(f"with processes.holding(Path({str(tmp_path)!r})): print('in', flush=True); input()")
    assert other.first == "in" and held(tmp_path)
    with pytest.raises(Busy, match="only writer"), holding(tmp_path):
        pass
    other.kill()
    other.wait()
    assert not held(tmp_path)
    with holding(tmp_path):
        assert held(tmp_path)


def test_a_child_learns_that_its_parent_is_gone() -> None:
    code = """
import subprocess, sys
code = "import time\\nfrom hdpo import processes\\nprocesses.when_parent_ends(lambda: print('gone', flush=True))\\nprint('up', flush=True)\\ntime.sleep(60)"
subprocess.Popen([sys.executable, "-c", code], stdin=processes.lifeline())
input()
"""
    parent = child(code)
    assert parent.first == "up"
    parent.kill()
    assert parent.stdout.readline().strip() == "gone"
