"""The realizability gap KL(P_T‖P_S) (Sec. 3): by position, against its bounds, and what a frozen teacher adds to it.

`gap` frames have one row a token of the fixed probe traces: trace, on ('privileged' or 'own' traces), position,
kl_drifting, kl_frozen, lemma1, range_bound in nats, mismatch in logits.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from hdpo.evidence.stats import mean_value
from workbench.figures import style
from workbench.figures.style import CLIFF, GREY, MIXED, Look, Panel, Series

ON = {"privileged": "on privileged traces", "own": "on the student's own traces"}
FLOOR = 1e-7  # nats; a log axis has no zero, smaller values lie on this line
MOST_TOKENS = 3000  # drawn at most in the scatter
POSITION_COLUMNS = ("on", "position", "when", "metric", "value", "low", "high", "n_traces")

# (when, column, words, dash): before training both teachers are one
CURVES = (
    ("before", "kl_drifting", "before training", "dashdot"),
    ("after", "kl_drifting", "after, drifting", style.DRIFTING),
    ("after", "kl_frozen", "after, frozen", style.FROZEN),
)
# Neither is a λ or a regime.
BOUNDS = (
    ("lemma1", "Lemma 1: ‖δ‖²∞ / 2", Look("#c47a00", "dash", "square", "/")),
    ("range_bound", "tighter: (max δ − min δ)² / 8", Look("#1f83c4", "solid", "circle", "")),
)


def over_training(probe: pd.DataFrame, noise: float | None = None) -> go.Figure:
    """KL(P_T‖P_S) per token on the probe set over the steps, drifting teacher: a run's two kinds of traces as two lines.

    noise: what a sampler of another kind and the trained model differ by (nats a token): no gap below it means anything.
    """
    rows = probe[probe["metric"] == "kl_drifting"] if not probe.empty else probe
    if rows.empty:
        return style.nothing("The probe set has not been measured yet.")
    looks, series, both = style.run_looks(probe), [], rows["on"].nunique() > 1
    for label, of_run in style.by_run(rows.sort_values("step")):
        for on, dash, end in (("privileged", "solid", ""), ("own", "dash", "-open")):
            some, look = of_run[of_run["on"] == on], looks[label]
            drawn = replace(look, dash=dash, symbol=look.symbol.removesuffix("-open") + end)
            name = f"{label} {on}".strip() if both or not label else label
            series += [Series(name, some["step"], some["value"], drawn, some["low"], some["high"])] if len(some) else []
    if noise is not None:
        ends = rows["step"].agg(["min", "max"])
        series.append(Series("floor", ends, ends * 0.0 + noise, replace(GREY, dash="dashdot"), marks=False))
    return style.lines([Panel("", series, "nats per token")], 380, "step")


def kl_of_trace(trace: pd.DataFrame, lam: float = 0.0) -> go.Figure:
    """The gap at each token of one trace before and after, its widest tokens named. trace: `workbench.data.gap.of_trace`."""
    if trace.empty:
        return style.nothing("This run has no gap measured by token.")
    look, hover = style.lambda_look(lam), "token %{x}, %{customdata}<br>%{y:.4g} nats"
    words = trace["token"].map(style.safe)
    pair = (("before", replace(GREY, symbol="circle-open")), ("after", look))
    series = [Series(n, trace["position"] + 1, trace[n], at, more=words, hover=hover) for n, at in pair]
    end = float(len(trace))
    fig = style.lines([Panel("", series, "nats")], 320, "token of the trace", x_end=end)
    for row in trace.nlargest(3, "before").itertuples():
        text = f"<b>{style.safe(repr(row.token))}</b>"
        fig.add_annotation(
            x=row.position + 1, y=row.before, text=text, ax=24, ay=-18, arrowhead=0, font={"size": style.TEXT}
        )
    return fig


def position_means(before: pd.DataFrame, after: pd.DataFrame) -> pd.DataFrame:
    """Mean gap at each token position over the traces that reach it: POSITION_COLUMNS; nats.

    The interval has the trace as its unit and is cut at 0, the least that a KL can be; one trace alone has none.
    """
    rows = []
    for when, gap in (("before", before), ("after", after)):
        for (on, position), tokens in gap.groupby(["on", "position"]) if len(gap) else ():
            for metric in [c for w, c, _, _ in CURVES if w == when and tokens[c].notna().any()]:
                e = mean_value(tokens[metric].dropna().to_numpy(dtype=float))
                facts = {"on": on, "position": position, "when": when, "metric": metric}
                rows.append(
                    {**facts, "value": e.value, "low": max(e.low, 0.0), "high": e.high, "n_traces": len(tokens)}
                )
    return pd.DataFrame(rows, columns=list(POSITION_COLUMNS))


def kl_by_position(
    before: pd.DataFrame, after: pd.DataFrame, noise: float | None = None, lam: float = 0.0
) -> go.Figure:
    """KL(P_T‖P_S) by token position, before and after training, against the drifting and the frozen teacher.

    noise: what a sampler of another kind and the trained model differ by (nats a token); no gap below it means anything.
    lam: the run's λ, which has a colour.
    """
    means = position_means(before, after)
    if means.empty:
        return style.nothing("This run has no gap measured by token.")
    hover, look = "token %{x}<br>%{y:.4g} nats, mean of %{customdata} traces", style.lambda_look(lam)
    panels = []
    for on, words in ON.items():
        series = []
        for when, metric, name, dash in CURVES:
            some = means[(means["on"] == on) & (means["when"] == when) & (means["metric"] == metric)]
            symbol = "circle-open" if when == "before" else look.symbol + ("-open" if dash == style.FROZEN else "")
            drawn = Look(GREY.colour if when == "before" else look.colour, dash, symbol, "")
            ends = {"low": some["low"], "high": some["high"], "more": some["n_traces"], "hover": hover}
            series += [Series(name, some["position"], some["value"], drawn, **ends)] if len(some) else []
        if noise is not None:
            at = means["position"].agg(["min", "max"])
            series.append(Series("vLLM floor", at, at * 0.0 + noise, replace(GREY, dash="dashdot"), marks=False))
        panels.append(Panel(words, series, "nats"))
    return style.lines(panels, 380, "token of the completion", columns=2, x_end=float(means["position"].max()))


def bound_facts(gap: pd.DataFrame, vocabulary: int | None) -> pd.DataFrame:
    """How much each bound says: tokens, broken (KL above it), vacuous (above ln V) and the median of bound / KL.

    ln V is the KL from a certain next token to a uniform guess over V: a bound above it holds for a student who knows
    nothing. The median is over tokens with a KL above FLOOR. An unknown vocabulary leaves `vacuous` 0.
    """
    rows = []
    limit = math.log(vocabulary) if vocabulary else math.inf
    kl = gap["kl_drifting"].astype(float)
    for column, name, _ in BOUNDS:
        bound = gap[column].astype(float)
        # float32 logits: equality is met only up to rounding
        broken, large = kl > bound * (1 + 1e-4) + 1e-6, kl > FLOOR
        ratio = float((bound[large] / kl[large]).median()) if large.any() else math.nan
        facts = {"bound": name, "tokens": len(gap), "broken": int(broken.sum())}
        rows.append({**facts, "vacuous": int((bound > limit).sum()), "median_ratio": ratio})
    return pd.DataFrame(rows)


def bounds_scatter(gap: pd.DataFrame, vocabulary: int | None) -> go.Figure:
    """Each token's KL against both of its bounds, log-log; below the diagonal a bound would be broken.

    The shaded part is above ln V, where a bound says nothing (`bound_facts`); the legend counts its tokens.
    """
    if gap.empty:
        return style.nothing("This run has no gap measured by token.")
    facts = bound_facts(gap, vocabulary).set_index("bound")
    shown = gap.iloc[np.linspace(0, len(gap) - 1, min(len(gap), MOST_TOKENS)).round().astype(int)]
    kl = shown["kl_drifting"].astype(float).clip(lower=FLOOR)
    ends, traces = [kl.min(), kl.max()], []
    for column, name, look in BOUNDS:
        bound = shown[column].astype(float).clip(lower=FLOOR)
        ends = [min(ends[0], bound.min()), max(ends[1], bound.max())]
        dots = {
            "type": "scatter",
            "x": kl,
            "y": bound,
            "mode": "markers",
            "text": [style.safe(repr(t)) for t in shown["token"]],
            "name": f"{name}: {facts.vacuous[name]} of {len(gap)} tokens vacuous" if vocabulary else name,
            "marker": {"color": look.colour, "symbol": look.symbol, "size": 5, "opacity": 0.55},
            "hovertemplate": "%{text}<br>KL %{x:.3g}, bound %{y:.3g} nats<extra></extra>",
        }
        traces.append(dots)
    line = {"color": GREY.colour, "dash": "dash", "width": 1.5}
    same = {
        "type": "scatter",
        "x": ends,
        "y": ends,
        "mode": "lines",
        "name": "bound = KL",
        "line": line,
        "hoverinfo": "skip",
    }
    log = {"type": "log", "exponentformat": "power"}
    across, up = style.titled("KL(P_T‖P_S) of the token (nats)"), style.titled("bound (nats)")
    fig = style.figure([*traces, same], 440, log | across, log | up)
    return shade_vacuous(fig, vocabulary, ends[1]) if vocabulary else fig


def shade_vacuous(fig: go.Figure, vocabulary: int, highest: float) -> go.Figure:
    """Shade the part above ln V, and say so over the panel."""
    limit = math.log(vocabulary)
    fig.add_shape(
        type="rect",
        xref="paper",
        x0=0,
        x1=1,
        yref="y",
        y0=limit,
        y1=3 * max(highest, limit),
        layer="below",
        line={"width": 0},
        fillcolor="rgba(128,135,144,0.15)",
    )
    words = f"grey: above ln V = ln {vocabulary} = {limit:.1f} nats a bound says nothing"
    return fig.add_annotation(style.heading(words, 0.5, 1.0))


def pull_of(q: float | np.ndarray) -> dict[str, Any]:
    """What the logit of a token gets of a step, where the student gives it q and the teacher is sure of it: of JSD
    q(1 − q)/2 · ln((1 + q)/q), of forward KL (and of SFT) 1 − q, in nats per unit of logit.

    >>> {name: round(float(v), 4) for name, v in pull_of(0.001).items()}
    {'JSD': 0.0035, 'forward KL': 0.999}
    """
    return {"JSD": q * (1 - q) / 2 * np.log((1 + q) / q), "forward KL": 1 - q}


def pull(tokens: pd.DataFrame) -> go.Figure:
    """How hard each divergence pulls at the trace's tokens. tokens: token, q (its probability without the solution, NaN where it
    is too small to be listed)."""
    grid, traces = np.geomspace(1e-5, 0.999, 120), []
    known = tokens.dropna(subset="q")
    for (name, values), look in zip(pull_of(grid).items(), (MIXED, CLIFF), strict=True):
        line = {"color": look.colour, "dash": look.dash, "width": 2}
        traces.append(
            {
                "type": "scatter",
                "x": grid,
                "y": values,
                "mode": "lines",
                "name": name,
                "line": line,
                "hoverinfo": "skip",
            }
        )
        dots = {"color": look.colour, "symbol": look.symbol, "size": 9}
        words = [style.safe(t) for t in known["token"]]
        hover = f"%{{text}}: q %{{x:.2g}}, {name} pulls %{{y:.2g}}<extra></extra>"
        at = {"x": known["q"], "y": pull_of(known["q"].to_numpy())[name], "text": words, "hovertemplate": hover}
        traces.append({"type": "scatter", "mode": "markers", "marker": dots, "showlegend": False, **at})
    log = {"type": "log", "exponentformat": "power", "dtick": 1}
    across = style.titled("probability of the token without the solution, q")
    return style.figure(traces, 340, log | across, style.titled("pull at its logit"))


def mismatch_over_training(probe: pd.DataFrame) -> go.Figure:
    """The model-mismatch term of Prop. 1 (ii), ‖f_φ(c_T) − f_θ(c_T)‖∞ in logits, for the frozen teacher.

    The drifting teacher is the student's own weights: its term is zero by definition and drawn as that.
    """
    rows = probe[probe["metric"] == "mismatch"] if not probe.empty else probe
    if rows.empty:
        return style.nothing("The probe set has not been measured yet.")
    looks = style.run_looks(rows)
    steps = rows["step"].drop_duplicates().sort_values()
    zero = Series("drifting: 0", steps, steps * 0.0, GREY, marks=False)
    panels = []
    for on, words in ON.items():
        series = []
        for label, of_run in style.by_run(rows[rows["on"] == on]):
            some, look = of_run.sort_values("step"), replace(looks[label], dash=style.FROZEN)
            name = f"{label} frozen".strip()
            series.append(Series(name, some["step"], some["value"], look, some["low"], some["high"]))
        panels.append(Panel(words, [*series, zero], "logits"))
    return style.lines(panels, 360, "step", columns=2)
