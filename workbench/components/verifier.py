"""The verifier bench: a gold and an answer as the grader reads them, the rule that decided; and its errors beside labels."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import streamlit as st

from hdpo.config import ProblemConfig, knobs
from hdpo.grading.graders import whole as whole_grader
from hdpo.record.folder import Run
from hdpo.work import imports
from workbench import forms
from workbench.components import picker, problem_set, request
from workbench.components.rollouts import raw_text
from workbench.data import catalog
from workbench.state import LINKED, escape, linked_choice, page

PAGE = "verifier"
SHARE = st.column_config.NumberColumn(format="percent")
ERRORS = {
    "error": st.column_config.TextColumn("", width="medium"),
    "found": st.column_config.NumberColumn("found", help="Rollouts on which label and verdict contradict each other"),
    "rollouts": st.column_config.NumberColumn("of rollouts", help="With that label, and with a verdict of ours"),
    "share": SHARE,
    "low": SHARE,
    "high": SHARE,
    "prompts": st.column_config.NumberColumn("prompts", help="The unit of the interval: rollouts of one are alike"),
}


def bench() -> None:
    """Gold, answer and grader as widgets; what the interactive worker says of them. Raises BadInput."""
    known = {k.name: k for k in knobs(ProblemConfig())}
    left, right, how = st.columns([2, 3, 2])
    gold = left.text_input("Gold", "1/2", key="verifier_gold", **LINKED)
    answer = right.text_input(
        "Answer", "0.5", key="verifier_answer", help="A whole completion, or what would stand in its box.", **LINKED
    )
    options = forms.with_typed("verifier_grader", problem_set.GRADERS)
    help = forms.hint(known["grader"])
    grader = how.selectbox("Grader", options, key="verifier_grader", accept_new_options=True, help=help, **LINKED)
    forms.grader_here(grader or options[0])
    payload = {"request": "verify", "gold": gold, "answer": answer, "grader": whole_grader(grader or options[0])}
    asked = request.ask_once(PAGE, payload)

    request.tell(asked, tell)


def tell(found: dict[str, str]) -> None:
    """Verdict and rule, and under them both parses."""
    st.markdown(f"#### {escape(found['verdict'].capitalize())}: {escape(found['rule'])}.", anchors=False)
    for side, words in zip(st.columns(2), ("gold", "answer"), strict=True):
        with side:
            st.caption(f"The {words}, as it is read")
            raw_text(found[f"{words}_read"])


def held_to_labels() -> None:
    """False negatives and positives of an import with intervals, and each disagreement."""
    runs = {r.id: r for r in catalog.runs_of("import") if catalog.table_steps(r, imports.VERDICTS)}
    if not runs:
        st.info("No labels yet. Import others' rollouts, with labels and golds, on the page Cliffs.")
        st.page_link(page("cliffs"), label="Import rollouts")
        return
    run = runs[linked_choice("Labels of", {i: picker.label_of(r) for i, r in runs.items()}, "verifier_run")]
    errors, listed, mute = read(str(run.path), catalog.stamp(run.path / "tables"))
    st.markdown(f"#### {escape(said(errors))}", anchors=False)
    st.caption(
        "False negatives are labelled right, and our verifier says wrong or finds no answer; false positives are labelled "
        "wrong, and it says correct. Shares are means over prompts, with their 95 % intervals."
    )
    st.dataframe(
        errors, hide_index=True, column_config=ERRORS, column_order=[*ERRORS], alt="False negatives and positives"
    )
    if mute:
        st.caption(
            f"{mute:,} labelled rollouts have no verdict of ours: their golds cannot be read, or the grader failed."
        )
    st.page_link(page("cliffs"), label="Read its rollouts on Cliffs", query_params={"cliffs_scan": run.id})
    if listed.empty:
        st.caption("No label contradicts a verdict.")
        return
    st.dataframe(listed, hide_index=True, alt="Labels and verdicts that contradict each other, with both parses")
    name = f"{run.id}-disagreements.csv"
    st.download_button("Disagreements (CSV)", lambda: listed.to_csv(index=False), name, "text/csv", on_click="ignore")


def said(errors: pd.DataFrame) -> str:
    """
    >>> said(pd.DataFrame([{"error": "false negatives", "found": 3, "rollouts": 1008}]))
    '3 false negatives in 1,008 rollouts.'
    """
    parts = (f"{e.found:,} {e.error} in {e.rollouts:,} rollouts" for e in errors.itertuples())
    return f"{', '.join(parts)}."


@st.cache_data(show_spinner="Reading the verdicts", max_entries=5)
def read(path: str, at: catalog.Stamp) -> tuple[pd.DataFrame, pd.DataFrame, int]:
    """Errors, disagreements, and how many labelled rollouts have no verdict."""
    run = Run(Path(path))
    rows = imports.compared(run)
    listed = pd.DataFrame(imports.disagreements(run, rows))
    return pd.DataFrame(imports.errors(rows)), listed, imports.unjudged(rows)
