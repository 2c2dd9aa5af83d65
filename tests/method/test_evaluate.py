"""What an evaluation says, from scripted rollouts through the real grader."""

import json

import pytest

from hdpo.config import KINDS, EvalConfig, SamplingConfig, replace_knobs
from hdpo.errors import BadInput
from hdpo.evidence.stats import pass_at_k
from hdpo.method import evaluate
from hdpo.method.evaluate import measure, summarise
from hdpo.record.folder import Run, RunWriter, State, request_stop
from hdpo.records import Outcome, problem_row
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw
from hdpo.work.execute import execute
from tests.engine import PROBLEMS, ScriptedSampler, collector_of, group_of, random_model, random_policy

CONFIG = EvalConfig(eval_samples=4, ks=(1, 2))
DRAW = Draw(CONFIG.eval_samples, DrawKey(0, Purpose.EVALUATION, 3))
C, W, G = Outcome.CORRECT, Outcome.WRONG, Outcome.GRADER_ERROR


@pytest.fixture(scope="module")
def policy():
    return random_policy()


def script(right_of):
    """right_of[problem id] of the rollouts are right, the first ones."""

    def say(prompt, g):
        answer = 2 * int(prompt.problem_id[1:]) + 1
        return f"\\boxed{{{answer if g < right_of[prompt.problem_id] else 0}}}", False

    return say


def test_pass_at_k_cliffs_and_greedy_from_known_counts(policy) -> None:
    right = {"p2": 0, "p3": 1, "p4": 4, "p5": 2}
    told: list[int] = []
    rows = measure(collector_of(policy, ScriptedSampler(policy, script(right))), PROBLEMS[:4], DRAW, told.append)
    assert {r["problem_id"]: r["correct"] for r in rows} == right and told == [4]
    found = summarise(rows, CONFIG, SamplingConfig())
    for k in (1, 2):
        expected = sum(pass_at_k(4, c, k) for c in right.values()) / 4
        assert found["pass_at"][str(k)]["value"] == pytest.approx(expected)
    assert found["cliff"]["value"] == 0.25 and found["solved"]["value"] == 0.25 and found["greedy"]["value"] == 0.75
    assert all(e["low"] < e["value"] < e["high"] for e in found["pass_at"].values())
    assert found["by_level"]["1"]["n_problems"] == 4 and found["by_source"]["sum"]["n_problems"] == 4
    assert (found["n_problems"], found["n_samples"], found["temperature"]) == (4, 4, 1.0)


def test_a_grader_error_is_no_sample(policy) -> None:
    row = problem_row(group_of(policy, [C, W, G]))
    assert (row["n"], row["correct"], row["grader_errors"]) == (2, 1, 1)


def test_what_cannot_be_counted_is_left_out_and_counted(policy) -> None:
    rows = [problem_row(group_of(policy, o, p)) for o, p in zip([[C, W, W, W], [C, G, G, W]], PROBLEMS, strict=False)]
    found = summarise(rows, CONFIG, SamplingConfig())
    assert found["n_problems"] == 1 and found["left_out"] == 1


def test_nothing_countable_is_a_sentence(policy) -> None:
    with pytest.raises(BadInput, match="found none"):
        summarise([problem_row(group_of(policy, [G, G, G, G]))], CONFIG, SamplingConfig())


def files_of(run: Run) -> list[dict]:
    """What a scan or evaluation came to: its rows and rollouts without times and attempts."""
    rows = [{k: v for k, v in r.items() if k not in ("seconds", "attempt")} for r in run.metrics()]
    return [r for r in rows if r["kind"] != "resume"] + run.rollouts() + run.table("eval", 0)


@pytest.mark.parametrize("kind", ["scan", "evaluate"])
def test_a_stopped_one_goes_on_from_its_chunks_and_equals_the_unbroken_one(kind, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(evaluate, "PROBLEMS_AT_ONCE", 4)
    file = tmp_path / "p.jsonl"
    columns = ("id", "text", "solution", "answer")
    file.write_text("".join(json.dumps({c: getattr(p, c) for c in columns}) + "\n" for p in PROBLEMS))
    config = replace_knobs(
        KINDS[kind](),
        {"model": str(random_model()), "problems": str(file), "split": "all", "max_new_tokens": 8}
        | ({"rollouts": 2} if kind == "scan" else {"eval_samples": 2, "ks": (1,)}),
    )
    whole, broken = (Run(RunWriter.create(kind, config, tmp_path).path) for _ in range(2))
    assert execute(whole.path, False).state is State.DONE
    ending = execute(broken.path, False, lambda p: request_stop(broken.path) if p.done == 4 else None)
    assert ending.state is State.STOPPED
    assert f"goes on after the 4 problems that are done: python -m hdpo {kind} --resume" in ending.message
    (broken.path / "stop").unlink()
    seen: list[int] = []
    assert execute(broken.path, True, lambda p: seen.append(p.done) if p.unit == "problems" else None).code == 0
    assert files_of(broken) == files_of(whole) and broken.damage() == []
    assert [p for p in dict.fromkeys(seen) if p > 4] == [8, 12]
    assert broken.tables("chunk") == {}
