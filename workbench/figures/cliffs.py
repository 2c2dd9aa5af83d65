"""Which prompts a model can learn from: the histogram of a scan, and the three regimes in one bar (Sec. 2.3)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hdpo.evidence.stats import rate_interval
from hdpo.records import Doubt, GroupKind
from workbench.figures import style
from workbench.figures.style import Look

# (words, kind, whether in doubt, look)
BARS: tuple[tuple[str, GroupKind, bool, Look], ...] = (
    ("cliff: no signal from GRPO", GroupKind.CLIFF, False, style.CLIFF),
    ("cliff in doubt (truncated, grader)", GroupKind.CLIFF, True, style.DOUBT),
    ("mixed: GRPO learns here", GroupKind.MIXED, False, style.MIXED),
    ("solved: nothing left to learn", GroupKind.SOLVED, False, style.SOLVED),
)
REGIMES = (GroupKind.CLIFF, GroupKind.MIXED, GroupKind.SOLVED)


def success_histogram(scan: pd.DataFrame) -> go.Figure:
    """Prompts by the number of correct rollouts of K, the cliffs hatched.

    scan: one row a prompt with `group` (a GroupKind's value), `doubt`, `n`, `correct`. Prompts without a regime (no
    signal, too long, gold unparsable) have no place on the axis and are counted in the title.
    """
    if scan.empty:
        return style.nothing("No prompt has been scanned yet.")
    k, placed = int(scan["n"].max()), 0
    traces = []
    for name, kind, doubtful, look in BARS:
        rows = scan[(scan["group"] == kind.value) & ((scan["doubt"] != Doubt.NONE.value) == doubtful)]
        counts = rows["correct"].value_counts().reindex(range(k + 1), fill_value=0)
        placed += len(rows)
        bar = {
            "type": "bar",
            "x": list(counts.index),
            "y": list(counts),
            "name": name,
            "marker": style.fill(look),
            "hovertemplate": f"%{{x}} of {k} correct: %{{y}} prompts<extra>{name}</extra>",
        }
        traces += [bar] if len(rows) else []
    left_out = len(scan) - placed
    words = f" ({left_out} more prompts without a verdict)" if left_out else ""
    x = style.titled(f"correct rollouts of {k}{words}") | {"tickmode": "linear", "dtick": max(1, k // 16)}
    fig = style.figure(traces, 340, x, style.titled("prompts"))
    return fig.update_layout(barmode="stack", bargap=0.15)


def count_regimes(kinds: pd.Series) -> pd.DataFrame:
    """Prompts by regime: kind, prompts, and their share of all that have a regime with its 95 % interval.

    >>> count_regimes(pd.Series(["cliff", "mixed", "mixed", "gold unparsable"]))[["kind", "prompts"]].values.tolist()
    [['cliff', 1], ['mixed', 2], ['solved', 0]]
    """
    counts = {kind.value: int((kinds == kind.value).sum()) for kind in REGIMES}
    total = sum(counts.values())
    rows = []
    for kind, prompts in counts.items():
        low, high = rate_interval(prompts, total) if total else (float("nan"), float("nan"))
        share = prompts / total if total else float("nan")
        rows.append({"kind": kind, "prompts": prompts, "share": share, "low": low, "high": high})
    return pd.DataFrame(rows)


def regimes(counts: pd.DataFrame) -> go.Figure:
    """The three regimes as one bar, its numbers above it. counts: kind, prompts, share, low, high, as `count_regimes` gives it."""
    if counts.empty or not counts["prompts"].sum():
        return style.nothing("No prompt has been scanned yet.", 150)
    looks = {
        GroupKind.CLIFF.value: style.CLIFF,
        GroupKind.MIXED.value: style.MIXED,
        GroupKind.SOLVED.value: style.SOLVED,
    }
    total = int(counts["prompts"].sum())
    traces: list[dict[str, Any]] = []
    labels: list[dict[str, Any]] = []
    for row in counts.itertuples():
        hover = f"{row.kind}: {row.prompts} prompts, {row.share:.1%} ({row.low:.1%} to {row.high:.1%})<extra></extra>"
        bar = {"type": "bar", "x": [row.prompts], "y": [""], "orientation": "h", "name": row.kind, "showlegend": False}
        traces.append(bar | {"marker": style.fill(looks[row.kind]), "hovertemplate": hover})
        # from left to right in the order of the bar, so that a sliver's number has its place as well
        where = {"x": len(labels) / 2, "xref": "paper", "xanchor": ("left", "center", "right")[len(labels)]}
        words = f"{style.mark(looks[row.kind])} <b>{row.prompts}</b> {row.kind} ({row.share:.0%})"
        above = {"y": 1.0, "yref": "paper", "yanchor": "bottom", "showarrow": False}
        labels.append({"text": words, **where, **above, "font": {"size": style.TEXT + 3}})
    x = style.titled("prompts") | {"range": [0, total], "showgrid": False}
    fig = style.figure(traces, 170, x, {"visible": False})
    return fig.update_layout(barmode="stack", bargap=0.05, annotations=labels)
