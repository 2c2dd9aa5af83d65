"""One schema: what is wrong is told in a sentence, and what was saved is what ran."""

import json
import math

import pytest

from hdpo.config import (
    KINDS,
    Divergence,
    EvalConfig,
    ObjectiveConfig,
    ProblemConfig,
    PromptConfig,
    SamplingConfig,
    ScanConfig,
    StepConfig,
    SweepConfig,
    Teacher,
    TrainConfig,
    from_json,
    knobs,
    replace_knobs,
    to_json,
)
from hdpo.errors import BadInput


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: ObjectiveConfig(lambda_=-0.1), "lambda: expected 0"),
        (lambda: ObjectiveConfig(lambda_=math.nan), "finite"),
        (lambda: ObjectiveConfig(lambda_=math.inf), "finite"),
        (lambda: ObjectiveConfig(lambda_="much"), "a number"),
        (lambda: StepConfig(rollouts=1), "rollouts: expected 2"),
        (lambda: StepConfig(steps=2.5), "a whole number"),
        (lambda: StepConfig(steps=True), "a whole number"),
        (lambda: ScanConfig(rollouts=1), "rollouts: expected 2"),
        (lambda: ScanConfig(split="everything"), "one of train"),
        (lambda: EvalConfig(eval_samples=8), "twice the largest k"),
        (lambda: EvalConfig(ks=()), "twice the largest k"),
        (lambda: ProblemConfig(columns="text"), "columns"),
        (lambda: PromptConfig(privileged="{problem}"), "reference"),
        (lambda: TrainConfig(sampling=SamplingConfig(top_p=0.9)), "training expects 1"),
        (lambda: SweepConfig(lambdas=()), "at least one"),
        (lambda: SweepConfig(lambdas=(-1.0,)).members(), "lambda"),
        (lambda: replace_knobs(TrainConfig(), {"lamda": 1.0}), "no setting"),
        (lambda: from_json(TrainConfig, {"stepz": {}}), "no setting"),
        (lambda: from_json(TrainConfig, []), "expected a TrainConfig"),
        (lambda: from_json(TrainConfig, {"objective": {"teacher": "drunk"}}), "drifting, frozen"),
    ],
)
def test_each_wrong_setting_has_its_sentence(make, words) -> None:
    with pytest.raises(BadInput, match=words):
        make()


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_what_is_saved_is_what_ran(kind) -> None:
    config = KINDS[kind]()
    assert from_json(KINDS[kind], json.loads(json.dumps(to_json(config)))) == config


def test_a_changed_setting_survives_the_file() -> None:
    changed = replace_knobs(
        TrainConfig(), {"lambda_": 3, "teacher": Teacher.FROZEN, "divergence": Divergence.JSD, "ks": (1, 2)}
    )
    assert from_json(TrainConfig, json.loads(json.dumps(to_json(changed)))) == changed
    assert changed.objective.lambda_ == 3.0 and changed.evaluation.ks == (1, 2)


@pytest.mark.parametrize("kind", sorted(KINDS))
def test_names_are_unique_so_that_one_flag_means_one_setting(kind) -> None:
    flags = [k.flag for k in knobs(KINDS[kind]())]
    assert len(flags) == len(set(flags))
    assert all(k.help for k in knobs(KINDS[kind]()))


def test_a_pair_is_a_sweep_and_seeds_come_one_after_another() -> None:
    members = SweepConfig(lambdas=(0.0, 0.3), seeds=(1, 2)).members()
    assert [(m.seed, m.objective.lambda_) for m in members] == [(1, 0.0), (1, 0.3), (2, 0.0), (2, 0.3)]
