"""An exported adapter is what peft and transformers take: the same greedy completions as our policy, and a card that is true."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from hdpo.assets import ASSETS
from hdpo.cli.export import hand_over
from hdpo.cli.main import main
from hdpo.config import SamplingConfig, TrainConfig
from hdpo.data.problems import bundled
from hdpo.errors import BadInput
from hdpo.model.policy import Weights, load_policy
from hdpo.record.folder import Run
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, Prompt
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import collector_of, push
from tests.fakes import fake_pair

HOW = SamplingConfig(max_new_tokens=24)
GREEDY = Draw(1, DrawKey(0, Purpose.EVALUATION), greedy=True)


@pytest.fixture(scope="module")
def moved(real_train_run: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Prompt], list[list[int]]]:
    """A run whose adapter matters, prompts, and what our policy writes to each."""
    run = Run(Path(shutil.copytree(real_train_run, tmp_path_factory.mktemp("runs") / real_train_run.name)))
    policy = load_policy(TrainConfig().model)
    push(policy, size=0.1)
    (checkpoint,) = run.checkpoints()
    policy.save_peft(checkpoint, Weights.CURRENT)
    collector = collector_of(policy)
    prompts = [Prompt(p.id, collector.student_ids(p)) for p in bundled("steep", "validation")[:8]]
    said = TransformersSampler(policy).sample(prompts, HOW, GREEDY)
    return run, prompts, [list(c.token_ids) for (c,) in said]


def written(model: torch.nn.Module, prompts: list[Prompt]) -> list[list[int]]:
    """By transformers' own `generate`."""
    found = []
    for p in prompts:
        ids = torch.tensor([p.ids])
        out = model.generate(input_ids=ids, attention_mask=ids * 0 + 1, do_sample=False, max_new_tokens=24)
        found.append(out[0, len(p.ids) :].tolist())
    return found


def test_plain_peft_writes_what_our_policy_writes(moved, tmp_path: Path) -> None:
    run, prompts, ours = moved
    folder = hand_over(str(run.path), str(tmp_path / "adapter"))
    base = AutoModelForCausalLM.from_pretrained(ASSETS / "model")
    assert written(base, prompts) != ours
    assert written(PeftModel.from_pretrained(base, folder), prompts) == ours
    assert not (folder / "optimiser.safetensors").exists()


def test_merged_weights_write_the_same_with_their_tokenizer(moved, tmp_path: Path) -> None:
    run, prompts, ours = moved
    folder = hand_over(f"{run.path}@3", str(tmp_path / "whole"), merged=True)
    assert written(AutoModelForCausalLM.from_pretrained(folder), prompts) == ours
    tokenizer, message = AutoTokenizer.from_pretrained(folder), [{"role": "user", "content": "What is 2 + 3?"}]
    own = AutoTokenizer.from_pretrained(ASSETS / "model")
    assert tokenizer.apply_chat_template(message) == own.apply_chat_template(message)
    assert len({f.stat().st_mode for f in folder.iterdir()}) == 1


def test_the_card_says_what_it_is(moved, tmp_path: Path) -> None:
    run, *_ = moved
    run.rename("<script>|`x`")
    page = (hand_over(str(run.path), str(tmp_path / "adapter")) / "README.md").read_text(encoding="utf-8")
    front, body = page.removeprefix("---\n").split("\n---\n", 1)
    assert 'library_name: "peft"' in front and 'license: "apache-2.0"' in front and "base_model" not in front
    last = run.metrics("eval")[-1]["pass_at"]["2"]
    assert f"{last['value']:.3f} [{last['low']:.3f}, {last['high']:.3f}]" in body
    assert "| `--steps` | `3` |" in body and "`--rank`" not in body and str(tmp_path) not in page
    assert "`<script>\\|'x'`" in body


def test_what_cannot_be_exported_is_a_sentence_and_leaves_nothing(moved, tmp_path: Path, capsys) -> None:
    run, *_ = moved
    taken = tmp_path / "taken"
    taken.mkdir()
    assert main(["export", str(run.path), "--to", str(taken)]) == 2 and not list(taken.iterdir())
    assert "expected a folder that is not there yet" in capsys.readouterr().err
    with pytest.raises(BadInput, match="no such in"):
        hand_over(f"{run.path}@2", str(tmp_path / "x"))
    pair = fake_pair(taken)
    with pytest.raises(BadInput, match=f"found the sweep {pair.name}. Name one of its members: .*-train-"):
        hand_over(str(pair))
    with pytest.raises(BadInput, match="a peft folder already"):
        hand_over(str(ASSETS / "smollm2"), str(tmp_path / "x"))
    assert list(tmp_path.iterdir()) == [taken]
