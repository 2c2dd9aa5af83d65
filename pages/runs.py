"""Runs: the list, one run with its command, exports and state, and what several differ in."""

from functools import partial
from pathlib import Path

import pandas as pd
import streamlit as st

from hdpo.record.folder import Run
from workbench import launch, state
from workbench.components import session
from workbench.data import catalog, exports


def table(frame: pd.DataFrame) -> None:
    """The list; a click on a row chooses the run below."""

    def choose() -> None:
        rows = st.session_state["runs_table"]["selection"]["rows"]
        if rows:
            st.session_state["runs_run"] = frame["id"].iloc[rows[0]]

    share = st.column_config.NumberColumn(format="percent")
    columns = {"pass@1": share, "pass@8": share, "created": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm")}
    st.dataframe(
        exports.listing(frame),
        hide_index=True,
        column_config=columns,
        on_select=choose,
        selection_mode="single-row",
        key="runs_table",
        alt="All runs, newest first.",
    )


def one(run: Run, labels: dict[str, str]) -> None:
    """State, buttons, command, exports, and what is damaged."""
    session.follow(run)
    for sentence in exports.damage(run):
        st.warning(state.escape(sentence))
    frame = catalog.runs_frame().set_index("id").loc[run.id]
    if frame["sweep"]:
        st.caption(state.escape(f"Part of the sweep {labels[frame['sweep']]}. On its own it is:"))
    if frame["kind"] != "damaged":
        st.code(launch.command_of(run.load_config()), language=None, wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        session.buttons(run, "runs")
        if frame["kind"] in ("train", "sweep"):
            st.page_link(state.page("lambda_lab"), label="Open in the λ lab", query_params={"lab_run": run.id})
    if frame["kind"] == "damaged":
        return
    with st.container(horizontal=True):
        for e in exports.exports(str(frame["kind"])):
            st.download_button(
                e.words, partial(e.text, run), f"{run.id}-{e.name}", e.mime, key=f"runs_{e.name}", on_click="ignore"
            )
    if not run.recorded:
        rename(run)


def rename(run: Run) -> None:
    with (
        st.form(f"runs_rename_{run.id}", border=False),
        st.container(horizontal=True, vertical_alignment="bottom", width=520),
    ):
        name = st.text_input("Name", run.name, max_chars=120)
        if st.form_submit_button("Rename"):
            run.rename(name)
            st.rerun()


def compare(found: dict[str, Run], names: dict[str, str]) -> None:
    st.subheader("Compare configs")
    chosen = st.multiselect("Runs to compare", list(found), format_func=lambda i: names[i], key="runs_compare")
    if len(chosen) < 2:
        st.caption("Choose two runs or more: only the settings in which they differ are shown.")
        return
    different = exports.differences([found[i] for i in chosen])
    if different.empty:
        st.info("These runs have the same settings.")
    else:
        st.dataframe(different, hide_index=True, alt="Settings in which the chosen runs differ.")


st.title("Runs")
everything = catalog.runs_frame()
if everything.empty:
    st.info("No run yet. What you start in the λ lab, or from a terminal with python -m hdpo train, appears here.")
    st.page_link(state.page("lambda_lab"), label="Start a run")
else:
    table(everything)
    by_id = {i: Run(Path(p)) for i, p in zip(everything["id"], everything["path"], strict=True)}
    labels = catalog.labels(by_id.values())
    one(by_id[state.linked_choice("Run", labels, "runs_run")], labels)
    whole = set(everything.loc[everything["kind"] != "damaged", "id"])
    compare({i: r for i, r in by_id.items() if i in whole}, labels)
