"""The stage: one idea a screen for the last row of a lecture hall, and a path of stations through the pages.

Key s, the button in the sidebar and `stage=STATION` in a link begin and end it; the arrow keys go from station to station.
Nothing is drawn otherwise: `stage.css` enlarges what is there and hides all but headline, figure and main control.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from workbench import state
from workbench.components import web

CSS = Path(__file__).parents[1] / "stage.css"
RUN, BESIDE, PROMPT = "steep-lambda-0.3-seed-0", "steep-lambda-0-seed-0", "steep-val-0002"  # recorded, as the scan is
WATCHED = {"lab_mode": "Watch", "lab_run": RUN}


@dataclass(frozen=True)
class Station:
    """One screen of a lecture: its page with settings, by their keys, that are known to work."""

    name: str
    idea: str
    page: str
    params: dict[str, Any] = field(default_factory=dict)


STATIONS = (
    Station(
        "cliff",
        "A cliff: every rollout fails, so all advantages are zero",
        "cliffs",
        {"cliffs_scan": "steep-scan", "cliffs_prompt": PROMPT},
    ),
    Station("peek", "The peek: the same model, with the solution before it", "side_by_side", {"side_problem": PROMPT}),
    Station(
        "filter",
        "The filter: what is right is kept, and distilled on cliffs alone",
        "lambda_lab",
        {**WATCHED, "lab_panel": "Rollouts", "lab_beside": [], "lab_step": 15},
    ),
    Station("lambda", "λ: how much of it", "lambda_lab", {**WATCHED, "lab_panel": "Learning", "lab_beside": [BESIDE]}),
    Station("gap", "The gap: how far the student is from its teacher", "gap", {"gap_run": RUN, "gap_beside": [BESIDE]}),
    Station("tradeoff", "The tradeoff: coverage against accuracy", "tradeoff"),
)
NAMES = [s.name for s in STATIONS]


def begin(page: str) -> None:
    """The stage as the link says, or as it was. To be called before a page is drawn."""
    linked, held = st.query_params.get("stage", ""), st.session_state.get("stage", "")
    if linked in NAMES and linked != held:
        st.session_state["stage"] = linked
        own = STATIONS[NAMES.index(linked)]
        # what a link says itself goes before what the station would show; a bound setting is written by its key alone
        given = {} if own.page != page else {k: v for k, v in own.params.items() if k not in st.query_params or held}
        st.session_state.update(given)
    if name := st.session_state.get("stage", ""):
        if STATIONS[NAMES.index(name)].page != page:  # a link led elsewhere: the first station there, or none
            name = st.session_state["stage"] = next((s.name for s in STATIONS if s.page == page), name)
        st.query_params["stage"] = name
        st.html(CSS)


def bar(page: str) -> None:
    """Off: the button that begins. On: the station, its neighbours, the way out."""
    if not (name := st.session_state.get("stage", "")):
        first = next((s.name for s in STATIONS if s.page == page), NAMES[0])
        help = "One idea a screen, in large type; arrow keys go from station to station."
        st.sidebar.button("Stage", key="stage_on", shortcut="s", help=help, on_click=turn, args=(first,))
        with st.sidebar:
            theme()
        return
    at = NAMES.index(name)
    with st.container(horizontal=True, vertical_alignment="center", key="stage-bar"):
        back = st.button("◀", key="stage_back", shortcut="Left", disabled=at == 0)
        st.text(f"{at + 1} of {len(STATIONS)} · {STATIONS[at].idea}")
        on = st.button("▶", key="stage_next", shortcut="Right", disabled=at + 1 == len(STATIONS))
        theme()
        st.button("Leave", key="stage_off", shortcut="s", on_click=turn, args=("",))
    if back or on:
        to = STATIONS[at + (1 if on else -1)]
        st.switch_page(state.page(to.page), query_params={"stage": to.name})


def turn(name: str) -> None:
    """Callback: on at a station, or off."""
    st.session_state["stage"] = name
    st.query_params.pop("stage", None)


def theme() -> None:
    """Light or dark at a click; Streamlit keeps the choice in the browser."""
    web.component("theme")(data={}, key="theme")
