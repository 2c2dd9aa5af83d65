"""One attempt at a run folder: whatever happens in it, the status ends with a state and a sentence. Needs no torch."""

from __future__ import annotations

import json
import os
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from hdpo.config import ScanConfig, SweepConfig, TrainConfig, replace_knobs
from hdpo.errors import BadInput, HdpoError
from hdpo.model.fit import arms_at_once
from hdpo.processes import holding
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.work.execute import execute, where_it_goes_on


@pytest.fixture
def root(tmp_path, monkeypatch):
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    return tmp_path


def checkpoint(writer: RunWriter, step: int) -> None:
    with writer.checkpoint(step) as aside:
        save_file({"a": np.full(9, step, np.float32)}, aside / "adapter_model.safetensors")
        (aside / "state.json").write_text(json.dumps({"step": step}))


@pytest.fixture
def engine(monkeypatch):
    """A scripted engine in the place of hdpo.method.run and hdpo.method.evaluate; `script` is what training does at a step."""

    def train(writer, config, report, checkpoint_path):
        first = 0 if checkpoint_path is None else json.loads((checkpoint_path / "state.json").read_text())["step"]
        fake.began.append((config.objective.lambda_, config.seed, first))
        for step in range(first + 1, 5):
            report("training", step - 1, 4)
            clock = time.perf_counter()
            fake.script(writer, config, step)
            writer.metric("step", step, seconds=time.perf_counter() - clock)
            checkpoint(writer, step)
            yield step

    fake = types.SimpleNamespace(began=[], script=lambda writer, config, step: None)
    loop, evaluate = types.ModuleType("hdpo.method.run"), types.ModuleType("hdpo.method.evaluate")
    loop.train = train
    evaluate.scan = lambda writer, config, report: report("scanning", 3, 3, "problems")
    evaluate.evaluate = lambda writer, config, report: report("evaluating", 5, 5, "problems")
    monkeypatch.setitem(sys.modules, "hdpo.method.run", loop)
    monkeypatch.setitem(sys.modules, "hdpo.method.evaluate", evaluate)
    monkeypatch.setattr("hdpo.method.evaluate", evaluate, raising=False)
    return fake


def raises(error: BaseException, at: int = 3):
    def script(writer, config, step):
        if step == at:
            raise error

    return script


def a_run(config: object = None, kind: str = "train") -> Path:
    return RunWriter.create(kind, config or TrainConfig()).path


def test_a_run_ends_as_done_with_its_whole_count(root, engine):
    path, seen = a_run(), []
    assert execute(path, False, seen.append).state is State.DONE
    status = Run(path).status()
    assert (status.state, status.done, status.total) == (State.DONE, 4, 4)
    assert seen[-1].done == seen[-1].total == 4


def test_each_kind_is_given_to_its_function(root, engine):
    scan = a_run(ScanConfig(), "scan")
    execute(scan, False)
    assert (Run(scan).status().phase, Run(scan).status().total) == ("scanning", 3)


@pytest.mark.parametrize(
    ("error", "bad_input", "words"),
    [
        (BadInput("model: expected a folder, found none. Check the path."), True, "expected a folder"),
        (HdpoError("metrics.jsonl: no space"), False, "no space"),
        (RuntimeError("tensor sizes differ"), False, "log.txt holds the details"),
        (RuntimeError("CUDA out of memory"), False, "Lower micro-batch-tokens"),
    ],
)
def test_a_failure_is_a_sentence_and_never_stays_running(root, engine, error, bad_input, words):
    engine.script = raises(error)
    path = a_run()
    ending = execute(path, False)
    assert (ending.state, ending.bad_input) == (State.FAILED, bad_input)
    assert words in ending.message
    assert Run(path).status().message == ending.message
    assert Run(path).status().done == 2


def test_an_unexpected_error_leaves_its_traceback_in_the_log(root, engine):
    engine.script = raises(RuntimeError("tensor sizes differ"))
    path = a_run()
    execute(path, False)
    assert "tensor sizes differ" in (path / "log.txt").read_text()


def test_a_second_ctrl_c_leaves_a_stopped_run(root, engine):
    engine.script = raises(KeyboardInterrupt())
    path = a_run()
    with pytest.raises(KeyboardInterrupt):
        execute(path, False)
    assert Run(path).status().state is State.STOPPED


def test_a_stopped_run_goes_on_from_its_checkpoint_and_rows_beyond_are_superseded(root, engine):
    path = a_run()
    engine.script = lambda writer, config, step: request_stop(writer.path) if step == 2 else None
    ending = execute(path, False)
    assert (ending.state, ending.message.count("after step 2")) == (State.STOPPED, 1)
    (path / "stop").unlink()
    assert execute(path, True).state is State.DONE
    assert [first for *_, first in engine.began] == [0, 2]
    assert [(r["step"], r["attempt"]) for r in Run(path).metrics("step")] == [(1, 1), (2, 1), (3, 2), (4, 2)]


def test_without_a_checkpoint_a_further_attempt_starts_over(root, engine):
    path = a_run()
    RunWriter(path, 1).metric("eval", 0)
    assert execute(path, True).state is State.DONE
    assert Run(path).metrics("eval") == []


def test_a_run_with_a_checkpoint_is_not_started_anew(root, engine):
    path = a_run()
    checkpoint(RunWriter(path, 1), 2)
    ending = execute(path, False)
    assert ending.state is State.FAILED
    assert "Resume it" in ending.message


def test_a_folder_that_another_process_holds_is_left_as_it_is(root, engine, monkeypatch):
    monkeypatch.setattr("hdpo.processes.HOLD_PATIENCE", 0.1)
    path = a_run()
    before = (path / "status.json").read_bytes()
    with holding(path):
        ending = execute(path, True)
    assert ending.code == 3 and "only writer" in ending.message
    assert (path / "status.json").read_bytes() == before and engine.began == []


def test_what_a_killed_process_wrote_aside_is_swept_up_and_what_a_living_one_writes_is_not(root, engine):
    path = a_run()
    gone, here = path / "checkpoints" / ".step-000002.4194305.tmp", path / f".status.json.{os.getppid()}.tmp"
    gone.mkdir()
    (gone / "adapter_model.safetensors").write_text("half")
    here.write_text("")
    assert execute(path, True).state is State.DONE
    assert [p.name for p in path.rglob(".*.tmp")] == [here.name]


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


@pytest.mark.parametrize(
    ("harm", "words"),
    [
        (lambda c: cut(c / "state.json"), "state.json cannot be read"),
        (lambda c: cut(c / "adapter_model.safetensors"), "adapter_model.safetensors is cut off"),
        (lambda c: (c / "adapter_model.safetensors").unlink(), "adapter_model.safetensors is missing"),
        (lambda c: (c / "state.json").write_text("[]"), "state.json cannot be read"),
    ],
)
def test_a_damaged_checkpoint_gives_way_to_the_one_before_and_says_so(root, engine, harm, words):
    path = a_run()
    for step in (1, 2):
        checkpoint(RunWriter(path, 1), step)
    RunWriter(path, 1).metric("step", 2, seconds=0.0)
    harm(path / "checkpoints" / "step-000002")
    assert words in " ".join(Run(path).damage())
    ending = execute(path, True)
    assert ending.state is State.DONE and words in ending.message and "after step 1" in ending.message
    assert engine.began[0][2] == 1 and [r["attempt"] for r in Run(path).metrics("step")] == [2, 2, 2]
    assert words in Run(path).metrics("resume")[0]["passed_over"][0]


def test_where_no_checkpoint_can_be_read_the_run_starts_over_and_says_so(root, engine):
    path = a_run()
    checkpoint(RunWriter(path, 1), 2)
    cut(path / "checkpoints" / "step-000002" / "adapter_model.safetensors")
    assert "It started over." in execute(path, True).message
    assert engine.began[0][2] == 0


# --- sweep ------------------------------------------------------------------------------------------------------------


def a_sweep() -> Path:
    four_steps = replace_knobs(TrainConfig(), {"steps": 4})
    return a_run(SweepConfig(train=four_steps, lambdas=(0.0, 0.3), seeds=(0, 1)), "sweep")


def book(path: Path) -> list[dict]:
    return json.loads((path / "members.json").read_text())


def test_a_sweep_runs_every_member_in_a_folder_of_its_own(root, engine):
    path = a_sweep()
    assert execute(path, False).state is State.DONE
    assert [(m["lambda"], m["seed"]) for m in book(path)] == [(0.0, 0), (0.3, 0), (0.0, 1), (0.3, 1)]
    assert {Run(root / m["id"]).status().state for m in book(path)} == {State.DONE}
    assert (Run(path).status().done, Run(path).status().total) == (16, 16)


def test_a_stopped_sweep_stops_its_member_and_goes_on_with_it(root, engine):
    path = a_sweep()
    engine.script = lambda writer, config, step: (
        request_stop(path) if (config.objective.lambda_, step) == (0.3, 2) else None
    )
    ending = execute(path, False)
    assert ending.state is State.STOPPED
    where = "Resume goes on with member 1 after step 2, 2 after step 2 of 4"
    assert ending.message == f"Stopped on request. {where}: python -m hdpo sweep --resume {path.name}"
    assert [Run(root / m["id"]).status().state for m in book(path)] == [State.STOPPED] * 2
    engine.script = lambda writer, config, step: None
    (path / "stop").unlink()
    engine.began.clear()
    assert execute(path, True).state is State.DONE
    assert engine.began == [(0.0, 0, 2), (0.3, 0, 2), (0.0, 1, 0), (0.3, 1, 0)]
    assert len(book(path)) == 4


def test_the_members_of_a_seed_advance_together_and_an_interrupt_ends_them_all(root, engine):
    steps = []

    def script(writer, config, step):
        steps.append((config.seed, step, config.objective.lambda_))
        if (config.seed, step) == (1, 2):
            raise KeyboardInterrupt

    engine.script = script
    path = a_sweep()
    with pytest.raises(KeyboardInterrupt):
        execute(path, False)
    assert steps[:8] == [(0, step, lam) for step in range(1, 5) for lam in (0.0, 0.3)]
    assert [Run(root / m["id"]).status().state for m in book(path)] == [State.DONE] * 2 + [State.STOPPED] * 2


def test_where_a_sweep_goes_on_counts_the_members_that_are_done(root, engine):
    engine.script = raises_of_seed_1
    path = a_sweep()
    with pytest.raises(KeyboardInterrupt):
        execute(path, False)
    assert where_it_goes_on(path).startswith("Resume goes on with member 3, 4 of 4: ")


def raises_of_seed_1(writer, config, step):
    if config.seed == 1:
        raise KeyboardInterrupt


def test_at_most_four_arms_of_one_seed_advance_together():
    sweep = SweepConfig(lambdas=(0, 0.1, 0.3, 1, 3), seeds=(0, 1))
    assert [[m.objective.lambda_ for m in arms] for arms in sweep.turns(arms_at_once(sweep))] == [
        [0, 0.1, 0.3, 1],
        [3],
    ] * 2
    assert (
        arms_at_once(replace_knobs(sweep, {"sampler": "vllm"}))
        == arms_at_once(replace_knobs(sweep, {"processes": 2}))
        == 1
    )


def test_a_member_that_fails_is_named_and_the_others_still_run(root, engine):
    def script(writer, config, step):
        if config.objective.lambda_ == 0.3:
            raise HdpoError("loss: expected a finite number, found nan.")

    engine.script = script
    path = a_sweep()
    ending = execute(path, False)
    assert ending.state is State.FAILED
    assert "2 of 4 members" in ending.message and "found nan" in ending.message
    assert [Run(root / m["id"]).status().state for m in book(path)] == [State.DONE, State.FAILED] * 2


def test_a_member_that_was_stopped_alone_lets_the_others_run_and_is_resumed_with_the_sweep(root, engine):
    engine.script = lambda writer, config, step: (
        request_stop(writer.path) if (config.objective.lambda_, config.seed) == (0.0, 0) else None
    )
    path = a_sweep()
    assert "1 of 4 members" in execute(path, False).message
    assert [Run(root / m["id"]).status().state for m in book(path)] == [State.STOPPED, *[State.DONE] * 3]
    engine.script = lambda writer, config, step: None
    assert execute(path, True).state is State.DONE


def test_a_sweep_moves_from_its_first_step_and_tells_the_time_left_of_all(root, engine):
    engine.script = lambda writer, config, step: time.sleep(0.05)
    seen = []
    execute(a_sweep(), False, seen.append)
    assert {(p.total, p.unit) for p in seen} == {(16, "steps")}
    done = [p.done for p in seen]
    assert done == sorted(done) and set(done) == set(range(17)), "steps of all members, from the first one on"
    (last,) = [p for p in seen if p.phase == "λ = 0.3, seed 1: training" and p.done == 14]
    (first,) = [p for p in seen if p.phase == "λ = 0, seed 0: training" and p.done == 3]
    assert 0.08 < last.seconds_left < 0.5
    assert 13 * 0.05 < first.seconds_left < 13 * 0.05 * 3


def test_a_resumed_sweep_goes_on_counting_where_it_was(root, engine):
    path = a_sweep()
    engine.script = lambda writer, config, step: request_stop(path) if (config.seed, step) == (1, 1) else None
    execute(path, False)
    (path / "stop").unlink()
    engine.script, seen = lambda writer, config, step: None, []
    execute(path, True, seen.append)
    assert seen[0].done == 8 and seen[-1].done == 16
