"""What a session will take and what it can show, said before it starts.

Time is `hdpo.work.plan`'s. Memory is worked out from the model file. What a session can detect comes from the counts of the newest
baseline evaluation of the same problem set.
"""

from __future__ import annotations

from collections.abc import Sequence

import streamlit as st

from hdpo.config import SweepConfig, TrainConfig, knobs, replace_knobs
from hdpo.data import problems
from hdpo.evidence import stats
from hdpo.hub import is_hub_id
from hdpo.model import fit
from hdpo.record.folder import Run
from hdpo.work.plan import duration, sides_words, too_few, words
from workbench.data import catalog, tradeoff

__all__ = ["detectable", "duration", "memory_bytes", "sides", "sides_words", "too_few", "words"]


# --- problems -----------------------------------------------------------------------------------------------


def sides(config: TrainConfig) -> tuple[int, int] | None:
    """How many problems are trained on and held out; None of a hub set, which is not asked for. Raises BadInput."""
    data = config.data
    files = [s for s in (data.problems, data.validation_problems) if s]
    if any(map(is_hub_id, files)):
        return None
    matters = ("information", "eval_split") + ("lambda_",) * (not config.objective.lambda_)
    read = {k.name: k.default for k in knobs(config) if k.name in matters or k.path[0] == "data"}
    return _sides(replace_knobs(TrainConfig(), read), [catalog.stamp(f) for f in files])


@st.cache_data(show_spinner="Counting the problems", max_entries=20)
def _sides(config: TrainConfig, at: list[catalog.Stamp]) -> tuple[int, int]:
    return problems.sides(config)


# --- memory -------------------------------------------------------------------------------------------------


def memory_bytes(config: TrainConfig | SweepConfig) -> int:
    """About what the heavy job's process will hold, 0 where that is not known (the job itself will say why)."""
    found = fit.need(config)
    return found.total if found else 0


ASSUMED = "the project's recorded pairs: the effect differs between problems by 30 points (standard deviation), from training to training by 1"


# --- what it can show ---------------------------------------------------------------------------------------


def detectable(config: TrainConfig, seeds: int = 1) -> str:
    """One sentence: the smallest paired difference between two such sessions that would show with 80 % power."""
    before = like(config)
    found = baseline_counts(before, max(config.evaluation.ks))
    if found is None:
        return (
            "What this session can detect is not known yet: no baseline evaluation of this model on this problem set."
        )
    counts, run = found
    planned, shows = config.evaluation, []
    measured = min(planned.eval_problems, len(counts))
    for k in dict.fromkeys((min(planned.ks), max(planned.ks))):
        spread, pairs = tradeoff.varied_before(before, f"pass@{k}") or (stats.Spread(), ASSUMED)
        shown = stats.detectable_difference(counts, planned.eval_samples, k, seeds, measured, spread)
        shows.append(tradeoff.told(shown, f"pass@{k}"))
    extra = " Training noise, of which one seed knows nothing, is not in it." if seeds == 1 else ""
    return (
        f"The smallest true rise that two such sessions on {measured} problems × {planned.eval_samples} samples show 80 times in "
        f"100: {', '.join(shows)}. It assumes that problems and trainings vary as in {pairs}.{extra} "
        f"From the baseline in {run.name} ({run.load_config().evaluation.eval_split} problems)."
    )


def like(config: TrainConfig) -> list[Run]:
    """The train runs of this model on these problems."""
    wanted = {k.name: k.default for k in knobs(config) if k.path[0] == "data" or k.name in ("model", "adapter")}
    return [r for r in catalog.runs_of("train") if wanted.items() <= tradeoff.settings(r).items()]


def baseline_counts(runs_alike: Sequence[Run], least: int) -> tuple[list[tuple[int, int]], Run] | None:
    """(n, c) per problem before training, from the newest of these runs that has them, each of `least` samples or more."""
    for run in runs_alike:
        rows = catalog.eval_counts(run, 0)
        counts = [(int(n), int(c)) for n, c in zip(rows["n"], rows["correct"], strict=True) if n >= least]
        if counts:
            return counts, run
    return None
