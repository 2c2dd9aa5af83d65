"""Is it a cliff: the confidence sequence against its martingale, the posterior against draws from it, the causes."""

import math

import numpy as np
import pytest

from hdpo.evidence import cliffs
from hdpo.evidence.cliffs import Cause, Decision, triage


def row(i: int, correct: int = 0, n: int = 8, group: str = "cliff", **facts) -> dict:
    counts = {"truncated": 0, "no_answer": 0, "grader_errors": 0, "disputed": ""}
    return {"problem_id": f"p{i}", "group": group, "n": n, "correct": correct, **counts, **facts}


def rows_of(counts: list[int]) -> list[dict]:
    return [row(i, c, group="mixed" if c else "cliff") for i, c in enumerate(counts)]


def look(i: int, n: int, correct: int = 0) -> dict:
    return {"problem_id": f"p{i}", "drawn": n, "n": n, "correct": correct}


SMOOTH = np.random.default_rng(0).binomial(8, np.linspace(0, 1, 60)).tolist()  # rare zeros, out of a flat spread
SPLIT = [0] * 30 + [4, 5, 3, 4, 6] * 6


def test_one_success_has_the_mixture_over_the_rate_as_evidence() -> None:
    assert cliffs.evidence(0.25, 1, 1) == pytest.approx(math.log((0.5 / 32.5) / 0.25))
    assert cliffs.evidence(0.25, 1, 0) == pytest.approx(math.log((32 / 32.5) / 0.75))


@pytest.mark.parametrize("rate", [0.003, 1 / 64, 0.3, 0.97])
def test_the_evidence_against_the_true_rate_is_a_martingale(rate) -> None:
    for n in range(12):
        for c in range(n + 1):
            after = np.exp([cliffs.evidence(rate, n + 1, c + 1), cliffs.evidence(rate, n + 1, c)])
            assert after @ [rate, 1 - rate] == pytest.approx(np.exp(cliffs.evidence(rate, n, c)))


@pytest.mark.parametrize(("n", "c"), [(1, 0), (1, 1), (16, 3), (512, 9), (10_000, 9_999), (10_000, 0)])
def test_the_interval_ends_where_the_evidence_reaches_twenty(n, c) -> None:
    low, high = cliffs.interval(n, c)
    assert 0.0 <= low <= c / n <= high <= 1.0
    for end in (low, high):
        assert end in (0.0, 1.0) or cliffs.evidence(end, n, c) == pytest.approx(math.log(20), abs=1e-4)


def test_a_decision_comes_with_the_first_look_that_can_bear_it() -> None:
    def decided(n: int, correct: int) -> str:
        return triage(rows_of(SPLIT), [look(0, n, correct)]).cliffs["p0"].words()

    assert decided(260, 0) == "undecided after 260" and decided(261, 0) == "cliff: pass rate below 1/64"
    assert decided(16, 3) == "undecided after 16" and decided(16, 4) == "not a cliff"
    assert triage(rows_of(SPLIT), [look(0, 16)], 0.3).cliffs["p0"].decision is Decision.CLIFF


def test_fresh_rollouts_alone_decide_and_batches_add_up() -> None:
    before = triage(rows_of(SPLIT)).cliffs["p0"]
    assert (before.drawn, before.low, before.high, before.scanned) == (0, 0.0, 1.0, 8)
    found = triage(rows_of(SPLIT), [look(0, 16), look(1, 16), {**look(0, 16, 1), "drawn": 20}]).cliffs
    assert (found["p0"].drawn, found["p0"].n, found["p0"].correct) == (36, 32, 1) and found["p1"].n == 16
    assert (found["p0"].low, found["p0"].high) == cliffs.interval(32, 1)


@pytest.mark.parametrize("counts", [SMOOTH, SPLIT])
def test_the_posterior_is_what_draws_from_it_say(counts) -> None:
    """Prompts drawn from the posterior; of those with c of n correct, the share below 1/64, the spread, none at 64."""
    posterior, rng, many = cliffs.fit([(8, c) for c in counts]), np.random.default_rng(1), 400_000
    share, shape = np.unravel_index(
        rng.choice(posterior.weights.size, many, p=posterior.weights.ravel()), posterior.weights.shape
    )
    possible = rng.random(many) >= cliffs._SHARES[share, 0]
    p = np.where(possible, rng.beta(cliffs._A[shape], cliffs._B[shape]), 0.0)
    kept = (1 - p) ** 8 / cliffs._zero(8)[share, shape]  # the set says which, this prompt says no more of that
    assert posterior.below(8, 0) == pytest.approx(float(np.mean(kept * (p < cliffs.BELOW))), abs=0.02)
    mean = float(np.mean(kept * p))
    assert posterior.spread(8, 0) ** 2 == pytest.approx(float(np.mean(kept * p**2)) - mean**2, rel=0.2, abs=1e-4)
    assert posterior.still([8] * 100).value == pytest.approx(100 * float(np.mean(kept * (1 - p) ** 56)), abs=1.0)


def test_a_scan_in_two_heaps_has_impossible_prompts_and_a_smooth_one_need_not() -> None:
    heaps, smooth = triage(rows_of(SPLIT)), triage(rows_of(SMOOTH))
    assert heaps.still.value > 29 and heaps.impossible[0] > 0.3 and heaps.causes["unsolved"] == 30
    assert smooth.impossible[0] == 0 and "do not tell impossible from rare" in smooth.told
    assert "do not tell" not in heaps.told and "Of 30 prompts with 0 of 8 correct, 30 " in heaps.told
    zeros = SMOOTH.count(0)
    assert smooth.causes["unlucky"] == zeros and smooth.still.low < smooth.still.value < 0.6 * zeros


def test_fresh_rollouts_move_a_prompt_between_unlucky_and_unsolved() -> None:
    first = SMOOTH.index(0)
    assert triage(rows_of(SMOOTH), [look(first, 400)]).cliffs[f"p{first}"].cause is Cause.UNSOLVED
    assert triage(rows_of(SPLIT), [look(0, 16, 4)]).cliffs["p0"].cause is Cause.UNLUCKY


@pytest.mark.parametrize(
    ("facts", "cause"),
    [
        ({"group": "gold unparsable", "n": 0, "grader_errors": 8}, Cause.UNGRADABLE),
        ({"grader_errors": 1, "truncated": 2}, Cause.GRADER),
        ({"disputed": "5 is parsed as x"}, Cause.GRADER),
        ({"group": "no signal", "n": 1, "grader_errors": 7}, Cause.GRADER),
        ({"truncated": 1, "no_answer": 7}, Cause.CUT_OFF),
        ({"no_answer": 4}, Cause.NO_ANSWER),
        ({"no_answer": 3}, Cause.UNSOLVED),
        ({"correct": 1, "group": "mixed", "disputed": "5 is parsed as x"}, None),
        ({"group": "prompt too long", "n": 0}, None),
    ],
)
def test_a_prompt_without_a_success_has_one_cause_and_doubts_come_first(facts, cause) -> None:
    found = triage([*rows_of(SPLIT), row(99, **facts)]).cliffs.get("p99")
    assert (found and found.cause) == cause and not (found and found.scanned == 0 and found.below)


@pytest.mark.parametrize(
    ("counts", "told"),
    [
        ([], "No measured prompt is without a correct rollout."),
        ([3] * 9, "No measured prompt is without a correct rollout."),
        ([0, 3, 3], "cannot tell impossible from unlucky: it measured 3 prompts, and it takes 8."),
        ([0] * 9, "it measured 9 prompts, and all are without a correct rollout."),
    ],
)
def test_what_a_scan_cannot_tell_it_says(counts, told) -> None:
    found = triage(rows_of(counts))
    assert told in found.told and found.still is None
    assert all(c.below is None and c.cause is Cause.UNSOLVED for c in found.cliffs.values())


def test_a_damaged_count_spoils_nothing() -> None:
    assert triage([*rows_of(SPLIT), row(99, 9, group="mixed")]).still == triage(rows_of(SPLIT)).still
