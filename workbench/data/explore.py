"""What the pages Cliffs and Side by side compute: tables and sentences from scans and rollouts. No Streamlit here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import pandas as pd

from hdpo.evidence.cliffs import Cause, Cliff, Triage, triage
from hdpo.evidence.stats import pass_curve, rate_interval
from hdpo.grading.boxes import BOX, last_box
from hdpo.records import GroupKind, Outcome, Problem

Looks = Sequence[Mapping[str, Any]]  # `Run.looks`
interval_of = lru_cache(rate_interval)  # a census of thousands has few different counts
KIND_FILTERS = ("cliff", "mixed", "solved", "doubtful", "other")
REASONS = {
    Cause.UNGRADABLE: "the gold answer cannot be parsed, so nothing is graded",
    Cause.GRADER: "the verifier failed on a rollout, or called one wrong in which the gold stands",
    Cause.CUT_OFF: "a rollout was cut off, so its answer is not known",
    Cause.NO_ANSWER: "at least half of the rollouts end without a boxed answer",
    Cause.UNLUCKY: "by the scan as a whole its pass rate is rather above 1/64 than below",
    Cause.UNSOLVED: "most rollouts give an answer, and none is right",
}
TABLE_COLUMNS = (
    "problem_id",
    "kind",
    "correct",
    "graded",
    "level",
    "problem",
    "rate",
    "low",
    "high",
    "source",
    "reason",
    "below",
    "gold",
    "step",
)


def triage_of(scan: pd.DataFrame, looks: Looks) -> Triage:
    return triage(scan.to_dict("records"), looks)


def prompt_table(scan: pd.DataFrame, looks: Looks = ()) -> pd.DataFrame:
    """One row a prompt, in the order of the scan. Columns: TABLE_COLUMNS; rate with its 95 % interval.

    graded: rollouts with a verdict of the verifier (a scan's n; a grader error has none). reason: why none is correct,
    "" where one is. below: see `hdpo.evidence.cliffs.Cliff`. looks: fresh rollouts.
    """
    records = scan.to_dict("records")
    rows, cliffs = [], triage(records, looks).cliffs
    for row in records:
        cliff = cliffs.get(row["problem_id"])
        told = {"reason": cliff.cause.value, "below": cliff.below} if cliff else {"reason": "", "below": None}
        rows.append({**row, **pass_rate(row), "kind": kind_word(row), **told})
    return pd.DataFrame(rows, columns=list(TABLE_COLUMNS))


def pass_rate(row: Mapping[str, Any]) -> dict[str, float | int | None]:
    """correct, graded, and the rate with its interval; None where no rollout was graded."""
    correct, graded = int(row["correct"]), int(row["n"])
    if graded < 1:
        return {"correct": correct, "graded": graded, "rate": None, "low": None, "high": None}
    low, high = interval_of(correct, graded)
    return {"correct": correct, "graded": graded, "rate": correct / graded, "low": low, "high": high}


def kind_word(row: Mapping[str, Any]) -> str:
    """The regime, with a question mark in words where a cliff is doubtful."""
    return f"{row['group']} (doubtful)" if row["doubt"] else str(row["group"])


def reasons(found: Triage) -> pd.DataFrame:
    """Why prompts have no correct rollout. Columns reason, prompts, meaning; every reason once."""
    rows = [{"reason": r.value, "prompts": found.causes[r.value], "meaning": words} for r, words in REASONS.items()]
    return pd.DataFrame(rows, columns=["reason", "prompts", "meaning"])


def posterior_sentence(cliff: Cliff) -> str:
    r"""
    >>> from hdpo.evidence.cliffs import Decision
    >>> posterior_sentence(Cliff(Cause.UNSOLVED, 8, 0, 0, 0, 0.0, 1.0, 0.9, 0.1, Decision.OPEN))
    'Unsolved. By the scan as a whole its pass rate lies below 1/64 with a chance of 90\xa0%.'
    """
    words = f"{cliff.cause.value.capitalize()}."
    if cliff.below is None:
        return words
    seen = " and its fresh rollouts," if cliff.n else ""
    extreme = "more than 99" if cliff.below > 0.99 else "less than 1" if cliff.below < 0.01 else ""
    return f"{words} By the scan as a whole{seen} its pass rate lies below 1/64 with a chance of {extreme or round(100 * cliff.below)}\u00a0%."


def confirm_sentence(cliff: Cliff) -> str:
    """What fresh rollouts say.

    >>> from hdpo.evidence.cliffs import Decision
    >>> confirm_sentence(Cliff(Cause.UNSOLVED, 8, 272, 272, 0, 0.0, 0.015, 0.9, 0.1, Decision.CLIFF))
    'Fresh rollouts: 0 of 272 correct, pass rate 0 to 0.015 (95 %, however often one looks): **cliff: pass rate below 1/64**.'
    """
    held = f"pass rate {cliff.low:.2g} to {cliff.high:.2g} (95 %, however often one looks)"
    return f"Fresh rollouts: {cliff.correct} of {cliff.n} correct, {held}: **{cliff.words()}**."


def filter_prompts(
    table: pd.DataFrame, kinds: Sequence[str], sources: Sequence[str], levels: Sequence[int], text: str
) -> pd.DataFrame:
    """Rows that pass every filter; an empty filter lets everything through. `text` is looked for in text and id."""
    regime = table["kind"].str.removesuffix(" (doubtful)")
    named = [k for k in kinds if k in ("cliff", "mixed", "solved")]
    keep = pd.Series(not kinds, index=table.index)
    keep |= regime.isin(named)
    if "doubtful" in kinds:
        keep |= table["kind"].str.endswith(" (doubtful)")
    if "other" in kinds:
        keep |= ~regime.isin(["cliff", "mixed", "solved"])
    if sources:
        keep &= table["source"].isin(sources)
    if levels:
        keep &= table["level"].isin(levels)
    if text.strip():
        words = text.strip().lower()
        found = table["problem"].str.lower().str.contains(words, regex=False)
        keep &= found | table["problem_id"].str.lower().str.contains(words, regex=False)
    return table[keep]


def counts_sentence(table: pd.DataFrame) -> str:
    """How many of each regime, and what a cliff of this size can hide."""
    regime = table["kind"].str.removesuffix(" (doubtful)").value_counts()
    words = [f"{regime.get(k, 0)} {k if k != 'cliff' else 'cliffs'}" for k in ("cliff", "mixed", "solved")]
    other = len(table) - sum(int(regime.get(k, 0)) for k in ("cliff", "mixed", "solved"))
    words += [f"{other} without a regime"] if other else []
    return f"{len(table)} prompts: " + ", ".join(words) + "."


def pass_sentence(table: pd.DataFrame) -> str:
    """pass@k of a prompt table, as far as every prompt has k rollouts with a verdict."""
    counts = [(int(n), int(c)) for n, c in zip(table["graded"], table["correct"], strict=True) if n]
    found = (
        [f"pass@{k} {e.value:.3f} ({e.low:.3f} to {e.high:.3f})" for k, e in pass_curve(counts).items()]
        if counts
        else []
    )
    return (
        f"{', '.join(found)}; beyond that it is unknown." if found else "pass@k is unknown: no rollout has a verdict."
    )


def cliff_sentence(graded: int) -> str:
    """
    >>> cliff_sentence(8)
    '0 of 8 only says p < 0.31 (95 %).'
    """
    return f"0 of {graded} only says p < {rate_interval(0, graded)[1]:.2f} (95 %)."


def acceptance(outcome: Outcome, tokens: int) -> tuple[bool, str]:
    """Whether the R = 1 filter (Algorithm 1, step 5) takes a privileged rollout, and why.

    >>> acceptance(Outcome.WRONG, 12)
    (False, 'not accepted: its answer is wrong')
    """
    reasons = {
        Outcome.WRONG: "its answer is wrong",
        Outcome.NO_ANSWER: "no answer was found in it",
        Outcome.TRUNCATED: "it was cut off, whatever stands in it",
        Outcome.GRADER_ERROR: "the verifier failed on it",
    }
    if outcome.is_correct:
        return True, f"accepted: R = 1; on a cliff its {tokens} tokens are distilled"
    return False, f"not accepted: {reasons[outcome]}"


def why_no_answer(outcome: Outcome, text: str) -> str:
    r"""Why the verifier has no answer of this rollout; "" where it has one.

    >>> why_no_answer(Outcome.NO_ANSWER, r"so \boxed{4"), why_no_answer(Outcome.WRONG, "")
    ('its last \\boxed{ is not closed', '')
    """
    if outcome is Outcome.TRUNCATED:
        return "cut off at the longest completion, before its end: what stands in it does not count"
    if outcome is Outcome.GRADER_ERROR:
        return "the verifier failed on it: no verdict, and no reward"
    if outcome is not Outcome.NO_ANSWER:
        return ""
    text = text.rpartition("</think>")[2]
    if "<think>" in text:
        return "its thinking does not end, so no answer follows"
    if BOX.search(text):
        return (
            r"its last \boxed{ is not closed" if last_box(text) is None else r"what its \boxed{…} holds cannot be read"
        )
    return r"it ends without a \boxed{…}, where the verifier looks" if text.strip() else "it is empty"


def typical_mixed(table: pd.DataFrame) -> dict[str, Any] | None:
    """The row of the mixed prompt whose pass rate is nearest to one half, the first of equal ones: a measure for others."""
    mixed = table[table["kind"] == GroupKind.MIXED.value]
    return None if mixed.empty else mixed.loc[(mixed["rate"] - 0.5).abs().idxmin()].to_dict()


def outcome_counts(outcomes: Sequence[Outcome]) -> str:
    """
    >>> outcome_counts([Outcome.CORRECT, Outcome.WRONG, Outcome.WRONG])
    '1 of 3 correct; 2 wrong'
    """
    others = [(o, sum(x is o for x in outcomes)) for o in Outcome if not o.is_correct]
    words = [f"{n} {o.value}" for o, n in others if n]
    correct = sum(o.is_correct for o in outcomes)
    return "; ".join([f"{correct} of {len(outcomes)} correct", *words])


def graded(outcomes: Sequence[Outcome]) -> tuple[int, int]:
    """(correct, with a verdict).

    >>> graded([Outcome.CORRECT, Outcome.WRONG, Outcome.GRADER_ERROR])
    (1, 2)
    """
    return sum(o.is_correct for o in outcomes), sum(o.is_graded for o in outcomes)


def sample_sentence(student: Sequence[Outcome], privileged: Sequence[Outcome]) -> str:
    """What HDPO would do with this sample: a cliff is distilled from its accepted privileged rollouts, others are not."""
    graded = [o for o in student if o.is_graded]
    accepted = sum(o.is_correct for o in privileged)
    if len(graded) < 2:
        return "Fewer than two unprivileged rollouts were graded: this prompt gives no signal."
    correct = sum(o.is_correct for o in graded)
    if correct:
        kind = "solved: no gradient" if correct == len(graded) else "mixed: GRPO learns from it"
        return f"{correct} of {len(graded)} unprivileged rollouts are correct, so in this sample the prompt is {kind}; nothing is distilled."
    doubt = ""
    if len(graded) < len(student):
        return f"No graded rollout is correct, but the verifier failed on {len(student) - len(graded)}: a doubtful cliff, which is not distilled."
    if Outcome.TRUNCATED in student:
        doubt = " It is doubtful, because a rollout was cut off; it is distilled and counted apart."
    return (
        f"A cliff in this sample: {cliff_sentence(len(graded))} Of the privileged rollouts {accepted} of {len(privileged)} "
        f"pass the R = 1 filter and would be distilled.{doubt}"
    )


def level_of(row: Mapping[str, Any]) -> int | None:
    """A level that went through a DataFrame as an integer again; None where there was none."""
    return None if pd.isna(row.get("level")) else int(row["level"])


def problem_of(row: Mapping[str, Any]) -> Problem:
    """The problem in a row of a scan's `problems` table."""
    texts = {name: str(row[name]) for name in ("id", "text", "solution", "answer", "source")}
    return Problem(**texts, level=level_of(row))
