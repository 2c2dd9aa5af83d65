"""The figures that move while a run trains; each also draws several runs, told apart by the column `run`.

Frames are those of the run folder: one row a step (`steps`), long rows of the evaluations (`evals`: step, metric, value,
low, high) and of the fixed probe set (`probe`: step, on, metric, value, low, high). KL, JSD and entropy in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style
from workbench.figures.style import GREY, LOOKS, Look, Series

# (words, columns that are summed, look), from the bottom of the stack upwards.
SIGNAL: tuple[tuple[str, tuple[str, ...], Look], ...] = (
    ("mixed: GRPO signal", ("groups_mixed",), LOOKS[0]),
    ("cliff, recovered: JSD signal", ("groups_cliff_recovered",), LOOKS[2]),
    ("cliff, nothing accepted: no signal", ("groups_cliff_lost",), LOOKS[1]),
    ("cliff, not tried or its peek too long", ("groups_cliff_skipped", "groups_cliff_too_long"), LOOKS[3]),
    ("solved: no signal", ("groups_solved",), Look("#808790", "solid", "circle", "|")),
    (
        "other: no verdict, too long, grader",
        ("groups_doubtful_grader", "groups_no_signal", "groups_too_long", "groups_ungradable"),
        LOOKS[4],
    ),
)

PROBE = {"privileged": "on privileged traces (nats per token)", "own": "on the student's own traces (nats per token)"}
EVALS = {
    "pass@1": "pass@1 (sampled accuracy)",
    "pass@4": "pass@4",
    "pass@8": "pass@8 (coverage)",
    "greedy": "greedy accuracy",
    "cliff": "cliffs (none of n correct)",
    "solved": "solved (all of n correct)",
}


NO_MORE: Mapping[str, Any] = {}
STEP = {"title": {"text": "step"}}


def signal_accounting(steps: pd.DataFrame) -> go.Figure:
    """Where the prompts of each step went, stacked: which had a gradient, and from which term. One panel a run."""
    if steps.empty:
        return style.nothing("No training step yet.")
    runs = style.by_run(steps)
    traces = [
        bar | {"showlegend": i == 0} | style.place(i) for i, (_, rows) in enumerate(runs) for bar in signal_bars(rows)
    ]
    titles, height = [style.safe(label) for label, _ in runs], 320 + 190 * (len(runs) - 1)
    fig = style.figure(traces, height, STEP | {"matches": "x"}, {"title": {"text": "prompts"}}, titles)
    return fig.update_layout(barmode="stack", bargap=0.08)


def signal_bars(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """The stack of one run."""
    return [
        {
            "type": "bar",
            "x": rows["step"],
            "y": sum(rows[c].astype(float).fillna(0.0) for c in columns),
            "name": name,
            "legendgroup": name,
            "marker": style.fill(look),
            "hovertemplate": f"step %{{x}}: %{{y:.0f}} prompts<extra>{name}</extra>",
        }
        for name, columns, look in SIGNAL
    ]


def reward(steps: pd.DataFrame) -> go.Figure:
    """Mean reward of the step's student rollouts: the share of them that is correct."""
    return over_steps(steps, [("reward", "mean reward")], {"range": [-0.02, 1.02]})


def loss_terms(steps: pd.DataFrame) -> go.Figure:
    """Both terms of L_HDPO = L_GRPO + λ·L_JSD, the second unweighted, with the floor that JSD_k cannot go below."""
    fig = over_steps(steps, [("loss_grpo", "L_GRPO"), ("loss_jsd", "L_JSD, unweighted (nats per token)")])
    if steps.empty:
        return fig
    floors = side_lines(steps, "jsd_floor", "JSD_k floor", style.place(1))
    return fig.add_traces(floors)


def side_lines(steps: pd.DataFrame, column: str, words: str, where: dict[str, str]) -> list[dict[str, Any]]:
    """A second quantity in a panel: dash-dotted and without marks, grey, or in the run's colour where there are several."""
    runs = style.by_run(steps)
    looks = style.run_looks([label for label, _ in runs]) if len(runs) > 1 else {}
    traces: list[dict[str, Any]] = []
    for label, rows in runs:
        look = Look(looks.get(label, GREY).colour, "dashdot", GREY.symbol, "")
        if rows[column].notna().any():
            traces += style.line(
                Series(f"{words} {label}".strip(), rows["step"], rows[column], look, marks=False), where
            )
    return traces


def grad_norms(steps: pd.DataFrame) -> go.Figure:
    """Gradient norm of each term and of their sum before it is scaled down; one scale, so that heights compare."""
    columns = [("grad_norm_grpo", "of L_GRPO"), ("grad_norm_jsd", "of λ·L_JSD"), ("grad_norm", "of the sum")]
    return over_steps(steps, columns, {"matches": "y", "rangemode": "tozero"})


def length_entropy(steps: pd.DataFrame) -> go.Figure:
    """The harm meters: completion length (tokens) and entropy of the student (nats, mean over its tokens)."""
    return over_steps(steps, [("length", "completion length (tokens)"), ("entropy", "entropy (nats)")])


def probe_gap(probe: pd.DataFrame, steps: pd.DataFrame | None = None) -> go.Figure:
    """KL(P_T‖P_S) per token on the fixed probe set, against the drifting and against the frozen teacher.

    `steps` adds the gap on each step's own accepted traces, which is another quantity: other traces each time, and
    estimated from the top-k and its tail. Where vLLM drew the rollouts, what it and the trained model differ by is
    drawn too: no gap below it means anything.
    """
    if probe.empty:
        return style.nothing("The probe set has not been measured yet.")
    looks = style.run_looks([label for label, _ in style.by_run(probe)])
    traces: list[dict[str, Any]] = []
    for i, on in enumerate(PROBE):
        for label, rows in style.by_run(probe[probe["on"] == on]):
            traces += probe_lines(label, rows, looks[label], style.place(i), legend=i == 0)
    if steps is not None and not steps.empty:
        traces += side_lines(steps, "step_gap", "each step's own accepted traces (estimate)", style.place(0))
        traces += side_lines(steps, "parity_kl", "noise floor: vLLM against the trained model", style.place(0))
    titles = [
        words if (probe["on"] == on).any() else f"{words.partition(' (')[0]}: no trace" for on, words in PROBE.items()
    ]
    return style.figure(traces, 340, STEP, {"rangemode": "tozero"}, titles, columns=2)


def probe_lines(
    label: str, rows: pd.DataFrame, look: Look, where: dict[str, str], legend: bool
) -> list[dict[str, Any]]:
    """One run's two teachers: the drifting one solid and filled, the frozen one dotted and open."""
    open_look = Look(look.colour, "dot", f"{look.symbol}-open", "")
    traces: list[dict[str, Any]] = []
    for teacher, some_look in (("drifting", Look(look.colour, "solid", look.symbol, "")), ("frozen", open_look)):
        some = rows[rows["metric"] == f"kl_{teacher}"].sort_values("step")
        name = f"{label} {teacher} teacher".strip()
        traces += style.line(
            Series(name, some["step"], some["value"], some_look, some["low"], some["high"]), where, legend
        )
    return traces


def pass_at(evals: pd.DataFrame, metrics: Sequence[str] = tuple(EVALS)) -> go.Figure:
    """Held-out pass@k, greedy accuracy, cliff and solved share over training, with 95 % intervals (unit: the prompt)."""
    shown = [] if evals.empty else [m for m in metrics if (evals["metric"] == m).any()]
    if not shown:
        return style.nothing("No evaluation yet.")
    looks = style.run_looks([label for label, _ in style.by_run(evals)])
    traces: list[dict[str, Any]] = []
    for i, metric in enumerate(shown):
        for label, rows in style.by_run(evals[evals["metric"] == metric]):
            some = rows.sort_values("step")
            series = Series(label, some["step"], some["value"], looks[label], some["low"], some["high"])
            traces += style.line(series, style.place(i), legend=i == 0)
    columns = min(3, len(shown))
    height = 250 * -(-len(shown) // columns) + 60
    return style.figure(traces, height, STEP, {}, [EVALS.get(m, m) for m in shown], columns)


def over_steps(steps: pd.DataFrame, columns: Sequence[tuple[str, str]], y: Mapping[str, Any] = NO_MORE) -> go.Figure:
    """One panel a column, side by side, one line a run."""
    if steps.empty:
        return style.nothing("No training step yet.")
    looks = style.run_looks([label for label, _ in style.by_run(steps)])
    traces: list[dict[str, Any]] = []
    for i, (column, _) in enumerate(columns):
        for label, rows in style.by_run(steps):
            traces += style.line(Series(label, rows["step"], rows[column], looks[label]), style.place(i), legend=i == 0)
    return style.figure(traces, 300, STEP, y, [title for _, title in columns], len(columns))
