"""One look for every figure: readable in light and dark, without colour vision, and in grey print.

Backgrounds are transparent and text takes the page's theme. The colours have a contrast of 3 or more on white and on
the dark page; none of them is ever the only carrier of a meaning: each comes with a dash, a marker and a fill pattern.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go


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
AXIS = {"automargin": True, "gridcolor": "rgba(128,135,144,0.18)", "zerolinecolor": "rgba(128,135,144,0.35)"}
NOWHERE: Mapping[str, str] = MappingProxyType({})
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


def figure(
    traces: Sequence[dict[str, Any]],
    height: int,
    x: Mapping[str, Any],
    y: Mapping[str, Any],
    titles: Sequence[str] = ("",),
    columns: int = 1,
) -> go.Figure:
    """Traces over one panel a title, `columns` panels a row; x and y are what every axis of that kind has besides AXIS.

    Built from one dict in one go: plotly checks a property each time it is touched, and live figures are drawn every
    second. The horizontal axes' title stands under the lowest panel of each column only.
    """
    rows = -(-len(titles) // columns)
    wide, high = (0.09, 64 / (height - 126))  # between panels, shares of the plot; 64 pixels hold ticks and a title
    width, tall = (1 - wide * (columns - 1)) / columns, (1 - high * (rows - 1)) / rows
    layout = dressed(height)
    layout["annotations"] = []
    for i, title in enumerate(titles):
        row, column = divmod(i, columns)
        left, low = column * (width + wide), 1 - tall - row * (tall + high)
        axes, last = place(i), i + columns >= len(titles)
        across, up = (axes[name].replace("x", "xaxis").replace("y", "yaxis") for name in ("xaxis", "yaxis"))
        own = dict(x) if last else {k: v for k, v in x.items() if k != "title"}
        layout[across] = AXIS | own | {"domain": within(left, left + width), "anchor": axes["yaxis"]}
        layout[up] = AXIS | dict(y) | {"domain": within(low, low + tall), "anchor": axes["xaxis"]}
        if title:
            layout["annotations"].append(heading(title, left + width / 2, low + tall))
    return go.Figure({"data": list(traces), "layout": layout})


def within(low: float, high: float) -> list[float]:
    """A share of the figure; sums of thirds leave [0, 1] in the sixteenth digit."""
    return [max(low, 0.0), min(high, 1.0)]


def place(index: int) -> dict[str, str]:
    """The axes of the panel with this index.

    >>> place(0), place(2)
    ({'xaxis': 'x', 'yaxis': 'y'}, {'xaxis': 'x3', 'yaxis': 'y3'})
    """
    number = str(index + 1) if index else ""
    return {"xaxis": f"x{number}", "yaxis": f"y{number}"}


def heading(text: str, x: float, y: float) -> dict[str, Any]:
    """A panel's title above its middle."""
    ends = {"xref": "paper", "yref": "paper", "xanchor": "center", "yanchor": "bottom", "showarrow": False}
    return {"text": text, "x": x, "y": y, "font": {"size": 13}, **ends}


def dressed(height: int) -> dict[str, Any]:
    """Layout of every figure: margins, transparent ground, legend below, a zoom that survives the next tick."""
    clear = "rgba(0,0,0,0)"
    # The legend hangs 56 pixels below the plot, under ticks and axis title; the margin makes room for its rows.
    legend = {"orientation": "h", "yanchor": "top", "y": -56 / max(height - 130, 80), "x": 0, "traceorder": "normal"}
    margin = {"l": 8, "r": 8, "t": 36, "b": 8}
    ground = {"paper_bgcolor": clear, "plot_bgcolor": clear}
    return {
        "height": height,
        "margin": margin,
        "legend": legend,
        "hovermode": "closest",
        "uirevision": "keep",
        **ground,
    }


def nothing(words: str, height: int = 200) -> go.Figure:
    """What a figure is while it has no data: the sentence that says so."""
    hidden = {"visible": False}
    middle = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": 14}}
    return go.Figure(
        layout=dressed(height) | {"xaxis": hidden, "yaxis": hidden, "annotations": [{"text": words, **middle}]}
    )


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
    more: pd.Series | None = None  # what the hover words call customdata
    hover: str = "step %{x}<br>%{y:.4g}"


def line(series: Series, where: Mapping[str, str] = NOWHERE, legend: bool = True) -> list[dict[str, Any]]:
    """The traces of one line: its markers and, where the series has intervals, their band below it.

    where: the axes, by `place`. A missing value (null in the run's rows) leaves a gap: a line through it would claim a
    measurement.
    """
    x, y, look, name = series.x, series.y.astype(float), series.look, safe(series.name)
    found: list[dict[str, Any]] = []
    error = None
    if series.low is not None and series.high is not None:
        low, high = series.low.astype(float), series.high.astype(float)
        known = np.isfinite(low) & np.isfinite(high)  # one unit alone has an endless interval
        if known.sum() > 1:
            found.append(band(series, x[known], low[known], high[known]) | dict(where))
        else:  # one point has no area
            ends = {"array": (high - y).where(known), "arrayminus": (y - low).where(known)}
            error = {"type": "data", "symmetric": False, **ends}
    trace = {
        "type": "scatter",
        "x": x,
        "y": y,
        "error_y": error,
        "name": name,
        "legendgroup": series.name,
        "showlegend": legend and bool(name),
        "mode": "lines+markers" if series.marks else "lines",
        "connectgaps": False,
        "line": {"color": look.colour, "dash": look.dash, "width": 2},
        "marker": {"symbol": look.symbol, "size": 7 if len(x) <= 30 else 4},
        "customdata": series.more,
        "hovertemplate": f"{series.hover}<extra>{name}</extra>",
    }
    return [*found, trace | dict(where)]


def band(series: Series, x: pd.Series, low: pd.Series, high: pd.Series) -> dict[str, Any]:
    """The area between low and high."""
    return {
        "type": "scatter",
        "x": [*x, *x[::-1]],
        "y": [*high, *low[::-1]],
        "fill": "toself",
        "fillcolor": faint(series.look.colour),
        "line": {"width": 0},
        "mode": "lines",
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": series.name,
        "name": f"interval {safe(series.name)}".strip(),
    }


def fill(look: Look) -> dict[str, object]:
    """The marker of a bar: its colour under its pattern."""
    pattern = {"shape": look.pattern, "fillmode": "overlay", "fgcolor": "rgba(255,255,255,0.5)", "size": 6}
    return {"color": look.colour, "line": {"width": 0}, "pattern": pattern}
