"""Pairs of timings, interleaved, so that whatever else the machine does falls on both."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median

REPEATS = 7


@dataclass(frozen=True)
class Row:
    """One line of the table: values of both sides in `unit`, one a repeat.

    The figure is theirs over ours, so that more is better; with at_most it is ours over theirs, and less is better.
    floor: what the machine needs at the least for ours (`floor.py`), 0 where that is not counted.
    """

    what: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    minimum: float
    goal: float
    at_most: bool = False
    note: str = ""
    floor: float = 0.0

    def _ratio(self, ours: float, theirs: float) -> float:
        return ours / theirs if self.at_most else theirs / ours

    @property
    def figure(self) -> float:
        """The ratio of the medians."""
        return self._ratio(median(self.ours), median(self.theirs))

    @property
    def spread(self) -> tuple[float, float]:
        """The smallest and largest ratio of two neighbouring repeats."""
        each = [self._ratio(o, t) for o, t in zip(self.ours, self.theirs, strict=True)]
        return min(each), max(each)

    @property
    def verdict(self) -> str:
        for name, bar in (("goal", self.goal), ("minimum", self.minimum)):
            if (self.figure <= bar) if self.at_most else (self.figure >= bar):
                return name
        return "below"


def seconds(act: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, after the garbage of the last."""
    gc.collect()
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def interleaved(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int = REPEATS
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of each, in turns, after one call of each that is not counted."""
    ours()
    theirs()
    pairs = [(seconds(ours), seconds(theirs)) for _ in range(repeats)]
    return tuple(a for a, _ in pairs), tuple(b for _, b in pairs)
