"""The card's runs: broken off and gone on with, recorded small, and compared only where they measure the same."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch

from hdpo.config import TrainConfig, replace_knobs
from hdpo.errors import BadInput
from hdpo.organism import card
from hdpo.record.folder import Run, RunWriter, State

TINY = {
    "steps": 2,
    "prompts_per_step": 4,
    "rollouts": 2,
    "max_new_tokens": 32,
    "eval_every": 1,
    "eval_problems": 5,
    "probe_cliffs": 1,
    "checkpoint_every": 1,
    "eval_split": "test",
}


def test_the_card_is_made_of_the_apps_defaults_evaluated_every_five_steps_on_the_test_problems() -> None:
    configs = card.configs()
    arms = {(card.mix_of(c), c.objective.lambda_, c.seed) for c in configs}
    assert len(arms) == len(configs) == 27
    assert sum(mix == "steep" for mix, *_ in arms) == 18 and {lam for _, lam, _ in arms} == {0.0, 0.3, 3.0}
    plain = {replace_knobs(c, {"lambda_": 0.3, "seed": 0, "problems": "bundled:steep"}) for c in configs}
    assert plain == {replace_knobs(TrainConfig(), {"eval_split": "test", "eval_every": 5})}


def second_made(runs: Path) -> Path:
    return next(r.path for r in card.all_runs(runs) if r.path.parent == runs and r.load_config().seed == 1)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 0 and 1, of which seed 0 is broken off after its first step."""
    root, before = tmp_path_factory.mktemp("card"), torch.get_num_threads()
    for seed in (0, 1):
        config = replace_knobs(TrainConfig(), {**TINY, "seed": seed})
        writer = RunWriter.create("train", config, root, card.title(config))
        if seed == 0:
            (writer.path / "stop").touch()
            assert card.run_one(writer.path).startswith("steep: λ = 0.3, seed 0: stopped")
            (writer.path / "stop").unlink()
        assert card.run_one(writer.path) == f"steep: λ = 0.3, seed {seed}: done"
    torch.set_num_threads(before)
    return root


def test_what_is_recorded_opens_and_only_seed_0_keeps_rollouts_and_its_last_adapter(runs: Path, tmp_path: Path) -> None:
    card.record(runs, tmp_path / "assets")
    first, second = (Run(tmp_path / "assets" / f"steep-lambda-0.3-seed-{seed}") for seed in (0, 1))
    for run in (first, second):
        assert run.status().state is State.DONE and run.damage() == []
        assert list(run.tables("eval")) == [0, 1, 2] and len(run.metrics("step")) == 2
    assert [c.name for c in first.checkpoints()] == ["step-000002"] and not second.checkpoints()
    assert not list(first.path.rglob("optimiser*")) and list(first.tables("gap")) == [0, 1, 2]
    assert {r["step"] for r in first.rollouts(role="student")} == {1, 2} and not second.rollouts()
    assert not second.tables("gap") and second.metrics("probe") == Run(second_made(runs)).metrics("probe")


def test_the_card_refuses_runs_that_do_not_measure_the_same(runs: Path) -> None:
    assert set(card.per_problem(runs, "steep")) == {(0.3, seed, step) for seed in (0, 1) for step in (0, 1, 2)}
    (one, *_) = (r for r in card.all_runs(runs) if r.path.parent == runs)
    RunWriter(one.path, 0).pin(fingerprint=asdict(replace(one.fingerprint, grader="rules 0")))
    with pytest.raises(BadInput, match="they differ in grader"):
        card.per_problem(runs, "steep")
