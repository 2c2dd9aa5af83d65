"""One look for every figure: readable from the last row, in light and dark, without colour vision, and in grey print.

Backgrounds are transparent; text takes the page's own colour (`workbench/style.css`) and is TEXT pixels or more. One thing has
one colour and one mark in every figure: a λ, a regime, a teacher. The colours have a contrast of 3 or more on white and on the
dark page, so no text is set in them; none is ever the only carrier of a meaning: each comes with a dash, a marker and a pattern.

This file is long: axes, lines, bars and labels of all figures are drawn here, once.
"""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

TEXT = 14  # pixels, the smallest text of a figure
AXIS = {
    "automargin": True,
    "gridcolor": "rgba(128,135,144,0.18)",
    "zerolinecolor": "rgba(128,135,144,0.35)",
    "tickfont": {"size": TEXT},
}
NOWHERE: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True)
class Look:
    """How one thing is drawn: colour for those who see it, dash, symbol and pattern for everybody."""

    colour: str
    dash: str
    symbol: str
    pattern: str


# What a prompt's rollouts say (Sec. 2.3), and what became of a cliff; the hatch says "cliff" without colour.
CLIFF = Look("#d9572b", "dash", "square", "/")
MIXED = Look("#1f83c4", "solid", "circle", "")
SOLVED = Look("#7d8c4f", "longdash", "diamond", "|")
RECOVERED = Look("#00966e", "dot", "star", "x")
RELAPSED = replace(CLIFF, symbol="triangle-down")
LOST = replace(CLIFF, symbol="x")
NOT_TRIED = replace(CLIFF, symbol="square-open", pattern=".")
DOUBT = Look("#c47a00", "dashdot", "cross", "+")
GREY = Look("#808790", "dot", "circle-open", "|")

# λ runs from grey (GRPO alone) through violet to red; the symbol says the same without colour.
LAMBDAS = {
    0.0: Look("#808790", "dot", "circle", ""),
    0.03: Look("#5d7fd6", "longdashdot", "triangle-up", "\\"),
    0.1: Look("#6a70d8", "dashdot", "diamond", "."),
    0.3: Look("#9a5fd0", "solid", "square", "/"),
    1.0: Look("#b5529f", "dash", "star", "x"),
    3.0: Look("#c2497a", "longdash", "x", "+"),
    10.0: Look("#b4505c", "dot", "cross", "-"),
}
DASHES = ("solid", "dash", "dot", "dashdot", "longdash", "longdashdot")
DRIFTING, FROZEN = "solid", "dot"  # the teacher's dash, beside the colour of its run's λ

MARKS = {"circle": "●", "square": "■", "diamond": "◆", "triangle-up": "▲", "star": "★", "x": "✖", "cross": "✚"}
OPEN_MARKS = {"circle": "○", "square": "□", "diamond": "◇", "triangle-up": "△", "star": "☆", "x": "✕", "cross": "✛"}
MOST_LABELS, LONGEST_LABEL = 6, 22  # lines that carry their name at their end; more, or longer names, stand in a legend


def lambda_look(lam: float, nth: int = 0) -> Look:
    """The look of one λ; one outside the usual scale takes its nearest neighbour's colour and an open symbol. nth: further
    lines of that λ (another seed, another teacher) keep the colour and differ by symbol and dash."""
    look = LAMBDAS.get(lam) or replace(
        near := LAMBDAS[min(LAMBDAS, key=lambda k: abs(k - lam))], symbol=f"{near.symbol}-open"
    )
    if nth:
        plain, open_ = look.symbol.removesuffix("-open"), "-open" if nth % 2 else ""
        look = replace(look, symbol=plain + open_, dash=DASHES[(DASHES.index(look.dash) + nth) % len(DASHES)])
    return look


def looks_of(labelled: Iterable[tuple[str, float]]) -> dict[str, Look]:
    """(label, λ) pairs → the look of each label; what has no λ (NaN) is as λ = 0.

    >>> [look.symbol for look in looks_of([("a", 0.3), ("b", 0.3), ("a", 0.3)]).values()]
    ['square', 'square-open']
    """
    found: dict[str, Look] = {}
    seen: dict[float, int] = {}
    for label, lam in dict.fromkeys(labelled):
        lam = 0.0 if math.isnan(lam) else float(lam)
        found[label] = lambda_look(lam, seen.get(lam, 0))
        seen[lam] = seen.get(lam, 0) + 1
    return found


def run_looks(frame: pd.DataFrame) -> dict[str, Look]:
    """The looks of the runs in a frame, by its columns `run` and `lambda`."""
    labels = frame["run"] if "run" in frame.columns else pd.Series("", index=frame.index)
    lambdas = frame["lambda"] if "lambda" in frame.columns else pd.Series(math.nan, index=frame.index)
    first = pd.DataFrame({"run": labels, "lambda": lambdas}).drop_duplicates("run")
    return looks_of(zip(first["run"].astype(str), first["lambda"].astype(float), strict=True))


def faint(colour: str, alpha: float = 0.18) -> str:
    """The colour of an interval band around a line of that colour.

    >>> faint("#1f83c4")
    'rgba(31,131,196,0.18)'
    """
    red, green, blue = (int(colour[i : i + 2], 16) for i in (1, 3, 5))
    return f"rgba({red},{green},{blue},{alpha})"


def safe(text: object, longest: int = 80) -> str:
    """A name from outside (run, model, token) as plotly text: its pseudo-HTML is shown, not obeyed.

    >>> safe("<b>x</b>")
    '&lt;b&gt;x&lt;/b&gt;'
    """
    words = str(text)
    return html.escape(words if len(words) <= longest else words[: longest - 1] + "…", quote=False)


def mark(look: Look) -> str:
    """The symbol of a look as a letter in its colour, for labels; the words beside it take the page's own."""
    plain = look.symbol.removesuffix("-open")
    letter = (OPEN_MARKS if look.symbol.endswith("-open") else MARKS).get(plain, "●")
    return f'<span style="color:{look.colour}">{letter}</span>'


def by_run(frame: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """The rows of each run by its label (column `run`), in order of appearance; one run without a label is ''."""
    if "run" not in frame.columns:
        return [("", frame)]
    return [(str(label), rows) for label, rows in frame.groupby("run", sort=False)]


def figure(
    traces: Sequence[dict[str, Any]],
    height: int,
    x: Mapping[str, Any],
    y: Mapping[str, Any] | Sequence[Mapping[str, Any]],
    titles: Sequence[str] = ("",),
    columns: int = 1,
    labels: Sequence[dict[str, Any]] = (),
    apart: float = 0.09,
) -> go.Figure:
    """Traces over one panel a title, `columns` panels a row; x and y are what every axis of that kind has besides AXIS, y also
    one by one. labels: further annotations, with room for them to the right of the last panel; apart: between panels, a share.

    Built from one dict in one go: plotly checks a property each time it is touched, and live figures are drawn every
    second. The horizontal axes' title stands under the lowest panel of each column only.
    """
    layout = dressed(height)
    layout["annotations"] = list(labels)
    if labels:
        longest = max(len(label["text"].rpartition(">")[2]) for label in labels)
        layout["margin"] = layout["margin"] | {"r": 24 + 8 * longest}
    for i, title in enumerate(titles):
        (left, right), (low, top) = domain(i, len(titles), columns, height, apart)
        axes, last = place(i), i + columns >= len(titles)
        across, up = (axes[name].replace("x", "xaxis").replace("y", "yaxis") for name in ("xaxis", "yaxis"))
        own = dict(x) if last else {k: v for k, v in x.items() if k != "title"}
        layout[across] = AXIS | own | {"domain": [left, right], "anchor": axes["yaxis"]}
        layout[up] = (
            AXIS | dict(y if isinstance(y, Mapping) else y[i]) | {"domain": [low, top], "anchor": axes["xaxis"]}
        )
        if title:
            layout["annotations"].append(heading(title, (left + right) / 2, top))
    return go.Figure({"data": list(traces), "layout": layout})


def domain(
    index: int, panels: int, columns: int, height: int, apart: float = 0.09
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where a panel lies across and up, in shares of the figure; sums of thirds would leave [0, 1] in the sixteenth digit."""
    rows = -(-panels // columns)
    high = 72 / (height - 126)  # between rows: ticks and a title
    width, tall = (1 - apart * (columns - 1)) / columns, (1 - high * (rows - 1)) / rows
    row, column = divmod(index, columns)
    left, low = column * (width + apart), 1 - tall - row * (tall + high)
    return (max(left, 0.0), min(left + width, 1.0)), (max(low, 0.0), min(low + tall, 1.0))


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
    return {"text": text, "x": x, "y": y, "font": {"size": TEXT + 1}, **ends}


def dressed(height: int) -> dict[str, Any]:
    """Layout of every figure: margins, transparent ground, legend below, text sizes, a zoom that survives the next tick."""
    clear = "rgba(0,0,0,0)"
    # The legend hangs 64 pixels below the plot, under ticks and axis title; the margin makes room for its rows.
    legend = {"orientation": "h", "yanchor": "top", "y": -64 / max(height - 130, 80), "x": 0, "traceorder": "normal"}
    return {
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 36, "b": 8},
        "legend": legend | {"font": {"size": TEXT}},
        "font": {"size": TEXT},
        "hoverlabel": {"font": {"size": TEXT}},
        "hovermode": "closest",
        "uirevision": "keep",
        "paper_bgcolor": clear,
        "plot_bgcolor": clear,
    }


STAGE = (
    1.45  # from TEXT to the 20 pixels that the last row of a lecture hall reads, on 1920 × 1080; also in `web/stage.js`
)


def enlarged(fig: go.Figure, scale: float = STAGE) -> go.Figure:
    """The same figure for a lecture hall: texts and margins, not its marks. The page's own zoom makes its room larger; there is a
    little more height to fill."""
    layout = fig.to_dict()["layout"]

    def grow(node: Any) -> Any:
        if isinstance(node, dict):
            return {k: round(v * scale) if k == "size" else grow(v) for k, v in node.items()}
        return [grow(v) for v in node] if isinstance(node, list | tuple) else node

    layout = grow(layout)
    layout["height"] = round(layout["height"] * 1.1)
    layout["margin"] = {side: round(room * scale) for side, room in layout["margin"].items()}
    return go.Figure({"data": fig.data, "layout": layout})


def titled(words: str) -> dict[str, Any]:
    """An axis with a title in the figures' size."""
    return {"title": {"text": words, "font": {"size": TEXT}}}


def nothing(words: str, height: int = 200) -> go.Figure:
    """What a figure is while it has no data: the sentence that says so."""
    hidden = {"visible": False}
    middle = {"x": 0.5, "y": 0.5, "xref": "paper", "yref": "paper", "showarrow": False, "font": {"size": TEXT + 1}}
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


@dataclass(frozen=True)
class Panel:
    """One plot of a figure of lines. unit: beside its y axis. low, high: the ends of that axis; without high both make room
    for the data."""

    title: str
    series: Sequence[Series] = ()
    unit: str = ""
    low: float = 0.0
    high: float | None = None


def share(title: str, series: Sequence[Series]) -> Panel:
    """A panel of rates: its axis stands still."""
    return Panel(title, series, "share", -0.02, 1.02)


def lines(
    panels: Sequence[Panel], height: int, x_title: str, columns: int = 1, x_end: float | None = None
) -> go.Figure:
    """Panels of lines over steps. Up to six lines carry their names at their ends, otherwise there is a legend.

    x_end: the last step that is planned, so that the axes stand still while a run goes on; the data's own where None.
    """
    names = list(dict.fromkeys(s.name for p in panels for s in p.series if s.name and len(s.x)))
    at_ends = len(names) <= MOST_LABELS and all(len(n) <= LONGEST_LABEL for n in names)
    traces: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    axes, told = [], set()
    # A line that goes on in the panel to the right is named there.
    beside = [
        {s.name for s in panels[i + 1].series} if (i + 1) % columns and i + 1 < len(panels) else set()
        for i in range(len(panels))
    ]
    within = at_ends and any({s.name for s in p.series} - b for p, b in zip(panels, beside, strict=True) if b)
    for i, panel in enumerate(panels):
        low, high = ends_of(panel)
        unit = "" if i % columns and panel.unit == panels[i - 1].unit else panel.unit
        axes.append(titled(unit) | {"range": [low, high]})
        for series in panel.series:
            traces += line(series, place(i), legend=not at_ends and series.name not in told)
            told.add(series.name)
        if at_ends:
            bottom, top = domain(i, len(panels), columns, height)[1]
            named = [s for s in panel.series if s.name not in beside[i]]
            labels += end_labels(named, place(i), (low, high), (top - bottom) * (height - 126))
    last = max([x_end or 0.0, *(float(s.x.max()) for p in panels for s in p.series if len(s.x))])
    first = min([0.0 if x_end else last, *(float(s.x.min()) for p in panels for s in p.series if len(s.x))])
    pad = 0.02 * max(last - first, 1.0)
    x = titled(x_title) | {"range": [first - pad, last + pad]}
    inside = any(i % columns and axis["title"]["text"] for i, axis in enumerate(axes))  # a unit between two panels
    apart = 0.24 if within else 0.15 if inside else 0.09
    return figure(traces, height, x, axes, [p.title for p in panels], columns, labels, apart)


def ends_of(panel: Panel) -> tuple[float, float]:
    """The ends of a panel's y axis: as given, or round numbers, so that they seldom move while a run goes on."""
    if panel.high is not None:
        return panel.low, panel.high
    values = [v for s in panel.series for c in (s.y, s.high, s.low) if c is not None for v in c if pd.notna(v)]
    finite = [float(v) for v in values if math.isfinite(v)] or [1.0]
    low = -round_up(-min(finite)) if min(finite) < panel.low else panel.low
    return low, max(round_up(max(finite)), low + 1e-6)


ROUND = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0)


def round_up(value: float) -> float:
    """The next ROUND number times a power of ten, a little above the value.

    >>> round_up(0.43), round_up(1.0), round_up(0.0)
    (0.5, 1.5, 0.0)
    """
    if value <= 0:
        return 0.0
    power = 10.0 ** math.floor(math.log10(value))
    return round(next(n for n in ROUND if n * power >= 1.02 * value) * power, 12)


def end_labels(
    series: Sequence[Series], where: Mapping[str, str], ends: tuple[float, float], pixels: float
) -> list[dict[str, Any]]:
    """The name of each line to the right of its last value, apart by a line of text where the values are not."""
    low, high = ends
    apart = (TEXT + 4) * (high - low) / max(pixels, 1.0)
    found = []
    for s in series:
        known = s.y.astype(float).notna()
        if s.name and known.any():
            found.append((float(s.y[known].iloc[-1]), float(s.x[known].iloc[-1]), s))
    found.sort(key=lambda f: f[0])
    heights: list[float] = []
    for y, _, _ in found:
        heights.append(max([y, *(h + apart for h in heights[-1:])]))
    over = max(0.0, heights[-1] - high) if heights else 0.0
    for i in reversed(range(len(heights))):  # what was pushed out at the top pushes down
        heights[i] = min(heights[i], high - apart * (len(heights) - 1 - i)) if over else heights[i]
    axes = {"xref": where["xaxis"], "yref": where["yaxis"]}
    still = {"xanchor": "left", "yanchor": "middle", "xshift": 8, "showarrow": False, "font": {"size": TEXT}}
    return [
        {"x": x, "y": height, "text": f"{mark(s.look)} {safe(s.name)}", **axes, **still}
        for height, (_, x, s) in zip(heights, found, strict=True)
    ]


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
