"""What a run would do, and whether it fits, before anything is started: `--dry-run`."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import fields
from typing import Any

import psutil

from hdpo.config import SweepConfig, TrainConfig, model_of
from hdpo.errors import BadInput
from hdpo.hub import is_hub_id
from hdpo.model import fit
from hdpo.model.find import Facts, cached, known
from hdpo.presets import PRESETS
from hdpo.work.estimate import Duration, duration, words

GIB = 1 << 30


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
        "commands": commands,
    }


def without(words: Sequence[str]) -> list[str]:
    """A command without what the two printed ones say themselves.

    >>> without(["hdpo", "train", "--dry-run", "--processes", "4", "--student", "a  b"])
    ['hdpo', 'train', '--student', 'a  b']
    """
    text = iter(w for w in words if w != "--dry-run" and not w.startswith(("--device=", "--processes=")))
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


def work(config: fit.Config) -> dict[str, int]:
    """At the most, in the steps of all members: privileged rollouts, and tokens of all rollouts."""
    members = config.members() if isinstance(config, SweepConfig) else (config,)
    trainings = [c for c in members if isinstance(c, TrainConfig)]
    peeks = [c.step.steps * peeked_a_step(c) for c in trainings]
    drawn = (
        (c.step.steps * c.step.prompts_per_step * c.step.rollouts + peeked) * c.sampling.max_new_tokens
        for c, peeked in zip(trainings, peeks, strict=True)
    )
    return {"members": len(members), "privileged_rollouts": sum(peeks), "sampled_tokens": sum(drawn)}


def peeked_a_step(c: TrainConfig) -> int:
    return min(c.step.max_cliffs, c.step.prompts_per_step) * c.step.privileged_rollouts * (c.objective.lambda_ > 0)


def work_words(config: fit.Config) -> list[str]:
    """Problems, step, evaluation: how much is sampled at most."""
    members = config.members() if isinstance(config, SweepConfig) else ()
    c: Any = max(members, key=peeked_a_step) if members else config
    data = f"Problems: {c.data.problems}" + (f", {c.data.limit:,} at most" if c.data.limit else "")
    if not isinstance(c, TrainConfig):
        return [data]
    s, e, new, peeked, whole = c.step, c.evaluation, c.sampling.max_new_tokens, peeked_a_step(c), work(config)
    lines = [
        data,
        f"Step: {s.prompts_per_step} prompts × {s.rollouts} rollouts, and up to {peeked} privileged ones, of at most {new:,} tokens: at most {(s.prompts_per_step * s.rollouts + peeked) * new:,} sampled tokens.",
        f"Run: {s.steps:,} steps, {c.evaluation_count:,} evaluations of {e.eval_problems:,} problems × {e.eval_samples}.",
    ]
    peeking = sum(map(bool, map(peeked_a_step, members)))
    sweep = f"Sweep: {len(members)} members, of which {peeking} draw privileged rollouts: in all their steps at most {whole['privileged_rollouts']:,} privileged ones and {whole['sampled_tokens']:,} sampled tokens."
    return [*lines, *[sweep] * bool(members)]


def memory_words(config: fit.Config, found: Facts | None) -> list[str]:
    on_gpu, on_cpu = (fit.need(config, found, gpu) for gpu in (True, False))
    if on_gpu is None or on_cpu is None:
        return ["Memory: not known before the model is there."]
    parts = ", ".join(f"{f.name} {getattr(on_gpu, f.name) / GIB:.2f}" for f in fields(on_gpu))
    here, total = fit.memory_here(model_of(config).device)
    need = on_cpu if here == fit.MAIN else on_gpu
    verdict = "fits" if need.total <= total else "does not fit: lower micro-batch-tokens, or take a smaller model"
    free = f", {psutil.virtual_memory().available / GIB:.1f} free" if here == fit.MAIN else ""
    where, more = "", ""
    if on_cpu != on_gpu:
        where = " on a GPU"
        more = f" On a CPU {on_cpu.total / GIB:.1f} GiB: what was freed stays with the process."
    return [
        f"Memory of one process, estimated: {on_gpu.total / GIB:.1f} GiB{where} ({parts}).{more}",
        f"Here: {total / GIB:.1f} GiB of {here}{free}: {verdict}.",
    ]
