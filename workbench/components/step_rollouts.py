"""The rollouts of one training step: group first, rollout second."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from hdpo.record.folder import Run
from hdpo.records import Outcome
from workbench.components.rollouts import cards_of, grouped, raw_text, rollout_list
from workbench.data import catalog, leak
from workbench.data.explore import acceptance, graded
from workbench.figures import headlines
from workbench.figures.cliffs import REGIMES
from workbench.state import escape

KINDS = [kind.value for kind in REGIMES]


def browse(members: list[Run]) -> None:
    """Choose run, step and prompt; the group first, then each rollout as a card. Keys: lab_member, lab_step, lab_kinds, lab_prompt."""
    member = members[0]
    if len(members) > 1:
        names = catalog.labels(members)
        most = max(range(len(members)), key=lambda i: members[i].load_config().objective.lambda_)  # it peeks
        chosen = st.selectbox("Of the run", list(names), most, format_func=lambda i: names[i], key="lab_member")
        member = next(m for m in members if m.id == chosen)
    steps = catalog.rollout_steps(member)
    if not steps:
        st.caption(
            "No rollouts are kept here yet: those of a step appear when it is finished, and recorded runs come without."
        )
        return
    pick, regime, prompt = st.columns([3, 3, 4], vertical_alignment="bottom")
    step = pick.select_slider("Step", steps, steps[-1], key="lab_step") if len(steps) > 1 else steps[0]
    frame = catalog.step_rollouts(member, step)
    peeks = frame[(frame["role"] == "privileged") & (frame["outcome"] == Outcome.CORRECT.value)]
    solutions = {r["id"]: r["solution"] for r in catalog.table_rows(member, "problems", 0)} if len(peeks) else {}
    if words := leak.sentence(peeks, solutions):
        st.caption(escape(words))
    groups = group_labels(frame)
    kinds = regime.pills("Regime", KINDS, selection_mode="multi", key="lab_kinds")
    wanted = [i for i in groups if not kinds or frame.loc[frame["problem_id"] == i, "kind"].iloc[0] in kinds]
    if not wanted:
        st.caption("No prompt of this step is of that kind.")
        return
    chosen_id = prompt.selectbox("Prompt", wanted, format_func=lambda i: groups[i], key="lab_prompt")
    group(frame[frame["problem_id"] == chosen_id])


def group(rows: pd.DataFrame) -> None:
    """The problem, what the filter made of it, and both sides' rollouts, equal ones once."""
    raw_text(str(rows.iloc[0]["problem"]))
    student, peeks = (rows[rows["role"] == role] for role in ("student", "privileged"))
    says = headlines.filtered(str(rows.iloc[0]["kind"]), graded(outcomes_of(student)), outcomes_of(peeks))
    st.markdown(f"#### {escape(says)}", anchors=False)
    if peeks.empty:
        rollout_list(grouped(cards_of(student)), columns=2)
        return
    notes = [acceptance(Outcome(r["outcome"]), int(r["tokens"]))[1] for r in peeks.to_dict("records")]
    left, right = st.columns(2)
    with left:
        st.markdown("**Without the solution (student)**")
        rollout_list(grouped(cards_of(student)))
    with right:
        st.markdown("**With it (privileged)**")
        rollout_list(grouped(cards_of(peeks, notes=notes)))


def outcomes_of(rows: pd.DataFrame) -> list[Outcome]:
    return [Outcome(o) for o in rows["outcome"]]


def group_labels(frame: pd.DataFrame) -> dict[str, str]:
    """problem id → 'id · kind · correct of K', cliffs first."""
    student = frame[frame["role"] == "student"]
    found = {}
    for problem_id, rows in student.groupby("problem_id", sort=False):
        right = int((rows["outcome"] == Outcome.CORRECT.value).sum())
        found[str(problem_id)] = f"{problem_id} · {rows.iloc[0]['kind']} · {right} of {len(rows)} correct"
    return dict(sorted(found.items(), key=lambda item: " · cliff · " not in item[1]))
