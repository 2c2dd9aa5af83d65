"""A run says from its start what it measures with, on what, and what it learns from; a resumed one goes on with the same."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest

import hdpo
from hdpo.config import EvaluateConfig, ScanConfig, TrainConfig, knobs, replace_knobs
from hdpo.errors import BadInput
from hdpo.grading import RULES
from hdpo.method.identity import fingerprint, pin_fingerprint
from hdpo.model.policy import load_policy
from hdpo.record.fingerprint import MEASURED, UNKNOWN, differences
from hdpo.record.folder import Run, RunWriter, State
from hdpo.records import Problem
from hdpo.work.execute import execute
from tests.engine import PROBLEMS, push

CONFIG = TrainConfig()


@pytest.fixture(scope="module")
def policy():
    return load_policy(CONFIG.model)


def of(policy, measured=PROBLEMS[:5], training=PROBLEMS[5:], **changes):
    return fingerprint(replace_knobs(CONFIG, changes), policy, measured, training)


def test_each_thing_that_changes_a_number_changes_its_own_field(policy) -> None:
    usual, other = of(policy), Problem("p2", "What is 2 + 3?", "", "6", "sum", 1)
    for changed, names in (
        (of(policy, dtype="bfloat16"), ("model",)),
        (of(policy, measured=[other, *PROBLEMS[1:5]]), ("problems",)),
        (of(policy, eval_split="test"), ("split",)),
        (of(policy, student="Solve: {problem}"), ("wording",)),
        (of(policy, temperature=0.5), ("sampling",)),
        (of(policy, max_new_tokens=32), ("sampling",)),
        (of(policy, eval_samples=32), ("samples",)),
        (of(policy, ks=(1, 2)), ("samples",)),
        (of(policy, lambda_=3.0, seed=7, learning_rate=1e-4, information="answer"), ()),
    ):
        assert differences(usual, changed) == (names, ())
    assert of(policy, information="answer").privileged != usual.privileged
    assert of(policy, training=PROBLEMS[6:]).training_problems != usual.training_problems
    assert usual.semantics == str(hdpo.SEMANTICS) and usual.grader.startswith(f"rules {RULES}, math-verify ")
    assert UNKNOWN not in asdict(usual).values()


def test_an_adapter_is_known_by_its_weights_wherever_it_lies(policy) -> None:
    named = replace(CONFIG, model=replace(CONFIG.model, adapter="anywhere"))
    pushed = load_policy(CONFIG.model)
    push(pushed)
    one, two, again = (fingerprint(named, p, PROBLEMS).adapter for p in (policy, pushed, policy))
    assert one == again != two and of(policy).adapter == of(pushed).adapter == "none"


SMALL = {"eval_problems": 4, "eval_samples": 2, "ks": (1,), "limit": 40, "rollouts": 2, "max_new_tokens": 16}


@pytest.mark.parametrize(("kind", "config"), [("scan", ScanConfig()), ("evaluate", EvaluateConfig())])
def test_a_scan_and_an_evaluation_note_theirs(kind: str, config, runs_folder: Path) -> None:
    names = {k.name for k in knobs(config)}
    config = replace_knobs(config, {k: v for k, v in SMALL.items() if k in names} | {"split": "validation"})
    path = RunWriter.create(kind, config).path
    assert differences(Run(path).fingerprint, Run(path).fingerprint) == ((), MEASURED)  # nothing known before the start
    assert execute(path, resume=False).state is State.DONE
    found = Run(path).fingerprint
    assert UNKNOWN not in asdict(found).values()
    assert (found.split, found.training_problems) == ("validation", "none")


def test_a_run_does_not_go_on_with_other_problems(policy, runs_folder: Path) -> None:
    writer = RunWriter.create("train", CONFIG)
    pin_fingerprint(writer, CONFIG, policy, PROBLEMS[:5], PROBLEMS[5:])
    pin_fingerprint(writer, CONFIG, policy, PROBLEMS[:5], PROBLEMS[5:])
    with pytest.raises(BadInput, match="found that problems and training problems changed since"):
        pin_fingerprint(writer, CONFIG, policy, PROBLEMS[:6], PROBLEMS[6:])
    frozen = json.loads((writer.path / "config.json").read_text())
    assert Run(writer.path).load_config() == CONFIG and frozen["versions"]["hdpo"].startswith(f"{hdpo.__version__}+")
