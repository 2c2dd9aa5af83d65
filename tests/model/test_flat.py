"""The flat forward pass says what the plain one says: log-probs, gradients, rollouts, and only where it may be used."""

import dataclasses

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma2Config,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Qwen2Config,
    Qwen3Config,
)

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
        together = policy.logits(policy.hidden(batch, weights)).log_softmax(-1)[batch.edges_N]
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


def known(terms) -> dict[str, float]:
    """What was measured of a step."""
    return {name: value for name, value in dataclasses.asdict(terms).items() if value is not None}


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
    assert terms[0].off_policy is None, "nobody said with which log-probs these were drawn"
    for name, value in known(terms[0]).items():
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


SMALL = {
    "vocab_size": 376,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
LLAMA3 = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
FAMILY = {
    "Llama": LlamaConfig(**SMALL),
    "Llama 3, tied": LlamaConfig(
        **SMALL,
        tie_word_embeddings=True,
        rope_parameters=LLAMA3 | {"original_max_position_embeddings": 64, "rope_theta": 10000.0},
    ),
    "Llama with biases": LlamaConfig(**SMALL, attention_bias=True, mlp_bias=True),
    "Qwen2": Qwen2Config(**SMALL, use_sliding_window=False),
    "Qwen3": Qwen3Config(**SMALL, head_dim=16),
    "Mistral": MistralConfig(**SMALL, sliding_window=None, head_dim=8),
}
OTHERS = {
    "window": MistralConfig(**SMALL, sliding_window=16, head_dim=8),
    "Llama family": GPT2Config(vocab_size=376, n_embd=48, n_layer=1, n_head=2, n_positions=256, eos_token_id=2),
    "layers hold more": Gemma2Config(**SMALL, head_dim=8, final_logit_softcapping=None),
    "activation": LlamaConfig(**SMALL, hidden_act="gelu"),
    "positions": LlamaConfig(**SMALL, rope_parameters={"rope_type": "dynamic", "factor": 2.0, "rope_theta": 10000.0}),
}


def policy_of(config, folder, **settings):
    """A random model of this shape, a little louder than at birth, with an adapter that matters."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            if "norm" in name or "bias" in name:  # born as ones and zeros, which hide what they do
                p.add_(0.2 * torch.randn(p.shape))
            elif p.dim() == 2:
                p.mul_(4.0)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(random_model()).save_pretrained(folder)
    policy = load_policy(ModelConfig(**{"model": str(folder), "rank": 4, "alpha": 8, **settings}))
    push(policy)
    return policy


@pytest.mark.parametrize("folds", [True, False])
@pytest.mark.parametrize("targets", ["all-linear", "q_proj,down_proj"])
@pytest.mark.parametrize("family", FAMILY)
def test_each_family_is_what_transformers_says(family, targets, folds, tmp_path, monkeypatch) -> None:
    """Log-probs, rollouts and gradients; the adapter in the weights, and beside them."""
    if not folds:
        monkeypatch.setattr("hdpo.model.flat.FOLDED_BELOW", 0)
    policy = policy_of(FAMILY[family], tmp_path, targets=targets)
    assert policy.flat is not None and policy.flat.folds is folds, policy.plain
    grpo = [
        PolicyItem(t, a, (-1.0,) * len(t.completion_ids)) for t, a in zip(TRACES, (1, -1, 0.3, -1, 1, 0.2), strict=True)
    ]
    distil = [DistillItem(t, Trace((77, *t.prompt_ids, 78), t.completion_ids)) for t in TRACES]
    found = []
    for p in (policy, plain(policy)):
        terms = hdpo_gradient(p, grpo, distil, ObjectiveConfig(lambda_=0.7), Scale(17, 17, 1.0, 4096))
        sampled = TransformersSampler(p).sample(prompts_of(p)[:3], SamplingConfig(max_new_tokens=12), Draw(3, KEY))
        found.append((terms, [x.grad.clone() for x in p.trainable], [c for g in sampled for c in g]))
    for name, value in known(found[0][0]).items():
        assert value == pytest.approx(getattr(found[1][0], name), rel=1e-3, abs=1e-4), name
    for mine, theirs in zip(found[0][1], found[1][1], strict=True):
        assert (mine - theirs).norm() <= 1e-3 * theirs.norm() + 1e-7
    assert [c.token_ids for c in found[0][2]] == [c.token_ids for c in found[1][2]]


@pytest.mark.parametrize("family", FAMILY)
def test_in_half_precision_each_family_is_as_near_to_float32_as_transformers_is(family, tmp_path) -> None:
    exact = plain(policy_of(FAMILY[family], tmp_path))
    policy = policy_of(FAMILY[family], tmp_path, dtype="bfloat16")
    assert policy.flat is not None and not policy.flat.folds, policy.plain

    def logp(p, grad=False):
        batch = p.batch(TRACES)
        return p.logits(p.hidden(batch)).log_softmax(-1)[batch.edges_N].detach()

    mine, theirs = ((logp(p) - logp(exact)).abs().mean() for p in (policy, plain(policy)))
    assert mine <= 1.5 * theirs, f"{mine:.1e} nats from float32, transformers {theirs:.1e}"
    grpo = [
        PolicyItem(t, a, (-1.0,) * len(t.completion_ids)) for t, a in zip(TRACES, (1, -1, 0.3, -1, 1, 0.2), strict=True)
    ]
    grads = []
    for p in (exact, policy, plain(policy)):
        hdpo_gradient(p, grpo, [], ObjectiveConfig(lambda_=0.0), Scale(17, 0, 1.0, 4096))
        grads.append(torch.cat([x.grad.flatten() for x in p.trainable]))
    mine, theirs = ((g - grads[0]).norm() for g in grads[1:])
    assert mine <= 1.5 * theirs, "the gradient"
    sampled = TransformersSampler(policy).sample(prompts_of(policy), HOW, Draw(8, KEY))
    for prompt, group in zip(prompts_of(policy), sampled, strict=True):
        for c in group:  # what it draws by is what it trains
            again = log_probs(policy, Trace(prompt.ids, c.token_ids)).gather(-1, torch.tensor(c.token_ids)[:, None])[
                :, 0
            ]
            assert (again - torch.tensor(c.logprobs)).abs().mean() < 0.1


@pytest.mark.parametrize("reason", OTHERS)
def test_another_architecture_goes_the_plain_way_and_says_why(reason, tmp_path) -> None:
    policy = policy_of(OTHERS[reason], tmp_path)
    assert policy.flat is None and reason in policy.plain
    sampled = TransformersSampler(policy).sample(prompts_of(policy)[:2], SamplingConfig(max_new_tokens=4), Draw(2, KEY))
    assert [len(g) for g in sampled] == [2, 2]


def test_layers_that_keep_too_much_are_computed_again(tmp_path, monkeypatch) -> None:
    grads = []
    for bound in (1 << 30, 0):
        monkeypatch.setattr("hdpo.model.flat.ACTIVATION_BYTES", bound)
        policy = policy_of(FAMILY["Qwen2"], tmp_path, dtype="bfloat16")
        grpo = [PolicyItem(t, 1.0, (-1.0,) * len(t.completion_ids)) for t in TRACES]
        hdpo_gradient(policy, grpo, [], ObjectiveConfig(lambda_=0.0), Scale(17, 0, 1.0, 4096))
        grads.append([x.grad.clone() for x in policy.trainable])
    assert all(torch.equal(a, b) for a, b in zip(*grads, strict=True))


def test_a_model_that_the_flat_pass_gets_wrong_goes_the_plain_way_and_says_so(tmp_path) -> None:
    policy = random_policy()
    assert FlatModel.of(policy.model)[1] == ""
    for layer in policy.causal.model.layers:  # a change of the forward pass that no module tells of
        layer.mlp.down_proj.register_forward_hook(lambda _, __, out: 1.5 * out)
    flat, said = FlatModel.of(policy.model)
    assert flat is None and "other log-probs" in said
