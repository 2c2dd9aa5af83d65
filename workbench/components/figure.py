"""A figure as every page shows it: picture, what it is and what is normal, where it comes from, the table behind it."""

from __future__ import annotations

import html

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

# The camera button saves a PNG in the browser itself; plotly's own logo and cloud links stay out.
CONFIG = {"displaylogo": False, "responsive": True, "toImageButtonOptions": {"scale": 2}}


def show(fig: go.Figure, *, note: str, facts: str, frame: pd.DataFrame, key: str, alt: str = "") -> None:
    """Draw `fig` with its note, its facts and its table.

    note: "What this is … What is normal …", our own words (Markdown). facts: n, K, T, seeds, model, by `facts_line`;
    shown literally, since model and run names come from outside. frame: the numbers drawn. key: the same at every rerun,
    unique on the page. alt: for those who hear the page; the note without it.
    """
    st.plotly_chart(fig, key=key, theme="streamlit", config=CONFIG, alt=alt or note)
    st.caption(note)
    if facts:
        st.html(f'<small style="opacity: 0.75">{html.escape(facts)}</small>')
    # Only an open table is sent: a live figure redraws every second.
    box = st.expander(f"Table behind it ({len(frame)} rows)", key=f"{key}-table", on_change="rerun", type="compact")
    if box.open:
        box.dataframe(frame, hide_index=True, key=f"{key}-frame", alt=alt or note)
        box.download_button(
            "Download CSV",
            lambda: frame.to_csv(index=False),
            f"{key}.csv",
            "text/csv",
            key=f"{key}-csv",
            on_click="ignore",
        )


def facts_line(**facts: object) -> str:
    """The line under a figure; what is None or empty stays out. Underscores in a name read as spaces.

    >>> facts_line(n="240 problems", K=8, T=1.0, seed=None, model="bundled")
    'n 240 problems · K 8 · T 1.0 · model bundled'
    """
    return " · ".join(f"{name.replace('_', ' ')} {value}" for name, value in facts.items() if value not in (None, ""))
