"""What a session will take and what it can show, said before it starts.

Time is measured, not guessed: seconds per step of an earlier run with the same model, scaled to the new shape, with
the run named. Memory is worked out from the model file. What a session can detect comes from the counts of the newest
baseline evaluation of the same problem set.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

import streamlit as st

from hdpo.config import SweepConfig, TrainConfig, knobs
from hdpo.errors import HdpoError
from hdpo.evidence import stats
from hdpo.model import fit
from hdpo.record import folder
from hdpo.record.folder import Run
from workbench.data import catalog, tradeoff


@dataclass(frozen=True)
class Duration:
    """seconds: of the whole session, None where no run has been timed; source: a sentence on where it comes from."""

    seconds: float | None
    source: str


@dataclass(frozen=True)
class Timing:
    """Median seconds of a step and of an evaluation in one run; evaluation is None where it made none."""

    run: Run
    config: TrainConfig
    step: float
    evaluation: float | None


# --- time ---------------------------------------------------------------------------------------------------


def duration(config: TrainConfig | SweepConfig) -> Duration:
    """Seconds of a training or of a whole sweep, each member from the nearest timed run of the same model."""
    members = config.members() if isinstance(config, SweepConfig) else (config,)
    timings = [nearest(m) for m in members]
    timing = timings[-1]
    if timing is None:
        return Duration(None, "No run of this model has been timed yet: the first steps will tell.")
    seconds = sum(session_seconds(m, t) for m, t in zip(members, timings, strict=True) if t is not None)
    return Duration(seconds, source_of(timing, members[-1]))


def source_of(timing: Timing, config: TrainConfig) -> str:
    shape = timing.config.step
    words = f"Measured in {timing.run.name}: {timing.step:.1f} s a step of {shape.prompts_per_step} × {shape.rollouts} rollouts"
    if timing.evaluation is not None:
        words += f", {timing.evaluation:.1f} s an evaluation"
    same = (shape.prompts_per_step, shape.rollouts) == (config.step.prompts_per_step, config.step.rollouts)
    place = ", on the machine that recorded it" if timing.run.recorded else ""
    return f"{words}{place}{'' if same else '; scaled by prompts × rollouts'}."


def session_seconds(config: TrainConfig, timing: Timing) -> float:
    """Steps by prompts × rollouts, evaluations (one before, one each `eval_every`, one after) by problems × samples."""
    step, measured = config.step, timing.config.step
    scale = step.prompts_per_step * step.rollouts / (measured.prompts_per_step * measured.rollouts)
    seconds = step.steps * timing.step * scale
    if timing.evaluation is None:
        return seconds
    every, before = config.evaluation, timing.config.evaluation
    scale = every.eval_problems * every.eval_samples / (before.eval_problems * before.eval_samples)
    return seconds + config.evaluation_count * timing.evaluation * scale


def nearest(config: TrainConfig) -> Timing | None:
    """The timed run of the same model that is most alike: own before recorded, then by the size of the step, then by
    whether cliffs are tried at all (λ > 0 costs privileged rollouts), by λ, and by the problems."""
    found = [t for run in folder.all_runs() if (t := timed(run)) is not None and alike(t.config, config)]
    size = math.log(config.step.prompts_per_step * config.step.rollouts)
    lam = config.objective.lambda_

    def distance(t: Timing) -> tuple[float, ...]:
        other = t.config.objective.lambda_
        wide = abs(size - math.log(t.config.step.prompts_per_step * t.config.step.rollouts))
        return t.run.recorded, wide, (lam > 0) != (other > 0), t.config.data != config.data, abs(lam - other)

    return min(found, key=distance, default=None)


def timed(run: Run) -> Timing | None:
    """None for a run that is no training, is damaged, or has no step yet."""
    return read_timing(
        str(run.path), catalog.stamp(run.path / "config.json"), catalog.stamp(run.path / "metrics.jsonl")
    )


@st.cache_data(show_spinner=False, max_entries=2000)
def read_timing(path: str, config_at: catalog.Stamp, metrics_at: catalog.Stamp) -> Timing | None:
    run = Run(Path(path))
    try:
        config = run.load_config()
    except HdpoError:
        return None
    if not isinstance(config, TrainConfig):
        return None
    steps = [r["seconds"] for r in run.metrics("step") if r.get("seconds")]
    evaluations = [r["seconds"] for r in run.metrics("eval") if r.get("seconds")]
    return Timing(run, config, median(steps), median(evaluations) if evaluations else None) if steps else None


def alike(a: TrainConfig, b: TrainConfig) -> bool:
    """Same weights on the same kind of device, and completions of the same length."""
    same_model = replace(a.model, adapter="") == replace(b.model, adapter="")
    return same_model and a.sampling.max_new_tokens == b.sampling.max_new_tokens


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
    found = baseline_counts(before)
    if found is None:
        return (
            "What this session can detect is not known yet: no baseline evaluation of this model on this problem set."
        )
    counts, run = found
    planned, words = config.evaluation, []
    problems = min(planned.eval_problems, len(counts))
    for k in dict.fromkeys((min(planned.ks), max(planned.ks))):
        spread, pairs = tradeoff.varied_before(before, f"pass@{k}") or (stats.Spread(), ASSUMED)
        shown = stats.detectable_difference(counts, planned.eval_samples, k, seeds, prompts=problems, spread=spread)
        words.append(tradeoff.told(shown, f"pass@{k}"))
    extra = " Training noise, of which one seed knows nothing, is not in it." if seeds == 1 else ""
    return (
        f"The smallest true rise that two such sessions on {problems} problems × {planned.eval_samples} samples show 80 times in "
        f"100: {', '.join(words)}. It assumes that problems and trainings vary as in {pairs}.{extra} "
        f"From the baseline in {run.name} ({run.load_config().evaluation.eval_split} problems)."
    )


def like(config: TrainConfig) -> list[Run]:
    """The train runs of this model on these problems."""
    wanted = {k.name: k.default for k in knobs(config) if k.path[0] == "data" or k.name in ("model", "adapter")}
    return [r for r in catalog.runs_of("train") if wanted.items() <= tradeoff.settings(r).items()]


def baseline_counts(runs_alike: Sequence[Run]) -> tuple[list[tuple[int, int]], Run] | None:
    """(n, c) per problem before training, from the newest of these runs that has them."""
    for run in runs_alike:
        rows = catalog.eval_counts(run, 0)
        counts = [(int(n), int(c)) for n, c in zip(rows["n"], rows["correct"], strict=True) if n]
        if counts:
            return counts, run
    return None


def words(seconds: float) -> str:
    """
    >>> words(8), words(95), words(3720)
    ('8 s', '1 min 35 s', '1 h 2 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
