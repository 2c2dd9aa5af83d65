"""The worst batch of a run, before its first step: so that memory fails within seconds, or not at all."""

import time
from collections.abc import Sequence
from typing import Any

import torch

from hdpo.config import TrainConfig
from hdpo.data.prompts import fits
from hdpo.errors import BadInput
from hdpo.method.groups import Collector
from hdpo.method.objective import DistillItem, PolicyItem, Scale, add_distillation, grpo_gradient
from hdpo.model.batching import Trace
from hdpo.records import Problem


def rehearse(collector: Collector, config: TrainConfig, problems: Sequence[Problem]) -> dict[str, Any]:
    """Both terms over a full micro-batch of the longest prompts with the longest completions; the gradient is thrown
    away. Returns seconds, bytes at the peak (0 without CUDA), and the length rehearsed.

    The sampler's cache is bounded by itself (`sampling.CACHE_BYTES`) and not rehearsed. Raises BadInput where the
    memory is not enough.
    """
    policy, began = collector.policy, time.perf_counter()
    new = config.sampling.max_new_tokens
    prompts = [(collector.student_ids(p), collector.privileged_ids(p)) for p in problems]
    fitting = [both for both in prompts if fits(len(both[1]), new, policy.context)]
    student, teacher = max(fitting, key=lambda both: len(both[1]), default=((), ()))
    if not student:
        return {"seconds": 0.0, "peak_bytes": 0, "tokens": 0}  # no prompt fits: nothing will be held
    draw = torch.Generator().manual_seed(config.seed)
    made = tuple(torch.randint(policy.vocabulary, (new,), generator=draw).tolist())
    count = max(1, config.step.micro_batch_tokens // (len(student) + new))
    grpo = [PolicyItem(Trace(student, made), 1.0, (0.0,) * new)] * count
    # no top-k kept: the teacher is asked, which is the most there is
    distil = [DistillItem(Trace(student, made), Trace(teacher, made))] * count
    scale = Scale(count * new, count * new, config.sampling.temperature, config.step.micro_batch_tokens)
    on_gpu = policy.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    try:
        first = grpo_gradient(policy, grpo, config.objective, scale)
        add_distillation(policy, first, distil, config.objective, scale)
    except (torch.OutOfMemoryError, MemoryError) as e:
        worst = f"the worst batch to fit ({count} × {len(student) + new} tokens, the longest prompt with the longest completion)"
        way = f"Lower micro-batch-tokens (now {config.step.micro_batch_tokens}) or max-new-tokens, or take dtype bfloat16."
        raise BadInput(f"memory: expected {worst}, found that it does not. {way}") from e
    finally:
        policy.model.zero_grad(set_to_none=True)
    peak = int(torch.cuda.max_memory_allocated()) if on_gpu else 0
    return {"seconds": time.perf_counter() - began, "peak_bytes": peak, "tokens": len(teacher) + new}
