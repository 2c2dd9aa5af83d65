"""Two teachers in one memory, adapters in float32, and folders that are no model."""

import json
import shutil

import pytest
import torch
from peft import PeftModel, get_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    GPT2Config,
    GPT2LMHeadModel,
)

from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.model.batching import Trace
from hdpo.model.find import facts, find
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
        (lambda d: ModelConfig(model=str(random_model()), adapter=str(d)), "adapter_config.json and"),
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
    for other, words in (
        ({"rank": 8}, "expected rank 8, found rank 4"),
        ({"alpha": 64}, "expected alpha 64, found alpha 8.*leave it out"),
        ({"targets": "q_proj"}, "found another shape in .*: base_model.*missing|not there"),
    ):
        with pytest.raises(BadInput, match=words):
            random_policy(adapter=str(tmp_path), **other)


def test_an_adapter_of_another_base_is_told_by_its_weights(tmp_path) -> None:
    policy = random_policy()
    policy.save(tmp_path / "adapter", optimiser(policy), {"step": 2})
    moved = shutil.copytree(random_model(), tmp_path / "moved")
    assert torch.equal(
        log_probs(random_policy(trained=False, model=str(moved), adapter=str(tmp_path / "adapter")), TRACE),
        log_probs(policy, TRACE),
    )
    tensors = load_file(moved / "model.safetensors")
    save_file({k: v + 1e-3 for k, v in tensors.items()}, moved / "model.safetensors", {"format": "pt"})
    with pytest.raises(BadInput, match="expected one trained on '.*moved', found one trained on other weights"):
        random_policy(model=str(moved)).load(tmp_path / "adapter", optimiser(policy))


def test_a_checkpoint_is_a_peft_folder_that_others_may_read(tmp_path) -> None:
    policy = random_policy()
    policy.save(tmp_path, optimiser(policy), {"step": 1})
    base = AutoModelForCausalLM.from_pretrained(random_model())
    theirs = PeftModel.from_pretrained(base, str(tmp_path))
    ids = torch.tensor([[*TRACE.prompt_ids, *TRACE.completion_ids]])
    with torch.no_grad():
        found = theirs(input_ids=ids).logits[0, 2:-1].log_softmax(-1)
    assert torch.allclose(found, log_probs(policy, TRACE), atol=1e-5)
    plain = tmp_path / "plain"
    plain.touch()
    assert {f.stat().st_mode & 0o777 for f in tmp_path.iterdir()} == {plain.stat().st_mode & 0o777}


def test_the_same_adapter_is_the_same_bytes(tmp_path) -> None:
    policy, written = random_policy(), set()
    for _ in range(12):
        policy.save_peft(tmp_path / "peft", Weights.CURRENT)
        written.add((tmp_path / "peft" / "adapter_model.safetensors").read_bytes())
    assert len(written) == 1


def test_pefts_own_folder_is_taken_and_one_of_more_than_plain_lora_refused(tmp_path) -> None:
    policy = random_policy()
    policy.model.save_pretrained(str(tmp_path))
    assert torch.equal(log_probs(random_policy(trained=False, adapter=str(tmp_path)), TRACE), log_probs(policy, TRACE))
    said = json.loads((tmp_path / "adapter_config.json").read_text())
    for change, words in (
        ({"use_dora": True}, "found use_dora"),
        ({"peft_type": "IA3"}, "IA3"),
        ({"base_model_name_or_path": "owner/another"}, "trained on 'owner/another'"),
    ):
        (tmp_path / "adapter_config.json").write_text(json.dumps(said | change))
        with pytest.raises(BadInput, match=words):
            random_policy(adapter=str(tmp_path))


def test_a_damaged_adapter_is_never_the_base_under_its_name(tmp_path) -> None:
    policy = random_policy()
    policy.save(tmp_path, optimiser(policy), {"step": 1})
    file = tmp_path / "adapter_model.safetensors"
    tensors, whole = load_file(file), file.read_bytes()
    name = sorted(tensors)[0]
    with safe_open(file, "pt") as f:
        metadata = f.metadata()

    def said() -> str:
        with pytest.raises(BadInput) as e:
            random_policy(adapter=str(tmp_path))
        return str(e.value)

    save_file({k.replace("lora_A", "lora_X"): v for k, v in tensors.items()}, file, metadata)
    assert "lora_A" in said() and "is missing" in said()
    save_file(tensors | {name: tensors[name] * torch.nan}, file, metadata)
    assert "found NaN" in said()
    file.write_bytes(whole[: len(whole) // 2])
    assert "expected a whole adapter_model.safetensors" in said()
    file.unlink()
    assert "expected adapter_model.safetensors" in said()


def test_a_checkpoint_of_before_says_its_settings_by_its_run(tmp_path) -> None:
    policy = random_policy()
    old = tmp_path / "checkpoints" / "step-000002"
    old.mkdir(parents=True)
    tensors = get_peft_model_state_dict(policy.model, save_embedding_layers=False)
    save_file(tensors, old / "adapter.safetensors")
    assert torch.equal(log_probs(random_policy(trained=False, adapter=str(old)), TRACE), log_probs(policy, TRACE))
    model = {"model": str(random_model()), "rank": 4, "alpha": 32, "targets": "all-linear"}
    (tmp_path / "config.json").write_text(json.dumps({"config": {"model": model}}))
    with pytest.raises(BadInput, match="found alpha 32"):
        random_policy(adapter=str(old))
    model |= {"alpha": 8, "model": "owner/another"}
    (tmp_path / "config.json").write_text(json.dumps({"config": {"model": model}}))
    with pytest.raises(BadInput, match="found one trained on 'owner/another' in step-000002"):
        random_policy(adapter=str(old))


def test_weights_that_are_not_all_there_are_refused(tmp_path) -> None:
    folder = shutil.copytree(random_model(), tmp_path / "copy")
    tensors = load_file(folder / "model.safetensors")
    spoiled = tensors["model.norm.weight"].clone()
    spoiled[0] = torch.inf
    for change, words in (
        (
            {k: v for k, v in tensors.items() if ".layers.1." not in k},
            r"12 are missing \(model.layers.1.input_layernorm.weight, .*…\)",
        ),
        (tensors | {"model.norm.weight": spoiled}, r"NaN or infinity in 1 tensors .*\(model.norm.weight\)"),
    ):
        save_file(change, folder / "model.safetensors", {"format": "pt"})
        with pytest.raises(BadInput, match=words):
            load_policy(ModelConfig(model=str(folder)))


def test_tokens_without_a_row_and_models_without_an_end_are_refused(tmp_path) -> None:
    folder = shutil.copytree(random_model(), tmp_path / "copy")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"word{i}" for i in range(400)])
    tokenizer.save_pretrained(folder)
    with pytest.raises(BadInput, match="expected a tokenizer of at most 3.. tokens.*found 7"):
        load_policy(ModelConfig(model=str(folder)))
    shutil.copytree(random_model(), folder, dirs_exist_ok=True)
    for name in ("config.json", "generation_config.json", "tokenizer_config.json"):
        said = json.loads((folder / name).read_text())
        (folder / name).write_text(json.dumps(said | {"eos_token": None, "eos_token_id": None}))
    with pytest.raises(BadInput, match="expected a token that ends a completion"):
        load_policy(ModelConfig(model=str(folder)))


def test_the_folders_own_sampling_settings_do_not_leak_in(tmp_path) -> None:
    folder = shutil.copytree(random_model(), tmp_path / "copy")
    said = json.loads((folder / "generation_config.json").read_text())
    said |= {"do_sample": True, "top_k": 1, "repetition_penalty": 1.4, "temperature": 0.1, "min_new_tokens": 50}
    (folder / "generation_config.json").write_text(json.dumps(said))
    drawn = [
        TransformersSampler(random_policy(model=str(m))).sample(
            [Prompt("p", TRACE.prompt_ids)], HOW_SHORT, Draw(4, DrawKey(0, Purpose.SCAN))
        )
        for m in (random_model(), folder)
    ]
    assert drawn[0] == drawn[1]


@pytest.mark.parametrize("kind", ["gpt2", "gemma3"])
def test_models_of_other_class_names_are_taken(tmp_path, kind) -> None:
    tokenizer = AutoTokenizer.from_pretrained(random_model())
    sizes = {"vocab_size": len(tokenizer), "bos_token_id": 1, "eos_token_id": tokenizer.eos_token_id}
    if kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(n_embd=16, n_layer=2, n_head=2, n_positions=64, **sizes))
    else:
        text = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
        text |= {"num_key_value_heads": 1, "head_dim": 8, "max_position_embeddings": 64, **sizes}
        sees = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        sees |= {"image_size": 28, "patch_size": 14}
        model = Gemma3ForConditionalGeneration(
            Gemma3Config(text_config=text, vision_config=sees, mm_tokens_per_image=4)
        )
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    policy = random_policy(model=str(tmp_path))
    assert policy.context == 64 == facts(find(str(tmp_path))).context and policy.trainable
    assert not any("vision" in n for n, p in policy.model.named_parameters() if p.requires_grad)
    drawn = TransformersSampler(policy).sample(
        [Prompt("p", TRACE.prompt_ids)], HOW_SHORT, Draw(2, DrawKey(0, Purpose.SCAN))
    )
    trace = Trace(TRACE.prompt_ids, drawn[0][0].token_ids)
    sampled = torch.tensor(drawn[0][0].logprobs)
    read = log_probs(policy, trace).gather(-1, torch.tensor(trace.completion_ids)[:, None])[:, 0]
    assert torch.allclose(sampled, read, atol=1e-4)


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
    monkeypatch.setattr("hdpo.model.policy.FlatModel.of", lambda model: (None, "for this test"))
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
