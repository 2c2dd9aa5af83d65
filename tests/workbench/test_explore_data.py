"""Tables and sentences of the pages Cliffs and Side by side."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from hdpo.evidence.cliffs import Cause
from hdpo.evidence.stats import rate_interval
from hdpo.records import Outcome
from workbench.data import explore


def row(group: str, correct: int, n: int = 8, **facts: Any) -> dict[str, Any]:
    base = {
        "problem_id": f"p-{group}-{correct}",
        "source": "sum",
        "level": 4,
        "problem": "What is 1 + 1?",
        "gold": "2",
        "group": group,
        "doubt": "",
        "n": n,
        "correct": correct,
        "truncated": 0,
        "no_answer": 0,
        "grader_errors": 0,
        "step": 0,
    }
    return base | facts


def table(*rows: dict[str, Any]) -> pd.DataFrame:
    return explore.prompt_table(pd.DataFrame(list(rows)))


def test_each_prompt_has_its_rate_with_its_interval() -> None:
    found = table(row("cliff", 0), row("mixed", 3), row("solved", 8)).to_dict("records")
    assert [(r["correct"], r["graded"], r["rate"]) for r in found] == [(0, 8, 0.0), (3, 8, 0.375), (8, 8, 1.0)]
    assert [(r["low"], r["high"]) for r in found] == [rate_interval(0, 8), rate_interval(3, 8), rate_interval(8, 8)]


def test_a_prompt_without_graded_rollouts_has_no_rate() -> None:
    found = table(row("prompt too long", 0, n=0), row("mixed", 1))
    assert pd.isna(found.loc[0, "rate"]) and pd.isna(found.loc[0, "low"]) and found.loc[1, "rate"] == 0.125


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"doubt": "grader error", "grader_errors": 1, "truncated": 1}, "grader in doubt"),
        ({"doubt": "truncation", "truncated": 1, "no_answer": 7}, "cut off"),
        ({"no_answer": 4}, "no answer found"),
        ({"no_answer": 3}, "unsolved"),
    ],
)
def test_a_cliff_has_one_reason_and_doubts_come_first(facts: dict[str, Any], reason: str) -> None:
    scan = pd.DataFrame([row("cliff", 0, **facts), row("mixed", 3, no_answer=5)])
    assert list(explore.prompt_table(scan)["reason"]) == [reason, ""]
    counts = explore.reasons(explore.triage_of(scan, ())).set_index("reason")["prompts"]
    assert counts[reason] == 1 and counts.sum() == 1 and len(counts) == len(Cause) == len(explore.REASONS)


def test_fresh_rollouts_join_the_posterior_of_a_prompt() -> None:
    scan = pd.DataFrame([row("cliff", 0, problem_id="a"), *(row("mixed", c, problem_id=f"m{c}") for c in range(1, 8))])
    before = explore.prompt_table(scan)
    looks = [{"problem_id": "a", "drawn": 64, "n": 64, "correct": 0}]
    after = explore.prompt_table(scan, looks)
    assert before["below"][0] < after["below"][0] and pd.isna(before["below"][1])


def test_filters_narrow_and_empty_ones_let_everything_through() -> None:
    rows = [
        row("cliff", 0, problem_id="a"),
        row("cliff", 0, problem_id="b", doubt="truncation", level=5),
        row("mixed", 3, problem_id="c", source="mul"),
        row("gold unparsable", 0, problem_id="d", problem="(odd [text"),
    ]
    found = table(*rows)

    def ids(
        kinds: tuple[str, ...] = (), sources: tuple[str, ...] = (), levels: tuple[int, ...] = (), text: str = ""
    ) -> str:
        return "".join(explore.filter_prompts(found, kinds, sources, levels, text)["problem_id"])

    assert ids() == "abcd"
    assert (
        ids(("cliff",)) == "ab"
        and ids(("doubtful",)) == "b"
        and ids(("other",)) == "d"
        and ids(("doubtful", "mixed")) == "bc"
    )
    assert ids(sources=("mul",)) == "c" and ids(levels=(5,)) == "b" and ids(("cliff",), levels=(4,)) == "a"
    assert ids(text="(ODD [") == "d" and ids(text="no such words") == ""
    assert explore.counts_sentence(found) == "4 prompts: 2 cliffs, 1 mixed, 0 solved, 1 without a regime."


def test_a_level_that_went_through_a_table_with_gaps_is_a_whole_number_again() -> None:
    frame = pd.DataFrame([{"level": 4}, {"level": None}])
    assert [explore.level_of(r) for r in frame.to_dict("records")] == [4, None]
    fields = {"id": "p", "text": "t", "solution": "s", "answer": "2", "source": "sum", "level": 4.0}
    assert explore.problem_of(fields).level == 4


def test_only_a_correct_privileged_rollout_passes_the_filter() -> None:
    assert explore.acceptance(Outcome.CORRECT, 12) == (True, "accepted: R = 1; on a cliff its 12 tokens are distilled")
    for outcome in Outcome:
        taken, why = explore.acceptance(outcome, 3)
        assert taken == (outcome is Outcome.CORRECT) and why.startswith("accepted" if taken else "not accepted: ")


@pytest.mark.parametrize(
    ("student", "words"),
    [
        (
            [Outcome.WRONG] * 4,
            "A cliff in this sample: 0 of 4 only says p < 0.53 (95 %). Of the privileged rollouts 1 of 2 pass",
        ),
        ([Outcome.WRONG, Outcome.TRUNCATED], "It is doubtful, because a rollout was cut off"),
        (
            [Outcome.WRONG] * 2 + [Outcome.GRADER_ERROR],
            "the verifier failed on 1: a doubtful cliff, which is not distilled",
        ),
        ([Outcome.WRONG, Outcome.CORRECT], "mixed: GRPO learns from it; nothing is distilled"),
        ([Outcome.CORRECT] * 2, "solved: no gradient; nothing is distilled"),
        ([Outcome.CORRECT, Outcome.GRADER_ERROR], "gives no signal"),
    ],
)
def test_a_sample_says_what_hdpo_would_do_with_it(student: list[Outcome], words: str) -> None:
    assert words in explore.sample_sentence(student, [Outcome.CORRECT, Outcome.WRONG])


def test_the_mixed_prompt_for_scale_is_the_one_nearest_to_one_half() -> None:
    found = explore.typical_mixed(table(row("cliff", 0), row("mixed", 1), row("mixed", 5), row("mixed", 7)))
    assert found is not None and found["correct"] == 5
    assert explore.typical_mixed(table(row("cliff", 0), row("solved", 8))) is None


@pytest.mark.parametrize(
    ("outcome", "text", "words"),
    [
        (Outcome.NO_ANSWER, "so 4", "without a"),
        (Outcome.NO_ANSWER, "", "is empty"),
        (Outcome.NO_ANSWER, "<think>and so", "thinking"),
        (Outcome.NO_ANSWER, r"\boxed{??}", "cannot be read"),
        (Outcome.TRUNCATED, r"\boxed{4", "cut off"),
        (Outcome.GRADER_ERROR, "4", "verifier failed"),
    ],
)
def test_a_rollout_without_an_answer_says_why(outcome: Outcome, text: str, words: str) -> None:
    assert words in explore.why_no_answer(outcome, text) and not explore.why_no_answer(Outcome.CORRECT, text)
