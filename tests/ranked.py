"""The gradients of a few made batches, on one rank or on several: `python -m tests.ranked MODEL OUT`, under a launcher.

Each rank writes OUT/rank-N.json: case → what was optimised, and the gradient. `tests/test_ranks.py` compares.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from hdpo.config import ModelConfig, ObjectiveConfig
from hdpo.method.objective import DistillItem, PolicyItem, Scale, policy_items
from hdpo.model.batching import Trace
from hdpo.model.policy import Policy, load_policy
from hdpo.record.ranks import Ranks, join
from hdpo.records import Outcome
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw
from tests.engine import PROBLEMS, collector_of, group_of, hdpo_gradient, push

C, W = Outcome.CORRECT, Outcome.WRONG
Batch = tuple[list[PolicyItem], list[DistillItem], int]


def batches(policy: Policy) -> dict[str, Batch]:
    """Case → GRPO items, distillation items, tokens in a micro-batch. With two ranks the shares differ as named."""
    objective = ObjectiveConfig()
    groups = [group_of(policy, [C, W, W], PROBLEMS[0]), group_of(policy, [C, C, W, W], PROBLEMS[5])]
    grpo, collector = policy_items(groups, objective), collector_of(policy)
    peeked = collector.collect(PROBLEMS[:3], Draw(2, DrawKey(0, Purpose.PRIVILEGED, 1), topk=64), privileged=True)
    distil = [
        DistillItem(Trace(collector.student_ids(g.problem), r.token_ids), Trace(g.prompt_ids, r.token_ids), r.topk)
        for g in peeked
        for r in g.rollouts
    ]
    return {
        "both terms": (grpo, distil, 4096),
        "unequal numbers of micro-batches": (grpo, distil[:5], 30),
        "a rank without a cliff": (grpo, distil[:1], 4096),
        "a rank of zero advantages": (grpo[:1], distil, 4096),
        "no accepted rollout anywhere": (grpo, [], 4096),
        "no signal at all": ([], [], 4096),
    }


def gradients(model: str, ranks: Ranks) -> dict[str, dict[str, object]]:
    policy = load_policy(ModelConfig(model=model, rank=4, alpha=8))
    push(policy)
    found = {}
    for name, (grpo, distil, tokens) in batches(policy).items():
        terms = hdpo_gradient(policy, grpo, distil, ObjectiveConfig(), Scale(90, 40, 1.0, tokens), ranks)
        flat = [torch.zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in policy.trainable]
        found[name] = {"terms": asdict(terms), "gradient": torch.cat(flat).tolist()}
    return found


if __name__ == "__main__":
    ranks = join()
    Path(sys.argv[2], f"rank-{ranks.index}.json").write_text(json.dumps(gradients(sys.argv[1], ranks)))
