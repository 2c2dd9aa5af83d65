"""A sweep's members on Ray. It runs where Ray is (`.ci/run` makes an environment with it), and is skipped elsewhere;
HDPO_NEEDS_VLLM=1, which says that we are there, makes a missing Ray a failure."""

from __future__ import annotations

import importlib.util
import os
import threading
import time
from pathlib import Path

import pytest

from hdpo.config import SweepConfig, TrainConfig, replace_knobs
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.work.execute import execute
from tests.conftest import needs_model

SHORT = {
    "steps": 2,
    "prompts_per_step": 4,
    "rollouts": 4,
    "privileged_rollouts": 2,
    "eval_problems": 4,
    "eval_samples": 2,
    "ks": (1,),
    "probe_cliffs": 1,
    "max_new_tokens": 32,
}


def a_sweep(root: Path, ray: str = "local", **more: object) -> Path:
    train = replace_knobs(TrainConfig(), {**SHORT, **more})
    return RunWriter.create("sweep", SweepConfig(train, (0.0, 0.3), (0,), ray), root, "sweep", "test").path


def members(path: Path) -> list[Run]:
    return [Run(p) for p in sorted(path.parent.glob("*-train-*"))]


def needs_ray() -> None:
    needs_model()
    if os.environ.get("HDPO_NEEDS_VLLM") != "1":
        pytest.importorskip("ray", reason="Ray is not installed here; .ci/run has an environment with it")


def test_ray_runs_the_members_and_a_finished_sweep_runs_none_again(tmp_path: Path) -> None:
    needs_ray()
    path = a_sweep(tmp_path)
    assert execute(path, False).state is State.DONE
    rows = [m.metrics("step") for m in members(path)]
    assert len(rows) == 2 and all([r["step"] for r in x] == [1, 2] for x in rows)
    assert sorted(x[0]["lambda"] for x in rows) == [0.0, 0.3]
    execute(path, True)
    assert [m.metrics("step") for m in members(path)] == rows


def test_a_stop_reaches_the_members_on_ray_and_resume_goes_on(tmp_path: Path) -> None:
    needs_ray()
    path = a_sweep(tmp_path, steps=400, eval_every=400)

    def stop() -> None:
        while not any(m.metrics("step") for m in members(path)):
            time.sleep(0.2)
        request_stop(path)

    asking = threading.Thread(target=stop, daemon=True)
    asking.start()
    assert execute(path, False).state is State.STOPPED
    asking.join()
    assert {m.status().state for m in members(path)} == {State.STOPPED}
    assert all(0 < len(m.metrics("step")) < 400 for m in members(path) if m.checkpoints())


def test_a_missing_ray_and_a_missing_cluster_are_said_in_a_sentence(tmp_path: Path) -> None:
    needs_model()
    if importlib.util.find_spec("ray") is None:
        ending = execute(a_sweep(tmp_path), False)
        assert ending.bad_input and "pip install ray" in ending.message
    else:
        ending = execute(a_sweep(tmp_path, "auto"), False)
        assert ending.bad_input and "expected a cluster at 'auto'" in ending.message
