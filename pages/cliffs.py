"""Cliffs: scan a problem set, see which prompts give reinforcement learning nothing, and open one to see why."""

import streamlit as st

from hdpo.errors import BadInput
from workbench.components import group, scans
from workbench.data import catalog, explore
from workbench.state import link_box, sentences

st.title("Cliffs")
st.markdown(
    "Sample every prompt K times. Where no rollout is correct, all rewards are equal, every advantage is zero, and GRPO learns "
    "nothing, however hard the prompt or however promising the model: a **cliff**."
)

has_scans = bool(catalog.runs_of("scan"))
scans.new_scan(expanded=not has_scans)
run = scans.scan_picker()
if run is None:
    st.info("No scan yet. Start one above: the bundled model takes well under a minute for 240 prompts.")
    st.stop()

scans.live_scan(run)
scan = catalog.scan_frame(run)
if scan.empty:
    st.stop()

table = explore.prompt_table(scan)
scans.show_triage(table, run.load_config().rollouts)

st.subheader("Prompts")
st.caption(explore.counts_sentence(table))
link_box("cliffs")
shown = scans.prompt_filters(table)
if shown.empty:
    st.info("No prompt passes these filters.")
    st.stop()
opened = scans.prompt_list(shown)

if opened is not None:
    st.subheader("The opened prompt")
    with sentences():
        row = table[table["problem_id"] == opened].iloc[0].to_dict()
        found = group.open_group(run, row)
        if found is None:
            raise BadInput(f"Prompt {opened}: expected its problem in the scan's tables, found none. Scan again.")
        group.show_group(found)
