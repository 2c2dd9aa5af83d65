"""Padding, shift and alignment: the sum over a padded batch is the sum over its sequences alone."""

import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from hdpo.config import SamplingConfig
from hdpo.model.batching import Trace, collate, micro_batches, parts
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import log_probs, prompts_of, random_policy

TRACES = [Trace((5, 6, 7), (8, 9)), Trace((5,), (9, 10, 11)), Trace((7, 7, 7, 7, 7), (12,))]


def test_every_position_predicts_its_own_token() -> None:
    batch = collate(TRACES, 0, torch.device("cpu"))
    assert batch.targets_E.tolist() == [8, 9, 9, 10, 11, 12] and batch.rows_N.tolist() == [0, 0, 1, 1, 1, 2]
    predicting = batch.input_ids[batch.predicts].tolist()
    assert predicting == [7, 8, 5, 9, 10, 7], "the token before each target"


def test_teacher_and_student_lie_flat_in_the_same_order() -> None:
    behind = [Trace((1, 2, 3, *t.prompt_ids), t.completion_ids) for t in TRACES]
    a, b = collate(TRACES, 0, torch.device("cpu")), collate(behind, 0, torch.device("cpu"))
    assert torch.equal(a.targets_E, b.targets_E) and torch.equal(a.rows_N, b.rows_N)


def test_right_padded_scoring_equals_each_sequence_alone() -> None:
    policy = random_policy()
    batch = collate(TRACES, policy.pad_id, policy.device)
    with torch.no_grad():
        together = policy.logits(policy.hidden(batch)).log_softmax(-1)
    alone = torch.cat([log_probs(policy, t) for t in TRACES])
    assert torch.allclose(together, alone, atol=2e-4)


def test_the_left_padded_sampler_and_the_right_padded_scorer_agree() -> None:
    policy = random_policy()
    prompts = prompts_of(policy)
    sampled = TransformersSampler(policy).sample(
        prompts, SamplingConfig(max_new_tokens=9), Draw(2, DrawKey(0, Purpose.STUDENT))
    )
    traces = [Trace(p.ids, c.token_ids) for p, group in zip(prompts, sampled, strict=True) for c in group]
    batch = collate(traces, policy.pad_id, policy.device)
    with torch.no_grad():
        logp = policy.logits(policy.hidden(batch)).log_softmax(-1).gather(-1, batch.targets_E[:, None])[:, 0]
    assert torch.allclose(logp, torch.tensor([x for g in sampled for c in g for x in c.logprobs]), atol=2e-4)


@pytest.mark.parametrize("tokens", [1, 10, 23, 1000])
def test_micro_batches_hold_every_sequence_once_within_the_budget(tokens: int) -> None:
    lengths = [7, 3, 9, 3, 12, 5]
    groups = micro_batches(lengths, tokens)
    assert sorted(i for g in groups for i in g) == list(range(6))
    assert all(len(g) == 1 or len(g) * max(lengths[i] for i in g) <= tokens for g in groups)


@example([(1, 11), (1, 36), (2, 1), (3, 11), (3, 28), (3, 1), (3, 20), (3, 8)], 200, 50)  # laid out anew it is wider
@given(
    st.lists(st.tuples(st.integers(1, 3), st.integers(1, 40)), min_size=1, max_size=30),
    st.sampled_from([16, 64, 200]),
    st.sampled_from([0, 50, 128]),
)
def test_parts_hold_every_trace_once_and_what_is_laid_out_stays_within_the_budget(shape, tokens, width) -> None:
    width = min(width, tokens)
    traces = [Trace((5,) * (4 * prompt), tuple(range(10, 10 + length))) for prompt, length in shape]
    chosen = parts(traces, tokens, width)
    assert sorted(i for part in chosen for i in part) == list(range(len(traces)))
    for part in chosen:
        batch = collate([traces[i] for i in part], 0, torch.device("cpu"), width)
        assert len(part) == 1 or batch.input_ids.numel() <= tokens
