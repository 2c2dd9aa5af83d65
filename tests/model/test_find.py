"""Which models are taken, and the sentence for each that is not; the hub by its cache alone, with the network off."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gguf
import numpy as np
import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from hdpo.config import ModelConfig
from hdpo.data.prompts import render
from hdpo.errors import BadInput
from hdpo.hub import is_hub_id
from hdpo.model.adapter import digest
from hdpo.model.find import KNOWN, RAISED, Place, Shape, facts, find, gguf_folder, known
from hdpo.model.policy import load_policy
from tests.engine import random_model

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the random model, to be spoiled."""
    return Path(shutil.copytree(random_model(), tmp_path / "copy"))


def change(folder: Path, **settings: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), **settings}))


def test_facts_come_from_the_files_alone(folder: Path) -> None:
    found = facts(find(str(folder)))
    policy = load_policy(ModelConfig(model=str(folder), rank=8))
    assert found.architecture == "Qwen2ForCausalLM" and found.vocabulary == policy.vocabulary
    assert found.parameters == sum(p.numel() for n, p in policy.model.named_parameters() if "lora" not in n)
    assert found.context == policy.context and found.licence == ""
    assert found.shape is not None and found.shape.adapter(8) == sum(p.numel() for p in policy.trainable)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("README.md", "---\nlanguage: en\nlicense: apache-2.0\n---\n# A model\n", "apache-2.0"),
        ("LICENSE", "\nMIT License\n\nCopyright\n", "MIT License"),
        ("README.md", "no front matter", ""),
    ],
)
def test_the_licence_is_what_the_model_says(folder: Path, name: str, text: str, expected: str) -> None:
    (folder / name).write_text(text)
    assert facts(find(str(folder))).licence == expected


def test_each_model_that_cannot_be_taken_has_its_own_sentence(folder: Path) -> None:
    def said() -> str:
        with pytest.raises(BadInput) as e:
            load_policy(ModelConfig(model=str(folder)))
        return str(e.value)

    template = (folder / "chat_template.jinja").read_text()
    (folder / "chat_template.jinja").unlink()
    assert "expected a chat template" in said() and "--chat-template FILE, or take" in said()
    (folder.parent / "mine.jinja").write_text(template)
    load_policy(ModelConfig(model=str(folder), chat_template=str(folder.parent / "mine.jinja")))
    (folder / "chat_template.jinja").write_text(template)
    with pytest.raises(BadInput, match="expected a text in none.jinja"):
        load_policy(ModelConfig(model=str(folder), chat_template="none.jinja"))
    with pytest.raises(BadInput, match="template-args: expected NAME=VALUE.*enable_thinking=false"):
        ModelConfig(template_args="enable_thinking")
    (folder / "chat_template.jinja").write_text("{{ 'think' if enable_thinking else style }}" + template)
    told = ModelConfig(model=str(folder), template_args="enable_thinking=false, style=it's short")
    said_by = load_policy(told).tokenizer
    assert render(said_by, [{"role": "user", "content": "hi"}])[0].startswith("it's short")
    (folder / "chat_template.jinja").write_text(template)
    kept = (folder / "tokenizer.json").read_bytes()
    (folder / "tokenizer.json").write_text("{")
    assert "expected a tokenizer that transformers can read" in said()
    (folder / "tokenizer.json").unlink()
    assert "expected a tokenizer, found none" in said()
    (folder / "tokenizer.json").write_bytes(kept)
    change(folder, auto_map={"AutoModelForCausalLM": "modeling.Mine"})
    assert "code of its own" in said()
    shutil.copy(random_model() / "config.json", folder)
    change(folder, architectures=["BertForMaskedLM"])
    assert "expected a causal language model" in said() and "BertForMaskedLM" in said()
    change(folder, architectures=["T5ForConditionalGeneration"], is_encoder_decoder=True)
    assert "found T5ForConditionalGeneration" in said()
    shutil.copy(random_model() / "config.json", folder)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    assert "expected weights as safetensors" in said()
    (folder / "model.safetensors").write_bytes(b"\xff" * 40)
    assert "expected safetensors" in said() and "model.safetensors" in said()
    (folder / "config.json").write_text("{")
    assert "expected a whole config.json" in said()


def test_an_adapter_given_as_a_model_says_where_it_belongs(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(BadInput, match="found a LoRA adapter.*base with --model, and this folder with --adapter"):
        find(str(tmp_path))


def test_weights_are_known_again_wherever_they_lie(folder: Path) -> None:
    assert digest(folder) == digest(random_model())
    tensors = load_file(folder / "model.safetensors")
    save_file({name: t + 1e-3 for name, t in tensors.items()}, folder / "model.safetensors", {"format": "pt"})
    assert digest(folder) != digest(random_model())


def test_a_name_that_is_nothing_says_what_would_be_something() -> None:
    with pytest.raises(BadInput, match="a folder with config.json.* or a hub id"):
        find("/no/such/folder")
    assert known("/no/such/folder") is None


def test_a_path_that_exists_is_never_taken_for_a_hub_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert is_hub_id("team/tiny")
    (tmp_path / "team" / "tiny").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert not is_hub_id("team/tiny")


def test_what_the_presets_know_by_heart_is_consistent() -> None:
    for name, found in KNOWN.items():
        assert (is_hub_id(name) or name == RAISED) and found.shape is not None
        s = found.shape
        linear = s.layers * (2 * s.hidden * s.heads + 2 * s.hidden * s.kv + 3 * s.hidden * s.inner)
        rest = found.parameters - linear - found.vocabulary * s.hidden  # norms and biases: tied embeddings
        assert 0 < rest < 0.001 * found.parameters
    assert KNOWN["Qwen/Qwen2.5-Math-1.5B-Instruct"].shape == Shape(28, 1536, 8960, 1536, 256)


def write_gguf(path: Path, template: str = "{{ messages }}") -> None:
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(16)
    writer.add_feed_forward_length(32)
    writer.add_block_count(2)
    writer.add_head_count(4)
    writer.add_head_count_kv(2)
    writer.add_token_list(["a", "b", "c"])
    writer.add_license("apache-2.0")
    if template:
        writer.add_chat_template(template)
    writer.add_tensor("token_embd.weight", np.zeros((3, 16), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_a_gguf_file_says_what_it_is(tmp_path: Path) -> None:
    write_gguf(tmp_path / "small.gguf")
    place = find(str(tmp_path / "small.gguf"))
    assert place == Place(tmp_path, "small.gguf")
    found = facts(place)
    assert (found.parameters, found.vocabulary, found.context, found.licence) == (48, 3, 128, "apache-2.0")
    assert found.shape == Shape(2, 16, 32, 16, 8)
    write_gguf(tmp_path / "base.gguf", template="")
    assert facts(find(str(tmp_path / "base.gguf"))).template == ""
    (tmp_path / "cut.gguf").write_bytes((tmp_path / "small.gguf").read_bytes()[:100])
    with pytest.raises(BadInput, match="whole GGUF file"):
        facts(find(str(tmp_path / "cut.gguf")))


def test_a_gguf_file_is_found_where_it_was_turned_into_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HDPO_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "small.gguf"
    write_gguf(file)
    with pytest.raises(BadInput, match="to turn small.gguf into a folder .* HDPO_CACHE"):
        load_policy(ModelConfig(model=str(file)))
    assert not list((tmp_path / "cache").glob("gguf/.*")), "nothing half is left"
    shutil.copytree(random_model(), gguf_folder(file))
    assert find(str(file)) == Place(gguf_folder(file))
    assert load_policy(ModelConfig(model=str(file))).vocabulary == facts(find(str(file))).vocabulary
    os.utime(file, ns=(1, 1))
    assert find(str(file)) == Place(tmp_path, "small.gguf"), "another file by now"


def hub_cache(root: Path, model: Path) -> Path:
    """The cache as huggingface_hub lays it out, with one model `team/tiny` in it."""
    home = root / "models--team--tiny"
    snapshot = home / "snapshots" / COMMIT
    (home / "refs").mkdir(parents=True)
    (home / "refs" / "main").write_text(COMMIT)
    (home / "blobs").mkdir()
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(model.iterdir())):
        shutil.copy(file, home / "blobs" / str(number))
        (snapshot / file.name).symlink_to(Path("../../blobs") / str(number))
    return root


def hdpo(cache: Path, runs: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "HDPO_RUNS": str(runs)}
    return subprocess.run(
        [sys.executable, "-m", "hdpo", *arguments], capture_output=True, text=True, env=env, timeout=120
    )


def test_a_hub_model_runs_from_the_cache_and_its_commit_is_pinned(tmp_path: Path) -> None:
    cache, runs = hub_cache(tmp_path / "cache", random_model()), tmp_path / "runs"
    done = hdpo(cache, runs, "scan", "--model", "team/tiny", "--limit", "2", "--rollouts", "2", "--json")
    assert done.returncode == 0, done.stderr
    config = json.loads((Path(json.loads(done.stdout)["path"]) / "config.json").read_text())["config"]
    assert config["model"]["model"] == "team/tiny" and config["model"]["revision"] == COMMIT


@pytest.mark.parametrize(("model", "words"), [("team/other", "found neither"), ("team/tiny@x", "expected 'bundled'")])
def test_without_network_a_missing_hub_model_is_a_sentence_and_a_way_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, model: str, words: str
) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(hub_cache(tmp_path, random_model())))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert find("team/tiny").commit == COMMIT
    with pytest.raises(BadInput, match=words):
        load_policy(ModelConfig(model=model))
