"""A figure as every page shows it: what it says in one sentence, the picture, and folded: what is normal, provenance, table."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from workbench import state
from workbench.components import stage
from workbench.components.web import Picture, component
from workbench.figures import style

# Plotly's logo and cloud links stay out; what is saved, `web/save.js` saves.
CONFIG = {"displaylogo": False, "responsive": True, "modeBarButtonsToRemove": ["toImage"]}


def show(
    fig: go.Figure | Picture,
    *,
    headline: str,
    note: str,
    facts: str,
    frame: pd.DataFrame,
    key: str,
    alt: str = "",
    more: str = "",
    aloud: str = "",
    on_picked: Callable[[], None] | None = None,
) -> None:
    """Draw `fig` under its headline; what it is, where it comes from and its table are folded under it.

    headline: the number that the figure shows, from `workbench.figures.headlines`; plain text, it may quote run names. note: "What
    this is … What is normal …", our own words (Markdown). facts: n, K, T, seeds, model, by `facts_line`; shown literally, since
    model and run names come from outside. frame: the numbers drawn. key: the same at every rerun, unique on the page. alt: for
    those who hear the page; headline and note without it. more: what else it says, in plain text under the headline. aloud: the
    headline of a lecture hall, where that is shorter. on_picked: called where something in a picture was picked.
    """
    st.markdown(f"#### {state.escape(aloud if aloud and stage.on() else headline)}", anchors=False)
    if more:
        st.markdown(state.escape(more))
    heard = alt or f"{headline} {note}"
    if isinstance(fig, Picture):
        component(fig.name)(data=fig.data, key=key, on_picked_change=on_picked or (lambda: None))
    else:
        fig = style.enlarged(fig, stage.scale()) if stage.on() else fig
        st.plotly_chart(fig, key=key, theme="streamlit", config=CONFIG, alt=heard)
    # Only an open table is sent: a live figure redraws every second.
    box = st.expander("About this figure", key=f"{key}-about", on_change="rerun", type="compact")
    if not box.open:
        return
    box.markdown(note)
    if facts:
        box.text(facts)
    box.dataframe(frame, hide_index=True, key=f"{key}-frame", alt=heard, column_config={"arm": "λ"})
    box.download_button(
        f"Table as CSV ({len(frame)} rows)",
        lambda: frame.to_csv(index=False),
        f"{key}.csv",
        "text/csv",
        key=f"{key}-csv",
        on_click="ignore",
    )
    with box:
        component("save")(data={"key": key, "name": key}, key=f"{key}-save")


def facts_line(**facts: object) -> str:
    """The line under a figure; what is None or empty stays out. Underscores in a name read as spaces.

    >>> facts_line(n="240 problems", K=8, T=1.0, seed=None, model="bundled")
    'n 240 problems · K 8 · T 1.0 · model bundled'
    """
    return " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items() if value not in (None, ""))
