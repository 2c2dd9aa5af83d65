"""The time left of a training, held against what the recorded runs took in the end."""

from __future__ import annotations

from statistics import median

import pytest

from hdpo.record.folder import ASSET_RUNS, Run
from hdpo.record.progress import time_left

RECORDED = [Run(p.parent) for p in sorted(ASSET_RUNS.glob("*/config.json"))]
# While the others were recorded the machine had other work as well, which came and went in the middle of a run.
CALM = [f"steep-lambda-0-seed-{seed}" for seed in (0, 1, 2, 3)]
CALM += [f"gentle-lambda-{lam}-seed-{seed}" for lam in ("0", "0.3", "3") for seed in (1, 2)]
TRAININGS = [run for run in RECORDED if run.kind == "train" and run.id in CALM]


def off_by(run: Run, done: int) -> float:
    """Estimated over true seconds after so many steps, loading and probes left out."""
    steps, evals = ([r["seconds"] for r in run.metrics(kind)] for kind in ("step", "eval"))
    made = 1 + done // run.load_config().evaluation.eval_every
    found = time_left(steps[:done], evals[:made], len(steps) - done, len(evals) - made)
    assert found is not None
    return found / (sum(steps[done:]) + sum(evals[made:]))


@pytest.mark.parametrize("done", [1, 2, 5, 20])
def test_the_time_left_of_recorded_runs_is_about_what_they_took(done: int) -> None:
    """Most runs; where the steps become shorter, as at λ = 0 on the gentle set, a run ends sooner than told."""
    off = [off_by(run, done) for run in TRAININGS]
    assert 0.85 < median(off) < 1.15
    assert sum(0.7 < x < 1.3 for x in off) >= 0.8 * len(off)
    assert min(off) > 0.6 and max(off) < 1.7


def test_a_stall_and_a_cold_first_step_do_not_decide() -> None:
    assert time_left([9.0, 1.0, 1.0], [], 10, 0) == 10.0
    assert time_left([1.0, 1.0, 1.0, 60.0], [5.0], 10, 2) == 20.0


def test_only_the_last_steps_say_how_long_the_next_take() -> None:
    assert time_left([8.0] * 20 + [2.0] * 5, [], 10, 0) == 20.0


def test_nothing_is_told_before_the_first_step() -> None:
    assert time_left([], [5.0], 10, 2) is None
