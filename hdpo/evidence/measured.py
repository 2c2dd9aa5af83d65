"""What trainings measured, by mix, arm and seed: one value a problem, at the last step or at equal tokens."""

import hashlib
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from itertools import accumulate
from typing import Any

from hdpo.arms import PLAIN, name_of
from hdpo.config import TrainConfig, knobs
from hdpo.evidence import stats
from hdpo.record.folder import Run, State

LOWER_LEVELS = (1, 2, 3)
LOWER = "pass@1, levels 1–3"
BUNDLED = "bundled:"

Key = tuple[str, str, int]


class Training:
    """One finished run: its evaluations and what it had spent by each of them."""

    def __init__(self, run: Run) -> None:
        self.run, self.config = run, run.load_config()

    @property
    def key(self) -> Key:
        """Mix, arm (its λ where that tells everything) and seed."""
        c: TrainConfig = self.config
        name = name_of({k.name: k.default for k in knobs(c)})
        return c.data.problems.removeprefix(BUNDLED), f"{c.objective.lambda_:g}" if name in PLAIN else name, c.seed

    @cached_property
    def steps(self) -> list[int]:
        """The evaluated ones, ascending."""
        return sorted(self.run.tables("eval"))

    @cached_property
    def spent(self) -> dict[int, tuple[int, float]]:
        """Evaluated step → sampled tokens (student's and privileged) and seconds of training steps up to it."""
        rows = sorted(self.run.metrics("step"), key=lambda r: r["step"])
        tokens = [0, *accumulate(r["tokens_student"] + r["tokens_privileged"] for r in rows)]
        seconds = [0.0, *accumulate(r["seconds"] for r in rows)]
        places = {s: bisect_right(rows, s, key=lambda r: r["step"]) for s in self.steps}
        return {s: (tokens[i], seconds[i]) for s, i in places.items()}

    def step_at(self, tokens: int) -> int:
        """The last evaluated one by which no more had been sampled."""
        return max(s for s, (spent, _) in self.spent.items() if spent <= tokens)

    def rows(self, step: int) -> list[dict[str, Any]]:
        return sorted(self.run.table("eval", step), key=lambda r: r["problem_id"])


def trainings(runs: Iterable[Run]) -> dict[Key, Training]:
    """The finished ones by key; of several alike the first."""
    found: dict[Key, Training] = {}
    for run in runs:
        if run.kind == "train" and run.status().state is State.DONE:
            made = Training(run)
            found.setdefault(made.key, made)
    return found


def counts_of(rows: Sequence[Mapping[str, Any]], metric: str) -> list[tuple[int, int]]:
    """(n, correct) of each problem that the metric reads."""
    return [(r["n"], r["correct"]) for r in rows if metric != LOWER or r["level"] in LOWER_LEVELS]


def values_of(rows: Sequence[Mapping[str, Any]], metric: str) -> list[float]:
    """One value a problem: 'pass@k', 'cliffs' (1 where no sample is right), or pass@1 of the lower levels alone."""
    if metric == "cliffs":
        return [float(r["correct"] == 0) for r in rows]
    k = 1 if metric == LOWER else int(metric.removeprefix("pass@"))
    return [stats.pass_at_k(n, c, k) for n, c in counts_of(rows, metric)]


def chosen_half(row: Mapping[str, Any]) -> bool:
    """Whether its problem belongs to the half on which a best step is chosen; the same in every run."""
    return hashlib.blake2b(row["problem_id"].encode()).digest()[0] % 2 == 0
