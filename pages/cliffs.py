"""Cliffs: scan a problem set, see which prompts give reinforcement learning nothing, and open one to see why."""

import streamlit as st

from hdpo.errors import BadInput
from workbench.components import cliff_map, group, imports, scans
from workbench.data import explore
from workbench.data.glossary import meaning
from workbench.state import link_box, next_step, sentences

heading, which, what = st.columns([3, 4, 4], vertical_alignment="bottom")
heading.title("Cliffs", help=meaning("cliff", "mixed", "solved", "advantage", "gold", "level"))
with which:
    run = scans.scan_picker()
if run is None:
    st.info("No scan yet. Start one below: the bundled model takes well under a minute for 240 prompts.")
    scans.new_scan(expanded=True)
    imports.offer()
    st.stop()
with what:
    arms = cliff_map.choice()

scan, looks = cliff_map.scan_of(run, arms), [] if arms else run.looks()
table = explore.prompt_table(scan, looks)
above, below = st.container(), st.container()
opened, listed, found = None, table, None
with below:
    scans.new_scan(expanded=False)
    imports.offer()
    if len(table):
        st.caption(f"{explore.counts_sentence(table)} {explore.pass_sentence(table)}")
        listed = scans.prompt_filters(table)
        opened = scans.prompt_list(listed) if len(listed) else None
        if listed.empty:
            st.info("No prompt passes these filters.")
        link_box("cliffs")
        with st.expander("Why they are cliffs, and what a cliff can hide"):
            scans.show_triage(scan, looks)

drawn, beside = above.columns([3, 2] if len(arms) > 1 else 2, gap="medium") if opened else (above, None)
with drawn:
    picture = st.container()
    cliff_map.settings(arms or [run], played=bool(arms))
    with picture:
        cliff_map.show(run, arms, set(listed["problem_id"]), opened)
    if not opened:
        st.caption("Click a dot or a row: the prompt opens beside the map.")
if beside is not None:
    with beside.container(height=640, border=False, key="cliffs-opened"), sentences():
        if arms:
            cliff_map.open_prompt(arms, opened)
        else:
            found = group.open_group(run, table[table["problem_id"] == opened].iloc[0].to_dict())
            if found is None:
                raise BadInput(f"Prompt {opened}: expected its problem in the scan's tables, found none. Scan again.")
            mixed = explore.typical_mixed(table)
            group.show_group(found, mixed and group.open_group(run, mixed))
st.caption(
    "Every prompt is sampled K times. Where no rollout is correct all rewards are equal, every advantage is zero, and GRPO learns "
    "nothing, however hard the prompt or however promising the model: a cliff."
)
if arms:
    there = {"side_problem": opened} if opened else {}
    next_step("watch the model peek at it", "side_by_side", **cliff_map.side_params(arms[-1]), **there)
elif run.kind == "import":
    next_step("hold the verifier to these labels", "verifier", verifier_run=run.id)
else:
    words = "watch the model peek at this prompt" if opened else "watch the model peek at a cliff"
    next_step(words, "side_by_side", **group.side_params(run.load_config(), opened))
