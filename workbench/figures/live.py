"""The figures that move while a run trains; each also draws several runs, told apart by the column `run`.

Frames are those of the run folder: one row a step (`steps`), long rows of the evaluations (`evals`: step, metric, value,
low, high) and of the fixed probe set (`probe`: step, on, metric, value, low, high). KL, JSD and entropy in nats.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style
from workbench.figures.style import GREY, LOOKS, Look, Series

# (words, columns that are summed, look), from the bottom of the stack upwards.
SIGNAL: tuple[tuple[str, tuple[str, ...], Look], ...] = (
    ("mixed: GRPO signal", ("groups_mixed",), LOOKS[0]),
    ("cliff, recovered: JSD signal", ("groups_cliff_recovered",), LOOKS[2]),
    ("cliff, nothing accepted: no signal", ("groups_cliff_lost",), LOOKS[1]),
    ("cliff, not tried", ("groups_cliff_skipped",), LOOKS[3]),
    ("solved: no signal", ("groups_solved",), Look("#808790", "solid", "circle", "")),
    ("other: no verdict, too long, grader", ("groups_doubtful_grader", "groups_no_signal", "groups_too_long", "groups_ungradable"), LOOKS[4]),
)  # fmt: skip

EVALS = {
    "pass@1": "pass@1 (sampled accuracy)",
    "pass@4": "pass@4",
    "pass@8": "pass@8 (coverage)",
    "greedy": "greedy accuracy",
    "cliff": "cliffs (none of n correct)",
    "solved": "solved (all of n correct)",
}


def signal_accounting(steps: pd.DataFrame) -> go.Figure:
    """Where the prompts of each step went, stacked: which had a gradient, and from which term. One panel a run."""
    if steps.empty:
        return style.nothing("No training step yet.")
    runs = style.by_run(steps)
    titles = [style.safe(label) for label, _ in runs]
    fig = style.panels(titles, 1, 320 + 190 * (len(runs) - 1), shared_xaxes=True)
    for i, (_, rows) in enumerate(runs):
        for name, columns, look in SIGNAL:
            y = sum(rows[c].astype(float) for c in columns)
            bar = go.Bar(
                x=rows["step"], y=y, name=name, legendgroup=name, showlegend=i == 0,
                marker=style.fill(look),
                hovertemplate="step %{x}: %{y:.0f} prompts<extra>" + name + "</extra>",
            )  # fmt: skip
            fig.add_trace(bar, **style.place(i, 1))
    fig.update_layout(barmode="stack", bargap=0.08)
    fig.update_yaxes(title_text="prompts")
    fig.update_xaxes(title_text="step", row=len(runs), col=1)
    return fig


def reward(steps: pd.DataFrame) -> go.Figure:
    """Mean reward of the step's student rollouts: the share of them that is correct."""
    fig = over_steps(steps, [("reward", "mean reward")], 1)
    fig.update_yaxes(range=[-0.02, 1.02])
    return fig


def loss_terms(steps: pd.DataFrame) -> go.Figure:
    """Both terms of L_HDPO = L_GRPO + λ·L_JSD, the second unweighted, with the floor that JSD_k cannot go below."""
    fig = over_steps(steps, [("loss_grpo", "L_GRPO"), ("loss_jsd", "L_JSD, unweighted (nats per token)")], 2)
    if steps.empty:
        return fig
    for label, rows in style.by_run(steps):
        if rows["jsd_floor"].notna().any():
            name = f"JSD_k floor {label}".strip()
            style.draw(
                fig, Series(name, rows["step"], rows["jsd_floor"], GREY, marks=False), style.place(1, 2)
            )
    return fig


def grad_norms(steps: pd.DataFrame) -> go.Figure:
    """Gradient norm of each term and of their sum before it is scaled down; one scale, so that heights compare."""
    columns = [("grad_norm_grpo", "of L_GRPO"), ("grad_norm_jsd", "of λ·L_JSD"), ("grad_norm", "of the sum")]
    fig = over_steps(steps, columns, 3)
    fig.update_yaxes(matches="y", rangemode="tozero")
    return fig


def length_entropy(steps: pd.DataFrame) -> go.Figure:
    """The harm meters: completion length (tokens) and entropy of the student (nats, mean over its tokens)."""
    return over_steps(steps, [("length", "completion length (tokens)"), ("entropy", "entropy (nats)")], 2)


def probe_gap(probe: pd.DataFrame, steps: pd.DataFrame | None = None) -> go.Figure:
    """KL(P_T‖P_S) per token on the fixed probe set, against the drifting and against the frozen teacher.

    `steps` adds the gap on each step's own accepted traces, which is another quantity: other traces each time, and
    estimated from the top-k and its tail.
    """
    if probe.empty:
        return style.nothing("The probe set has not been measured yet.")
    panels = [
        ("privileged", "on privileged traces (nats per token)"),
        ("own", "on the student's own traces (nats per token)"),
    ]
    fig = style.panels([title for _, title in panels], 2, 340)
    looks = style.run_looks([label for label, _ in style.by_run(probe)])
    for i, (on, _) in enumerate(panels):
        for label, rows in style.by_run(probe):
            for metric, teacher, dash in (
                ("kl_drifting", "drifting", "solid"),
                ("kl_frozen", "frozen", "dot"),
            ):
                look = Look(
                    looks[label].colour,
                    dash,
                    looks[label].symbol if dash == "solid" else f"{looks[label].symbol}-open",
                    "",
                )
                some = rows[(rows["on"] == on) & (rows["metric"] == metric)].sort_values("step")
                name = f"{label} {teacher} teacher".strip()
                style.draw(
                    fig,
                    Series(name, some["step"], some["value"], look, some["low"], some["high"]),
                    style.place(i, 2),
                    legend=i == 0,
                )
    if steps is not None and not steps.empty:
        for label, rows in style.by_run(steps):
            name = f"{label} step's own accepted traces (estimate)".strip()
            style.draw(
                fig, Series(name, rows["step"], rows["step_gap"], GREY, marks=False), style.place(0, 2)
            )
    fig.update_yaxes(rangemode="tozero")
    fig.update_xaxes(title_text="step")
    return fig


def pass_at(
    evals: pd.DataFrame, metrics: Sequence[str] = ("pass@1", "pass@4", "pass@8", "greedy", "cliff", "solved")
) -> go.Figure:
    """Held-out pass@k, greedy accuracy, cliff and solved share over training, with 95 % intervals (unit: the prompt)."""
    if evals.empty:
        return style.nothing("No evaluation yet.")
    shown = [m for m in metrics if (evals["metric"] == m).any()]
    columns = min(3, max(1, len(shown)))
    fig = style.panels([EVALS.get(m, m) for m in shown], columns, 250 * -(-len(shown) // columns) + 60)
    looks = style.run_looks([label for label, _ in style.by_run(evals)])
    for i, metric in enumerate(shown):
        for label, rows in style.by_run(evals):
            some = rows[rows["metric"] == metric].sort_values("step")
            series = Series(label, some["step"], some["value"], looks[label], some["low"], some["high"])
            style.draw(fig, series, style.place(i, columns), legend=i == 0)
    fig.update_xaxes(title_text="step", row=-(-len(shown) // columns))
    return fig


def over_steps(steps: pd.DataFrame, columns: Sequence[tuple[str, str]], across: int) -> go.Figure:
    """One panel a column, one line a run."""
    if steps.empty:
        return style.nothing("No training step yet.")
    fig = style.panels([title for _, title in columns], across, 300)
    looks = style.run_looks([label for label, _ in style.by_run(steps)])
    for i, (column, _) in enumerate(columns):
        for label, rows in style.by_run(steps):
            style.draw(
                fig,
                Series(label, rows["step"], rows[column], looks[label]),
                style.place(i, across),
                legend=i == 0,
            )
    fig.update_xaxes(title_text="step")
    return fig
