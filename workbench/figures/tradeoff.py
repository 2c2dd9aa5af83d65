"""Coverage against accuracy over λ: one mark a run, arrows from the base model, and what the paper measured.

Frames are those of `workbench.tradeoff_data`: one row a run (and k, or level), with `arm`, `lambda`, `seed`; rates are
fractions and drawn as per cent, differences are drawn in percentage points.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style
from workbench.figures.style import GREY, LOOKS, Look

PAPER_LOOKS = {0.01: LOOKS[5], 0.1: LOOKS[3]}
CLIFF_TITLE = "cliffs (none of n correct)"


def arms(frame: pd.DataFrame) -> list[tuple[str, Look, pd.DataFrame]]:
    """(name, look, rows) of each arm, λ ascending. Two arms with one λ differ by an open symbol and another dash."""
    found: list[tuple[str, Look, pd.DataFrame]] = []
    for (lam, arm), rows in frame.groupby(["lambda", "arm"], sort=True):
        look = style.lambda_look(float(lam))
        if any(known.colour == look.colour for _, known, _ in found):
            look = Look(look.colour, "dot", f"{look.symbol.removesuffix('-open')}-open", look.pattern)
        found.append((str(arm), look, rows))
    return found


def coverage_accuracy(points: pd.DataFrame, x_title: str, y_title: str) -> go.Figure:
    """Each run with its 95 % intervals (faint), the mean of each arm (strong), an arrow from the base model to it."""
    if points.empty:
        return style.nothing("No run here was evaluated at this step.")
    fig = style.dress(go.Figure(), 480)
    for name, look, rows in arms(points):
        fig.add_scatter(
            x=rows["x"], y=rows["y"], mode="markers", name=f"{style.safe(name)}, one seed", legendgroup=name, showlegend=False,
            marker={"color": look.colour, "symbol": look.symbol, "size": 8, "opacity": 0.55},
            error_x=errors(rows, "x", look), error_y=errors(rows, "y", look),
            customdata=rows[["seed", "run"]], hovertemplate=f"{style.safe(name)}, seed %{{customdata[0]}}<br>%{{x:.1%}}, %{{y:.1%}}<br>%{{customdata[1]}}<extra></extra>",
        )  # fmt: skip
        x, y = rows["x"].mean(), rows["y"].mean()
        add_arrow(fig, rows["base_x"].mean(), rows["base_y"].mean(), (x, y), look)
        fig.add_scatter(
            x=[x], y=[y], mode="markers+text", name=style.safe(name), legendgroup=name, text=[style.safe(name)], textposition="top left",
            textfont={"color": look.colour}, marker={"color": look.colour, "symbol": look.symbol, "size": 15, "line": {"width": 1.5}},
            hovertemplate=f"{style.safe(name)}, mean of {len(rows)} run(s)<br>%{{x:.1%}}, %{{y:.1%}}<extra></extra>",
        )  # fmt: skip
    known = points.dropna(subset=["base_x", "base_y"])
    if len(known):
        fig.add_scatter(
            x=[known["base_x"].mean()], y=[known["base_y"].mean()], mode="markers", name="base model (step 0)",
            marker={"color": GREY.colour, "symbol": "hexagon-open", "size": 16, "line": {"width": 2}},
            hovertemplate="base model<br>%{x:.1%}, %{y:.1%}<extra></extra>",
        )  # fmt: skip
    fig.update_xaxes(title_text=x_title, tickformat=".0%")
    fig.update_yaxes(title_text=y_title, tickformat=".0%")
    return fig


def errors(rows: pd.DataFrame, axis: str, look: Look) -> dict[str, object]:
    """Error bars from the columns axis, axis_low, axis_high."""
    up, down = rows[f"{axis}_high"] - rows[axis], rows[axis] - rows[f"{axis}_low"]
    colour = style.faint(look.colour, 0.45)
    return {
        "type": "data",
        "symmetric": False,
        "array": up,
        "arrayminus": down,
        "color": colour,
        "thickness": 1,
        "width": 0,
    }


def add_arrow(fig: go.Figure, x: float, y: float, tip: tuple[float, float], look: Look) -> None:
    """From the base model to an arm; none where the base was not measured or nothing has moved yet."""
    if pd.isna(x) or pd.isna(y) or (x, y) == tip:
        return
    place = {"x": tip[0], "y": tip[1], "ax": x, "ay": y, "xref": "x", "yref": "y", "axref": "x", "ayref": "y"}
    fig.add_annotation(
        **place,
        text="",
        showarrow=True,
        arrowhead=2,
        arrowwidth=1.5,
        arrowcolor=style.faint(look.colour, 0.7),
        standoff=9,
    )


def pass_k_curves(table: pd.DataFrame) -> go.Figure:
    """pass@k over k (log scale), each arm's mean over its seeds; the seeds faint, or the interval where there is one seed."""
    if table.empty:
        return style.nothing("No counts by problem at this step.")
    fig = style.dress(go.Figure(), 380)
    draw_arms(fig, table, "k")
    ks = sorted(table["k"].unique())
    fig.update_xaxes(
        title_text="k (log scale)", type="log", tickvals=[k for k in (1, 2, 4, 8, 16, 32, 64) if k <= ks[-1]]
    )
    fig.update_yaxes(title_text="pass@k", tickformat=".0%")
    return fig


def by_level(table: pd.DataFrame, metrics: Sequence[str]) -> go.Figure:
    """A panel for each of the metrics over the levels of the problems, arms as in the other figures."""
    shown = [m for m in metrics if not table.empty and (table["metric"] == m).any()]
    if not shown:
        return style.nothing("These problems have no levels.")
    fig = style.panels([CLIFF_TITLE if m == "cliff" else m for m in shown], len(shown), 380)
    for i, metric in enumerate(shown):
        draw_arms(fig, table[table["metric"] == metric], "level", style.place(i, len(shown)), legend=i == 0)
    fig.update_xaxes(title_text="level", type="category", categoryorder="category ascending")
    fig.update_yaxes(tickformat=".0%", range=[-0.03, 1.03])
    return fig


def draw_arms(
    fig: go.Figure, table: pd.DataFrame, x: str, where: dict[str, int] | None = None, legend: bool = True
) -> None:
    """A line of means for each arm over column `x`; one seed carries its interval, several are drawn as faint marks."""
    where = where or {}
    for name, look, rows in arms(table):
        means = rows.groupby(x, sort=True)["value"].mean()
        one = rows["run"].nunique() == 1
        bars = rows.sort_values(x)
        error = (
            errors(bars.assign(y=bars["value"], y_low=bars["low"], y_high=bars["high"]), "y", look)
            if one
            else None
        )
        fig.add_scatter(
            x=list(means.index), y=means, error_y=error, mode="lines+markers", name=style.safe(name), legendgroup=name, showlegend=legend,
            line={"color": look.colour, "dash": look.dash, "width": 2}, marker={"symbol": look.symbol, "size": 8},
            hovertemplate=f"{x} %{{x}}: %{{y:.1%}}<extra>{style.safe(name)}</extra>", **where,
        )  # fmt: skip
        if not one:
            fig.add_scatter(
                x=rows[x], y=rows["value"], mode="markers", name=f"{style.safe(name)}, seeds", legendgroup=name, showlegend=False,
                marker={"symbol": look.symbol, "size": 5, "color": look.colour, "opacity": 0.45}, customdata=rows[["seed"]],
                hovertemplate=f"{x} %{{x}}, seed %{{customdata[0]}}: %{{y:.1%}}<extra>{style.safe(name)}</extra>", **where,
            )  # fmt: skip


def difference_plane(
    differences: pd.DataFrame, x: str, y: str, paper: pd.DataFrame | None = None
) -> go.Figure:
    """What each λ changed against λ = 0, in percentage points: accuracy (metric `x`) across, coverage (`y`) up.

    paper: the layer of the paper's differences in pass@1 and pass@8; give it only where x and y are these two.
    """
    own = place_own(differences, x, y)
    if paper is None and own.empty:
        return style.nothing(
            "No pair here: it takes a run with λ = 0 and one with λ > 0, same seed and settings."
        )
    fig = style.dress(go.Figure(), 460)
    for name, look, rows in arms(own):
        fig.add_scatter(
            x=rows["x"], y=rows["y"], mode="markers+text", name=style.safe(name), text=[style.safe(name)], textposition="top left",
            error_x=errors(rows, "x", look), error_y=errors(rows, "y", look), textfont={"color": look.colour},
            marker={"color": look.colour, "symbol": look.symbol, "size": 13},
            hovertemplate=f"{style.safe(name)}<br>{x} %{{x:+.1f}}, {y} %{{y:+.1f}} points<extra></extra>",
        )  # fmt: skip
    if paper is not None:
        paper_layer(fig, paper)
    fig.update_xaxes(title_text=f"{x} minus that of λ = 0 (points)", zerolinewidth=2)
    fig.update_yaxes(title_text=f"{y} minus that of λ = 0 (points)", zerolinewidth=2)
    return fig


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


def paper_layer(fig: go.Figure, paper: pd.DataFrame) -> None:
    """The paper's differences to its GRPO row: Table 1 filled, Table 3 open; the line between the two is how far they disagree."""
    for label, rows in paper.groupby("label", sort=False):
        look = PAPER_LOOKS[float(rows["lambda"].iloc[0])]
        symbol = "diamond" if str(label).startswith("drifting") else "square"
        fig.add_scatter(
            x=100 * rows["pass@1"], y=100 * rows["pass@8"], mode="lines+markers", name=f"paper: {label}",
            line={"color": look.colour, "dash": "dot", "width": 1.5}, customdata=rows[["table", "hardware"]],
            marker={"color": look.colour, "size": 10, "symbol": [symbol if t == "Table 1" else f"{symbol}-open" for t in rows["table"]]},
            hovertemplate=f"paper, {label}<br>%{{customdata[0]}} (%{{customdata[1]}})<br>pass@1 %{{x:+.2f}}, pass@8 %{{y:+.2f}} points<extra></extra>",
        )  # fmt: skip
