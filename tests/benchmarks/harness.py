"""Pairs of timings, in turns A/B/B/A, so that whatever else the machine does falls on both."""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import fmean, median, stdev
from typing import Any

from scipy.stats import t as student

REPEATS, FEW = 8, 4  # few: of a real model, where each takes half a minute


@dataclass(frozen=True)
class Row:
    """One line of the table: values of both sides in `unit`, one a repeat; theirs is empty where ours stands alone.

    The figure is theirs over ours, so that more is better; with at_most it is ours over theirs, and less is better; alone
    it is the median of ours, and less is better. goal: what an order asked for. floor: what the machine needs at the least
    for ours (`floor.py`), 0 where that is not counted.
    """

    what: str
    against: str
    unit: str
    ours: tuple[float, ...]
    theirs: tuple[float, ...]
    goal: float
    at_most: bool = False
    note: str = ""
    floor: float = 0.0

    @property
    def ratios(self) -> list[float]:
        """Of each pair."""
        return [o / t if self.at_most else t / o for o, t in zip(self.ours, self.theirs, strict=True)]

    @property
    def figure(self) -> float:
        """The geometric mean of the pairs' ratios; alone, the median."""
        return math.exp(fmean(map(math.log, self.ratios))) if self.theirs else median(self.ours)

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: Student's t over the logarithms of the ratios; alone, the smallest and the largest."""
        if not self.theirs:
            return min(self.ours), max(self.ours)
        logs = list(map(math.log, self.ratios))
        away = student.ppf(0.975, len(logs) - 1) * stdev(logs) / math.sqrt(len(logs))
        return math.exp(fmean(logs) - away), math.exp(fmean(logs) + away)

    @property
    def reached(self) -> bool:
        less = self.at_most or not self.theirs
        return self.figure <= self.goal if less else self.figure >= self.goal

    def told(self) -> dict[str, Any]:
        """For machines."""
        low, high = self.interval
        return asdict(self) | {"figure": self.figure, "low": low, "high": high, "reached": self.reached}


def seconds(act: Callable[[], object]) -> float:
    """Wall-clock seconds of one call, after the garbage of the last."""
    gc.collect()
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def interleaved(
    ours: Callable[[], object], theirs: Callable[[], object], repeats: int = REPEATS
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Seconds of each, in turns A/B/B/A, after one call of each that is not counted."""
    ours()
    theirs()
    a, b = [], []
    for i in range(repeats):
        for side, act in ((a, ours), (b, theirs))[:: 1 if i % 2 == 0 else -1]:
            side.append(seconds(act))
    return tuple(a), tuple(b)
