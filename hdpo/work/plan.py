"""What a run would do, how long, and whether it fits, before anything is started: `--dry-run`, and what the app says.

How long is measured in an earlier run of the same model, scaled to the new shape, the run named.
"""

import math
import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import median
from typing import Any

import psutil

from hdpo.config import ModelConfig, SweepConfig, TrainConfig, model_of
from hdpo.data.problems import BUNDLED, MOST_COUNTED, load_problems, sides
from hdpo.data.prompts import privileged_messages, reference, render, shows_alone, student_prompt
from hdpo.errors import BadInput, HdpoError
from hdpo.evidence.stats import FEWEST
from hdpo.hub import is_hub_id
from hdpo.model import fit
from hdpo.model.find import Facts, at_hand, cached, known
from hdpo.presets import PRESETS
from hdpo.record.folder import Run, all_runs

GIB = 1 << 30
ENOUGH = 20  # problems to hold out of a small file


def plan(config: fit.Config, preset: str | None, command: str) -> dict[str, Any]:
    """Of what `preflight.check` let pass: how much is sampled, what memory and time it takes, and the commands; `text` for
    a person, the rest for machines, None where it is not known."""
    model, differs = model_of(config), PRESETS[preset].differs if preset else ()
    found = known(model.model, model.revision)
    parts = [model_words(config, found), *work_words(config)]
    if differs:
        parts += ["", f"How '{preset}' differs from the paper:", *(f"  - {line}" for line in differs)]
    how_long = duration(config) if isinstance(config, TrainConfig | SweepConfig) else Duration(None, "")
    if how_long.source:
        parts.append(f"Time: {f'about {words(how_long.seconds)}. ' if how_long.seconds else ''}{how_long.source}")
    one, need = shlex.join(without(shlex.split(command))), fit.need(config, found)
    commands = [f"{one} --device cuda", f"{one} --device cuda --processes 8"]
    prompts = received(config)
    for side, text in prompts.items():
        said = [f"  | {line}" for line in text.splitlines()]
        parts += ["", f"The {side} prompt of the first problem, exactly as the model receives it:", *said]
    parts += ["", *memory_words(config, found), "", "Commands:", f"  1 GPU:  {commands[0]}", f"  8 GPUs: {commands[1]}"]
    return {
        "text": "\n".join(parts),
        "model": model.model,
        **work(config),
        "seconds": how_long.seconds,
        "seconds_from": how_long.source,
        "memory_bytes": need.total if need else None,
        "memory_here": fit.memory_here(model.device)[1],
        "differs": differs,
        "prompts": prompts,
        "commands": commands,
    }


def without(given: Sequence[str]) -> list[str]:
    """A command without what the two printed ones say themselves.

    >>> without(["hdpo", "train", "--dry-run", "--processes", "4", "--student", "a  b"])
    ['hdpo', 'train', '--student', 'a  b']
    """
    text = iter(w for w in given if w != "--dry-run" and not w.startswith(("--device=", "--processes=")))
    return [w for w in text if w not in ("--device", "--processes") or not next(text, "")]


def model_words(config: fit.Config, found: Facts | None) -> str:
    model = model_of(config)
    if found is None:
        return f"Model: {model.model}. Nothing is known of it until it has been fetched."
    said = f"Model: {model.model}, {found.architecture}, {found.parameters / 1e6:,.1f} M parameters in {model.dtype}, licence {found.licence or 'not stated'}"
    if found.shape is not None and isinstance(config, TrainConfig | SweepConfig):
        said += f"; LoRA of rank {model.rank} trains {found.shape.adapter(model.rank) / 1e6:,.2f} M"
    if is_hub_id(model.model):
        where = f"Not in the cache: fetched at the start (about {found.parameters * 2 / 1e9:.1f} GB)."
        with suppress(BadInput):
            cached(model.model, model.revision)
            where = "In the cache."
        said += f". {where}"
    return said


def received(config: fit.Config) -> dict[str, str]:
    """The first problem's prompts, by side; none where model or problems would have to be fetched or converted first."""
    inner: Any = config.train if isinstance(config, SweepConfig) else config
    model, prompts, trained = inner.model, inner.prompts, isinstance(inner, TrainConfig)
    place = None
    with suppress(BadInput):
        place = at_hand(model)
    if place is None or is_hub_id(inner.data.problems):
        return {}
    from hdpo.model.base import load_tokenizer  # torch, for this alone

    problem = load_problems(replace(inner.data, limit=1), "train" if trained else inner.split).problems[0]
    tokenizer = load_tokenizer(place.folder, model)
    texts = {"student's": student_prompt(tokenizer, problem, prompts)[0]}
    if trained and shows_alone(problem, prompts.information):
        shown = reference(problem, prompts.information, prompts.fraction)
        texts["privileged"] = render(tokenizer, privileged_messages(problem, prompts, shown))[0]
    return texts


def work(config: fit.Config) -> dict[str, int]:
    """At the most, in the steps of all members: privileged rollouts, and tokens of all rollouts."""
    members = config.members() if isinstance(config, SweepConfig) else (config,)
    privileged = tokens = 0
    for c in members:
        if isinstance(c, TrainConfig):
            privileged += (peeked := c.step.steps * peeked_a_step(c))
            tokens += (c.step.steps * a_step(c) + peeked) * c.sampling.max_new_tokens
    return {"members": len(members), "privileged_rollouts": privileged, "sampled_tokens": tokens}


def peeked_a_step(c: TrainConfig) -> int:
    return min(c.step.max_cliffs, c.step.prompts_per_step) * c.step.privileged_rollouts * (c.objective.lambda_ > 0)


def work_words(config: fit.Config) -> list[str]:
    """Problems, step, evaluation: how much is sampled at most."""
    members = config.members() if isinstance(config, SweepConfig) else ()
    c: Any = max(members, key=peeked_a_step) if members else config
    lines = [f"Problems: {c.data.problems}" + (f", {c.data.limit:,} at most" if c.data.limit else "")]
    if isinstance(c, TrainConfig):
        evaluated = c.evaluation.eval_problems
        if not (is_hub_id(c.data.problems) or is_hub_id(c.data.validation_problems)):
            counted = sides(c)
            evaluated = min(evaluated, counted[1])
            few = too_few(c, counted)
            lines[0] += f": {sides_words(counted)}{f': {few}' if few else ''}"
        s, e, new, peeked = c.step, c.evaluation, c.sampling.max_new_tokens, peeked_a_step(c)
        most = f"at most {(a_step(c) + peeked) * new:,} sampled tokens"
        drawn = f"{s.rollouts} rollouts, and up to {peeked} privileged ones, of at most {new:,} tokens"
        measured = f"{c.evaluation_count:,} evaluations of {evaluated:,} problems × {e.eval_samples}"
        lines += [f"Step: {s.prompts_per_step} prompts × {drawn}: {most}.", f"Run: {s.steps:,} steps, {measured}."]
    if members:
        whole, peeking = work(config), sum(map(bool, map(peeked_a_step, members)))
        most = f"{whole['privileged_rollouts']:,} privileged ones and {whole['sampled_tokens']:,} sampled tokens"
        who = f"{len(members)} members, of which {peeking} draw privileged rollouts"
        lines.append(f"Sweep: {who}: in all their steps at most {most}.")
    return lines


def sides_words(counted: tuple[int, int]) -> str:
    """
    >>> sides_words((58, 4)), sides_words((20_000, 1_023))
    ('58 to train on, 4 held out', 'at least 20,000 to train on, 1,023 held out')
    """
    train, held_out = (f"{'at least ' * (n >= MOST_COUNTED)}{n:,}" for n in counted)
    return f"{train} to train on, {held_out} held out"


def too_few(config: TrainConfig, counted: tuple[int, int]) -> str:
    """What to do where so few problems are evaluated that no difference can be told; "" where they are enough.

    >>> too_few(TrainConfig(), (58, 4)), too_few(TrainConfig(), (400, 240))
    ('too few to tell a difference, it takes 8. Give more.', '')
    """
    measured = min(counted[1], config.evaluation.eval_problems)
    if measured >= FEWEST:
        return ""
    if counted[1] >= FEWEST:
        return f"{measured} are evaluated, too few to tell a difference, it takes {FEWEST}. Raise --eval-problems."
    way, whole = "Give more.", sum(counted)
    if not (config.data.validation_problems or config.data.problems.startswith(BUNDLED)) and whole >= 2 * FEWEST:
        share = min(0.5, math.ceil(20 * ENOUGH / whole) / 20)
        way = f"A validation share of {share:g} (--validation-share) would hold out about {share * whole:.0f}."
    return f"too few to tell a difference, it takes {FEWEST}. {way}"


def memory_words(config: fit.Config, found: Facts | None) -> list[str]:
    arms = fit.arms_at_once(config) if isinstance(config, SweepConfig) else 0
    on_gpu, on_cpu = (fit.need(config, found, gpu, arms) for gpu in (True, False))
    if on_gpu is None or on_cpu is None:
        return ["Memory: not known before the model is there."]
    parts = ", ".join(f"{name} {size / GIB:.2f}" for name, size in vars(on_gpu).items())
    here, total = fit.memory_here(model_of(config).device)
    need = on_cpu if here == fit.MAIN else on_gpu
    verdict = "fits" if need.total <= total else "does not fit: lower micro-batch-tokens, or take a smaller model"
    free = f", {psutil.virtual_memory().available / GIB:.1f} free" if here == fit.MAIN else ""
    size = f"{on_gpu.total / GIB:.1f} GiB ({parts})."
    if on_cpu != on_gpu:
        more = f"On a CPU {on_cpu.total / GIB:.1f} GiB: what was freed stays with the process."
        size = f"{on_gpu.total / GIB:.1f} GiB on a GPU ({parts}). {more}"
    return [f"Memory of one process, estimated: {size}", f"Here: {total / GIB:.1f} GiB of {here}{free}: {verdict}."]


# --- how long ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Duration:
    """seconds: of the whole session, None where no run has been timed; source: a sentence on where it comes from;
    elsewhere: measured on the machine that recorded the project's runs."""

    seconds: float | None
    source: str
    elsewhere: bool = False


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
    timing, last = timings[-1], members[-1].step
    run, shape = timing.run, timing.config.step
    size = f"{shape.prompts_per_step} × {shape.rollouts}"
    source = f"Measured in {run.name}: {timing.step:.1f} s a step of {size} rollouts"
    if timing.evaluation is not None:
        source += f", {timing.evaluation:.1f} s an evaluation"
    if run.recorded:
        source += ", on the machine that recorded it"
    if size != f"{last.prompts_per_step} × {last.rollouts}":
        source += "; scaled by prompts × rollouts"
    return Duration(sum(map(session_seconds, members, timings)), f"{source}.", run.recorded)


def session_seconds(config: TrainConfig, timing: Timing) -> float:
    """Steps by prompts × rollouts, evaluations (one before, one each `eval_every`, one after) by problems × samples."""
    seconds = config.step.steps * timing.step * a_step(config) / a_step(timing.config)
    if timing.evaluation is None:
        return seconds
    every, before = config.evaluation, timing.config.evaluation
    scale = every.eval_problems * every.eval_samples / (before.eval_problems * before.eval_samples)
    return seconds + config.evaluation_count * timing.evaluation * scale


def a_step(config: TrainConfig) -> int:
    """Rollouts of a step."""
    return config.step.prompts_per_step * config.step.rollouts


def nearest(config: TrainConfig) -> Timing | None:
    """The timed run of the same weights, device and length of completions that is most alike: own before recorded, then by
    the size of the step, by whether cliffs are tried at all (λ > 0 costs privileged rollouts), by the problems, and by λ."""
    lam = config.objective.lambda_

    def pace(c: TrainConfig) -> tuple[ModelConfig, int]:
        return replace(c.model, adapter=""), c.sampling.max_new_tokens

    def distance(t: Timing) -> tuple[float, ...]:
        other, size = t.config.objective.lambda_, abs(math.log(a_step(config) / a_step(t.config)))
        return t.run.recorded, size, (lam > 0) != (other > 0), t.config.data != config.data, abs(lam - other)

    found = [t for run in all_runs() if (t := timed(run)) is not None and pace(t.config) == pace(config)]
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
    hours, minutes, rest = whole // 3600, whole % 3600 // 60, whole % 60
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{rest} s"
