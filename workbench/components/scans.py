"""Scans as the page Cliffs shows them: the form, the progress, the picture, the table of prompts."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import streamlit as st

from hdpo.config import CENSUS, ScanConfig, knobs, replace_knobs
from hdpo.data.problems import SPLITS
from hdpo.record.folder import Run, State
from workbench import forms, launch
from workbench.components import picker
from workbench.data import catalog, explore
from workbench.state import LINKED, at_once, escape, linked_choice, say_refusal, sentences

PAGE = "cliffs"
SETTINGS = ("rollouts", "temperature", "max_new_tokens", "limit", "seed")
COLUMNS = {
    "problem_id": st.column_config.TextColumn("prompt"),
    "graded": st.column_config.NumberColumn("of", help="Rollouts with a verdict of the verifier"),
    "rate": st.column_config.ProgressColumn("pass rate", min_value=0.0, max_value=1.0, format="%.2f"),
    "low": st.column_config.NumberColumn("from", format="%.2f", help="Exact interval (Clopper and Pearson), 95 %"),
    "high": st.column_config.NumberColumn("to", format="%.2f", help="Exact interval (Clopper and Pearson), 95 %"),
    "reason": st.column_config.TextColumn("why a cliff"),
    "below": st.column_config.NumberColumn(
        "p < 1/64", format="%.2f", help="Chance that the pass rate is below 1/64, by the scan as a whole"
    ),
    "problem": st.column_config.TextColumn(width="large"),
}


def scan_form() -> ScanConfig:
    """Model, problem set, K, temperature and the rest as widgets. Raises BadInput."""
    known = {k.name: k for k in knobs(ScanConfig())}
    left, right = st.columns(2)
    with left:
        model = picker.model_picker(PAGE)
    with right:
        source = picker.problem_source(PAGE)
    values = forms.settings((known[name] for name in SETTINGS), f"{PAGE}_")
    config = replace_knobs(ScanConfig(), values)
    data = replace(source.config, limit=config.data.limit or source.config.limit)
    return replace(config, model=model.started(), data=data, prompts=model.prompts, split=source.split)


def new_scan(expanded: bool) -> None:
    """The form with its command and its button; a started scan becomes the chosen one."""
    linked = f"{PAGE}_set" in st.query_params
    with st.expander("New scan", expanded=expanded or linked, icon=":material/search:"), sentences():
        config = scan_form()
        st.code(launch.command_of(config), language="bash", wrap_lines=True)
        if at_once("Start scan", lambda: start(config), f"{PAGE}_", "cliffs_start", type="primary"):
            start(config)
        say_refusal()


def start(config: ScanConfig) -> None:
    """A started scan is the chosen one. Raises HdpoError."""
    name = f"{config.data.problems.rsplit('/', 1)[-1]} {config.split}, K={config.rollouts}"
    st.session_state["cliffs_scan"] = launch.start_heavy(config, name=name)


def scan_picker() -> Run | None:
    """The scan to read: the newest own one that is done and has a prompt, else one that has, own ones first. Key: cliffs_scan."""
    scans = {run.id: run for run in catalog.runs_of(*CENSUS)}
    if not scans:
        return None
    full = [i for i, run in scans.items() if not catalog.scan_frame(run).empty]
    done = next((i for i in full if scans[i].status().state is State.DONE), (full or list(scans))[0])
    chosen = linked_choice("Scan", {i: picker.label_of(run) for i, run in scans.items()}, "cliffs_scan", done)
    return scans[chosen]


def show_status(run: Run) -> None:
    """Nothing for a finished scan; else phase, progress, time left, and what can be done."""
    status = run.status()
    if status.state is State.DONE:
        return
    if status.state.ended:
        st.warning(f"This {run.kind} is {status.state.value}. {escape(status.message)}")
        if not run.recorded:
            st.button(f"Resume {run.kind}", key="cliffs_resume", on_click=guarded_resume, args=(run,))
        return
    share = status.done / status.total if status.total else 0.0
    left = "" if status.seconds_left is None else f", about {status.seconds_left:.0f} s left"
    words = escape(status.phase or status.state.value)
    st.progress(min(share, 1.0), text=f"{words}: {status.done} of {status.total or '?'} problems{left}")
    st.button(f"Stop {run.kind}", key="cliffs_halt", on_click=launch.stop_run, args=(run,))


def guarded_resume(run: Run) -> None:
    with sentences():
        launch.resume_run(run)


def show_reading(run: Run) -> None:
    """What the scan's problem file left out, or how an import was read."""
    for row in catalog.rows_of(run, "data")[-1:]:
        picker.show_reading(row)
    for row in catalog.rows_of(run, "import")[-1:]:
        st.caption(escape(" ".join(row["told"])))


def show_triage(scan: pd.DataFrame, looks: explore.Looks) -> None:
    """Why the cliffs are cliffs, how many of them are bad luck, and both parses where the grader is in doubt."""
    found, most = explore.triage_of(scan, looks), int(scan["n"].max())
    if not found.cliffs:
        st.caption("This scan found no cliff.")
        return
    st.caption(
        f"A cliff is a sample, not a verdict: {explore.cliff_sentence(most)} {found.told} Doubts are named first."
    )
    st.dataframe(explore.reasons(found), hide_index=True, alt="Why prompts have no correct rollout, with counts")
    if doubts := [f"{r.problem_id}: {r.disputed}" for r in scan.itertuples() if r.disputed]:
        st.text("\n".join(doubts))


def prompt_filters(table: pd.DataFrame) -> pd.DataFrame:
    """Filters by kind, source, level and text, all in the URL; the rows that pass."""
    present = sorted(int(x) for x in table["level"].dropna().unique())
    kinds = st.pills("Kind", explore.KIND_FILTERS, selection_mode="multi", key="cliffs_kind", **LINKED)
    left, middle, right = st.columns(3)
    sources = left.multiselect("Source", sorted(table["source"].unique()), key="cliffs_source", **LINKED)
    levels = middle.multiselect("Level", present, key="cliffs_level", **LINKED)
    text = right.text_input("Text", key="cliffs_text", placeholder="in problem or id", **LINKED)
    return explore.filter_prompts(table, kinds, sources, levels, text)


def prompt_list(table: pd.DataFrame) -> str | None:
    """The table of prompts; the id of the opened one, by a click on its row, on its dot, or by the list under it."""
    shown, ids = table.drop(columns="step"), list(table["problem_id"])
    linked, held = st.query_params.get("cliffs_prompt"), st.session_state.get("cliffs_prompt")
    now = held or linked
    marked = {"rows": [ids.index(now)] if now in ids else [], "columns": [], "cells": []}
    st.session_state["cliffs-table"] = {"selection": marked}

    def row_chosen() -> None:
        rows = st.session_state["cliffs-table"].selection.rows
        st.session_state["cliffs_prompt"] = ids[rows[0]] if rows else None

    st.dataframe(
        shown,
        hide_index=True,
        key="cliffs-table",
        on_select=row_chosen,
        selection_mode="single-row",
        height=320,
        column_config=COLUMNS,
        alt="One row a prompt: successes, pass rate with its interval, problem",
    )
    if (linked or held) and not {linked, held} & set(ids):
        st.warning(f"{escape(str(held or linked))} is not among these prompts: another scan, or a filter hides it.")
    if held not in (None, *ids):
        st.session_state["cliffs_prompt"] = None
    return st.selectbox(
        "Open a prompt", ids, index=None, key="cliffs_prompt", **LINKED, placeholder="click a row, or choose here"
    )


def source_of(config: ScanConfig) -> picker.ProblemSource:
    """What the page Side by side needs to find a scanned problem again."""
    split = config.split if config.split in (*SPLITS, "all") else "all"
    return picker.ProblemSource(config.data, split)
