"""What a running job tells: phase, done, total and seconds left, into its status file and to a terminal.

`Report` is what the engine calls. It is also where a job learns that it was asked to stop.
"""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from hdpo.errors import Stopped
from hdpo.record.folder import RunWriter, State, stop_requested
from hdpo.record.ranks import ALONE, Ranks

SECONDS_BETWEEN_WRITES = 0.25
SOON = 1.0  # seconds that a stop waits for the end of what is begun
RECENT = 5  # steps whose pace is that of the steps to come


@dataclass(frozen=True)
class Progress:
    """One moment of a job. seconds_left is None until something has been done."""

    phase: str
    done: int
    total: int
    unit: str = "steps"
    seconds_left: float | None = None


Also = Callable[[Progress], None]


class Report:
    """Call it at safe places: it writes the status, at most 4 times a second, and raises Stopped after a stop.

    Time left is what the caller says, who knows his steps, or else elapsed / fraction · (1 − fraction) of what this
    attempt did itself; that clock starts when the count does, so that loading is not taken for a unit's time. Counts
    with another unit or total have their own clock.
    """

    def __init__(
        self, writer: RunWriter, also: Also | None = None, watch: tuple[Path, ...] = (), ranks: Ranks = ALONE
    ) -> None:
        """watch: further run folders whose stop counts as one for this run (the sweep it belongs to); rank 0 looks."""
        self.writer, self.also, self.watch, self.ranks = writer, also, (writer.path, *watch), ranks
        self.last = Progress("starting", 0, 0)
        self._told = self._written = self._looked = self._counted = float("-inf")
        self._phase, self._tokens, self._lock = "", 0, threading.Lock()
        self._stopping = False
        self._clocks: dict[tuple[str, int], tuple[float, int]] = {}

    def __call__(self, phase: str, done: int, total: int, unit: str = "steps", left: float | None = None) -> None:
        """done of total units are finished, left seconds are to come. Raises Stopped where a stop was asked for."""
        now = self._told = time.monotonic()
        start, first = self._clocks.get((unit, total), (now, done))
        if done <= first:
            start = now
        elif left is None:
            left = (now - start) * (total - done) / (done - first)
        self._clocks[unit, total] = start, first
        self._phase, self._tokens, self._counted = phase, 0, time.monotonic()
        self.tell(Progress(phase, done, total, unit, left))
        if self.ranks.agree(self.stop_asked()):
            raise Stopped(f"Stopped on request at {done} of {total} {unit}.")

    def meanwhile(self, phase: str, done: int) -> None:
        """What goes on between two counts, such as an evaluation between two steps: the time left runs down."""
        self._phase, self._tokens, self._counted = phase, 0, time.monotonic()
        self._run_down(phase, done)

    def inside(self, tokens: int) -> None:
        """So many more tokens were sampled within what was told last: said at most 4 times a second, from any thread.

        Raises Stopped where the next count is not soon to come, and no other rank has to agree in the middle of its work.
        """
        with self._lock:
            now, self._tokens = time.monotonic(), self._tokens + tokens
            if now - self._looked >= SECONDS_BETWEEN_WRITES:
                self._looked = now
                sampled = f", {self._tokens:,} tokens sampled" if self._tokens else ""
                self._run_down(self._phase + sampled, self.last.done)
                late = now - self._counted >= SOON and self.ranks.count == 1
                self._stopping = late and self.stop_asked()
            if self._stopping:
                raise Stopped(f"Stopped on request at {self.last.done} of {self.last.total} {self.last.unit}.")

    def _run_down(self, phase: str, done: int) -> None:
        now, left = time.monotonic(), self.last.seconds_left
        left = None if left is None else max(0.0, left - (now - self._told))
        self._told = now
        self.tell(replace(self.last, phase=phase, done=done, seconds_left=left))

    def tell(self, p: Progress) -> None:
        """Write and show; never stops anything."""
        self.last = p
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self._written = time.monotonic()
            self.writer.status(State.RUNNING, phase=p.phase, done=p.done, total=p.total, seconds_left=p.seconds_left)
        if self.also is not None:
            self.also(p)

    def stop_asked(self) -> bool:
        return any(stop_requested(p) for p in self.watch)


def time_left(steps: Sequence[float], evaluations: Sequence[float], more: int, evaluations_more: int) -> float | None:
    """Seconds for so many more of both, from what those of a run took: the median of its last steps, so that neither a
    cold first one nor a stall decides, and evaluations apart. None before the first step.

    >>> time_left([9.0, 1.0, 1.0], [5.0], 10, 2)
    20.0
    """
    if not steps:
        return None
    return more * median(steps[-RECENT:]) + (evaluations_more * median(evaluations) if evaluations else 0.0)
