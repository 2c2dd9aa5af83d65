"""Silence speaks: sentences about a training in which nothing, or only one term, is being learned. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

PATIENCE = 5  # steps before a silence is worth a sentence
TRUNCATED = 0.2  # share of a step's rollouts above which the length limit is the story
TAKEN_OVER = 10.0  # gradient norm of λ·L_JSD over that of L_GRPO above which one step is the other's


def sentences(steps: pd.DataFrame) -> list[str]:
    """What a person should know about these steps of one run (columns: `catalog.STEP_COLUMNS`). Empty if all is well."""
    if steps.empty:
        return []
    steps = steps.sort_values("step")
    found = [*about_lambda(steps), *about_grpo(steps), *about_rollouts(steps)]
    return [f for f in found if f]


def about_lambda(steps: pd.DataFrame) -> list[str]:
    if (steps["lambda"] == 0).all():
        return []
    cliffs = steps[
        [
            "groups_cliff_recovered",
            "groups_cliff_lost",
            "groups_cliff_skipped",
            "groups_cliff_too_long",
            "groups_doubtful_grader",
        ]
    ].sum(axis=1)
    taught = steps["lambda"] > 0  # an arm may begin or end without the term
    bare = streak(taught & (cliffs == 0))
    lost = streak(taught & (steps["privileged_rollouts"] > 0) & (steps["accepted_rollouts"] == 0))
    ratio = (
        (steps["grad_norm_jsd"] / steps["grad_norm_grpo"].where(steps["grad_norm_grpo"] > 0)).tail(PATIENCE).median()
    )
    return [
        f"{bare} steps without a cliff: the λ term did nothing." if bare >= PATIENCE else "",
        f"{lost} steps in which no privileged rollout was accepted: even with the solution before it the model fails, and the λ term did nothing."
        if lost >= PATIENCE
        else "",
        f"The gradient of λ·L_JSD is {ratio:.0f} times that of L_GRPO: λ takes over the normalised update, and GRPO stalls."
        if len(steps) >= PATIENCE and ratio > TAKEN_OVER
        else "",
    ]


def about_grpo(steps: pd.DataFrame) -> list[str]:
    dull = streak(steps["groups_mixed"] == 0)
    if dull < PATIENCE:
        return []
    last = steps.iloc[-1]
    why = (
        "every prompt is solved"
        if last["groups_solved"] > 0 and last["reward"] == 1.0
        else "each group is all right or all wrong"
    )
    return [f"{dull} steps without a mixed prompt: the GRPO term did nothing, since {why}."]


def about_rollouts(steps: pd.DataFrame) -> list[str]:
    last = steps.iloc[-1]
    share = last["truncated"] / last["rollouts"] if last["rollouts"] else 0.0
    left_out = {
        "too long for the context": last["groups_too_long"],
        "with a gold answer that cannot be parsed": last["groups_ungradable"],
        "doubtful through a grader error": last["groups_doubtful_grader"],
    }
    words = [
        f"{many(int(count), 'prompt')} of the last step {what}: counted, not used."
        for what, count in left_out.items()
        if count > 0
    ]
    if share > TRUNCATED:
        words.append(
            f"{share:.0%} of the last step's rollouts were truncated: their reward is 0, and a cliff through truncation may be none. "
            "Raise the longest completion."
        )
    return words


def about_peak(evals: Sequence[Mapping[str, Any]], before: pd.DataFrame, now: pd.DataFrame) -> str:
    """Where pass@1 peaked and where it stands, and how many of the prompts that were solved before training are right less than
    half the time now: two signs of a collapse. before, now: `tradeoff.counts`.

    >>> row = lambda step, value: {"step": step, "pass_at": {"1": {"value": value}}}
    >>> n = pd.DataFrame({"n": [4, 4], "correct": [4, 1]}, index=["a", "b"])
    >>> about_peak([row(0, 0.3), row(5, 0.5), row(9, 0.4)], n, n.assign(correct=[1, 4]))
    'pass@1 peaked at step 5 (0.500) and stands at 0.400 at step 9; of 1 prompt solved before training 1 is lost.'
    """
    values = {int(r["step"]): r["pass_at"]["1"]["value"] for r in evals if "1" in r["pass_at"]}
    if not values:
        return ""
    best, last = max(values, key=lambda s: values[s]), max(values)
    solved = before.index[before["correct"] == before["n"]].intersection(now.index)
    lost = int((2 * now.loc[solved, "correct"] < now.loc[solved, "n"]).sum())
    stands = f"peaked at step {best} ({values[best]:.3f}) and stands at {values[last]:.3f} at step {last}"
    stands = stands if best != last else f"is at its highest at step {last} ({values[last]:.3f})"
    return f"pass@1 {stands}; of {many(len(solved), 'prompt')} solved before training {lost} {'is' if lost == 1 else 'are'} lost."


def about_problems(rows: Sequence[Mapping[str, Any]]) -> str:
    """What reading the problems left out, and why; "" where nothing was. rows: the kinds `data` and `gold`.

    >>> about_problems([{"kind": "data", "read": 9, "duplicates": 1, "skipped": 0}, {"kind": "gold", "ungradable": 2}])
    'Problems: 9 read, 1 duplicate left out, 2 with a gold answer that cannot be parsed left out.'
    """
    data = next((r for r in rows if r["kind"] == "data"), {})
    gold = next((r for r in rows if r["kind"] == "gold"), {})
    left_out = [
        f"{many(data.get('duplicates', 0), 'duplicate')} left out",
        f"{many(data.get('skipped', 0), 'row')} skipped",
        f"{gold.get('ungradable', 0)} with a gold answer that cannot be parsed left out",
    ]
    words = [w for w in left_out if not w.startswith("0 ")]
    if not words:
        return ""
    first = " ".join(data.get("skipped_first", [])[:3])
    return f"Problems: {data.get('read', 0)} read, {', '.join(words)}.{' ' + first if first else ''}"


def many(n: int, word: str) -> str:
    """
    >>> many(1, "row"), many(2, "row")
    ('1 row', '2 rows')
    """
    return f"{n} {word}{'' if n == 1 else 's'}"


def streak(holds: pd.Series) -> int:
    """How many of the last rows hold, without a break.

    >>> streak(pd.Series([True, False, True, True]))
    2
    """
    return int(holds[::-1].astype(int).cumprod().sum())
