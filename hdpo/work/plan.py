"""What a run would do, and whether it fits, before anything is started: `--dry-run`."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

import psutil

from hdpo.config import SweepConfig, TrainConfig, model_of
from hdpo.errors import BadInput
from hdpo.hub import is_hub_id
from hdpo.model import fit
from hdpo.model.find import Facts, cached, find, known
from hdpo.presets import PRESETS

GIB = 1 << 30


def plan(config: fit.Config, preset: str, command: str) -> str:
    """The plan as text. Raises BadInput where the model is one that cannot be taken."""
    model = model_of(config)
    if not is_hub_id(model.model):
        find(model.model)  # a wrong path is said at once
    found = known(model.model, model.revision)
    parts = [model_words(config, found), *work_words(config)]
    if preset and PRESETS[preset].differs:
        parts += ["", f"How '{preset}' differs from the paper:", *(f"  - {line}" for line in PRESETS[preset].differs)]
    parts += ["", *memory_words(config, found)]
    one = " ".join(command.replace("--dry-run", "").split())
    parts += ["", "Commands:", f"  1 GPU:  {one} --device cuda", f"  8 GPUs: {one} --device cuda --processes 8"]
    return "\n".join(parts)


def model_words(config: fit.Config, found: Facts | None) -> str:
    model = model_of(config)
    if found is None:
        return f"Model: {model.model}. Nothing is known of it until it has been fetched."
    words = f"Model: {model.model}, {found.architecture}, {found.parameters / 1e6:,.1f} M parameters in {model.dtype}, licence {found.licence or 'not stated'}"
    if found.shape is not None and isinstance(config, TrainConfig | SweepConfig):
        words += f"; LoRA of rank {model.rank} trains {found.shape.adapter(model.rank) / 1e6:,.2f} M"
    if is_hub_id(model.model):
        size = found.parameters * 2 / 1e9
        words += (
            ". In the cache."
            if in_cache(model.model, model.revision)
            else f". Not in the cache: fetched at the start (about {size:.1f} GB)."
        )
    return words


def in_cache(model: str, revision: str) -> bool:
    try:
        cached(model, revision)
    except BadInput:
        return False
    return True


def work_words(config: fit.Config) -> list[str]:
    """Problems, step, evaluation: how much is sampled at most."""
    members = config.members() if isinstance(config, SweepConfig) else (config,)
    c: Any = members[0]
    data = f"Problems: {c.data.problems}" + (f", {c.data.limit:,} at most" if c.data.limit else "")
    if not isinstance(c, TrainConfig):
        return [data]
    s, e, new = c.step, c.evaluation, c.sampling.max_new_tokens
    peeked = min(s.max_cliffs, s.prompts_per_step) * s.privileged_rollouts if c.objective.lambda_ > 0 else 0
    return [
        data,
        f"Step: {s.prompts_per_step} prompts × {s.rollouts} rollouts, and up to {peeked} privileged ones, of at most {new:,} tokens: at most {(s.prompts_per_step * s.rollouts + peeked) * new:,} sampled tokens.",
        f"Run: {s.steps:,} steps, {c.evaluation_count:,} evaluations of {e.eval_problems:,} problems × {e.eval_samples}"
        + (f"; {len(members)} members." if len(members) > 1 else "."),
    ]


def memory_words(config: fit.Config, found: Facts | None) -> list[str]:
    on_gpu, on_cpu = (fit.need(config, found, gpu) for gpu in (True, False))
    if on_gpu is None or on_cpu is None:
        return ["Memory: not known before the model is there."]
    parts = ", ".join(f"{f.name} {getattr(on_gpu, f.name) / GIB:.2f}" for f in fields(on_gpu))
    here, total = fit.memory_here(model_of(config).device)
    need = on_cpu if here == fit.MAIN else on_gpu
    verdict = "fits" if need.total <= total else "does not fit: lower micro-batch-tokens, or take a smaller model"
    free = f", {psutil.virtual_memory().available / GIB:.1f} free" if here == fit.MAIN else ""
    apart = on_cpu != on_gpu
    where, more = (
        " on a GPU" * apart,
        f" On a CPU {on_cpu.total / GIB:.1f} GiB: what was freed stays with the process." * apart,
    )
    return [
        f"Memory of one process, estimated: {on_gpu.total / GIB:.1f} GiB{where} ({parts}).{more}",
        f"Here: {total / GIB:.1f} GiB of {here}{free}: {verdict}.",
    ]
