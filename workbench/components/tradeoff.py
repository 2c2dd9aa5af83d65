"""The views of the page Tradeoff over one choice of runs: a moment, its figures, and what each difference is worth."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from hdpo.record.folder import Run
from workbench import state
from workbench.components import session
from workbench.components.figure import show
from workbench.components.follow import badges
from workbench.components.web import Picture
from workbench.data import basis, paper
from workbench.data import tradeoff as data
from workbench.data.basis import At
from workbench.figures import headlines, tradeoff

VIEWS = ("Tradeoff", "Differences to λ = 0", "pass@k", "By level", "Final and best")
MARKS = (
    "What this is: each arm's way from the base model, accuracy across and coverage up: the thick path is the mean over seeds, "
    "thin ones are the runs, their ends with 95 % intervals over problems. What is normal: GRPO (λ = 0) goes right; a middle λ goes up as well; a large one goes up and gives accuracy back. "
    "Bars do not cover training noise: look at the seeds."
)
PLANE = (
    "What this is: what each λ changed against λ = 0, paired by problem and seed; intervals cover problems and, from two "
    "seeds on, training noise. Dotted: the paper's differences to its GRPO row, Table 1 filled and Table 3 open; the line "
    "between them is how far a repetition disagrees. What is normal: effects here are several times the paper's, since "
    "the cliffs of the bundled model are made by construction. Of twenty intervals about one misses."
)
CURVES = (
    "What this is: pass@k over k, means over seeds; faint marks are seeds. What is normal: curves that cross, where one λ "
    "is more accurate and another covers more; k ends at half of the samples, beyond it the estimate is a coin a problem."
)
LEVELS = (
    "What this is: the same evaluation by level of the problems. What is normal: GRPO sharpens the levels that are mixed "
    "and does little for the cliffs of the upper levels; λ > 0 turns these into solvable prompts."
)
EQUAL = (
    "A privileged rollout costs tokens and time that λ = 0 does not pay. Steps: every run at the same step. Tokens, seconds: "
    "each run at its last evaluation that took no more than the amount chosen."
)
REACHED = "What all of these runs have reached."
BEST = (
    "What this is: the last value of each run beside its best over training. What is normal: the best is higher also where "
    "nothing happened, since it is a maximum over noisy evaluations; the paper reports it."
)


def draw(runs: Sequence[Run]) -> None:
    """One view of these runs at a moment that all of them have reached: the figure, then what changes it, then its table."""
    top = st.container()
    chosen = moment_of(runs)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control("View", VIEWS, default=VIEWS[0], required=True, key="tradeoff_view", **state.LINKED)
        x = st.segmented_control(
            "Accuracy as", data.X_CHOICES, default="pass@1", required=True, key="tradeoff_x", **state.LINKED
        )
        state.link_box("tradeoff")
    with top:
        if view == VIEWS[4]:
            final_and_best(runs)
        elif chosen is None:
            st.warning("No step was evaluated by all of these runs. Leave out those that have just begun, or wait.")
        else:
            changed = draw_at(runs, chosen, x, view)
    if chosen is not None and view in VIEWS[:2]:
        in_words(runs, changed, chosen.at)
    badges(runs)
    st.caption(state.escape(data.identity_words(runs)))


@dataclass(frozen=True)
class Moment:
    """What runs are compared at. so_far: this and all earlier ones, with their words."""

    words: str
    at: At
    so_far: dict[str, At]


def moment_of(runs: Sequence[Run], prefix: str = "tradeoff") -> Moment | None:
    """The moment at which runs are compared, and what it holds equal: the one selector of it."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        words = "Held equal"
        how = st.segmented_control(
            words, list(basis.UNITS), default="steps", required=True, key=f"{prefix}_basis", **state.LINKED, help=EQUAL
        )
        found = basis.moments(runs, how)
        amounts = list(found)
        if len(amounts) > 1:
            words, key = f"Compare at: {basis.UNITS[how]}", f"{prefix}_{'step' if how == 'steps' else how}"
            amount = st.select_slider(words, amounts, amounts[-1], key=key, help=REACHED, **state.LINKED)
        elif amounts:
            amount = amounts[0]
        else:
            return None
    told = {basis.words(a, at, how): at for a, at in found.items() if a <= amount}
    return Moment(basis.words(amount, found[amount], how), found[amount], told)


def draw_at(runs: Sequence[Run], moment: Moment, x: str, view: str) -> pd.DataFrame:
    """The figure of a view. Returns the paired differences behind it."""
    y, facts, at = data.coverage(runs), f"{moment.words} · {session.facts_of(list(runs))}", moment.at
    changed = data.differences(runs, at, tuple(dict.fromkeys((y, x, "pass@1", "cliff"))))
    cost = headlines.cost(*data.costs(runs, at)) if view in VIEWS[:2] else ""
    if view == VIEWS[0]:
        table, told = data.points(runs, at, x), moment.so_far
        ways = tradeoff.paths(
            data.paths(runs, list(told.values()), x), list(told), data.x_title(x, runs), f"coverage: {y}"
        )
        says = headlines.arms(table, changed, moment.words, x, y)
        show(
            Picture("paths", ways),
            headline=says,
            note=MARKS,
            facts=facts,
            frame=table,
            key="tradeoff-points",
            more=cost,
        )
    elif view == VIEWS[1]:
        plane(changed, moment.words, x, y, facts, cost)
    elif view == VIEWS[2]:
        table = data.pass_k_table(runs, at)
        fig, says = tradeoff.pass_k_curves(table), headlines.curves(table)
        show(fig, headline=says, note=CURVES, facts=facts, frame=table, key="tradeoff-k")
    else:
        table = data.level_table(runs, at)
        fig, says = tradeoff.by_level(table, ("pass@1", y, "cliff")), headlines.levels(table, y)
        show(fig, headline=says, note=LEVELS, facts=facts, frame=table, key="tradeoff-levels")
    return changed


def final_and_best(runs: Sequence[Run]) -> None:
    """One table over all steps."""
    order = ("arm", "seed", "metric", "final", "final_step", "best", "best_step", "evaluations", "run")
    found, names = data.best_and_final(runs), {"arm": "λ"}
    st.dataframe(found, hide_index=True, column_order=order, column_config=names, key="tradeoff-best", alt=BEST)
    st.caption(BEST)


def plane(changed: pd.DataFrame, when: str, x: str, y: str, facts: str, cost: str) -> None:
    """What each λ changed as a figure, the paper's tables as its layer."""
    same = (x, y) == ("pass@1", "pass@8")
    layer = st.toggle(
        "Add the paper's Tables 1 and 3 (pass@1 and pass@8 alone)",
        key="tradeoff_paper",
        **state.LINKED,
        disabled=not same,
        help=paper.spread_words(),
    )
    theirs = paper.paper_differences() if layer and same else None
    behind = changed if theirs is None else paper.beside(changed, theirs)
    fig, says = tradeoff.difference_plane(changed, x, y, theirs), headlines.changes(changed, when)
    show(fig, headline=says, note=PLANE, facts=facts, frame=behind, key="tradeoff-plane", more=cost)


def in_words(runs: Sequence[Run], changed: pd.DataFrame, at: At) -> None:
    """Each difference with its interval, what has none, and from how large a one on this comparison would show it."""
    if arms := data.unpaired_arms(runs):
        words = f"Without a λ = 0 run of the same seed and settings, so without a difference: {', '.join(arms)}."
        st.caption(state.escape(words))
    words = "What each λ changed against λ = 0, in words"
    if not (verdicts := data.verdicts(changed)).empty:
        st.dataframe(verdicts, hide_index=True, key="tradeoff-verdicts", alt=words)
    st.caption(data.detectable_words(runs, at))
