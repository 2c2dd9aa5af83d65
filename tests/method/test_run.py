"""Algorithm 1 on the bundled model, a few steps at a time: what λ shares, what it changes, what a resume changes (nothing)."""

import json
import multiprocessing
import os
import random
import re
import shutil
import signal
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from hdpo.cli.results import sentences
from hdpo.config import SweepConfig, TrainConfig, replace_knobs
from hdpo.method import run as loop
from hdpo.method.step import learning_rate
from hdpo.record import progress
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.work.execute import execute

SMALL = {
    "steps": 4,
    "prompts_per_step": 6,
    "rollouts": 4,
    "privileged_rollouts": 2,
    "eval_every": 4,
    "eval_problems": 10,
    "eval_samples": 4,
    "ks": (1, 2),
    "probe_cliffs": 2,
    "max_new_tokens": 40,
    "checkpoint_every": 2,
}
TIMES = ("seconds", "updated")


def config_of(**changes):
    return replace_knobs(TrainConfig(), {**SMALL, **changes})


def run_to_end(root: Path, **changes) -> Run:
    writer = RunWriter.create("train", config_of(**changes), root)
    ending = execute(writer.path, resume=False)
    assert ending.state is State.DONE, ending.message
    return Run(writer.path)


@pytest.fixture(scope="module", autouse=True)
def one_thread():
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tmp_path_factory.mktemp("pair")
    return run_to_end(root, lambda_=0.0), run_to_end(root, lambda_=0.3)


def said(run: Run, step: int, role: str):
    return [(r["problem_id"], r["index"], tuple(r["token_ids"])) for r in run.rollouts(step, role)]


def test_lambda_0_and_lambda_share_their_first_steps_rollouts(pair) -> None:
    grpo, hdpo = pair
    assert said(grpo, 1, "student") == said(hdpo, 1, "student")
    assert not same_weights(grpo, hdpo)
    assert grpo.metrics("eval")[0]["pass_at"] == hdpo.metrics("eval")[0]["pass_at"]


def test_the_arms_of_a_pair_in_turn_are_the_runs_of_each_alone(pair, tmp_path) -> None:
    path = RunWriter.create("sweep", SweepConfig(config_of(), (0.0, 0.3)), tmp_path).path
    assert execute(path, resume=False).state is State.DONE
    for alone, member in zip(pair, Run(path).members(), strict=True):
        in_turn = Run(tmp_path / member["id"])
        assert same_weights(in_turn, alone) and same_rows(in_turn, alone)


def test_lambda_0_peeks_at_nothing(pair) -> None:
    grpo, _ = pair
    assert all(m["privileged_rollouts"] == 0 and m["loss_jsd"] == 0 for m in grpo.metrics("step"))
    assert grpo.rollouts(role="privileged") == []


def test_the_signal_accounting_counts_every_prompt_once(pair) -> None:
    for run in pair:
        for m in run.metrics("step"):
            groups = sum(v for k, v in m.items() if k.startswith("groups_")) - m["groups_doubtful_truncation"]
            assert groups == SMALL["prompts_per_step"]
            assert m["rollouts"] == groups * SMALL["rollouts"]


def test_what_is_recorded_is_what_was_optimised(pair) -> None:
    _, hdpo = pair
    rows = hdpo.metrics("step")
    assert any(m["accepted_rollouts"] for m in rows), "no cliff was recovered: nothing is tested"
    for m in rows:
        assert m["loss"] == pytest.approx(m["loss_grpo"] + 0.3 * m["loss_jsd"])
        accepted = [r for r in hdpo.rollouts(m["step"], "privileged") if r["accepted"]]
        assert m["tokens_accepted"] == sum(r["tokens"] for r in accepted) and all(
            r["outcome"] == "correct" for r in accepted
        )
        assert m["learning_rate"] == pytest.approx(learning_rate(m["step"], hdpo.load_config().step))
        assert (m["sampler_mismatch"] is None) == (m["loss_grpo"] == 0)  # logged wherever a rollout has a signal
        assert m["sampler_mismatch"] is None or 0 < m["sampler_mismatch"] < 1e-5
        if m["accepted_rollouts"]:
            assert 0 < m["loss_jsd"] < 0.7 and 0 <= m["jsd_floor"] <= m["loss_jsd"] and 0 < m["teacher_mass"] <= 1


def test_the_probe_is_measured_for_every_lambda_on_the_same_traces(pair) -> None:
    grpo, hdpo = pair
    assert grpo.table("probe", 0) == hdpo.table("probe", 0) != []
    for run in pair:
        assert {m["step"] for m in run.metrics("probe")} == {0, 4}
        assert len(run.table("gap", 0)) == len(run.table("gap", 4)) > 0
    before, after = (grpo.table("gap", s) for s in (0, 4))
    assert all(r["mismatch"] == 0 for r in before) and any(r["mismatch"] > 0 for r in after)


def adapter(run: Run):
    return load_file(run.checkpoints()[-1] / "adapter_model.safetensors")


def same_weights(a: Run, b: Run) -> bool:
    x, y = adapter(a), adapter(b)
    return x.keys() == y.keys() and all(torch.equal(x[k], y[k]) for k in x)


def same_rows(a: Run, b: Run) -> bool:
    def rows(run):
        return [
            {k: v for k, v in m.items() if not k.startswith(TIMES) and k != "attempt"}
            for m in run.metrics("step", "eval", "probe")
        ]

    return rows(a) == rows(b)


def test_each_evaluation_says_what_chooses_the_best_and_what_it_is_worth(pair) -> None:
    for row in pair[1].metrics("eval"):
        both = [row["chosen_on"], row["read_on"]]
        assert all(0 <= x <= 1 for x in both if x is not None) and both != [None, None]
    assert pair[1].best() == 4


def test_a_stop_leaves_a_checkpoint_and_resume_equals_the_uninterrupted_run(pair, tmp_path, monkeypatch) -> None:
    writer = RunWriter.create("train", config_of(lambda_=0.3), tmp_path)
    real = loop.hdpo_step

    def stop_in_step_3(learner, problems, step):
        if step == 3:
            request_stop(writer.path)
        return real(learner, problems, step)

    monkeypatch.setattr(loop, "hdpo_step", stop_in_step_3)
    monkeypatch.setattr(progress, "SOON", 60.0)  # a step that ends soon is waited for
    assert execute(writer.path, resume=False).state is State.STOPPED
    monkeypatch.undo()
    assert [c.name for c in Run(writer.path).checkpoints()][-1] == "step-000003"
    (writer.path / "stop").unlink()
    assert execute(writer.path, resume=True).state is State.DONE
    assert same_weights(Run(writer.path), pair[1]) and same_rows(Run(writer.path), pair[1])


def test_stops_inside_steps_and_evaluations_change_nothing(pair, tmp_path, monkeypatch) -> None:
    """Each attempt is stopped a little later: while it samples, peeks, learns, evaluates or probes. All that was whole stands."""
    monkeypatch.setattr(progress, "SOON", 0.0)
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_WRITES", 0.0)
    writer, real = RunWriter.create("train", config_of(lambda_=0.3), tmp_path), progress.Report.inside
    phases: list[str] = []
    for attempt in range(1, 100):
        left = 23 * attempt

        def inside(report, tokens):
            nonlocal left
            left -= 1
            if left == 0:
                request_stop(writer.path)
                phases.append(report.last.phase)
            real(report, tokens)

        monkeypatch.setattr(progress.Report, "inside", inside)
        ending = execute(writer.path, resume=attempt > 1)
        (writer.path / "stop").unlink(missing_ok=True)
        if ending.state is State.DONE:
            break
        assert ending.state is State.STOPPED
    assert {p.split()[0] for p in phases} >= {"training,", "evaluating"}, phases
    assert same_weights(Run(writer.path), pair[1]) and same_rows(Run(writer.path), pair[1])


def begin(path: str, die_at_write: int) -> None:
    """In a child: the run, or what is left of it. die_at_write: SIGKILL itself between writing and renaming."""
    torch.set_num_threads(1)
    if die_at_write:
        left, real = [die_at_write], os.replace

        def dying(a, b):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            real(a, b)

        os.replace = dying
    execute(Path(path), resume=True)


def test_ten_kills_change_nothing(pair, tmp_path) -> None:
    """SIGKILL at ten random points, one of them inside a write; then the weights and rows of the uninterrupted run, bit for bit."""
    writer = RunWriter.create("train", config_of(lambda_=0.3), tmp_path)
    # forkserver with the imports done: a child that has never run a thread, in a tenth of a second
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["hdpo.method.run", "tests.method.test_run"])
    chance = random.Random(7)
    for kill in range(10):
        inside_a_write = kill == 4
        child = context.Process(target=begin, args=(str(writer.path), 9 if inside_a_write else 0))
        child.start()
        child.join(60 if inside_a_write else 0.3 + 2.2 * chance.random())
        child.kill()
        child.join()
        if kill == 6:  # and a line torn by a kill, at its worst
            with (writer.path / "metrics.jsonl").open("a") as f:
                f.write('{"kind": "step", "step": 1, "att')
    assert execute(writer.path, resume=True).state is State.DONE
    run = Run(writer.path)
    assert same_weights(run, pair[1]) and same_rows(run, pair[1]) and run.damage() == []
    assert not list(writer.path.rglob("*.tmp")) or run.metrics("resume")


def test_a_checkpoint_lost_its_end_and_the_one_before_is_used(pair, tmp_path) -> None:
    copy = tmp_path / pair[1].path.name
    shutil.copytree(pair[1].path, copy)
    newest = Run(copy).checkpoints()[-1]
    (newest / "state.json").write_text('{"step": ')
    assert execute(copy, resume=True).state is State.DONE
    assert same_weights(Run(copy), pair[1]) and same_rows(Run(copy), pair[1])


def test_too_few_problems_is_a_sentence(tmp_path) -> None:
    file = tmp_path / "few.jsonl"
    file.write_text(
        "".join(json.dumps({"text": f"{i}+1?", "solution": "s", "answer": str(i + 1)}) + "\n" for i in range(40))
    )
    writer = RunWriter.create(
        "train", config_of(problems=str(file), prompts_per_step=64, validation_share=0.3), tmp_path
    )
    ending = execute(writer.path, resume=False)
    assert ending.state is State.FAILED and "expected at least 64" in ending.message and ending.bad_input


def test_a_run_needs_no_more_than_its_folder(pair) -> None:
    assert Run(pair[1].path).status().state is State.DONE
    assert time.time() - pair[1].frozen()["created"] < 3600 and pair[1].frozen()["versions"]["torch"]


def test_an_evaluation_that_the_grader_fails_on_is_left_out_and_said(tmp_path, monkeypatch) -> None:
    measure = loop.measure

    def without_verdicts(*args):
        return [{**r, "n": 0, "grader_errors": r["n"]} for r in measure(*args)]

    monkeypatch.setattr(loop, "measure", without_verdicts)
    run = run_to_end(tmp_path)
    told = [(r["step"], r["problems"], r["grader_errors"]) for r in run.metrics("not_evaluated")]
    assert told == [(0, 10, 40), (4, 10, 40)] and run.metrics("eval") == [] and len(run.metrics("step")) == 4
    assert any("step 4 is left out: the grader failed on 40 answers" in line for line in sentences(run))


def test_a_collapse_stops_a_run_that_asked_for_it_and_names_the_best_checkpoint(tmp_path, monkeypatch) -> None:
    """pass@1 as if it had been .9 at step 2, and then what this small model really has."""
    told = loop.collapsed

    def inflated(evals):
        high = {"value": 0.95, "low": 0.93, "high": 0.97}
        return told([{**r, "pass_at": {"1": high}} if r["step"] == 2 else r for r in evals])

    monkeypatch.setattr(loop, "collapsed", inflated)
    endings = {}
    for asked in (True, False):
        writer = RunWriter.create("train", config_of(steps=6, eval_every=2, stop_on_collapse=asked), tmp_path)
        endings[asked] = execute(writer.path, resume=False)
    assert endings[False].state is State.DONE
    assert endings[True].state is State.STOPPED
    assert re.search(r"It collapsed: pass@1 fell from .* at step 2 to .*@best", endings[True].message)
