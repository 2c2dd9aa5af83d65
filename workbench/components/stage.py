"""The stage: one idea a screen for the last row of a lecture hall, and a path of stations through the pages.

Key s, the button in the sidebar and `stage=STATION` in a link begin and end it; the arrow keys (a clicker's page keys too) go from station to station.
Nothing is drawn otherwise: `stage.css` enlarges what is there, as far as the window has room, and hides all but headline, figure and main control.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import streamlit as st

from workbench import state
from workbench.components import web
from workbench.data import catalog, tradeoff
from workbench.figures import style

CSS = Path(__file__).parents[1] / "stage.css"
RUN, BESIDE, PROMPT = "steep-lambda-0.3-seed-0", "steep-lambda-0-seed-0", "steep-val-0002"  # recorded, as the scan is
WATCHED = {"lab_mode": "Watch", "lab_run": RUN}


def recorded_set() -> str:
    """What the page Tradeoff calls the set of the recorded runs, own ones beside it or not."""
    sets = tradeoff.comparable_sets(catalog.runs_of("train"))
    return next((name for name, runs in sets.items() if any(r.id == RUN for r in runs)), "")


@dataclass(frozen=True)
class Station:
    """One screen of a lecture: its page with settings, by their keys, that are known to work; a function finds its value then."""

    name: str
    idea: str
    page: str
    params: dict[str, Any] = field(default_factory=dict)

    def settings(self) -> dict[str, Any]:
        return {key: value() if callable(value) else value for key, value in self.params.items()}


STATIONS = (
    Station("cliff", "A cliff: every rollout fails, so all advantages are zero", "overview"),
    Station(
        "map",
        "How many: the cliffs among 240 problems",
        "cliffs",
        {"cliffs_scan": "steep-scan", "cliffs_map": "scan", "cliffs_prompt": None},
    ),
    Station("peek", "The peek: the same model, with the solution before it", "side_by_side", {"side_problem": PROMPT}),
    Station(
        "filter",
        "The filter: what is right is kept, and distilled on cliffs alone",
        "lambda_lab",
        {**WATCHED, "lab_panel": "Rollouts", "lab_beside": [], "lab_step": 15},
    ),
    Station(
        "lambda",
        "λ: how much the peek counts",
        "lambda_lab",
        {**WATCHED, "lab_panel": "Learning", "lab_beside": [BESIDE]},
    ),
    Station("gap", "The gap: how far the student is from its teacher", "gap", {"gap_run": RUN, "gap_beside": [BESIDE]}),
    Station(
        "tradeoff",
        "The tradeoff: coverage against accuracy",
        "tradeoff",
        {"tradeoff_set": recorded_set, "tradeoff_view": "Tradeoff", "tradeoff_basis": "steps"},
    ),
)
NAMES = [s.name for s in STATIONS]


def on() -> bool:
    return bool(st.session_state.get("stage"))


def scale() -> float:
    """How much larger than off the stage: as much as the window has room for (`web/stage.js`)."""
    return float(st.session_state.get("stage_scale", style.STAGE))


def begin(page: str) -> None:
    """The stage as the link says, or as it was. To be called before a page is drawn."""
    linked, held = st.query_params.get("stage", ""), st.session_state.get("stage", "")
    if linked in NAMES and linked != held:
        own = STATIONS[NAMES.index(linked)]
        if own.page != page:
            st.switch_page(state.page(own.page), query_params={"stage": linked})
        st.session_state["stage"] = linked
        # what a link says itself goes before what the station would show; a bound setting is written by its key alone
        st.session_state.update({k: v for k, v in own.settings().items() if k not in st.query_params or held})
    name = st.session_state.get("stage", "")
    if (
        name and STATIONS[NAMES.index(name)].page != page
    ):  # a link led elsewhere: to the station there, or off the stage
        name = st.session_state["stage"] = nearest(page)
    if name:
        st.query_params["stage"] = name
        st.html(f"<style>{CSS.read_text(encoding='utf-8').replace('SCALE', f'{scale():g}')}</style>")


def nearest(page: str) -> str:
    """The station of this page whose settings are those shown most; "" where it has none."""
    here = [s for s in STATIONS if s.page == page]
    shown = {s.name: sum(st.session_state.get(k) == v for k, v in s.params.items()) for s in here}
    return max(shown, key=shown.__getitem__, default="")


def bar(page: str) -> None:
    """Off: the button that begins. On: the station, its neighbours, the way out."""
    if not (name := st.session_state.get("stage", "")):
        help = "One idea a screen, in large type; arrow or page keys go from station to station."
        st.sidebar.button("Stage", key="stage_on", shortcut="s", help=help, on_click=turn_on, args=(page,))
        with st.sidebar:
            theme()
        return
    at = NAMES.index(name)
    with st.container(horizontal=True, vertical_alignment="center", key="stage-bar"):
        left = st.button("◀", key="stage_back", shortcut="Left", disabled=at == 0)
        st.text(f"{at + 1} of {len(STATIONS)} · {STATIONS[at].idea}")
        right = st.button("▶", key="stage_next", shortcut="Right", disabled=at + 1 == len(STATIONS))
        theme()
        st.button("Leave", key="stage_off", shortcut="s", on_click=turn_off)
    web.component("stage")(data={"station": name, "scale": scale()}, key="stage-room", on_scale_change=resized)
    if left or right:
        to = STATIONS[at + (1 if right else -1)]
        st.switch_page(state.page(to.page), query_params={"stage": to.name})


def turn_on(page: str) -> None:
    """Callback: the page as it stands where it has a station, else the first one."""
    if name := nearest(page):
        st.session_state["stage"] = name
    else:
        st.query_params["stage"] = NAMES[0]


def turn_off() -> None:
    st.session_state["stage"] = ""
    st.query_params.pop("stage", None)


def resized() -> None:
    st.session_state["stage_scale"] = float(st.session_state["stage-room"].scale)


def theme() -> None:
    """Light or dark at a click; Streamlit keeps the choice in the browser."""
    web.component("theme")(data={}, key="theme")
