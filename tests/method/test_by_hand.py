"""λ by hand is what training computes: its gradients, and a plain step along them, after which the adapter is as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from hdpo.config import ObjectiveConfig
from hdpo.method.by_hand import by_hand, flat
from hdpo.method.objective import DistillItem, Scale, policy_items
from hdpo.model.batching import Trace
from hdpo.records import Outcome
from tests.engine import PROBLEMS, collector_of, group_of, hdpo_gradient, log_probs, random_policy

MIXED = (Outcome.CORRECT, Outcome.WRONG, Outcome.WRONG, Outcome.CORRECT)
OBJECTIVE = ObjectiveConfig()
GRID = (0.0, 0.3, 3.0), (0.5, 5.0)


@pytest.fixture(scope="module")
def parts():
    """(policy, items of a mixed group, items of a cliff, scale)."""
    policy = random_policy()
    cliff = group_of(policy, [Outcome.WRONG] * 3, PROBLEMS[1])
    privileged = collector_of(policy).privileged_ids(cliff.problem)
    distil = [DistillItem(Trace(cliff.prompt_ids, r.token_ids), Trace(privileged, r.token_ids)) for r in cliff.rollouts]
    return policy, policy_items([group_of(policy, MIXED)], OBJECTIVE), distil, Scale(40, 12, 1.0, 4096)


def test_the_sum_is_the_gradient_of_a_training_step(parts):
    policy, grpo, distil, scale = parts
    found = by_hand(policy, (grpo, distil), OBJECTIVE, scale, distil[0].student, GRID)
    for lam, norm in zip(GRID[0], found.sums, strict=True):
        hdpo_gradient(policy, grpo, distil, replace(OBJECTIVE, lambda_=lam), scale)
        assert norm == pytest.approx(float(flat(policy).norm()), rel=1e-4)
    assert found.sums[0] == found.grpo and found.jsd > 0
    square = found.grpo**2 + (3.0 * found.jsd) ** 2 + 6.0 * found.grpo * found.jsd * found.cosine
    assert found.sums[2] ** 2 == pytest.approx(square, rel=1e-4)


def test_the_step_is_plain_descent_and_leaves_the_adapter_as_it_was(parts):
    policy, grpo, distil, scale = parts
    was = [p.detach().clone() for p in policy.trainable]
    found = by_hand(policy, (grpo, distil), OBJECTIVE, scale, distil[0].student, GRID)
    assert all(torch.equal(p, w) for p, w in zip(policy.trainable, was, strict=True))
    target = torch.tensor(distil[0].student.completion_ids)[:, None]
    assert found.before == pytest.approx(
        log_probs(policy, distil[0].student).gather(-1, target)[:, 0].tolist(), abs=1e-4
    )
    hdpo_gradient(policy, grpo, distil, replace(OBJECTIVE, lambda_=0.3), scale)
    torch.optim.SGD(policy.trainable, lr=5.0).step()
    right = log_probs(policy, distil[0].student).gather(-1, target)[:, 0].tolist()
    with torch.no_grad():
        for p, w in zip(policy.trainable, was, strict=True):
            p.copy_(w)
    assert found.after[1][1] == pytest.approx(right, abs=1e-3) and found.after[1][1] != pytest.approx(
        found.before, abs=1e-2
    )


def test_on_a_cliff_alone_grpo_moves_nothing(parts):
    policy, _, distil, scale = parts
    found = by_hand(policy, ([], distil), OBJECTIVE, scale, distil[0].student, GRID)
    assert (found.grpo, found.sums[0], found.cosine) == (0.0, 0.0, None)
    assert found.after[0] == [found.before, found.before]
    assert found.sums[1] == pytest.approx(0.3 * found.jsd)
