"""At what runs are compared: the same step, the same tokens that were sampled, or the same seconds of training steps.

A privileged rollout costs tokens and time that λ = 0 does not pay, so a comparison says which of the three it holds equal.
No Streamlit here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate

import pandas as pd

from hdpo.record.folder import Run
from workbench.data import catalog

UNITS = {"steps": "step", "tokens": "sampled tokens", "seconds": "seconds of training steps"}
COLUMNS = {"tokens": ["tokens_student", "tokens_privileged"], "seconds": ["seconds"]}

At = int | Mapping[str, int]  # the evaluated step of all runs, or of each by its id


def step_of(run: Run, at: At) -> int:
    return at if isinstance(at, int) else at[run.id]


def spent(run: Run, basis: str) -> pd.Series:
    """Evaluated step → what the training steps up to it took, in the basis' unit; ascending."""
    evaluated = sorted({int(r["step"]) for r in catalog.rows_of(run, "eval")})
    if basis == "steps":
        return pd.Series(evaluated, index=evaluated, dtype=int)
    steps = sorted(catalog.rows_of(run, "step"), key=lambda r: r["step"])
    total = [0.0, *accumulate(sum(r.get(c) or 0.0 for c in COLUMNS[basis]) for r in steps)]
    places = [bisect_right(steps, e, key=lambda r: r["step"]) for e in evaluated]
    return pd.Series([int(total[i]) for i in places], index=evaluated, dtype=int)


def moments(runs: Sequence[Run], basis: str) -> dict[int, At]:
    """Amount → where each run stands then, ascending: the steps that all have evaluated; or each evaluation of the run that
    spent least, and of every other run its last one that took no more."""
    of = {run.id: spent(run, basis) for run in runs}
    if not of or any(s.empty for s in of.values()):
        return {}
    if basis == "steps":
        return {step: step for step in sorted(set.intersection(*(set(s) for s in of.values())))}
    least = min(of.values(), key=lambda s: s.iloc[-1])
    return {int(amount): {i: int(s.index[s <= amount][-1]) for i, s in of.items()} for amount in least}


def words(amount: int, at: At, basis: str) -> str:
    """
    >>> words(60, 60, "steps"), words(310_000, {"a": 60, "b": 45}, "tokens")
    ('step 60', '310,000 sampled tokens (steps 45 to 60)')
    """
    if isinstance(at, int):
        return f"step {at}"
    low, high = min(at.values()), max(at.values())
    return f"{amount:,} {UNITS[basis]} ({f'steps {low} to {high}' if high > low else f'step {low}'})"
