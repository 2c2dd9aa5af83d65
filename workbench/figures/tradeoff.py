"""Coverage against accuracy over λ: one mark a run, arrows from the base model, and what the paper measured.

Frames are those of `workbench.data.tradeoff`: one row a run (and k, or level), with `arm`, `lambda`, `seed`; rates are
fractions and drawn as per cent, differences are drawn in percentage points.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style
from workbench.figures.style import NOWHERE, Look

CORNERS = (
    "top left",
    "bottom right",
    "top right",
    "bottom left",
)  # in turn, so that close marks keep their words apart
PAPER_LOOKS = {
    0.01: Look("#9a6b3f", "dot", "diamond", ""),
    0.1: Look("#c47a00", "dot", "square", ""),
}  # another scale of λ
CLIFF_TITLE = "cliffs (none of n correct)"
PER_CENT = {"tickformat": ".0%"}


def arms(frame: pd.DataFrame) -> list[tuple[str, Look, pd.DataFrame]]:
    """(name, look, rows) of each arm, λ ascending. Two arms with one λ differ by an open symbol and another dash."""
    found = [(str(arm), float(lam), rows) for (lam, arm), rows in frame.groupby(["lambda", "arm"], sort=True)]
    looks = style.looks_of((arm, lam) for arm, lam, _ in found)
    return [(arm, looks[arm], rows) for arm, _, rows in found]


def paths(points: pd.DataFrame, words: Sequence[str], x_title: str, y_title: str) -> dict[str, Any]:
    """What `web/paths.js` draws: each arm's means and runs at each moment. points: `tradeoff.paths`; words: of its moments."""
    known = points.assign(moment=points["moment"].astype(int)) if len(points) else points
    ends = {}
    for axis, title in (("x", x_title), ("y", y_title)):
        values = pd.concat([known[axis], known[f"{axis}_low"], known[f"{axis}_high"], known[f"base_{axis}"]]).dropna()
        low, high = float(values.min()), float(values.max())
        ends[axis] = {"title": title, "range": [max(0.0, low - 0.02), min(1.0, high + 0.02)]}
    drawn = []
    for name, look, rows in arms(known):
        means = rows.groupby("moment")[["x", "y"]].mean()
        seeds = [
            {"name": f"seed {seed}", "at": listed(run.set_index("moment")[list(AT)], len(words))}
            for (seed, _), run in rows.groupby(["seed", "run"], sort=True)
        ]
        facts = {"name": name, "short": name[:30], "colour": look.colour, "dash": look.dash, "symbol": look.symbol}
        drawn.append(facts | {"mean": listed(means, len(words)), "seeds": seeds})
    base = known[["base_x", "base_y"]].mean()
    start = None if base.isna().any() else base.tolist()
    return {
        **ends,
        "moments": list(words),
        "arms": drawn,
        "base": start,
        "alt": f"{y_title} against {x_title}, a path an arm",
    }


AT = ("x", "y", "x_low", "x_high", "y_low", "y_high")


def listed(rows: pd.DataFrame, moments: int) -> list[list[float] | None]:
    """A row a moment, None where there is none."""
    found: dict[int, list[float]] = {int(i): row.tolist() for i, row in rows.iterrows()}
    return [found.get(i) for i in range(moments)]


def short(arm: str) -> str:
    """The words at a mark: marks stand close together, and the legend has the whole name.

    >>> short("λ = 0.3 · frozen")
    '0.3 · frozen'
    """
    return style.safe(arm.removeprefix("λ = "), 24)


def errors(rows: pd.DataFrame, axis: str, look: Look) -> dict[str, Any]:
    """Error bars from the columns axis, axis_low, axis_high."""
    up, down = rows[f"{axis}_high"] - rows[axis], rows[axis] - rows[f"{axis}_low"]
    ends = {"type": "data", "symmetric": False, "array": up, "arrayminus": down}
    return ends | {"color": style.faint(look.colour, 0.45), "thickness": 1, "width": 0}


def pass_k_curves(table: pd.DataFrame) -> go.Figure:
    """pass@k over k (log scale), each arm's mean over its seeds; the seeds faint, or the interval where there is one seed."""
    if table.empty:
        return style.nothing("No counts by problem at this step.")
    last = table["k"].max()
    ticks = {"type": "log", "tickvals": [2**i for i in range(20) if 2**i <= last]}
    return style.figure(
        arm_lines(table, "k"), 380, ticks | style.titled("k (log scale)"), PER_CENT | style.titled("pass@k")
    )


def by_level(table: pd.DataFrame, metrics: Sequence[str]) -> go.Figure:
    """A panel for each of the metrics over the levels of the problems, arms as in the other figures."""
    shown = [m for m in metrics if not table.empty and (table["metric"] == m).any()]
    if not shown:
        return style.nothing("These problems have no levels.")
    traces: list[dict[str, Any]] = []
    for i, metric in enumerate(shown):
        traces += arm_lines(table[table["metric"] == metric], "level", style.place(i), legend=i == 0)
    x = style.titled("level") | {"type": "category", "categoryorder": "category ascending"}
    titles = [CLIFF_TITLE if m == "cliff" else m for m in shown]
    return style.figure(traces, 380, x, PER_CENT | {"range": [-0.03, 1.03]}, titles, len(shown))


def arm_lines(
    table: pd.DataFrame, x: str, where: Mapping[str, str] = NOWHERE, legend: bool = True
) -> list[dict[str, Any]]:
    """A line of means for each arm over column `x`; one seed carries its interval, several are drawn as faint marks."""
    traces: list[dict[str, Any]] = []
    drawn = [(name, look, rows, rows.groupby(x, sort=True)["value"].mean()) for name, look, rows in arms(table)]
    for i, (name, look, rows, means) in enumerate(drawn):
        rows = rows.sort_values(x)
        over = sum(
            means.equals(later) for *_, later in drawn[i + 1 :]
        )  # lines that hide this one: it shows around them
        one = rows["run"].nunique() == 1
        bars = rows.assign(y=rows["value"], y_low=rows["low"], y_high=rows["high"])
        same = {"type": "scatter", "legendgroup": name, **where}
        mean = {
            "x": list(means.index),
            "y": means,
            "error_y": errors(bars, "y", look) if one else None,
            "mode": "lines+markers",
            "name": style.safe(name),
            "showlegend": legend,
            "line": {"color": look.colour, "dash": look.dash, "width": 2 + 4 * over},
            "marker": {"symbol": look.symbol, "size": 8 + 7 * over},
            "hovertemplate": f"{x} %{{x}}: %{{y:.1%}}<extra>{style.safe(name)}</extra>",
        }
        seeds = {
            "x": rows[x],
            "y": rows["value"],
            "mode": "markers",
            "name": f"{style.safe(name)}, seeds",
            "showlegend": False,
            "marker": {"symbol": look.symbol, "size": 5, "color": look.colour, "opacity": 0.45},
            "customdata": rows["seed"],
            "hovertemplate": f"{x} %{{x}}, seed %{{customdata}}: %{{y:.1%}}<extra>{style.safe(name)}</extra>",
        }
        traces += [same | mean] if one else [same | mean, same | seeds]
    return traces


def difference_plane(differences: pd.DataFrame, x: str, y: str, paper: pd.DataFrame | None = None) -> go.Figure:
    """What each λ changed against λ = 0, in percentage points: accuracy (metric `x`) across, coverage (`y`) up.

    paper: its differences in pass@1 and pass@8, drawn over ours at the same scale and, since they are far smaller, once
    more at their own; give it only where x and y are these two.
    """
    own = place_own(differences, x, y)
    if paper is None and own.empty:
        return style.nothing("No pair here: it takes a run with λ = 0 and one with λ > 0, same seed and settings.")
    traces: list[dict[str, Any]] = []
    for i, (name, look, rows) in enumerate(arms(own)):
        mark = {
            "type": "scatter",
            "x": rows["x"],
            "y": rows["y"],
            "mode": "markers+text",
            "name": style.safe(name),
            "text": [short(name)],
            "textposition": CORNERS[i % len(CORNERS)],
            "error_x": errors(rows, "x", look),
            "error_y": errors(rows, "y", look),
            "textfont": {"size": style.TEXT + 1},
            "marker": {"color": look.colour, "symbol": look.symbol, "size": 13},
            "hovertemplate": f"{style.safe(name)}<br>{x} %{{x:+.1f}}, {y} %{{y:+.1f}} points<extra></extra>",
        }
        traces.append(mark)
    titles = [""]
    if paper is not None:
        titles = ["here, and the paper's at the same scale", "the paper's at their own scale"]
        traces += [*paper_layer(paper, style.place(0)), *paper_layer(paper, style.place(1), legend=False)]
    zero = {"zeroline": True, "zerolinewidth": 2}
    across, up = (style.titled(f"{metric} minus that of λ = 0 (points)") for metric in (x, y))
    return style.figure(traces, 460, zero | across, zero | up, titles, len(titles))


def place_own(differences: pd.DataFrame, x: str, y: str) -> pd.DataFrame:
    """One row an arm that has both metrics: arm, lambda, x, y and their low and high, in percentage points."""
    rows = []
    for (arm, lam), some in differences.groupby(["arm", "lambda"], sort=False) if len(differences) else ():
        ends = some.set_index("metric")[["value", "low", "high"]] * 100
        if {x, y} <= set(ends.index):
            place = {"x": ends.loc[x, "value"], "x_low": ends.loc[x, "low"], "x_high": ends.loc[x, "high"]}
            place |= {"y": ends.loc[y, "value"], "y_low": ends.loc[y, "low"], "y_high": ends.loc[y, "high"]}
            rows.append({"arm": arm, "lambda": lam, **place})
    return pd.DataFrame(rows, columns=["arm", "lambda", "x", "x_low", "x_high", "y", "y_low", "y_high"])


def paper_layer(paper: pd.DataFrame, where: Mapping[str, str], legend: bool = True) -> list[dict[str, Any]]:
    """The paper's differences to its GRPO row: Table 1 filled, Table 3 open; the line between the two is how far they disagree."""
    traces = []
    for label, rows in paper.groupby("label", sort=False):
        look = PAPER_LOOKS[float(rows["lambda"].iloc[0])]
        symbol = "diamond" if str(label).startswith("drifting") else "square"
        symbols = [symbol if table == "Table 1" else f"{symbol}-open" for table in rows["table"]]
        hover = f"paper, {label}<br>%{{customdata[0]}} (%{{customdata[1]}})<br>pass@1 %{{x:+.2f}}, pass@8 %{{y:+.2f}} points<extra></extra>"
        trace = {
            "type": "scatter",
            "x": 100 * rows["pass@1"],
            "y": 100 * rows["pass@8"],
            "mode": "lines+markers",
            "name": f"paper: {label}",
            "legendgroup": f"paper: {label}",
            "showlegend": legend,
            "hovertemplate": hover,
            "line": {"color": look.colour, "dash": "dot", "width": 1.5},
            "customdata": rows[["table", "hardware"]],
            "marker": {"color": look.colour, "size": 10, "symbol": symbols},
            **where,
        }
        traces.append(trace)
    return traces
