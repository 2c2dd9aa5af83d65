"""The resident worker's answers, on the bundled model, against the engine's own functions."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, replace

import pytest

from hdpo.config import Information, ModelConfig, PromptConfig, SamplingConfig, to_json
from hdpo.data.problems import bundled
from hdpo.errors import BadInput, Stopped
from hdpo.records import Outcome
from tests.conftest import needs_model

PROBLEM = bundled("steep", "validation")[0]
SAMPLING = SamplingConfig(max_new_tokens=32)


@pytest.fixture(scope="module")
def desk():
    needs_model()
    from hdpo.work.interactive import Desk

    made = Desk()
    yield made
    made.close()


@pytest.fixture(scope="module")
def sampled(desk):
    """(result, events) of four rollouts of each side."""
    return ask(desk, "rollouts", sides=["student", "privileged", "wrong"], k=4, seed=3, greedy=False)


def ask(desk, request: str, cancelled=lambda: False, **fields):
    events: list[dict] = []
    payload = {
        "request": request,
        "model": to_json(ModelConfig()),
        "checkpoint": "",
        "problem": asdict(PROBLEM),
        "prompts": to_json(PromptConfig()),
        "sampling": to_json(SAMPLING),
        **fields,
    }
    result = desk.answer(json.loads(json.dumps(payload)), events.append, cancelled)
    json.dumps(result, allow_nan=False)  # what the event file will hold
    return result, events


def test_info_names_the_model_and_its_size_without_the_adapter(desk):
    info, _ = ask(desk, "info")
    base = sum(p.numel() for n, p in desk.policy.causal.named_parameters() if "lora" not in n)
    assert info["parameters"] == base
    assert info["vocabulary"] == desk.policy.vocabulary and info["context"] == desk.policy.context


def test_the_prompt_is_shown_as_the_model_receives_it(desk):
    told = to_json(PromptConfig(privileged="{problem} Hint: {reference}"))
    shown, _ = ask(desk, "prompt", prompts=told, other=None, sides=["student", "privileged", "wrong"])
    assert PROBLEM.text in shown["student_text"] and PROBLEM.solution not in shown["student_text"]
    assert f"{PROBLEM.text} Hint: {PROBLEM.solution}" in shown["privileged_text"]
    assert PROBLEM.solution not in shown["wrong_text"]
    ids = desk.policy.tokenizer(shown["privileged_text"], add_special_tokens=False)["input_ids"]
    assert shown["privileged_tokens"] == len(ids)


def test_another_problem_stands_in_the_wrong_prompt_where_one_is_given(desk):
    other = next(p for p in bundled("steep", "validation") if p.answer != PROBLEM.answer)
    shown, _ = ask(desk, "prompt", other=asdict(other), sides=["wrong"])
    assert other.solution in shown["wrong_text"]


def test_a_problem_without_a_solution_shows_the_sides_that_are_asked_for(desk):
    bare = asdict(replace(PROBLEM, solution=""))
    alone = to_json(PromptConfig(information=Information.ANSWER))
    shown, _ = ask(desk, "prompt", problem=bare, prompts=alone, other=None, sides=["student", "privileged"])
    assert f"\\boxed{{{PROBLEM.answer}}}" in shown["privileged_text"] and "wrong_text" not in shown


def test_what_is_streamed_is_what_is_returned(sampled):
    result, events = sampled
    texts: dict[tuple[str, int], str] = {}
    for e in events:
        if e["event"] == "token":
            place = e["side"], e["rollout"]
            texts[place] = texts.get(place, "") + e["piece"]
    for side, given in result.items():
        assert len(given["rollouts"]) == 4
        for i, r in enumerate(given["rollouts"]):
            assert texts.get((side, i), "") == r["text"]
            assert len(r["pieces"]) == len(r["token_ids"]) == len(r["logprobs"]) == r["tokens"]
            assert Outcome(r["outcome"])


def test_a_seed_draws_the_same_rollouts_whatever_else_is_asked(desk, sampled):
    alone, _ = ask(desk, "rollouts", sides=["privileged"], k=2, seed=3, greedy=False)
    together = sampled[0]["privileged"]["rollouts"][:2]
    assert [r["token_ids"] for r in alone["privileged"]["rollouts"]] == [r["token_ids"] for r in together]


def test_greedy_is_one_rollout_a_side(desk):
    result, _ = ask(desk, "rollouts", sides=["student"], k=4, seed=0, greedy=True)
    assert len(result["student"]["rollouts"]) == 1


def test_a_prompt_that_does_not_fit_has_no_rollouts(desk):
    long = SamplingConfig(max_new_tokens=10_000)
    result, _ = ask(desk, "rollouts", sides=["student"], k=2, seed=0, greedy=False, sampling=to_json(long))
    assert (result["student"]["fits"], result["student"]["rollouts"]) == (False, [])


def test_a_cancelled_request_stops_while_it_samples(desk, monkeypatch):
    monkeypatch.setattr("hdpo.work.interactive.SECONDS_BETWEEN_LOOKS", -1.0)
    answers = iter([False])
    with pytest.raises(Stopped, match="while it was sampling"):
        ask(desk, "rollouts", lambda: next(answers, True), sides=["student"], k=2, seed=0, greedy=False)


def test_the_lens_is_the_engines_gap(desk, sampled):
    from hdpo.method import losses
    from hdpo.model.batching import Trace
    from hdpo.work.interactive import Ask
    from tests.engine import log_probs

    ids = sampled[0]["privileged"]["rollouts"][0]["token_ids"]
    lens, _ = ask(desk, "lens", token_ids=ids, against="drifting", side_of_trace="privileged")
    payload = {"request": "lens", "problem": asdict(PROBLEM), "prompts": to_json(PromptConfig())}
    where = Ask(desk.policy, desk.verifier("math"), payload, print, lambda: False)
    traces = [Trace(where.prompt(side)[1], tuple(ids)) for side in ("student", "privileged")]
    s, t = (log_probs(desk.policy, trace) for trace in traces)
    right = {
        "kl": losses.forward_kl(t, s),
        "jsd": losses.jsd_full(t, s),
        "teacher_mass": t.exp().topk(64).values.sum(-1),
    }
    for name, values in right.items():
        assert lens[name] == pytest.approx(values.tolist(), abs=1e-5)
    assert len(lens["piece"]) == len(ids)
    assert lens["means"]["kl"] == pytest.approx(math.fsum(lens["kl"]) / len(ids))
    assert lens["mismatch"] == [0.0] * len(ids)
    assert all(kl <= tight + 1e-4 for kl, tight in zip(lens["kl"], lens["range_bound"], strict=True))
    top = lens["teacher_top"][0]
    assert [p for _, p in top] == sorted((p for _, p in top), reverse=True)


def test_the_frozen_teacher_is_the_start_of_the_run(desk, sampled, real_train_run):
    """After training the frozen teacher differs from the weights of now, at the start it does not."""
    from hdpo.record.folder import Run

    ids = sampled[0]["privileged"]["rollouts"][0]["token_ids"]
    before, _ = ask(desk, "lens", token_ids=ids, against="frozen", side_of_trace="privileged")
    assert max(before["mismatch"]) == pytest.approx(0.0, abs=1e-5)
    run = Run(real_train_run)
    after, events = ask(
        desk,
        "lens",
        token_ids=ids,
        against="frozen",
        side_of_trace="privileged",
        model=to_json(run.load_config().model),
        checkpoint=str(run.checkpoints()[-1]),
    )
    assert events[0]["text"] == "loading the model"
    assert max(after["mismatch"]) > 1e-3


def test_a_cliff_has_no_gradient_until_a_reward_is_edited(desk, sampled):
    rollouts = [{"token_ids": r["token_ids"], "outcome": "wrong"} for r in sampled[0]["student"]["rollouts"]]
    given = {"rollouts": rollouts, "advantage": "leave-one-out", "seed": 0}
    cliff, _ = ask(desk, "gradient", rewards=[0.0] * 4, **given)
    assert (cliff["advantages"], cliff["grad_norm"]) == ([0.0] * 4, 0.0)
    edited, _ = ask(desk, "gradient", rewards=[1.0, 0.0, None, 0.0], **given)
    assert edited["advantages"] == pytest.approx([1.0, -0.5, 0.0, -0.5])
    assert edited["grad_norm"] > 0
    assert edited["tokens"] == sum(len(r["token_ids"]) for r in rollouts)


def test_a_step_by_hand_on_a_cliff_and_beside_another_group(desk, sampled):
    def given(outcome: str, rewards: list[float]) -> dict:
        rollouts = [{"token_ids": r["token_ids"], "outcome": outcome} for r in sampled[0]["student"]["rollouts"]]
        return {"rollouts": rollouts, "rewards": rewards, "advantage": "leave-one-out"}

    peeked = [r["token_ids"] for r in sampled[0]["privileged"]["rollouts"][:2]]
    more = {"accepted": peeked, "lambdas": [0.0, 1.0], "sizes": [10.0]}
    alone, _ = ask(desk, "by_hand", **given("wrong", [0.0] * 4), **more)
    assert alone["grpo"] == 0.0 and alone["cosine"] is None and alone["sums"] == [0.0, alone["jsd"]]
    assert alone["after"][0][0] == alone["before"] != alone["after"][1][0]
    assert "".join(alone["pieces"][i] for i in alone["answer"]) == sampled[0]["privileged"]["rollouts"][0]["answer"]
    beside = {"problem": asdict(PROBLEM), "prompts": to_json(PromptConfig()), "request": "gradient"}
    both, _ = ask(
        desk, "by_hand", **given("wrong", [0.0] * 4), **more, beside=beside | given("wrong", [1.0, 0.0, 0.0, 0.0])
    )
    assert both["grpo"] > 0 and -1 <= both["cosine"] <= 1 and both["jsd"] == pytest.approx(alone["jsd"], rel=1e-4)


@pytest.mark.parametrize(
    ("request_name", "fields", "words"),
    [
        ("dance", {}, "request: expected one of"),
        ("prompt", {"sides": ["student"], "problem": None}, "problem: expected dict"),
        ("prompt", {"sides": ["student"], "problem": {"id": "a"}}, "problem: expected id, text"),
        ("rollouts", {"sides": [], "k": 2, "seed": 0}, "at least one rollout"),
        ("lens", {"token_ids": [], "against": "drifting"}, "token_ids: expected"),
        ("lens", {"token_ids": [10**9], "against": "drifting"}, "another model"),
        ("lens", {"token_ids": [5], "against": "nobody"}, "against: expected one of"),
        (
            "gradient",
            {"rollouts": [], "rewards": [1.0], "advantage": "std-normalised"},
            "rewards: expected one for each",
        ),
        (
            "by_hand",
            {"rollouts": [], "rewards": [], "advantage": "leave-one-out", "accepted": []},
            "accepted: expected a privileged trace",
        ),
        ("info", {"model": {"model": "/nowhere"}}, "model: expected 'bundled'"),
    ],
)
def test_bad_requests_are_sentences(desk, request_name, fields, words):
    with pytest.raises(BadInput, match=words):
        ask(desk, request_name, **fields)


def test_one_model_is_kept_and_can_be_dropped(desk):
    ask(desk, "info")
    policy = desk.policy
    assert ask(desk, "info")[1] == []
    assert desk.policy is policy
    assert desk.drop() and not desk.drop()
    assert ask(desk, "info")[1] == [{"event": "phase", "text": "loading the model"}]


def test_the_grader_of_the_set_says_what_is_right_and_is_read_anew_where_it_changed(desk, tmp_path):
    mine, given = tmp_path / "mine.py", {"sides": ["student"], "k": 2, "seed": 3, "greedy": False}

    def outcomes(body: str) -> set[str]:
        mine.write_text(f"def right(completion, gold, problem):\n    return {body}\n")
        result, _ = ask(desk, "rollouts", grader=f"{mine}:right", **given)
        return {r["outcome"] for r in result["student"]["rollouts"]}

    assert outcomes(f"problem == {PROBLEM.text!r}") == {"correct"}
    assert outcomes("0.0") == {"wrong"}
    with pytest.raises(BadInput, match="line 2 of mine.py: ZeroDivisionError"):
        outcomes("1 / 0")
    with pytest.raises(BadInput, match="grader: expected math, exact"):
        ask(desk, "rollouts", grader="dance", **given)


def test_few_graders_keep_their_children(desk):
    from hdpo.work.interactive import POOLS

    first = desk.verifier("exact")
    assert first.gold_ok(["4"]) == [True] and first._children
    pools = [desk.verifier(f"number:0.{i}") for i in range(1, POOLS + 1)]
    assert list(desk.pools.values()) == pools and not first._children
    assert desk.verifier("number:0.1") is pools[0]


def test_the_control_of_an_answer_alone_is_a_wrong_answer_alone(desk):
    bare, alone = replace(PROBLEM, solution=""), to_json(PromptConfig(information=Information.ANSWER))
    for problem in (PROBLEM, bare):
        shown, _ = ask(desk, "prompt", problem=asdict(problem), prompts=alone, other=None, sides=["wrong"])
        assert (
            "Reference solution: \\boxed{" in shown["wrong_text"] and f"{{{PROBLEM.answer}}}" not in shown["wrong_text"]
        )
    other = asdict(replace(bare, id="other", answer="1234567"))
    shown, _ = ask(desk, "prompt", problem=asdict(bare), prompts=alone, other=other, sides=["wrong"])
    assert "Reference solution: \\boxed{1234567}" in shown["wrong_text"]


class Bytes:
    """A tokenizer whose tokens are single bytes: a character can take several."""

    def decode(self, ids, skip_special_tokens=False):
        return bytes(ids).decode("utf-8", errors="replace")


def test_pieces_of_a_character_appear_with_its_last_token():
    from hdpo.work.interactive import pieces

    ids = list("aπ√b".encode())
    assert pieces(Bytes(), ids) == ["a", "", "π", "", "", "√", "b"]


def test_unparsable_gold_is_told_and_nothing_is_graded_right(desk):
    odd = replace(PROBLEM, answer="\\frac{")
    result, _ = ask(desk, "rollouts", problem=asdict(odd), sides=["student"], k=2, seed=0, greedy=False)
    assert result["student"]["gradable"] is False
    assert Outcome.CORRECT.value not in {r["outcome"] for r in result["student"]["rollouts"]}
