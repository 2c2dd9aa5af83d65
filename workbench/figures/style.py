"""One look for every figure: readable in light and dark, without colour vision, and in grey print.

Backgrounds are transparent and text takes the page's theme. The colours have a contrast of 3 or more on white and on
the dark page; none of them is ever the only carrier of a meaning: each comes with a dash, a marker and a fill pattern.
"""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots


@dataclass(frozen=True)
class Look:
    """How one thing is drawn: colour for those who see it, dash, symbol and pattern for everybody."""

    colour: str
    dash: str
    symbol: str
    pattern: str


LOOKS = (
    Look("#1f83c4", "solid", "circle", ""),
    Look("#d9572b", "dash", "square", "/"),
    Look("#00966e", "dot", "diamond", "x"),
    Look("#b5629f", "dashdot", "triangle-up", "\\"),
    Look("#c47a00", "longdash", "cross", "."),
    Look("#6a70d8", "longdashdot", "star", "+"),
    Look("#9a6b3f", "solid", "triangle-down", "-"),
)
GREY = Look("#808790", "dot", "circle-open", "|")

# λ runs from grey (GRPO alone) through cold to warm; the symbol says the same without colour.
LAMBDA_LOOKS = {
    0.0: Look("#808790", "dot", "circle", ""),
    0.03: Look("#6a70d8", "longdashdot", "triangle-up", "\\"),
    0.1: Look("#1f83c4", "dashdot", "diamond", "."),
    0.3: Look("#00966e", "solid", "square", "/"),
    1.0: Look("#c47a00", "dash", "star", "x"),
    3.0: Look("#d9572b", "longdash", "x", "+"),
    10.0: Look("#b5629f", "dot", "cross", "-"),
}


def lambda_look(lam: float) -> Look:
    """The look of one λ; one outside the usual scale takes its nearest neighbour's colour and an open symbol."""
    if lam in LAMBDA_LOOKS:
        return LAMBDA_LOOKS[lam]
    near = LAMBDA_LOOKS[min(LAMBDA_LOOKS, key=lambda known: abs(known - lam))]
    return Look(near.colour, near.dash, f"{near.symbol}-open", near.pattern)


def run_looks(labels: Sequence[str]) -> dict[str, Look]:
    """label → look, in the order in which the labels first appear; beyond seven runs the looks repeat.

    >>> [look.symbol for look in run_looks(["a", "b", "a"]).values()]
    ['circle', 'square']
    """
    return {label: LOOKS[i % len(LOOKS)] for i, label in enumerate(dict.fromkeys(labels))}


def faint(colour: str, alpha: float = 0.18) -> str:
    """The colour of an interval band around a line of that colour.

    >>> faint("#1f83c4")
    'rgba(31,131,196,0.18)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def safe(text: object, longest: int = 48) -> str:
    """A name from outside (run, model, token) as plotly text: its pseudo-HTML is shown, not obeyed.

    >>> safe("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    words = str(text)
    return html.escape(words if len(words) <= longest else words[: longest - 1] + "…", quote=False)


def by_run(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each run by its label (column `run`), in order of appearance; one run without a label is ''."""
    if "run" not in frame.columns:
        return [("", frame)]
    return [(str(label), rows) for label, rows in frame.groupby("run", sort=False)]


def panels(titles: Sequence[str], columns: int, height: int, **more: object) -> go.Figure:
    """An empty grid of titled panels, dressed."""
    rows = -(-len(titles) // columns)
    gap = 0.09 if columns <= 2 else 0.06
    fig = make_subplots(rows=rows, cols=columns, subplot_titles=list(titles), horizontal_spacing=gap, **more)
    fig.update_annotations(font_size=13)
    return dress(fig, height)


def place(index: int, columns: int) -> dict[str, int]:
    """Row and column (both from 1) of the panel with this index."""
    return {"row": index // columns + 1, "col": index % columns + 1}


def dress(fig: go.Figure, height: int = 340) -> go.Figure:
    """Margins, transparent ground, legend below, and a zoom that survives the next tick."""
    fig.update_layout(
        height=height,
        margin={"l": 8, "r": 8, "t": 36, "b": 8},
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        # The legend hangs 56 pixels below the plot, under ticks and axis title; the margin makes room for its rows.
        legend={
            "orientation": "h",
            "yanchor": "top",
            "y": -56 / max(height - 130, 80),
            "x": 0,
            "title": {"text": ""},
        },
        hovermode="closest",
        uirevision="keep",
    )
    fig.update_xaxes(
        automargin=True, gridcolor="rgba(128,135,144,0.18)", zerolinecolor="rgba(128,135,144,0.35)"
    )
    fig.update_yaxes(
        automargin=True, gridcolor="rgba(128,135,144,0.18)", zerolinecolor="rgba(128,135,144,0.35)"
    )
    return fig


def nothing(words: str, height: int = 200) -> go.Figure:
    """What a figure is while it has no data: the sentence that says so."""
    fig = dress(go.Figure(), height)
    fig.update_xaxes(visible=False)
    fig.update_yaxes(visible=False)
    fig.add_annotation(text=words, showarrow=False, x=0.5, y=0.5, xref="paper", yref="paper", font_size=14)
    return fig


@dataclass(frozen=True)
class Series:
    """One line: steps, values, and where known the interval around each value (None where there is none)."""

    name: str
    x: pd.Series
    y: pd.Series
    look: Look
    low: pd.Series | None = None
    high: pd.Series | None = None
    marks: bool = True


def draw(fig: go.Figure, series: Series, where: dict[str, int] | None = None, legend: bool = True) -> None:
    """Add a line with its markers and, where the series has intervals, their band.

    A missing value (null in the run's rows) leaves a gap: a line through it would claim a measurement.
    """
    where = where or {}
    x, y, look = series.x, series.y.astype(float), series.look
    error = None
    if series.low is not None and series.high is not None:
        low, high = series.low.astype(float), series.high.astype(float)
        known = np.isfinite(low) & np.isfinite(high)  # one unit alone has an endless interval
        if known.sum() > 1:
            fig.add_trace(band(series.name, look, x[known], low[known], high[known]), **where)
        else:  # one point has no area
            ends = {"array": (high - y).where(known), "arrayminus": (y - low).where(known)}
            error = {"type": "data", "symmetric": False, **ends}
    line = go.Scatter(
        x=x, y=y, error_y=error, name=safe(series.name), legendgroup=series.name,
        showlegend=legend and bool(series.name), mode="lines+markers" if series.marks else "lines", connectgaps=False,
        line={"color": look.colour, "dash": look.dash, "width": 2},
        marker={"symbol": look.symbol, "size": 7 if len(x) <= 30 else 4},
        hovertemplate=f"step %{{x}}<br>%{{y:.4g}}<extra>{safe(series.name)}</extra>",
    )  # fmt: skip
    fig.add_trace(line, **where)


def band(name: str, look: Look, x: pd.Series, low: pd.Series, high: pd.Series) -> go.Scatter:
    """The area between low and high."""
    return go.Scatter(
        x=[*x, *x[::-1]], y=[*high, *low[::-1]], fill="toself", fillcolor=faint(look.colour),
        line={"width": 0}, mode="lines", hoverinfo="skip", showlegend=False, legendgroup=name,
        name=f"interval {safe(name)}".strip(),
    )  # fmt: skip


def fill(look: Look) -> dict[str, object]:
    """The marker of a bar: its colour under its pattern."""
    pattern = {"shape": look.pattern, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.8)", "size": 6}
    return {"color": look.colour, "line": {"width": 0}, "pattern": pattern}
