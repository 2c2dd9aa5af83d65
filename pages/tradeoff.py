"""Tradeoff: coverage against accuracy over λ, one mark a run, with what each λ changed and how sure that is."""

import streamlit as st

from hdpo.record.folder import Run
from workbench import state
from workbench.components import tradeoff
from workbench.components.follow import follow
from workbench.data import catalog
from workbench.data import tradeoff as data
from workbench.data.glossary import meaning

OTHERS = (
    "No comparison with the runs of the other sets is drawn. The recorded runs were measured on the test problems, those "
    "of the λ lab are measured on validation. "
)


def choose(runs: list[Run], key: str) -> list[Run]:
    """The runs of these arms, without those left out one by one."""
    facts = data.describe(runs).sort_values("lambda", kind="stable")
    arms = list(dict.fromkeys(facts["arm"]))
    names = catalog.labels(runs)
    with st.popover("Choose runs", key=f"tradeoff_out_box_{key}"):
        wanted = st.pills(
            "Runs with", arms, selection_mode="multi", default=arms, key=f"tradeoff_arms_{key}", **state.LINKED
        )
        out = state.linked_choices("Leave out", names, f"tradeoff_out_{key}")
    kept = set(facts[facts["arm"].isin(wanted)]["run"]) - set(out)
    return [run for run in runs if run.id in kept]


def about(sets: dict[str, list[Run]], name: str, runs: list[Run]) -> None:
    """What is drawn of all there is, and why not the rest."""
    if out := [run for run in runs if not data.worth_drawing(run)]:
        st.caption(
            f"{len(out)} of {len(runs)} trainings are not drawn: they ended, or have just begun, without an evaluation of a trained model."
        )
    if len(sets) > 1:
        st.caption(OTHERS + state.escape("; ".join(data.refusals(sets, name))) + ".")


runs = catalog.runs_of("train")
sets = data.comparable_sets(runs)
heading, which, chooser = st.columns([2, 4, 1.7], vertical_alignment="bottom")
heading.title("Tradeoff", help=meaning("pass@k", "coverage", "λ"))
if not sets:
    st.info("No run has an evaluation yet. Start a pair in the λ lab: λ = 0 and a λ above it, with the same seed.")
else:
    words = {name: f"{name}: {len(runs)} run{'s' if len(runs) > 1 else ''}" for name, runs in sets.items()}
    with which:
        name = state.linked_choice("Runs measured alike", words, "tradeoff_set")
    with chooser:
        chosen = choose(sets[name], data.short(name))
    if chosen:
        follow(chosen, lambda: tradeoff.draw(chosen))
    else:
        st.info("Choose at least one run.")
    about(sets, name, runs)
state.next_step("every run, its numbers and its files", "runs")
