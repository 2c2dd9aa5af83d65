"""The figures that move while a run trains; each also draws several runs, told apart by the column `run`.

Frames are those of the run folder: one row a step (`steps`), long rows of the evaluations (`evals`: step, metric, value,
low, high) and of the fixed probe set (`probe`: step, on, metric, value, low, high). KL, JSD and entropy in nats.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import pandas as pd
import plotly.graph_objects as go

from workbench.figures import style
from workbench.figures.style import GREY, Look, Panel, Series

# (words, columns that are summed, look), from the bottom of the stack upwards.
SIGNAL: tuple[tuple[str, tuple[str, ...], Look], ...] = (
    ("mixed: GRPO signal", ("groups_mixed",), style.MIXED),
    ("cliff, recovered: JSD signal", ("groups_cliff_recovered",), style.RECOVERED),
    ("cliff, nothing accepted: no signal", ("groups_cliff_lost",), style.CLIFF),
    (
        "cliff, not tried or its peek too long: no signal",
        ("groups_cliff_skipped", "groups_cliff_too_long"),
        style.NOT_TRIED,
    ),
    ("solved: no signal", ("groups_solved",), style.SOLVED),
    (
        "other: no verdict, too long, grader",
        ("groups_doubtful_grader", "groups_no_signal", "groups_too_long", "groups_ungradable"),
        style.DOUBT,
    ),
)

PROBE = {"privileged": "on privileged traces", "own": "on the student's own traces"}
NATS = "nats per token"
EVALS = {m: m for m in ("pass@1", "pass@4", "pass@8", "greedy")} | {"cliff": "cliffs", "solved": "solved"}


STEP = "step"


def signal_accounting(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """Where the prompts of each step went, stacked: which had a gradient, and from which term. One panel a run.

    planned: the last step that is planned; the axes of these figures end there from the first step on.
    """
    if steps.empty:
        return style.nothing("No training step yet.")
    runs = style.by_run(steps)
    traces = [
        bar | {"showlegend": i == 0} | style.place(i) for i, (_, rows) in enumerate(runs) for bar in signal_bars(rows)
    ]
    titles, height = [style.safe(label) for label, _ in runs], 340 + 190 * (len(runs) - 1)
    x = style.titled(STEP) | {"range": [0.4, max(planned or 0, steps["step"].max()) + 0.6]}
    fig = style.figure(traces, height, x, style.titled("prompts"), titles)
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


def reward(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """Mean reward of the step's student rollouts: the share of them that is correct."""
    if steps.empty:
        return style.nothing("No training step yet.")
    return style.lines([style.share("mean reward", lines_of(steps, "reward"))], 300, STEP, x_end=planned)


def loss_terms(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """Both terms of L_HDPO = L_GRPO + λ·L_JSD, the second unweighted, with the floor that JSD_k cannot go below."""
    floors = side_lines(steps, "jsd_floor", "floor") if not steps.empty else []
    return over_steps(
        steps, {"loss_grpo": ("L_GRPO", ""), "loss_jsd": ("L_JSD, unweighted", NATS)}, planned, {"loss_jsd": floors}
    )


def side_lines(steps: pd.DataFrame, column: str, words: str) -> list[Series]:
    """A second quantity in a panel: dash-dotted and without marks, in the run's colour."""
    looks = style.run_looks(steps)
    return [
        Series(
            f"{label} {words}".strip(),
            rows["step"],
            rows[column],
            Look(looks[label].colour, "dashdot", GREY.symbol, ""),
            marks=False,
        )
        for label, rows in style.by_run(steps)
        if rows[column].notna().any()
    ]


def grad_norms(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """Gradient norm of each term and of their sum before it is scaled down; one scale, so that heights compare."""
    columns = {"grad_norm_grpo": "L_GRPO", "grad_norm_jsd": "λ·L_JSD", "grad_norm": "the sum"}
    fig = over_steps(steps, {c: (f"gradient norm of {w}", "") for c, w in columns.items()}, planned)
    return fig.update_yaxes(matches="y", range=None, rangemode="tozero") if fig.data else fig


def interference(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """How the two gradients meet: the ratio of their norms, their cosine, and the λ at which they would weigh the same."""
    if steps.empty:
        return style.nothing("No training step yet.")
    columns = {
        "kappa": ("‖∇L_GRPO‖ / ‖λ∇L_JSD‖", ""),
        "cosine": ("cosine of the two", ""),
        "even": ("λ of equal weight", ""),
    }
    return over_steps(met(steps), columns, planned)


def off_policy(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """How far from the student's own the accepted traces are, nats per token."""
    return over_steps(steps, {"off_policy": ("log π(y|x) − log π(y|x ⊕ y*)", "nats per token")}, planned)


def met(steps: pd.DataFrame) -> pd.DataFrame:
    """With kappa, cosine and even: from the three logged norms, cos = (n² − a² − b²) / 2ab, so that old runs have them too; NaN
    where a term gave nothing (M3, arXiv 2609.34849).

    >>> rows = pd.DataFrame({"lambda": [0.3, 0.3], "grad_norm_grpo": [3.0, 1.0], "grad_norm_jsd": [4.0, 0.0], "grad_norm": [5.0, 1.0]})
    >>> met(rows)[["kappa", "cosine", "even"]].round(3).values.tolist()
    [[0.75, 0.0, 0.225], [nan, nan, nan]]
    """
    a, b, n = (steps[c].astype(float) for c in ("grad_norm_grpo", "grad_norm_jsd", "grad_norm"))
    both = (a > 0) & (b > 0)
    kappa = (a / b).where(both)
    cosine = ((n**2 - a**2 - b**2) / (2 * a * b)).where(both).clip(-1.0, 1.0)
    return steps.assign(kappa=kappa, cosine=cosine, even=steps["lambda"] * kappa)


def length_entropy(steps: pd.DataFrame, planned: int | None = None) -> go.Figure:
    """The harm meters: completion length (tokens) and entropy of the student (nats, mean over its tokens)."""
    return over_steps(steps, {"length": ("completion length", "tokens"), "entropy": ("entropy", "nats")}, planned)


def probe_gap(probe: pd.DataFrame, steps: pd.DataFrame | None = None, planned: int | None = None) -> go.Figure:
    """KL(P_T‖P_S) per token on the fixed probe set, against the drifting and against the frozen teacher.

    `steps` adds the gap on each step's own accepted traces ("accepted"), which is another quantity: other traces each time,
    and estimated from the top-k and its tail. Where vLLM drew the rollouts, what it and the trained model differ by is
    drawn too: no gap below it means anything.
    """
    if probe.empty:
        return style.nothing("The probe set has not been measured yet.")
    panels = []
    for on, words in PROBE.items():
        rows = probe[probe["on"] == on]
        series = probe_lines(rows, style.run_looks(probe))
        if on == "privileged" and steps is not None and not steps.empty:
            series += side_lines(steps, "step_gap", "accepted")
            series += side_lines(steps, "parity_kl", "vLLM floor")
        panels.append(Panel(words if len(rows) else f"{words}: no trace", series, NATS))
    return style.lines(panels, 380, STEP, columns=2, x_end=planned)


def probe_lines(rows: pd.DataFrame, looks: Mapping[str, Look]) -> list[Series]:
    """Each run's two teachers: the drifting one solid and filled, the frozen one dotted and open."""
    found = []
    for label, of_run in style.by_run(rows):
        for teacher, dash in (("drifting", style.DRIFTING), ("frozen", style.FROZEN)):
            some, look = of_run[of_run["metric"] == f"kl_{teacher}"].sort_values("step"), looks[label]
            symbol = look.symbol.removesuffix("-open") + ("-open" if teacher == "frozen" else "")
            look = Look(look.colour, dash, symbol, "")
            found.append(
                Series(f"{label} {teacher}".strip(), some["step"], some["value"], look, some["low"], some["high"])
            )
    return found


def pass_at(evals: pd.DataFrame, metrics: Sequence[str] = tuple(EVALS), planned: int | None = None) -> go.Figure:
    """Held-out pass@k, greedy accuracy, cliff and solved share over training, with 95 % intervals (unit: the prompt)."""
    shown = [] if evals.empty else [m for m in metrics if (evals["metric"] == m).any()]
    if not shown:
        return style.nothing("No evaluation yet.")
    looks, panels = style.run_looks(evals), []
    for metric in shown:
        some = [(label, rows.sort_values("step")) for label, rows in style.by_run(evals[evals["metric"] == metric])]
        series = [Series(n, r["step"], r["value"], looks[n], r["low"], r["high"]) for n, r in some]
        panels.append(style.share(EVALS.get(metric, metric), series))
    columns = min(3, len(shown))
    return style.lines(panels, 260 * -(-len(shown) // columns) + 60, STEP, columns, planned)


def lines_of(steps: pd.DataFrame, column: str) -> list[Series]:
    """One line a run."""
    looks = style.run_looks(steps)
    return [Series(label, rows["step"], rows[column], looks[label]) for label, rows in style.by_run(steps)]


def over_steps(
    steps: pd.DataFrame,
    columns: Mapping[str, tuple[str, str]],
    planned: int | None = None,
    beside: Mapping[str, Sequence[Series]] = MappingProxyType({}),
) -> go.Figure:
    """One panel a column, side by side, one line a run. columns: name → title and unit; beside: more lines of a column."""
    if steps.empty:
        return style.nothing("No training step yet.")
    panels = [Panel(title, [*lines_of(steps, c), *beside.get(c, ())], unit) for c, (title, unit) in columns.items()]
    return style.lines(panels, 320, STEP, len(panels), planned)
