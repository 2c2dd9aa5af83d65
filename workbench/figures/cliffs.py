"""Which prompts a model can learn from: the cliff map, a dot a prompt, and the three regimes in one bar (Sec. 2.3)."""

from __future__ import annotations

from typing import Any

import pandas as pd
import plotly.graph_objects as go

from hdpo.evidence.stats import rate_interval
from hdpo.records import GroupKind
from workbench.figures import style
from workbench.figures.style import Look

# State of a prompt → its words and look; the regimes, and what became of a cliff since training began.
STATES: dict[str, tuple[str, Look]] = {
    "cliff": ("cliff", style.CLIFF),
    "doubt": ("cliff in doubt (truncated, grader)", style.DOUBT),
    "mixed": ("mixed", style.MIXED),
    "solved": ("solved", style.SOLVED),
    "recovered": ("recovered", style.RECOVERED),
    "relapsed": ("relapsed", style.RELAPSED),
    "lost": ("newly lost", style.LOST),
    "luck": ("healed by luck", style.GREY),
}
REGIMES = (GroupKind.CLIFF, GroupKind.MIXED, GroupKind.SOLVED)


def of_scan(table: pd.DataFrame) -> pd.DataFrame:
    """The prompts of a scan with a regime, as `cliff_map` takes them. table: `explore.prompt_table`."""
    regime = table["kind"].str.removesuffix(" (doubtful)")
    state = regime.mask(table["kind"].str.endswith(" (doubtful)"), "doubt")
    rows = table.assign(arm="", step=0, n=table["graded"], state=state, **{"lambda": float("nan")})
    return rows[regime.isin([kind.value for kind in REGIMES])]


def cliff_map(frame: pd.DataFrame, across: str, luck: tuple[int, pd.Series] | None = None) -> dict[str, Any]:
    """What `web/map.js` draws: each prompt a dot, by pass rate and by `across` (level or source), at each step of each arm.

    frame: arm, lambda, step, problem_id, level, source, n, correct, state (a key of STATES), as `data.fates.over_steps` gives it.
    luck: seed and counts of an untrained redraw, shown for the prompts that were cliffs before training and are none in it.
    """
    known = frame.assign(column=frame[across].map(column_word))
    first = known.drop_duplicates("problem_id").set_index("problem_id")
    columns, steps = sorted(first["column"].unique(), key=lambda c: (len(c), c)), sorted(known["step"].unique())
    looks = style.looks_of([(str(a), float(lam)) for a, lam in zip(known["arm"], known["lambda"], strict=True)])
    arms = []
    for arm, rows in known.groupby("arm", sort=False):
        at = [listed(rows[rows["step"] == step], first.index) for step in steps]
        arms.append({"name": arm, "colour": looks[str(arm)].colour, "symbol": looks[str(arm)].symbol, "at": at})
    return {
        "across": {"title": across, "names": columns},
        "moments": [f"step {step}" if step else "before training" for step in steps],
        "prompts": [[i, columns.index(column)] for i, column in first["column"].items()],
        "most": int(known["n"].max()),
        "arms": arms,
        "luck": luck and {"seed": luck[0], "at": healed(known, first.index, luck[1])},
        "looks": {k: {"words": w, "colour": look.colour, "symbol": look.symbol} for k, (w, look) in STATES.items()},
    }


def column_word(value: Any) -> str:
    return "none" if pd.isna(value) else f"{value:g}" if isinstance(value, int | float) else str(value)


def listed(rows: pd.DataFrame, ids: pd.Index) -> list[list[Any] | None]:
    """[correct, n, state] of each prompt, None where it was not measured."""
    found = zip(rows["problem_id"], rows["correct"], rows["n"], rows["state"], strict=True)
    at = {i: [int(correct), int(n), state] for i, correct, n, state in found}
    return [at.get(i) for i in ids]


def healed(frame: pd.DataFrame, ids: pd.Index, counts: pd.Series) -> list[list[Any] | None]:
    """[correct, n, "luck"] of the prompts that are cliffs at the first step and none in the redraw, None for the others."""
    before = frame[frame["step"] == frame["step"].min()].drop_duplicates("problem_id").set_index("problem_id")
    return [
        [int(counts[i]), int(before["n"][i]), "luck"]
        if i in before.index and not before["correct"][i] and counts[i] > 0
        else None
        for i in ids
    ]


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
