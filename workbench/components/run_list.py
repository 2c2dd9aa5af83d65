"""The runs of this folder in hand: found, read, noted, deleted and taken back, and several compared."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.record.folder import Run
from hdpo.work import trash
from workbench import launch, state
from workbench.components import session
from workbench.data import basis, catalog, exports, tradeoff

SHARE = st.column_config.NumberColumn(format="%.1f %%")
SHARES = ("pass@1", "pass@8", "cliffs")
COLUMNS: dict[str, Any] = {
    "lambda": "λ",
    "name": st.column_config.TextColumn(width=250),
    "kind": st.column_config.TextColumn(width=80),
    "note": st.column_config.TextColumn(width="medium"),
    **dict.fromkeys(SHARES, SHARE),
    "curve": st.column_config.LineChartColumn("pass@8 over steps", y_min=0, y_max=1),
    "created": st.column_config.DatetimeColumn(format="YYYY-MM-DD HH:mm"),
}
LISTED = 20  # runs of the trash
PLACES = {  # the pages that a run of a kind fits, with the setting that takes it there
    "scan": (("Cliffs", "cliffs", "cliffs_scan"),),
    "import": (("Cliffs", "cliffs", "cliffs_scan"), ("Verifier", "verifier", "verifier_run")),
    "train": (("the λ lab", "lambda_lab", "lab_run"), ("Gap", "gap", "gap_run"), ("Tradeoff", "tradeoff", "")),
    "sweep": (("the λ lab", "lambda_lab", "lab_run"), ("Tradeoff", "tradeoff", "")),
}


def find(everything: pd.DataFrame) -> pd.DataFrame:
    """One line of filters; the runs that pass them."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        text = st.text_input("Find", key="runs_text", placeholder="name, problems, note", **state.LINKED, width=260)
        kinds, states = (
            st.pills(title, sorted(everything[column].unique()), selection_mode="multi", key=key, **state.LINKED)
            for title, column, key in (("Kind", "kind", "runs_kind"), ("State", "state", "runs_state"))
        )
    return exports.chosen(everything, text, kinds, states)


def table(frame: pd.DataFrame) -> None:
    """The list; one ticked row is opened below, two or more are compared."""

    ids = frame["id"].tolist()
    rows = [ids.index(i) for i in st.session_state.get("runs-ticked", []) if i in ids]  # by id: rows come, go and move
    st.session_state["runs_table"] = {"selection": {"rows": rows, "columns": [], "cells": []}}

    def choose() -> None:
        ticked = [ids[row] for row in st.session_state["runs_table"]["selection"]["rows"]]
        st.session_state["runs-ticked"] = ticked
        if len(ticked) == 1:
            st.session_state["runs_run"] = ticked[0]
        st.session_state["runs_compare"] = ticked if len(ticked) > 1 else []

    shown = exports.listing(frame)
    shown[[*SHARES]] = 100 * shown[[*SHARES]].astype(float)
    st.dataframe(
        shown.dropna(axis=1, how="all"),
        hide_index=True,
        column_config=COLUMNS,
        on_select=choose,
        selection_mode="multi-row",
        key="runs_table",
        placeholder="",
        alt="Runs, newest first.",
    )


def one(run: Run, labels: dict[str, str]) -> None:
    """State, buttons, where it can be read, its command, exports and note, and what is damaged."""
    session.follow(run)
    for sentence in exports.damage(run):
        st.warning(state.escape(sentence))
    facts = catalog.runs_frame().set_index("id").loc[run.id]
    if facts["sweep"]:
        st.caption(state.escape(f"Part of the sweep {labels.get(facts['sweep'], facts['sweep'])}. On its own it is:"))
    if facts["kind"] != "damaged":
        st.code(launch.command_of(run.load_config()), language=None, wrap_lines=True)
    with st.container(horizontal=True, vertical_alignment="center"):
        session.buttons(run, "runs")
        for words, page, key in PLACES.get(facts["kind"], ()):
            st.page_link(state.page(page), label=f"Open in {words}", query_params={key: run.id} if key else {})
        if not run.recorded:
            st.button("Delete", key="runs_delete", on_click=discard, args=(run,))
    if facts["kind"] != "damaged":
        with st.container(horizontal=True):
            for e in exports.exports(str(facts["kind"])):
                file = f"{run.id}-{e.name}"
                st.download_button(e.words, partial(e.text, run), file, e.mime, key=f"runs_{e.name}", on_click="ignore")
    if run.recorded:
        st.caption("It comes with the project: it keeps its name, takes no note, and is not deleted.")
    else:
        name_and_note(run)


def name_and_note(run: Run) -> None:
    """Name and note."""
    with st.form(f"runs_words_{run.id}", border=False):
        name = st.text_input("Name", run.name, max_chars=120, width=520)
        note = st.text_area("Note", run.note, max_chars=1000, height=80, width=520)
        if st.form_submit_button("Keep name and note"):
            if name.strip() != run.name:
                run.rename(name)
            run.write_note(note)
            st.rerun()


def discard(run: Run) -> None:
    """Callback: into the trash, a sweep with its members."""
    with state.sentences():
        gone = [r.id for r in trash.discard(run)]
        st.session_state["runs_deleted"] = gone
        for key in ("runs-ticked", "runs_compare"):
            st.session_state[key] = [i for i in st.session_state.get(key) or [] if i not in gone]
        st.session_state.pop("runs_run", None)
        st.query_params.pop("runs_run", None)


def undo() -> None:
    """The way back of the last deletion, as long as the session lasts."""
    if ids := st.session_state.get("runs_deleted"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.text(f"{ids[0]} lies in the trash{f', with its {len(ids) - 1} members' if len(ids) > 1 else ''}.")
            st.button("Take it back", key="runs_undo", on_click=restore, args=(ids[0],))


def in_trash() -> None:
    """What was deleted, whoever did, and the way back."""
    if found := trash.deleted():
        with st.expander(f"{len(found)} in the trash", type="compact"):
            for run in found[:LISTED]:
                with st.container(horizontal=True, vertical_alignment="center"):
                    st.text(run.name)
                    st.button("Take it back", key=f"runs-back-{run.id}", on_click=restore, args=(run.id,))
            if len(found) > LISTED:
                st.caption(f"And {len(found) - LISTED} older ones, which `python -m hdpo runs restore` takes back.")


def restore(name: str) -> None:
    """Callback."""
    st.session_state.pop("runs_deleted", None)
    with state.sentences():
        (back, *_) = trash.restore(name)
        st.session_state["runs_run"] = back.id


def compare(runs: dict[str, Run], labels: dict[str, str]) -> None:
    """What several runs came to, what it is worth where it can be compared, and the settings in which they differ."""
    ids = state.linked_choices("Compare", {i: labels[i] for i in runs}, "runs_compare", placeholder="two runs or more")
    if len(several := [runs[i] for i in ids]) < 2:
        return
    if len(found := exports.results(several)):
        st.dataframe(found, hide_index=True, alt="Results of the chosen runs at their last evaluation.")
    trained = [r for r in several if r.kind == "train"]
    sets = tradeoff.comparable_sets(trained)
    for members in sets.values():
        if (moments := basis.moments(members, "steps")) and len(members) > 1:
            metrics = (tradeoff.coverage(members), "pass@1", "cliff")
            if not (told := tradeoff.verdicts(tradeoff.differences(members, max(moments), metrics))).empty:
                st.caption(f"Paired by problem and seed, at step {max(moments)}, the last that all have evaluated:")
                st.dataframe(told, hide_index=True, alt="What each λ changed against λ = 0.")
    if len(sets) > 1:
        first = next(iter(sets))
        st.caption(state.escape(f"Not compared with {'; '.join(tradeoff.refusals(sets, first))}."))
    different = exports.differences(several)
    if different.empty:
        st.info("These runs have the same settings.")
    else:
        st.dataframe(different, hide_index=True, alt="Settings in which the chosen runs differ.")


def run_of(frame: pd.DataFrame) -> dict[str, Run]:
    return {i: Run(Path(p)) for i, p in zip(frame["id"], frame["path"], strict=True)}
