"""Runs: the list with its filters, one run in hand, and what several came to and differ in."""

import streamlit as st

from workbench import state
from workbench.components import run_list
from workbench.data import catalog, exports

st.title("Runs")
run_list.undo()
everything = exports.in_families(catalog.runs_frame())
if everything.empty:
    st.info("No run yet. What you start in the λ lab, or from a terminal with python -m hdpo train, appears here.")
else:
    shown = run_list.find(everything)
    if shown.empty:
        st.info("No run passes these filters.")
    else:
        st.caption(f"{len(shown)} of {len(everything)} runs. Tick one to open it below, two or more to compare them.")
        run_list.table(shown)
    runs = run_list.run_of(everything)
    labels = catalog.labels(runs.values())
    whole = set(everything.loc[everything["kind"] != "damaged", "id"])
    run_list.compare({i: run for i, run in runs.items() if i in whole}, labels)
    run_list.one(runs[state.linked_choice("Run", labels, "runs_run")], labels)
run_list.in_trash()
state.next_step("why it works, in five questions", "glossary")
st.page_link(state.page("lambda_lab"), label="Start another run")
