"""The gradient is the objective's: one denominator a term, whatever the micro-batches, the order or the chunks."""

from dataclasses import replace

import pytest
import torch

from hdpo.config import Advantage, Divergence, ObjectiveConfig, Teacher
from hdpo.method import objective as module
from hdpo.method.advantages import advantages
from hdpo.method.objective import DistillItem, Scale, group_gradient_norm, policy_items, teacher_weights
from hdpo.model.batching import Trace
from hdpo.records import Outcome
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, Prompt
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import HOW_SHORT, PROBLEMS, collector_of, group_of, hdpo_gradient, log_probs, random_policy

C, W, G = Outcome.CORRECT, Outcome.WRONG, Outcome.GRADER_ERROR
SCALE = Scale(tokens_student=90, tokens_accepted=40, temperature=1.0, micro_batch_tokens=4096)


@pytest.fixture
def policy():
    return random_policy()


def items_of(policy, objective, keep=True):
    """Two mixed groups, and distillation items with the top-k that the sampler kept."""
    groups = [group_of(policy, [C, W, W], PROBLEMS[0]), group_of(policy, [C, C, W, W], PROBLEMS[5])]
    collector, weights = collector_of(policy), teacher_weights(objective)
    peeking = [Prompt(p.id, collector.privileged_ids(p)) for p in PROBLEMS[:3]]
    sampled = TransformersSampler(policy).sample(
        peeking, HOW_SHORT, Draw(2, DrawKey(0, Purpose.PRIVILEGED, 1), weights=weights, topk=objective.topk)
    )
    distil = [
        DistillItem(Trace(collector.student_ids(p), c.token_ids), Trace(q.ids, c.token_ids), c.topk if keep else None)
        for p, q, group in zip(PROBLEMS[:3], peeking, sampled, strict=True)
        for c in group
    ]
    return policy_items(groups, objective), distil


def gradient(policy):
    return torch.cat([torch.zeros(p.numel()) if p.grad is None else p.grad.flatten().clone() for p in policy.trainable])


def run(policy, items, objective, **scale):
    terms = hdpo_gradient(policy, *items, objective, replace(SCALE, **scale))
    return gradient(policy), terms


def close(a, b):
    assert torch.allclose(a, b, rtol=1e-4, atol=1e-7), (a - b).abs().max()
    assert a.abs().max() > 1e-5


@pytest.mark.parametrize("divergence", list(Divergence))
def test_micro_batches_change_nothing(policy, divergence) -> None:
    o = ObjectiveConfig(divergence=divergence)
    items = items_of(policy, o)
    whole, a = run(policy, items, o)
    split, b = run(policy, items, o, micro_batch_tokens=30)
    close(whole, split)
    assert a.loss_jsd == pytest.approx(b.loss_jsd, rel=1e-5) and a.loss_grpo == pytest.approx(b.loss_grpo, rel=1e-5)


def test_the_order_of_rollouts_changes_nothing(policy) -> None:
    o = ObjectiveConfig()
    grpo, distil = items_of(policy, o)
    close(run(policy, (grpo, distil), o)[0], run(policy, (grpo[::-1], distil[::-1]), o)[0])


@pytest.mark.parametrize("divergence", [Divergence.JSD_TOPK, Divergence.FORWARD_KL])
def test_chunks_of_the_vocabulary_change_nothing(policy, monkeypatch, divergence) -> None:
    o = ObjectiveConfig(divergence=divergence)
    items = items_of(policy, o)
    whole, _ = run(policy, items, o)
    monkeypatch.setattr(module, "CHUNK_ELEMENTS", policy.vocabulary * 4)
    close(whole, run(policy, items, o)[0])


@pytest.mark.parametrize("micro_batch_tokens", [30, 4096])
def test_the_mismatch_between_sampler_and_trainer_is_the_mean_over_the_whole_batch(policy, micro_batch_tokens) -> None:
    """Log-probs that are the trainer's own but for 0.02 nats on the first of two rollouts: half of that, by tokens."""
    o = ObjectiveConfig(lambda_=0.0)
    first, second = policy_items([group_of(policy, [C, W], lengths=(5, 5))], o)
    off = {id(first): 0.02, id(second): 0.0}
    items = []
    for item in (first, second):
        targets = torch.tensor(item.trace.completion_ids)[:, None]
        exact = log_probs(policy, item.trace).gather(-1, targets)[:, 0] + off[id(item)]
        items.append(replace(item, sampled_logprobs=tuple(exact.tolist())))
    _, terms = run(policy, (items, []), o, micro_batch_tokens=micro_batch_tokens)
    assert terms.sampler_mismatch == pytest.approx(0.01, abs=1e-5)


def test_the_grpo_gradient_is_the_policy_gradient_written_out(policy) -> None:
    """Ratio 1: the gradient is that of -Σ A log π / N_tok, and N_tok counts zero-advantage tokens too."""
    o = ObjectiveConfig(lambda_=0.0)
    group = group_of(policy, [C, W, W, C])
    ours, terms = run(policy, (policy_items([group], o), []), o, tokens_student=1000)
    policy.model.zero_grad()
    loss = torch.zeros(())
    for r, a in zip(group.rollouts, advantages(group.rewards, o.advantage), strict=True):
        logits = policy.model(input_ids=torch.tensor([[*group.prompt_ids, *r.token_ids]])).logits[0]
        logp = logits[len(group.prompt_ids) - 1 : -1].log_softmax(-1).gather(-1, torch.tensor(r.token_ids)[:, None])
        loss = loss - a * logp.sum() / 1000
    loss.backward()
    close(ours, gradient(policy))
    assert terms.grad_norm_grpo == pytest.approx(float(ours.norm()), rel=1e-4)


def test_lambda_0_is_exactly_grpo(policy) -> None:
    grpo, distil = items_of(policy, ObjectiveConfig())
    with_items, terms = run(policy, (grpo, distil), ObjectiveConfig(lambda_=0.0))
    without, _ = run(policy, (grpo, []), ObjectiveConfig(lambda_=0.0))
    assert torch.equal(with_items, without) and terms.loss_jsd == 0.0 and terms.grad_norm_jsd == 0.0


def test_the_two_terms_add_up_and_lambda_scales_one(policy) -> None:
    o = ObjectiveConfig(lambda_=0.5)
    grpo, distil = items_of(policy, o)
    both, terms = run(policy, (grpo, distil), o)
    one, _ = run(policy, (grpo, []), o)
    other, _ = run(policy, ([], distil), o)
    twice, _ = run(policy, ([], distil), replace(o, lambda_=1.0))
    close(both, one + other)
    close(2 * other, twice)
    assert terms.grad_norm_jsd == pytest.approx(float(other.norm()), rel=1e-4)


def test_nothing_accepted_gives_exactly_0_and_no_nan(policy) -> None:
    g, terms = run(policy, ([], []), ObjectiveConfig(), tokens_accepted=0)
    assert g.abs().max() == 0.0
    assert (terms.loss_grpo, terms.loss_jsd, terms.grad_norm_grpo, terms.grad_norm_jsd) == (0.0, 0.0, 0.0, 0.0)
    assert terms.step_gap is None and terms.entropy is None


@pytest.mark.parametrize("teacher", list(Teacher))
def test_the_kept_top_k_stands_for_a_forward_pass_of_the_teacher(policy, teacher) -> None:
    o = ObjectiveConfig(teacher=teacher, topk=16)
    kept, a = run(policy, ([], items_of(policy, o)[1]), o)
    asked, b = run(policy, ([], items_of(policy, o, keep=False)[1]), o)
    close(kept, asked)
    assert a.loss_jsd == pytest.approx(b.loss_jsd, rel=1e-3) and a.teacher_mass == pytest.approx(
        b.teacher_mass, rel=1e-3
    )
    assert a.step_gap <= b.step_gap + 1e-4, "one bucket for the tail never exceeds the exact gap"


def test_top_k_of_other_weights_does_not_stand(policy) -> None:
    o = ObjectiveConfig(topk=16)
    items = items_of(policy, o)
    before, _ = run(policy, ([], items[1]), o)
    policy.version += 1
    asked, _ = run(policy, ([], items[1]), o)
    close(before, asked)
    lying = [replace(i, topk=replace(i.topk, logprobs=i.topk.logprobs * 0 - 3.0)) for i in items[1]]
    close(run(policy, ([], lying), o)[0], asked)


def test_the_frozen_teacher_is_the_base_and_gets_no_gradient(policy) -> None:
    o = ObjectiveConfig(teacher=Teacher.FROZEN, divergence=Divergence.FORWARD_KL)
    _, distil = items_of(policy, o)
    _, terms = run(policy, ([], distil), o)
    from hdpo.model.policy import Weights

    gaps = []
    for i in distil:
        t, s = log_probs(policy, i.teacher, weights=Weights.INITIAL), log_probs(policy, i.student)
        gaps += (t.exp() * (t - s)).sum(-1).tolist()
    assert terms.loss_jsd * SCALE.tokens_accepted == pytest.approx(sum(gaps), rel=1e-3)
    assert all(p.grad is None for n, p in policy.model.named_parameters() if "lora" not in n)


def test_a_cliff_has_no_gradient_until_one_reward_is_edited(policy) -> None:
    cliff = group_of(policy, [W, W, W, W])
    a, norm = group_gradient_norm(policy, cliff, cliff.rewards, ObjectiveConfig(), SCALE)
    assert a == (0.0,) * 4 and norm == 0.0
    a, norm = group_gradient_norm(policy, cliff, (1.0, 0.0, 0.0, 0.0), ObjectiveConfig(), SCALE)
    assert a[0] == 1.0 and norm > 0.0


def test_a_grader_error_leaves_its_group(policy) -> None:
    items = policy_items([group_of(policy, [C, G, W])], ObjectiveConfig())
    assert [i.advantage for i in items] == [1.0, -1.0]
    assert policy_items([group_of(policy, [C, G])], ObjectiveConfig()) == []


def test_each_advantage_form_is_used(policy) -> None:
    group = group_of(policy, [C, W, W, W])
    found = {f: policy_items([group], ObjectiveConfig(advantage=f))[0].advantage for f in Advantage}
    assert found == {Advantage.LEAVE_ONE_OUT: 1.0, Advantage.STD: pytest.approx(3**0.5), Advantage.DR_GRPO: 0.75}
