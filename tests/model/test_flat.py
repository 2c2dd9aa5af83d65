"""The flat forward pass says what the plain one says: log-probs, gradients, rollouts, and only where it may be used."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from hdpo.config import Divergence, ModelConfig, ObjectiveConfig, SamplingConfig, Teacher
from hdpo.data.problems import bundled
from hdpo.method.objective import DistillItem, PolicyItem, Scale
from hdpo.model.batching import Trace
from hdpo.model.flat import FlatModel
from hdpo.model.policy import Weights, load_policy
from hdpo.sampling.draws import DrawKey, Purpose, uniforms
from hdpo.sampling.protocol import Draw
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import hdpo_gradient, log_probs, prompts_of, push, random_model, random_policy

EQUAL = 1e-5  # nats: what "equal tokens" means
KEY = DrawKey(0, Purpose.STUDENT, 1)
HOW = SamplingConfig(max_new_tokens=40)
PROBLEMS = bundled("steep", "validation")[:16]
# two prompts of three completions each, one of which ends at once, and a prompt alone
TRACES = [
    Trace((5, 6, 7), (8, 9, 30, 31)),
    Trace((40, 5, 41, 42, 43), (9, 10, 11)),
    Trace((5, 6, 7), (9,)),
    Trace((5, 6, 7), (8, 9, 30, 60, 61)),
    Trace((40, 5, 41, 42, 43), (9, 12)),
    Trace((90,), (12, 13)),
]


def plain(policy):
    """The same policy without the fast way."""
    return dataclasses.replace(policy, flat=None)


@pytest.fixture(scope="module", params=["from the base", "from an adapter"])
def policy(request, tmp_path_factory):
    """The bundled model with an adapter that matters: 1e-5 is asked of real log-probs, not of a random model's loud ones."""
    first = load_policy(ModelConfig())
    push(first, size=0.005)
    if request.param == "from the base":
        return first
    folder = tmp_path_factory.mktemp("adapter")
    first.save(folder, torch.optim.AdamW(first.trainable), {"step": 4})
    later = load_policy(ModelConfig(adapter=str(folder)))
    push(later, 3, 0.005)
    return later


@pytest.mark.parametrize("weights", list(Weights))
def test_shared_rows_score_as_each_trace_alone_in_the_plain_model(policy, weights) -> None:
    batch = policy.batch(TRACES)
    assert batch.sees is not None and len(batch.input_ids) == 3, "three prompts, a row each"
    with torch.no_grad():
        together = policy.logits(policy.hidden(batch, weights)).log_softmax(-1)
    alone = torch.cat([log_probs(policy, t, weights=weights) for t in TRACES])
    assert (together - alone).abs().max() < 5 * EQUAL  # of arbitrary tokens: log-probs down to -30


def test_folded_weights_follow_the_adapter_and_leave_the_base_alone() -> None:
    policy = load_policy(ModelConfig())
    base = {n: p.clone() for n, p in policy.causal.named_parameters() if "lora" not in n}
    for seed in (1, 2):
        push(policy, seed, 0.002)
        with torch.no_grad():
            found = policy.logits(policy.hidden(policy.batch(TRACES[:1]))).log_softmax(-1)
        assert (found - log_probs(policy, TRACES[0])).abs().max() < 5 * EQUAL
        assert policy.folded(Weights.CURRENT) is policy.folded(Weights.CURRENT), "folded once"
    assert all(torch.equal(p, base[n]) for n, p in policy.causal.named_parameters() if "lora" not in n)


@pytest.mark.parametrize("teacher", list(Teacher))
@pytest.mark.parametrize("micro_batch_tokens", [12, 4096])
def test_the_gradient_is_the_plain_one(policy, teacher, micro_batch_tokens) -> None:
    grpo = [
        PolicyItem(t, a, (-1.0,) * len(t.completion_ids))
        for t, a in zip(TRACES, (1, -0.5, 0.3, -1, 1, 0.2), strict=True)
    ]
    distil = [DistillItem(t, Trace((77, *t.prompt_ids, 78), t.completion_ids)) for t in TRACES]
    objective = ObjectiveConfig(lambda_=0.7, divergence=Divergence.JSD_TOPK, teacher=teacher)
    scale = Scale(17, 17, 0.8, micro_batch_tokens)
    terms, grads = [], []
    for p in (policy, plain(policy)):
        terms.append(hdpo_gradient(p, grpo, distil, objective, scale))
        grads.append([x.grad.clone() for x in p.trainable])
    for name, value in dataclasses.asdict(terms[0]).items():
        assert value == pytest.approx(getattr(terms[1], name), rel=1e-4, abs=1e-5), name
    for mine, theirs in zip(*grads, strict=True):
        assert (mine - theirs).norm() <= 1e-4 * theirs.norm() + 1e-8


@pytest.mark.parametrize("threads", [1, 3])
def test_rollouts_are_the_plain_ones(policy, threads) -> None:
    """Equal tokens: log-probs within 1e-5, and another token only where the uniform lies that near to its boundary.

    Against float64 both ways are equally near (root mean square 5e-7), and each alone is now and then 1e-5 away.
    """
    before, prompts = torch.get_num_threads(), prompts_of(policy, PROBLEMS)
    torch.set_num_threads(threads)
    try:
        mine, theirs = (
            TransformersSampler(p).sample(prompts, HOW, Draw(12, KEY, topk=8)) for p in (policy, plain(policy))
        )
    finally:
        torch.set_num_threads(before)
    near, apart = 0, []
    for prompt, group, other in zip(prompts, mine, theirs, strict=True):
        for g, (a, b) in enumerate(zip(group, other, strict=True)):
            same = next(
                (t for t, (x, y) in enumerate(zip(a.token_ids, b.token_ids, strict=False)) if x != y), len(b.token_ids)
            )
            apart += [abs(x - y) for x, y in zip(a.logprobs[:same], b.logprobs[:same], strict=True)]
            probs_a, probs_b = np.exp(a.topk.logprobs[:same]), np.exp(b.topk.logprobs[:same])
            assert np.allclose(probs_a, probs_b, atol=EQUAL)
            if a.token_ids != b.token_ids:
                near += 1
                probs = log_probs(policy, Trace(prompt.ids, a.token_ids[: same + 1]))[-1].exp().double()
                u = uniforms(KEY, prompt.problem_id, g, HOW.max_new_tokens)[same]
                assert (probs.cumsum(0) - u).abs().min() < EQUAL
    assert sum(x > EQUAL for x in apart) <= len(apart) / 1000 and max(apart) < 2 * EQUAL
    assert near <= 2, f"{near} of {12 * len(prompts)} rollouts part at a boundary"


def test_rows_leave_at_different_lengths(policy) -> None:
    lengths = {
        len(c.token_ids)
        for g in TransformersSampler(policy).sample(prompts_of(policy, PROBLEMS), HOW, Draw(12, KEY))
        for c in g
    }
    assert len(lengths) > 5, "otherwise the tests above compact nothing"


def test_half_precision_goes_the_plain_way() -> None:
    assert random_policy(dtype="bfloat16").flat is None


def test_another_architecture_goes_the_plain_way(tmp_path) -> None:
    from transformers import AutoTokenizer

    config = LlamaConfig(
        vocab_size=400, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2
    )
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    AutoTokenizer.from_pretrained(random_model()).save_pretrained(tmp_path)
    policy = load_policy(ModelConfig(model=str(tmp_path)))
    assert policy.flat is None
    sampled = TransformersSampler(policy).sample(prompts_of(policy)[:2], SamplingConfig(max_new_tokens=4), Draw(2, KEY))
    assert [len(g) for g in sampled] == [2, 2]


def test_a_model_that_the_flat_pass_gets_wrong_goes_the_plain_way_and_says_so(tmp_path) -> None:
    policy = random_policy()
    assert FlatModel.of(policy.model) is not None
    for layer in policy.causal.model.layers:  # a change of the forward pass that no config tells of
        layer.mlp.act_fn = torch.nn.GELU()
    with pytest.warns(UserWarning, match="plain one is used"):
        assert FlatModel.of(policy.model) is None
