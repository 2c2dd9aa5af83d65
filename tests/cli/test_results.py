"""What a person is told while a job runs and when it has ended: a line a step, shares, and why nothing was learned."""

from __future__ import annotations

import json

import pytest

from hdpo.cli.follow import Bar
from hdpo.cli.main import main
from hdpo.cli.results import about_steps, result_of, result_text, sentences, step_line
from hdpo.config import TrainConfig, replace_knobs
from hdpo.record.folder import Run, RunWriter, State
from hdpo.record.progress import Progress
from tests.fakes import fake_pair, fake_scan_run, fake_train_run

ROW = {
    "step": 3,
    "reward": 0.25,
    "groups_mixed": 5,
    "groups_cliff_recovered": 2,
    "groups_cliff_lost": 1,
    "rollouts": 64,
    "truncated": 4,
    "loss_grpo": 0.01234,
    "loss_jsd": 0.5,
    "grad_norm": 1.25,
    "length": 41.4,
    "tokens_student": 2600,
    "tokens_privileged": 400,
    "seconds": 2.0,
    "updated": True,
}


def took(writer: RunWriter, step: int) -> None:
    writer.metric("step", step, **{k: v for k, v in ROW.items() if k != "step"})


def test_a_step_is_one_line() -> None:
    assert step_line(ROW) == (
        "step 3: reward 0.250, 3 of 8 cliffs (2 recovered), 4 of 64 cut off, L_GRPO 0.0123, L_JSD 0.5000, |∇| 1.25, "
        "length 41, 1,500 tokens/s"
    )
    assert step_line({**ROW, "updated": False}).endswith("no signal, nothing moved")


def test_steps_and_evaluations_are_told_once_as_they_are_written(tmp_path, capsys) -> None:
    writer = RunWriter.create("train", TrainConfig(), tmp_path)
    took(writer, 1)
    bar = Bar(Run(writer.path))  # a resumed run: what was told before is not told again
    took(writer, 2)
    bar.show(Progress("training", 2, 5, seconds_left=90.0))
    bar.show(Progress("training", 2, 5, seconds_left=80.0))
    took(writer, 3)
    bar.close()
    lines = [line for line in capsys.readouterr().err.splitlines() if "step" in line and "reward" in line]
    assert [line.split(":")[0].strip() for line in lines] == ["step 2", "step 3"]
    assert lines[0].endswith("01:30 left")


def test_a_members_lines_say_whose_they_are(tmp_path, capsys) -> None:
    pair = Run(fake_pair(tmp_path))
    bar = Bar(pair)
    _, last = (tmp_path / m["id"] for m in pair.members())
    took(RunWriter(last, 1), 9)
    bar.close()
    assert "λ = 0.3, seed 0, step 9: reward 0.250" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            {"truncated": 48, "groups_cliff_lost": 8},
            (
                "16 groups were cliffs also with the privileged prompt",
                "96 of 128 rollouts were cut off at 64 tokens",
                "raise --max-new-tokens",
            ),
        ),
        ({"truncated": 0, "groups_solved": 8}, ("16 groups were solved by every rollout",)),
    ],
)
def test_a_training_that_never_moved_says_so_and_why(rows, words) -> None:
    steps = [{"step": s, "updated": False, "rollouts": 64, **rows} for s in (1, 2)]
    said = " ".join(about_steps(steps, TrainConfig()))
    assert said.startswith("None of the 2 steps had a signal, so the weights never moved") and all(
        w in said for w in words
    )
    assert not about_steps([*steps, {"step": 3, "updated": True, "rollouts": 64}], TrainConfig())


def test_at_lambda_0_cliffs_are_no_signal() -> None:
    steps = [{"step": 1, "updated": False, "rollouts": 64}]
    assert "at λ = 0 cliffs give none" in about_steps(steps, replace_knobs(TrainConfig(), {"lambda_": 0.0}))[0]


def test_a_scan_says_what_was_left_out_and_when_the_length_decided(tmp_path) -> None:
    scan = Run(fake_scan_run(tmp_path))
    writer = RunWriter(scan.path, 1)
    first = ["Line 2 of set.jsonl has no gold answer; it was left out."]
    writer.metric("data", 0, read=11, problems=5, duplicates=5, skipped=1, skipped_first=first)
    for i in range(40):
        writer.metric(
            "scan_group",
            9,
            problem_id=f"p{i}",
            group="cliff",
            doubt="truncation",
            n=4,
            correct=0,
            truncated=3,
            no_answer=1,
            grader_errors=i % 2,
        )
    told = result_of(scan)
    assert told["result"]["rollouts"] == {
        "n": 208,
        "correct": 24,
        "wrong": 20,
        "no_answer": 40,
        "truncated": 124,
        "grader_errors": 20,
    }
    assert "The grader gave no verdict on 20 rollouts: it failed on them, or took too long." in told["told"]
    assert (
        "11 rows: 5 problems, 5 duplicates, 1 left out (first: Line 2 of set.jsonl has no gold answer)"
        in told["told"][0]
    )
    assert "124 of 208 rollouts were cut off at 64 tokens and count as wrong: raise --max-new-tokens." in told["told"]
    assert all(sentence in result_text(scan) for sentence in told["told"])
    triage = told["result"]["triage"]
    assert triage["causes"] | {"cut off": 24, "grader in doubt": 20} == triage["causes"]
    assert triage["cliffs"]["p1"]["cause"] == "grader in doubt" and 0 < triage["cliffs"]["p1"]["below"] < 1
    assert triage["told"] in result_text(scan) and "20 grader in doubt, 24 cut off" in result_text(scan)


def test_a_doubtful_verdict_is_told_with_both_parses(tmp_path) -> None:
    scan = Run(fake_scan_run(tmp_path))
    row = {k: v for k, v in scan.metrics("scan_group")[0].items() if k not in ("kind", "step", "attempt")}
    for i in range(5):
        RunWriter(scan.path, 1).metric(
            "scan_group", 9, **{**row, "problem_id": f"p{i}", "disputed": "5 is parsed as x"}
        )
    told = sentences(scan)
    assert "p0, grader in doubt: 5 is parsed as x." in told and told[-1] == "2 more such doubts."


@pytest.mark.parametrize("state", [s for s in State if s is not State.DONE])
@pytest.mark.parametrize("bad_input", [False, True])
def test_every_end_names_a_command_that_is_understood(tmp_path, capsys, monkeypatch, state, bad_input) -> None:
    """The command is given back to the terminal with --help, which refuses words that it does not know."""
    run = Run(fake_train_run(tmp_path))
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "state": state.value, "bad_input": bad_input}))
    words = result_of(run)["next"].removeprefix("python -m hdpo ").split()
    assert run.id in words
    with pytest.raises(SystemExit) as e:
        main([*words, "--help"])
    assert e.value.code == 0


def test_the_best_evaluation_is_told_where_it_is_not_the_last(tmp_path) -> None:
    run = Run(fake_train_run(tmp_path))
    top = max(run.metrics("eval"), key=lambda e: e["pass_at"]["8"]["value"])
    row = {k: v for k, v in top.items() if k not in ("kind", "step", "attempt")}
    lower = {k: {**v, "value": 0.0} for k, v in row["pass_at"].items()}
    RunWriter(run.path, 1).metric("eval", 99, **{**row, "pass_at": lower})
    assert f"best pass@8 {top['pass_at']['8']['value']:.3f}" in result_text(
        run
    ) and f"at step {top['step']}" in result_text(run)
    assert not sentences(run)
