"""The distillation term with a vocabulary of 151,936: JSD_k over the teacher's top 64 against the whole JSD of TRL, which
also goes through the vocabulary in chunks. Forward and backward, time and memory, each in a process of its own.

`python -m tests.benchmarks.divergence kept|asked|trl` prints seconds, and the bytes by which the resident set grew. kept: the
teacher's top 64 come with its rollouts, as in a step with the drifting teacher; asked: from its logits, as with the frozen.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time

from tests.benchmarks.harness import Row
from tests.benchmarks.memory import VOCABULARY, random_model

TOKENS, WIDTH, TOPK, REPEATS = 512, 896, 64, 4  # the width of Qwen2.5-0.5B


def rows() -> list[Row]:
    found: dict[str, list[tuple[float, float]]] = {"kept": [], "asked": [], "trl": []}
    for i in range(REPEATS):
        for way in list(found)[:: 1 if i % 2 == 0 else -1]:
            found[way].append(measured_apart(way))
    seconds, peaks = ({way: tuple(x[j] for x in each) for way, each in found.items()} for j in (0, 1))
    what = f"JSD_k and its gradient, {TOKENS} tokens, V = {VOCABULARY:,}, width {WIDTH}, float32"
    against = "TRL 1.16: whole JSD of student and teacher, in chunks"
    return [
        Row(f"{what}; top {TOPK} kept from sampling", against, "s", seconds["kept"], seconds["trl"], 1.0),
        Row(f"{what}; teacher asked", against, "s", seconds["asked"], seconds["trl"], 1.0),
        Row("the same, kept: peak memory", against, "bytes", peaks["kept"], peaks["trl"], 1.0),
        Row("the same, asked: peak memory", against, "bytes", peaks["asked"], peaks["trl"], 1.0),
    ]


def measured_apart(way: str) -> tuple[float, float]:
    command = [sys.executable, "-m", "tests.benchmarks.divergence", way]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    took, grew = json.loads(done.stdout.splitlines()[-1])
    return took, grew


def measured(way: str) -> tuple[float, float]:
    import psutil
    import torch

    from hdpo.config import ModelConfig, ObjectiveConfig
    from hdpo.method import objective
    from hdpo.model.policy import load_policy

    policy = load_policy(ModelConfig(model=str(random_model(WIDTH))))
    torch.manual_seed(0)
    student, teacher = torch.randn(TOKENS, WIDTH, requires_grad=True), torch.randn(TOKENS, WIDTH)
    weight = policy.causal.get_output_embeddings().weight.detach()
    with torch.no_grad():
        each = [(t @ weight.T).log_softmax(-1).topk(TOPK, -1) for t in teacher.split(32)]
    top, ids = (torch.cat([getattr(e, name) for e in each]) for name in ("values", "indices"))

    def loss() -> torch.Tensor:
        if way == "trl":
            from trl.kernels.chunked_divergence import ChunkedDivergenceFunction

            return ChunkedDivergenceFunction.apply(student, weight, None, teacher, weight, None, 0.5)[0].sum()
        if way == "kept":
            five = objective.over_vocabulary(policy, student, objective._topk_terms, ids, top)
        else:
            asked = ObjectiveConfig()
            five = objective.over_vocabulary(
                policy, student, lambda x, t: objective._asked_terms(policy, asked, x, t), teacher
            )
        return five[:, 0].sum()

    before, began = psutil.Process().memory_info().rss, time.perf_counter()
    loss().backward()
    return time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


if __name__ == "__main__":
    print(json.dumps(measured(sys.argv[1])))
