"""A tracker is told what the run folder is told, and a resumed run goes on in the same log."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest

from hdpo.config import TrainConfig, replace_knobs, to_json
from hdpo.errors import BadInput
from hdpo.record.folder import Run, RunWriter, State
from hdpo.work import preflight, track
from hdpo.work.execute import execute
from tests.conftest import execute_here, needs_model

TINY = {"steps": 1, "prompts_per_step": 2, "rollouts": 2, "eval_every": 1, "eval_problems": 2, "eval_samples": 2}
TINY |= {"ks": (1,), "probe_cliffs": 0, "max_new_tokens": 16, "track": "tensorboard"}


def scalars(path: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    log = EventAccumulator(str(path / "tensorboard"))
    return [(s.step, s.value) for s in log.Reload().Scalars(name)]


def test_tensorboard_reads_every_step_and_evaluation_also_after_a_resume(tmp_path: Path) -> None:
    needs_model()
    path = execute_here(tmp_path, "train", replace_knobs(TrainConfig(), TINY))
    RunWriter(path, 0).pin(config=to_json(replace_knobs(Run(path).load_config(), {"steps": 3})))
    assert execute(path, resume=True).state is State.DONE
    steps, evals = Run(path).metrics("step"), Run(path).metrics("eval")
    assert [r["step"] for r in steps] == [1, 2, 3] and [r["step"] for r in evals] == [0, 1, 2, 3]
    assert scalars(path, "step/reward") == [(r["step"], pytest.approx(r["reward"])) for r in steps]
    pass_at_1 = [(r["step"], pytest.approx(r["pass_at"]["1"]["value"])) for r in evals]
    assert sorted(scalars(path, "eval/pass_at.1.value")) == pass_at_1


def test_a_tracker_that_is_not_there_is_a_sentence_before_the_run_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(track, "find_spec", lambda name: None if name == "wandb" else find_spec(name))
    with pytest.raises(BadInput, match="expected the package wandb, found none. pip install wandb"):
        preflight.check(replace_knobs(TrainConfig(), {"track": "wandb"}))
    with pytest.raises(BadInput, match="track: expected one of none, tensorboard"):
        replace_knobs(TrainConfig(), {"track": "carrier pigeon"})


def test_off_by_default_nothing_is_logged(real_train_run: Path) -> None:
    assert not (real_train_run / "tensorboard").exists()
