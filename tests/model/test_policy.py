"""Two teachers in one memory, adapters in float32, and folders that are no model."""

import json

import pytest
import torch

from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.model.batching import Trace
from hdpo.model.policy import Weights, load_ahead, load_policy
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, Prompt
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import HOW_SHORT, log_probs, push, random_model, random_policy

TRACE = Trace((5, 6, 7), (8, 9, 10))


def optimiser(policy):
    return torch.optim.AdamW(policy.trainable, lr=1e-2)


def step(policy, opt):
    for p in policy.trainable:
        p.grad = torch.ones_like(p)
    opt.step()


def test_a_fresh_adapter_changes_nothing_and_the_frozen_teacher_stays() -> None:
    policy = random_policy(trained=False)
    base = log_probs(policy, TRACE)
    push(policy)
    assert torch.allclose(log_probs(policy, TRACE, weights=Weights.INITIAL), base, atol=1e-6)
    assert not torch.allclose(log_probs(policy, TRACE), base, atol=1e-3)


def test_a_run_from_an_adapter_keeps_that_adapter_as_its_frozen_teacher(tmp_path) -> None:
    first = random_policy()
    first.save(tmp_path, optimiser(first), {"step": 4})
    second = random_policy(trained=False, adapter=str(tmp_path))
    start = log_probs(first, TRACE)
    assert torch.allclose(log_probs(second, TRACE), start, atol=1e-6)
    push(second, seed=9)
    assert torch.allclose(log_probs(second, TRACE, weights=Weights.INITIAL), start, atol=1e-6)
    assert not torch.allclose(log_probs(second, TRACE), start, atol=1e-3)
    assert all(p.requires_grad for p in second.trainable)


def test_a_checkpoint_gives_back_adapter_and_moments(tmp_path) -> None:
    a, b = random_policy(), random_policy(seed=5)
    opt_a, opt_b = optimiser(a), optimiser(b)
    step(a, opt_a)
    a.save(tmp_path, opt_a, {"step": 7})
    assert b.load(tmp_path, opt_b)["step"] == 7 == b.version
    step(a, opt_a)
    step(b, opt_b)
    assert all(torch.equal(x, y) for x, y in zip(a.trainable, b.trainable, strict=True))


def test_the_seed_draws_the_adapter_and_nothing_else() -> None:
    before = torch.random.get_rng_state()
    a, b, c = (random_policy(seed=s, trained=False) for s in (0, 0, 1))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(x, y) for x, y in zip(a.trainable, b.trainable, strict=True))
    assert any(not torch.equal(x, y) for x, y in zip(a.trainable, c.trainable, strict=True))


def test_the_adapter_is_float32_on_a_half_precision_base() -> None:
    policy = random_policy(dtype="bfloat16")
    assert policy.causal.dtype == torch.bfloat16
    assert {p.dtype for p in policy.trainable} == {torch.float32}
    assert log_probs(policy, TRACE).isfinite().all()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda d: ModelConfig(model=str(d / "nothing")), "config.json"),
        (lambda d: ModelConfig(model=str(d)), "causal language model"),
        (lambda d: ModelConfig(model=str(random_model()), targets="no_such_layer"), "linear layers"),
        (lambda d: ModelConfig(model=str(random_model()), targets="q_proj,lm_head"), "output layer"),
        (lambda d: ModelConfig(model=str(random_model()), adapter=str(d)), "adapter.safetensors"),
        (lambda d: ModelConfig(model=str(random_model()), device="mps"), "device"),
    ],
)
def test_each_wrong_folder_has_its_sentence(tmp_path, make, words) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "qwen2"}))
    with pytest.raises(BadInput, match=words):
        load_policy(make(tmp_path))


def test_an_adapter_of_another_shape_is_told(tmp_path) -> None:
    a = random_policy()
    a.save(tmp_path, optimiser(a), {"step": 1})
    with pytest.raises(BadInput, match="another shape"):
        load_policy(ModelConfig(model=str(random_model()), rank=8, adapter=str(tmp_path)))


def test_an_adapter_of_another_base_is_told_by_the_run_it_lies_in(tmp_path) -> None:
    policy = random_policy()
    checkpoint = tmp_path / "checkpoints" / "step-000002"
    checkpoint.mkdir(parents=True)
    policy.save(checkpoint, torch.optim.AdamW(policy.trainable), {"step": 2})
    for base, ok in ((str(random_model()), True), ("owner/another", False)):
        (tmp_path / "config.json").write_text(json.dumps({"config": {"model": {"model": base}}}))
        if ok:
            random_policy(adapter=str(checkpoint))
        else:
            with pytest.raises(BadInput, match="found one trained on 'owner/another' in step-000002"):
                random_policy(adapter=str(checkpoint))


def test_a_policy_that_was_loaded_ahead_is_given_out_once_and_for_its_own_settings_alone() -> None:
    config = ModelConfig(model=str(random_model()))
    load_ahead(config, 3)
    assert load_policy(config, 4).model is not (ahead := load_policy(config, 3)).model
    assert load_policy(config, 3).model is not ahead.model


def test_a_cut_checkpoint_is_told(tmp_path) -> None:
    a = random_policy()
    opt = optimiser(a)
    step(a, opt)
    a.save(tmp_path, opt, {"step": 1})
    whole = (tmp_path / "optimiser.safetensors").read_bytes()
    (tmp_path / "optimiser.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadInput, match="older checkpoint"):
        a.load(tmp_path, opt)


def test_a_plain_model_keeps_a_layers_input_alone_and_has_the_same_gradient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdpo.model.policy.FlatModel.of", lambda model: None)
    gradients, kept = [], []
    for again in (True, False):
        policy = random_policy()
        assert policy.flat is None and policy.causal.is_gradient_checkpointing
        if not again:
            policy.causal.gradient_checkpointing_disable()
        found = 0

        def count(x: torch.Tensor) -> torch.Tensor:
            nonlocal found
            found += x.numel()
            return x

        with torch.autograd.graph.saved_tensors_hooks(count, lambda x: x):
            hidden = policy.hidden(policy.batch([Trace(tuple(range(5, 60)), tuple(range(60, 90)))] * 4))
        kept.append(found)
        hidden.square().sum().backward()
        gradients.append([p.grad for p in policy.trainable])
        assert not any(m.training for m in policy.model.modules())
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True)) and any(g.any() for g in gradients[0])
    assert kept[0] < kept[1] / 5
    drawn = TransformersSampler(policy).sample(
        [Prompt("p", TRACE.prompt_ids)], HOW_SHORT, Draw(2, DrawKey(0, Purpose.SCAN))
    )
    assert len(drawn[0]) == 2
