"""The worst batch is rehearsed before the first step, leaves nothing behind, and says what to lower."""

import functools

import pytest
import torch

from hdpo.config import TrainConfig, replace_knobs
from hdpo.errors import BadInput
from hdpo.method import rehearsal
from hdpo.method.rehearsal import rehearse
from tests.engine import PROBLEMS, collector_of, random_policy

CONFIG = replace_knobs(TrainConfig(), {"max_new_tokens": 20, "micro_batch_tokens": 200})


def test_it_takes_the_longest_prompt_and_leaves_no_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    policy = random_policy()
    collector, seen = collector_of(policy), []
    for name in ("grpo_gradient", "add_distillation"):
        watched = functools.partial(lambda real, *a: (seen.append(a), real(*a))[1], getattr(rehearsal, name))
        monkeypatch.setattr(rehearsal, name, watched)
    before = [p.detach().clone() for p in policy.trainable]
    found = rehearse(collector, CONFIG, PROBLEMS)
    longest = max(len(collector.privileged_ids(p)) for p in PROBLEMS)
    assert found["tokens"] == longest + 20 and found["seconds"] > 0
    (_, grpo, *_), (_, _, distil, *_) = seen
    assert len(grpo[0].trace) * len(grpo) <= 200 < len(grpo[0].trace) * (len(grpo) + 1)
    assert max(len(d.teacher) for d in distil) == longest + 20
    assert all(p.grad is None for p in policy.trainable)
    assert all(torch.equal(p, b) for p, b in zip(policy.trainable, before, strict=True))


def test_too_little_memory_says_what_to_lower(monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(rehearsal, "add_distillation", full)
    with pytest.raises(BadInput, match=r"Lower micro-batch-tokens \(now 200\)"):
        rehearse(collector_of(random_policy()), CONFIG, PROBLEMS)
