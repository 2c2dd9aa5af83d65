"""What a running job tells: phase, done, total and seconds left, into its status file and to a terminal.

`Report` is what the engine calls. It is also where a job learns that it was asked to stop.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from hdpo.errors import Stopped
from hdpo.record.folder import RunWriter, State, stop_requested
from hdpo.record.ranks import ALONE, Ranks

SECONDS_BETWEEN_WRITES = 0.25


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

    Time left is elapsed / fraction · (1 − fraction) of what this attempt did itself; the clock starts when the count
    does, so that neither loading nor an evaluation before the first step is taken for a step's time. Counts with
    another unit or total have their own clock.
    """

    def __init__(
        self,
        writer: RunWriter,
        also: Also | None = None,
        watch: tuple[Path, ...] = (),
        resumed_at: int = 0,
        ranks: Ranks = ALONE,
    ) -> None:
        """watch: further run folders whose stop counts as one for this run (the sweep that it belongs to).
        resumed_at: steps that an earlier attempt did. ranks: rank 0 decides whether a stop was asked for.
        """
        self.ranks = ranks
        self.writer, self.also, self.watch = writer, also, (writer.path, *watch)
        self.resumed_at = resumed_at
        self.last = Progress("starting", 0, 0)
        self._written = float("-inf")
        self._clocks: dict[tuple[str, int], tuple[float, int]] = {}

    def __call__(self, phase: str, done: int, total: int, unit: str = "steps") -> None:
        """done of total units are finished. Raises Stopped where a stop was asked for."""
        now = time.monotonic()
        before = self.resumed_at if unit == "steps" else 0
        start, first = self._clocks.get((unit, total), (now, max(done, before)))
        if done <= first:
            start = now
        self._clocks[unit, total] = start, first
        self.tell(Progress(phase, done, total, unit, seconds_left(now - start, done - first, total - first)))
        if self.ranks.agree(self.stop_asked()):
            raise Stopped(f"Stopped on request at {done} of {total} {unit}.")

    def tell(self, p: Progress) -> None:
        """Write and show; never stops anything."""
        self.last = p
        if time.monotonic() - self._written >= SECONDS_BETWEEN_WRITES:
            self._written = time.monotonic()
            facts = {"phase": p.phase, "done": p.done, "total": p.total, "seconds_left": p.seconds_left}
            self.writer.status(State.RUNNING, **facts)
        if self.also is not None:
            self.also(p)

    def stop_asked(self) -> bool:
        return any(stop_requested(p) for p in self.watch)


def run_report(writer: RunWriter, also: Also | None = None) -> Report:
    """The report of a run that stands for itself."""
    return Report(writer, also)


def seconds_left(elapsed: float, done: int, total: int) -> float | None:
    """
    >>> seconds_left(10.0, 1, 5)
    40.0
    >>> seconds_left(10.0, 0, 5) is None
    True
    """
    return elapsed * (total - done) / done if done > 0 else None
