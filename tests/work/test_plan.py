"""Presets, the estimate of memory, and the plan that --dry-run prints."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from hdpo.config import ScanConfig, SweepConfig, TrainConfig, knobs, replace_knobs
from hdpo.data.problems import bundled, sides
from hdpo.data.prompts import render, student_messages
from hdpo.errors import BadInput
from hdpo.model import fit
from hdpo.model.find import KNOWN, facts, find
from hdpo.model.fit import Need, check_fits, need
from hdpo.model.policy import load_policy
from hdpo.presets import PRESETS, settings_of
from hdpo.work import plan as plans
from hdpo.work.plan import plan
from tests.engine import random_model


@pytest.mark.parametrize("name", PRESETS)
@pytest.mark.parametrize("config", [TrainConfig(), ScanConfig(), SweepConfig()])
def test_every_preset_is_a_config_of_every_kind(name: str, config: object) -> None:
    settings = settings_of(name, config)
    changed = replace_knobs(config, settings)
    assert {k.name: k.default for k in knobs(changed) if k.name in settings} == settings
    assert set(PRESETS[name].settings) <= {k.name for k in knobs(TrainConfig())}


def test_the_papers_preset_has_table_2_and_says_where_it_differs() -> None:
    """Where a knob names the paper's value and the preset another one, a line must say so."""
    preset = replace_knobs(TrainConfig(), settings_of("paper", TrainConfig()))
    told = " ".join(PRESETS["paper"].differs)
    differing = set()
    for k in knobs(preset):
        value = f"{k.default:g}" if isinstance(k.default, float) else str(getattr(k.default, "value", k.default))
        if k.paper and re.fullmatch(r"[\d.e-]+", k.paper) and float(k.paper) != float(value):
            differing.add(k.name)
    assert differing == {"learning_rate"} and "learning rate" in told
    for word in ("LoRA", "privileged rollouts", "problem_source", "y*", "2,048", "4,096"):
        assert word in told


def test_an_unknown_preset_is_a_sentence() -> None:
    with pytest.raises(BadInput, match="preset: expected one of bundled"):
        settings_of("papr", TrainConfig())


def test_the_estimate_counts_the_adapter_and_the_weights_of_the_real_thing() -> None:
    config = replace_knobs(TrainConfig(), {"model": str(random_model()), "rank": 8})
    found = need(config)
    policy = load_policy(config.model)
    assert found is not None
    assert found.adapter == 4 * 4 * sum(p.numel() for p in policy.trainable)
    assert found.weights == (2 + 4) * 4 * facts(find(str(random_model()))).parameters
    assert found.total == sum(vars(found).values())
    assert need(replace_knobs(ScanConfig(), {"model": str(random_model())})).adapter == 0  # type: ignore[union-attr]


def test_the_estimate_grows_with_what_takes_memory() -> None:
    qwen = replace_knobs(TrainConfig(), settings_of("qwen-math", TrainConfig()))

    def of(**changes: object) -> Need:
        found = need(replace_knobs(qwen, changes), gpu=True)
        assert found is not None
        return found

    base = of()
    assert of(dtype="float32").weights == 2 * base.weights
    assert of(micro_batch_tokens=8192).activations == 2 * base.activations
    assert of(rank=32).adapter == 2 * base.adapter
    assert base.total < 24 << 30, "the preset promises a card of 24 GB"
    assert need(replace_knobs(TrainConfig(), settings_of("qwen-0.5b", TrainConfig())), gpu=True).total < 12 << 30  # type: ignore[union-attr]
    assert need(qwen).activations > 10 * base.activations, "a CPU keeps what was freed"  # type: ignore[union-attr]


def test_what_cannot_fit_is_refused_before_it_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fit, "memory_here", lambda device: ("memory of a small GPU", 4 << 30))
    check_fits(TrainConfig())
    with pytest.raises(
        BadInput, match=r"memory: expected that about .* GiB fit, found 4.0 GiB of memory of a small GPU"
    ):
        check_fits(replace_knobs(TrainConfig(), settings_of("paper", TrainConfig())))


def test_the_dry_run_of_the_paper_prints_plan_memory_and_commands(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "hdpo", "train", "--preset", "paper", "--dry-run", "--lambda", "0.1"]
    env = {**os.environ, "HDPO_RUNS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=120)
    assert done.returncode == 0, done.stderr
    said = done.stdout
    assert "Qwen/Qwen2.5-Math-1.5B-Instruct" in said and "trains 18.46 M" in said
    assert "32 prompts × 16 rollouts, and up to 128 privileged ones" in said and "2,000 steps" in said
    assert all(line in said for line in PRESETS["paper"].differs)
    assert "1 GPU:  python -m hdpo train --preset paper --lambda 0.1 --device cuda\n" in said
    assert "8 GPUs: python -m hdpo train --preset paper --lambda 0.1 --device cuda --processes 8" in said
    assert not list(tmp_path.iterdir()), "a dry run leaves nothing behind"


def test_a_plan_shows_the_prompts_as_the_model_receives_them() -> None:
    config = TrainConfig()
    policy, problem = load_policy(config.model), bundled("steep", "train")[0]
    found = plan(config, None, "hdpo train")
    assert found["prompts"]["student's"] == render(policy.tokenizer, student_messages(problem, config.prompts))[0]
    assert problem.solution in found["prompts"]["privileged"] and "receives it:\n  | " in found["text"]
    with pytest.raises(BadInput, match="behind a system prompt, found 'This model knows the roles user and assistant"):
        plan(replace_knobs(config, {"system": "Be terse."}), None, "hdpo train")


def test_a_plan_of_what_lies_on_a_hub_says_what_is_not_known() -> None:
    found = plan(replace_knobs(TrainConfig(), {"model": "team/new"}), None, "")
    assert "Nothing is known of it" in found["text"] and found["memory_bytes"] is None


def test_a_sweeps_plan_adds_up_its_members() -> None:
    """9 members of 60 steps of 32 × 8 rollouts of 64 tokens; the six with λ > 0 draw 32 × 4 more a step."""
    config = SweepConfig(lambdas=(0.0, 0.3, 3.0), seeds=(0, 1, 2))
    found = plan(config, None, "python -m hdpo sweep")
    assert found["privileged_rollouts"] == 6 * 60 * 128
    assert found["sampled_tokens"] == (9 * 60 * 256 + 6 * 60 * 128) * 64
    assert (
        "9 members, of which 6 draw privileged rollouts" in found["text"]
        and "up to 128 privileged ones" in found["text"]
    )
    assert found["seconds"] > 0 and "Measured in" in found["seconds_from"]


def test_a_plans_commands_can_be_pasted() -> None:
    given = [
        "python",
        "-m",
        "hdpo",
        "train",
        "--dry-run",
        "--student",
        "{problem}  now",
        "--processes",
        "4",
        "--device=cpu",
    ]
    one, eight = plan(TrainConfig(), None, shlex.join(given))["commands"]
    kept = ["python", "-m", "hdpo", "train", "--student", "{problem}  now", "--device", "cuda"]
    assert shlex.split(one) == kept and shlex.split(eight) == [*kept, "--processes", "8"]


def test_the_models_of_the_presets_are_known_by_heart() -> None:
    named = {p.settings["model"] for p in PRESETS.values() if "model" in p.settings}
    assert named == set(KNOWN)


def test_the_plan_counts_a_file_and_says_where_it_holds_out_too_few(tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text("question,solution,answer\n" + "".join(f"What is {i}+{i}?,{i}+{i},{2 * i}\n" for i in range(62)))
    few = replace_knobs(TrainConfig(), {"problems": str(file)})
    train, held_out = sides(few)
    assert train + held_out == 62 and 0 < held_out < 8
    said = "\n".join(plans.work_words(few))
    assert f"{train} to train on, {held_out} held out: too few" in said and "--validation-share" in said
    assert f"evaluations of {held_out} problems × 16" in said
    more = replace_knobs(few, {"validation_share": 0.35})
    assert "too few" not in "\n".join(plans.work_words(more)) and sides(more)[1] >= 8
