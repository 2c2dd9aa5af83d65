"""The loss microscope: what each objective gives every token of one group's rollouts, by its own denominator. No Streamlit here."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from hdpo.config import Advantage
from hdpo.method.advantages import advantages
from hdpo.records import Outcome

# How each divides: by its rollout's own length and the group's size, by all tokens of the group, or by a constant of the run.
OBJECTIVES = {
    "GRPO": (Advantage.STD, "rollout"),  # arXiv 2402.03300
    "DAPO": (Advantage.STD, "tokens"),  # arXiv 2503.14476
    "Dr. GRPO": (Advantage.DR_GRPO, "limit"),  # arXiv 2503.20783
    "leave-one-out (here)": (Advantage.LEAVE_ONE_OUT, "tokens"),  # arXiv 2402.14740
}
JSD = "λ·L_JSD"


def weights(outcomes: Sequence[Outcome], lengths: Sequence[int], limit: int) -> pd.DataFrame:
    """One row a rollout: rollout, verdict, tokens, and for each objective the factor before a token's log-prob in what is
    maximised, in thousandths. limit: the longest completion, in tokens.

    >>> w = weights([Outcome.CORRECT, Outcome.WRONG], [10, 30], 64)
    >>> w.drop(columns=["rollout", "verdict"]).round(2).values.tolist()
    [[10.0, 50.0, 25.0, 3.91, 25.0], [30.0, -16.67, -25.0, -3.91, -25.0]]
    """
    rewards, rows = [o.reward for o in outcomes], pd.DataFrame({"rollout": range(1, len(outcomes) + 1)})
    rows = rows.assign(verdict=[o.value for o in outcomes], tokens=lengths)
    for name, (form, by) in OBJECTIVES.items():
        share = {"rollout": rows["tokens"] * len(rows), "tokens": rows["tokens"].sum(), "limit": limit * len(rows)}[by]
        rows[name] = 1000 * pd.Series(advantages(rewards, form)) / share
    return rows


def distilled(outcomes: Sequence[Outcome], lengths: Sequence[int], lam: float) -> pd.DataFrame:
    """The same of a cliff's privileged rollouts under λ·L_JSD (λ = 0: no cliff): one denominator, the accepted tokens; a
    rollout with R = 0 gets nothing.

    >>> distilled([Outcome.CORRECT, Outcome.WRONG], [10, 30], 0.3)["λ·L_JSD"].tolist()
    [30.0, 0.0]
    """
    taken = pd.Series([o.is_correct for o in outcomes], dtype=float)
    rows = pd.DataFrame(
        {"rollout": range(1, len(outcomes) + 1), "verdict": [o.value for o in outcomes], "tokens": lengths}
    )
    return rows.assign(**{JSD: 1000 * lam * taken / max(1.0, float((taken * rows["tokens"]).sum()))})


def sentence(student: pd.DataFrame, privileged: pd.DataFrame) -> str:
    """What the group's two tables come to."""
    plain = student[list(OBJECTIVES)].abs().to_numpy().max()
    accepted = int((privileged[JSD] > 0).sum()) if len(privileged) else 0
    if plain == 0:
        heard = (
            f"λ·L_JSD gives {accepted} privileged ones a weight" if accepted else "and no privileged one was accepted"
        )
        return (
            f"Every reward of the student's rollouts is the same: each objective gives each of their tokens 0; {heard}."
        )
    one = student["verdict"] == Outcome.CORRECT.value
    if one.sum() < 2:
        return "One right rollout among wrong ones: under GRPO each of its tokens weighs the more, the shorter it is."
    ratio = student.loc[one, "GRPO"].max() / max(student.loc[one, "GRPO"].min(), 1e-12)
    return (
        f"A right answer's token weighs up to {ratio:.2g} times as much in a short rollout as in a long one under GRPO, and the same "
        "in all of them where one denominator serves the group."
    )
