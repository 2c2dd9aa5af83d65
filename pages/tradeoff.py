"""Tradeoff: coverage against accuracy over λ, one mark a run, with what each λ changed and how sure that is."""

import streamlit as st

from hdpo.record.folder import Run
from workbench import state
from workbench.components import tradeoff
from workbench.components.follow import follow
from workbench.data import catalog
from workbench.data import tradeoff as data

OTHERS = (
    "No comparison with the runs of the other sets is drawn. The recorded runs were measured on the test problems, those "
    "of the λ lab are measured on validation. "
)


def choose(runs: list[Run], key: str) -> list[Run]:
    """The runs of these arms, without those left out one by one."""
    facts = data.describe(runs).sort_values("lambda", kind="stable")
    arms = list(dict.fromkeys(facts["arm"]))
    wanted = st.pills(
        "Runs with", arms, selection_mode="multi", default=arms, key=f"tradeoff_arms_{key}", bind="query-params"
    )
    names = catalog.labels(runs)
    with st.popover("Leave out single runs", key=f"tradeoff_out_box_{key}"):
        out = st.multiselect(
            "Leave out", list(names), format_func=names.get, key=f"tradeoff_out_{key}", bind="query-params"
        )
    kept = set(facts[facts["arm"].isin(wanted)]["run"]) - set(out)
    return [run for run in runs if run.id in kept]


st.title("Tradeoff")
st.caption(
    "Accuracy (pass@1) is what one sample is worth, coverage (pass@8) is what lies within reach. λ buys coverage, and at some point pays with accuracy."
)
runs = catalog.runs_of("train")
sets = data.comparable_sets(runs)
if out := [run for run in runs if not data.worth_drawing(run)]:
    st.caption(
        f"{len(out)} of {len(runs)} trainings are not drawn: they ended, or have just begun, without an evaluation of a trained model."
    )
if not sets:
    st.info("No run has an evaluation yet. Start a pair in the λ lab: λ = 0 and a λ above it, with the same seed.")
else:
    words = {name: f"{name}: {len(runs)} run{'s' if len(runs) > 1 else ''}" for name, runs in sets.items()}
    name = state.linked_choice("Runs measured alike", words, "tradeoff_set")
    if len(sets) > 1:
        st.caption(OTHERS + state.escape("; ".join(data.refusals(sets, name))) + ".")
    chosen = choose(sets[name], data.short(name))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        view = st.segmented_control(
            "View", tradeoff.VIEWS, default=tradeoff.VIEWS[0], required=True, key="tradeoff_view", bind="query-params"
        )
        x = st.segmented_control(
            "Across", data.X_CHOICES, default="pass@1", required=True, key="tradeoff_x", bind="query-params"
        )
        state.link_box("tradeoff")
    if chosen:
        follow(chosen, lambda: tradeoff.draw(chosen, x, view))
    else:
        st.info("Choose at least one run.")
