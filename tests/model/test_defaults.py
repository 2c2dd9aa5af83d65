"""What follows from model and adapter where a person chose nothing, and which folder a checkpoint's name means."""

import json
from pathlib import Path

import pytest
import torch

from hdpo.config import ScanConfig, TrainConfig, knobs
from hdpo.errors import BadInput
from hdpo.model.adapter import adapter_folder
from hdpo.model.defaults import following
from hdpo.presets import INSTRUCT
from hdpo.record.folder import Run, RunWriter
from tests.engine import random_model, random_policy

LINEAR = "down_proj,gate_proj,k_proj,o_proj,q_proj,up_proj,v_proj"
TRAIN, SCAN = ({k.name for k in knobs(c)} for c in (TrainConfig(), ScanConfig()))


def test_another_model_brings_its_own_settings_and_says_so() -> None:
    found, told = following({"model": str(random_model()), "warmup": 3}, TRAIN)
    assert found == {
        "student": INSTRUCT.student,
        "privileged": INSTRUCT.privileged,
        "max_new_tokens": 256,  # half its context of 512
        "learning_rate": 1e-5,
        "eval_problems": 128,
    }
    assert len(told) == 1 and "--max-new-tokens 256, --learning-rate 1e-05, --eval-problems 128." in told[0]
    found, told = following({"model": "owner/unknown", "student": "{problem}"}, SCAN)
    assert found == {"max_new_tokens": 512} and "wording" not in told[0]
    told = following({"model": "owner/unknown", "max_new_tokens": 8}, SCAN)[1]
    assert told[0].endswith("the wording of instruct models (--student, --privileged).")
    assert following({}, TRAIN) == following({"model": "bundled"}, TRAIN) == ({}, [])


def test_a_template_that_writes_the_date_is_told(tmp_path: Path) -> None:
    for file in random_model().iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "chat_template.jinja").unlink()
    (tmp_path / "chat_template.jinja").write_text("{{ strftime_now('%d') }}")
    told = following({"model": str(tmp_path)}, SCAN)[1]
    assert "today's date: prompts here say 1 January 2026" in told[-1]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A run with checkpoints at 20 and 40, of which 20 was the better one."""
    writer = RunWriter.create("train", TrainConfig(), tmp_path / "runs")
    policy = random_policy()
    for step, chosen_on in ((20, 0.5), (40, 0.4)):
        with writer.checkpoint(step) as aside:
            policy.save(aside, torch.optim.AdamW(policy.trainable), {"step": step})
        interval = {"value": 0.5, "low": 0.4, "high": 0.6}
        writer.metric("eval", step, pass_at={"1": interval}, cliff=interval, chosen_on=chosen_on)
    return Run(writer.path)


def test_an_adapter_has_many_names_and_brings_its_rank_and_alpha(run: Run) -> None:
    steps = {
        str(run.path): 40,
        f"{run.path}@best": 20,
        f"{run.path}@20": 20,
        str(run.path / "checkpoints/step-000040"): 40,
    }
    for name, step in steps.items():
        assert adapter_folder(name) == run.path / "checkpoints" / f"step-{step:06d}"
    found, told = following({"adapter": f"{run.path}@best"}, TRAIN)
    assert found == {"adapter": str(adapter_folder(f"{run.path}@20")), "rank": 4, "alpha": 8, "targets": LINEAR}
    assert told == [f"Adapter step-000020: --rank 4, --alpha 8, --targets {LINEAR}."]
    assert following({"adapter": str(run.path), "alpha": 64}, TRAIN)[0].keys() == {"adapter", "rank", "targets"}


def test_a_name_that_is_no_checkpoint_says_which_there_are(run: Run, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=f"a checkpoint 30, found .* {run.id}@20, {run.id}@40"):
        adapter_folder(f"{run.path}@30")
    with pytest.raises(BadInput, match="id, name or folder of a run"):
        adapter_folder("no-such-run@best")
    (tmp_path / "empty").mkdir()
    with pytest.raises(BadInput, match="expected a LoRA adapter .* RUN@best or RUN@40"):
        adapter_folder(str(tmp_path / "empty"))
    (tmp_path / "empty" / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": "many"}))
    with pytest.raises(BadInput, match="plain LoRA of one rank"):
        following({"adapter": str(tmp_path / "empty")}, TRAIN)


def test_the_raised_model_brings_what_it_needs_and_leaves_what_is_chosen_in_a_form() -> None:
    found, told = following({"model": "smollm2"}, TRAIN)
    assert found == {"dtype": "bfloat16", "max_new_tokens": 56, "learning_rate": 4e-4, "warmup": 3} and len(told) == 1
    assert following({"model": "smollm2", "learning_rate": 1e-3}, TRAIN)[0].keys() == {
        "dtype",
        "max_new_tokens",
        "warmup",
    }
