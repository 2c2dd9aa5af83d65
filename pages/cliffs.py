"""Cliffs: scan a problem set, see which prompts give reinforcement learning nothing, and open one to see why."""

import streamlit as st

from hdpo.errors import BadInput
from workbench.components import group, scans
from workbench.data import catalog, explore
from workbench.data.glossary import meaning
from workbench.state import link_box, next_step, sentences

heading, which = st.columns([1, 3], vertical_alignment="bottom")
heading.title("Cliffs", help=meaning("cliff", "mixed", "solved", "advantage", "gold", "level"))
with which:
    run = scans.scan_picker()
if run is None:
    st.info("No scan yet. Start one below: the bundled model takes well under a minute for 240 prompts.")
    scans.new_scan(expanded=True)
    st.stop()

scans.live_scan(run)
scans.new_scan(expanded=False)
scan = catalog.scan_frame(run)
if scan.empty:
    st.stop()

table = explore.prompt_table(scan)
listed, beside = st.columns(2, gap="medium")
with listed:
    st.caption(explore.counts_sentence(table))
    shown = scans.prompt_filters(table)
    opened = scans.prompt_list(shown) if len(shown) else None
    if shown.empty:
        st.info("No prompt passes these filters.")
    link_box("cliffs")
with beside:
    if opened is None:
        st.caption("Click a row: its rollouts, rewards and gradient appear here.")
    else:
        with sentences():
            row = table[table["problem_id"] == opened].iloc[0].to_dict()
            found = group.open_group(run, row)
            if found is None:
                raise BadInput(f"Prompt {opened}: expected its problem in the scan's tables, found none. Scan again.")
            group.show_group(found)
with st.expander("Why they are cliffs, and what a cliff can hide"):
    scans.show_triage(table, run.load_config().rollouts)
st.caption(
    "Every prompt is sampled K times. Where no rollout is correct all rewards are equal, every advantage is zero, and GRPO learns "
    "nothing, however hard the prompt or however promising the model: a cliff."
)
if opened is not None and found is not None:
    next_step("watch the model peek at this prompt", "side_by_side", **group.side_params(found))
else:
    next_step("watch the model peek at a cliff", "side_by_side")
