"""How long a training will take: measured in an earlier run of the same model, scaled to the new shape, the run named."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median

from hdpo.config import SweepConfig, TrainConfig
from hdpo.errors import HdpoError
from hdpo.record.folder import Run, all_runs


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


def duration(config: TrainConfig | SweepConfig) -> Duration:
    """Seconds of a training or of a whole sweep, each member from the nearest timed run of the same model."""
    members = config.members() if isinstance(config, SweepConfig) else (config,)
    timings = [t for m in members if (t := nearest(m)) is not None]
    if len(timings) < len(members):
        return Duration(None, "No run of this model has been timed yet: the first steps will tell.")
    return Duration(sum(map(session_seconds, members, timings)), source_of(timings[-1], members[-1]))


def source_of(timing: Timing, config: TrainConfig) -> str:
    shape, run = timing.config.step, timing.run
    words = (
        f"Measured in {run.name}: {timing.step:.1f} s a step of {shape.prompts_per_step} × {shape.rollouts} rollouts"
    )
    if timing.evaluation is not None:
        words += f", {timing.evaluation:.1f} s an evaluation"
    if run.recorded:
        words += ", on the machine that recorded it"
    same = (shape.prompts_per_step, shape.rollouts) == (config.step.prompts_per_step, config.step.rollouts)
    return f"{words}{'' if same else '; scaled by prompts × rollouts'}."


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
    """The timed run of the same weights, device and length of completions that is most alike: own before recorded, then by the size of the step, then by
    whether cliffs are tried at all (λ > 0 costs privileged rollouts), by λ, and by the problems."""

    def alike(other: TrainConfig) -> bool:
        same_model = replace(other.model, adapter="") == replace(config.model, adapter="")
        return same_model and other.sampling.max_new_tokens == config.sampling.max_new_tokens

    found = [t for run in all_runs() if (t := timed(run)) is not None and alike(t.config)]
    size, lam = math.log(config.step.prompts_per_step * config.step.rollouts), config.objective.lambda_

    def distance(t: Timing) -> tuple[float, ...]:
        other = t.config.objective.lambda_
        wide = abs(size - math.log(t.config.step.prompts_per_step * t.config.step.rollouts))
        return t.run.recorded, wide, (lam > 0) != (other > 0), t.config.data != config.data, abs(lam - other)

    return min(found, key=distance, default=None)


def timed(run: Run) -> Timing | None:
    """None for a run that is no training, is damaged, or has no step yet."""
    try:
        return _read_timing(run.path, *((run.path / f).stat().st_mtime_ns for f in ("config.json", "metrics.jsonl")))
    except (OSError, HdpoError):
        return None


@lru_cache(maxsize=2000)
def _read_timing(path: Path, *changed: int) -> Timing | None:
    run = Run(path)
    config = run.load_config()
    if not isinstance(config, TrainConfig):
        return None
    steps = [r["seconds"] for r in run.metrics("step") if r.get("seconds")]
    evaluations = [r["seconds"] for r in run.metrics("eval") if r.get("seconds")]
    return Timing(run, config, median(steps), median(evaluations) if evaluations else None) if steps else None


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
