"""The distillation term with a vocabulary of 151,936: JSD_k over the teacher's top 64 against the whole JSD of TRL, which
also goes through the vocabulary in chunks. Forward and backward, time and memory, each in a process of its own.

`python -m tests.benchmarks.divergence WAY DEVICE TOKENS` prints seconds, and the bytes that were held more. kept: the teacher's top 64
come with its rollouts, as in a step with the drifting teacher; asked: from its logits, as with the frozen one. liger: its
kernels, on a GPU alone.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from functools import partial

from hdpo.work.bench import memory_held
from tests.benchmarks.harness import Row
from tests.benchmarks.memory import VOCABULARY, random_model

TOKENS, WIDTH, TOPK, REPEATS = 512, 896, 64, 4  # the width of Qwen2.5-0.5B
WAYS = ("kept", "asked", "trl", "liger")
PACKAGES = {"trl": "trl", "liger": "liger_kernel"}


def rows() -> list[Row]:
    found: dict[str, list[tuple[float, float]]] = {"kept": [], "asked": [], "trl": []}
    for i in range(REPEATS):
        for way in list(found)[:: 1 if i % 2 == 0 else -1]:
            found[way].append(measured_apart(way))
    seconds, peaks = ({way: tuple(x[j] for x in each) for way, each in found.items()} for j in (0, 1))
    what = f"JSD_k and its gradient, {TOKENS} tokens, V = {VOCABULARY:,}, width {WIDTH}, float32"
    against, note = "TRL 1.16: whole JSD of student and teacher, in chunks", f"{REPEATS} repeats"
    return [
        Row(f"{what}; top {TOPK} kept from sampling", against, "s", seconds["kept"], seconds["trl"], 1.0, note=note),
        Row(f"{what}; teacher asked", against, "s", seconds["asked"], seconds["trl"], 1.0, note=note),
        Row("the same, kept: peak memory", against, "bytes", peaks["kept"], peaks["trl"], 1.0, note=note),
        Row("the same, asked: peak memory", against, "bytes", peaks["asked"], peaks["trl"], 1.0, note=note),
    ]


def measured_apart(way: str, device: str = "cpu", tokens: int = TOKENS) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.benchmarks.divergence", way, device, str(tokens)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-400:]
    took, grew = json.loads(done.stdout.splitlines()[-1])
    return took, grew


def measured(way: str, device: str, tokens: int) -> tuple[float, float]:
    import torch

    from hdpo.config import ModelConfig, ObjectiveConfig
    from hdpo.method import objective
    from hdpo.model.policy import load_policy

    policy = load_policy(ModelConfig(model=str(random_model(WIDTH)), device=device))
    torch.manual_seed(0)
    student = torch.randn(tokens, WIDTH).to(device).requires_grad_()
    teacher = torch.randn(tokens, WIDTH).to(device)
    weight = policy.causal.get_output_embeddings().weight.detach()
    with torch.no_grad():
        each = [(t @ weight.T).log_softmax(-1).topk(TOPK, -1) for t in teacher.split(32)]
    top, ids = (torch.cat([getattr(e, name) for e in each]) for name in ("values", "indices"))

    def loss() -> torch.Tensor:
        if way == "trl":
            from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

            return ChunkedDivergenceFunction.apply(student, weight, None, teacher, weight, None, 0.5)[0].sum()
        if way == "liger":
            from liger_kernel.transformers import LigerFusedLinearJSD

            return LigerFusedLinearJSD()(student, weight, teacher, weight)
        if way == "kept":
            kept = partial(objective._topk_terms, ObjectiveConfig())
            terms = objective.over_vocabulary(policy, student, kept, ids[:, 0], ids, top)
        else:
            asked = partial(objective._asked_terms, policy, ObjectiveConfig())
            terms = objective.over_vocabulary(policy, student, asked, ids[:, 0], teacher)
        return terms[:, 0].sum()

    if device == "cuda":
        loss().backward()  # kernels are compiled
        torch.cuda.reset_peak_memory_stats()
    before, began = held(device), time.perf_counter()
    loss().backward()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - began, memory_held(torch.device(device)) - before


def held(device: str) -> int:
    import psutil
    import torch

    return torch.cuda.memory_allocated() if device == "cuda" else psutil.Process().memory_info().rss


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
