"""A training as it is watched: where it stands, its figures beside a partner's, and the rollouts of one step.

This file is long: whatever a page shows of a run that goes on.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from hdpo.config import SweepConfig, TrainConfig
from hdpo.record import folder
from hdpo.record.folder import Run, State, Status
from workbench import launch, state
from workbench.components import figure, step_rollouts
from workbench.components.panels import (
    GRADIENTS,
    HARM,
    INTERFERENCE,
    LOSSES,
    OFF_POLICY,
    PASS_NOTE,
    PROBE_NOTE,
    REWARD,
    SIGNAL,
    Panel,
)
from workbench.data import basis, catalog, estimate, silence, tradeoff
from workbench.figures import headlines, live, style

SIGN_EVERY = 3.0  # seconds; a page that watches looks more often
EVERY = 1.0  # seconds between two looks at a run that is active
SYMBOLS = {
    State.QUEUED: ("◌", "gray"),
    State.RUNNING: ("▶", "blue"),
    State.DONE: ("✓", "green"),
    State.STOPPED: ("■", "orange"),
    State.FAILED: ("✗", "red"),
    State.KILLED: ("✗", "red"),
    State.UNHEARD: ("?", "orange"),
}
VIEWS = ("Learning", "Measures", "Losses", "Gap", "Rollouts")
MAIN = ("pass@1", "pass@8", "cliff")  # of the measures, those that a training is watched for


def first_run(found: list[Run]) -> str:
    """What to watch where nothing else is said: the newest own run, or the recorded one with the default λ and problems."""
    frame = catalog.runs_frame().set_index("id").loc[[r.id for r in found]]
    own = frame[~frame["recorded"]]
    if not own.empty:  # with all of its family, where it has one that can be chosen
        newest = own.iloc[0]
        return str(newest["sweep"] if newest["sweep"] in own.index else own.index[0])
    default = TrainConfig()
    alike = frame[(frame["lambda"] == default.objective.lambda_) & (frame["problems"] == default.data.problems)]
    return str(alike.index[0]) if not alike.empty else found[0].id


def family(run: Run) -> list[Run]:
    """The runs drawn together: members of a sweep or pair; for a member, those of its sweep with the same seed."""
    if entries := catalog.members(run):
        return [r for e in entries if (r := existing(run, e["id"])) is not None]
    for other in folder.all_runs():
        entries = catalog.members(other)
        mine = next((e for e in entries if e["id"] == run.id), None)
        if mine is not None:
            same = [e["id"] for e in entries if e.get("seed") == mine.get("seed") and e["id"] != run.id]
            return [run, *(r for i in same if (r := existing(run, i)) is not None)]
    return [] if isinstance(run.load_config(), SweepConfig) else [run]


def existing(run: Run, sibling: str) -> Run | None:
    """A run folder beside this one; ids from a file never lead elsewhere."""
    path = run.path.parent / Path(sibling).name
    return Run(path) if (path / "config.json").is_file() else None


# --- where it stands ----------------------------------------------------------------------------------------


def badge(run: Run, status: Status) -> None:
    symbol, colour = SYMBOLS[status.state]
    with st.container(horizontal=True, vertical_alignment="center", gap="small", key=f"badge-{run.id}"):
        st.badge(f"{symbol} {status.state.value}", color=colour)  # type: ignore[arg-type]
        if run.recorded:
            st.badge("recorded, comes with the project", color="gray")
        st.text(catalog.label(run))


def progress(run: Run) -> Status:
    """State, phase, bar, time left and the closing sentence."""
    status = run.status()
    badge(run, status)
    if not status.state.ended:
        left = left_words(status)
        count = f" ({status.done} of {status.total})" if status.total else ""
        phase = launch.queue_words(run) if status.state is State.QUEUED else status.phase
        share = min(1.0, status.done / status.total) if status.total else 0.0
        st.progress(share, text=state.escape(f"{phase}{count}{left}"))
        if status.state is State.UNHEARD:
            st.warning(state.escape(f"{status.message} Resume takes it over: be sure that nothing works on it there."))
        elif status.state is State.RUNNING and (time.time() - status.updated) > 60:
            st.caption(
                f"No word from it for {estimate.words(time.time() - status.updated)}: a long step, or a busy machine."
            )
    elif status.message:
        show = st.info if status.state in (State.DONE, State.STOPPED) else st.error
        show(state.escape(status.message))
    return status


def left_words(status: Status) -> str:
    """The time left, from a twentieth of the way on: the first steps are no measure of the others."""
    known = status.seconds_left is not None and 20 * status.done >= (status.total or math.inf)
    return f", about {estimate.words(status.seconds_left or 0.0)} left" if known else ""


def sign() -> None:
    """On every page, while something runs or waits: what, how far, the time left, and a way to stop it."""
    run = launch.running_run()
    if run is None:
        return

    def tick() -> None:
        with state.sentences():
            status = run.status()
            left = left_words(status)
            share = min(1.0, status.done / status.total) if status.total else 0.0
            symbol = SYMBOLS[status.state][0]
            st.progress(share, text=state.escape(f"{symbol} {run.name}: {status.done} of {status.total or '?'}{left}"))
            if run.kind in ("train", "sweep"):
                st.page_link(state.page("lambda_lab"), label="Watch it", query_params={"lab_run": run.id})
            if status.state.ended:
                st.rerun()
            st.button("Stop it", key="sign_stop", on_click=stop, args=(run,))

    state.alone(tick, SIGN_EVERY)


def buttons(run: Run, prefix: str) -> None:
    """Stop or resume, whichever there is to do."""
    if run.status().state is State.RUNNING or launch.pending_job(run) is not None:
        words = "At the next step edge, with a checkpoint."
        st.button("Stop run", key=f"{prefix}_halt", help=words, on_click=stop, args=(run,))
    elif launch.resumable(run):
        words = "From its last checkpoint."
        st.button("Resume run", key=f"{prefix}_resume", help=words, on_click=resume, args=(run,))


def stop(run: Run) -> None:
    """Callback: done before the page is drawn, which then shows what there is to do next."""
    with state.sentences():
        launch.stop_run(run)
        if not run.status().state.ended:
            st.toast("It stops at the next step edge.")


def resume(run: Run) -> None:
    with state.sentences():
        launch.resume_run(run)


def follow(run: Run) -> None:
    """Where a run stands, each second while it is active; one full rerun at its end removes the timer."""
    watching(run, lambda: None)


def watch(run: Run, others: list[Run], view: str) -> None:
    """Where a run stands, and its figures beside those of its family and of `others`."""
    watching(run, lambda: draw(run, others, view))


def watching(run: Run, below: Callable[[], None]) -> None:
    active = not run.status().state.ended

    def tick() -> None:
        with state.sentences():
            status = progress(run)
            if active and (sentence := launch.tend()):
                st.warning(state.escape(sentence))
            below()
            if active and status.state.ended:
                st.rerun()

    state.alone(tick, EVERY if active else None)


def draw(run: Run, others: list[Run], view: str) -> None:
    shown = {r.path: r for r in [*family(run), *others]}
    members = list(shown.values())
    if not members:
        st.caption("Its first member has not begun.")
        return
    if view == "Rollouts":
        step_rollouts.browse(members)
        return
    steps = together(catalog.steps_frame, members)
    for sentence in dict.fromkeys(silence.about_problems(catalog.rows_of(m, "data", "gold")) for m in members):
        if sentence:
            st.caption(state.escape(sentence))
    for member, rows in ((m, catalog.steps_frame(m)) for m in members):
        for sentence in silence.sentences(rows):
            st.warning(state.escape(f"{catalog.label(member)}: {sentence}" if len(members) > 1 else sentence))
    if steps.empty:  # three empty figures would cost a browser as much as three full ones, and the first step its cores
        st.caption("No training step yet. The figures come with the first one.")
        return
    planned = max(m.load_config().step.steps for m in members)
    if view == "Learning":
        evaluations(members, planned, MAIN)
        for member in members:
            if words := peak_words(member):
                st.caption(state.escape(f"{catalog.label(member)}: {words}" if len(members) > 1 else words))
        grid = st.grid(2, min_column_width=460)
        for what in (SIGNAL, REWARD):
            with grid.cell():
                panel(what, steps, facts_of_steps(members), planned)
    elif view == "Measures":
        evaluations(members, planned, tuple(live.EVALS))
    elif view == "Losses":
        known = [OFF_POLICY] * bool(steps["off_policy"].notna().any())  # older runs did not measure it
        for what in (LOSSES, GRADIENTS, INTERFERENCE, *known, HARM):
            panel(what, steps, facts_of_steps(members), planned)
    else:
        gap(members, steps, planned)


def peak_words(run: Run) -> str:
    """The collapse gauge of a run: where its accuracy peaked, and what it has lost since it began."""
    rows = catalog.rows_of(run, "eval")
    steps = [r["step"] for r in rows if r["step"]]
    return silence.about_peak(rows, tradeoff.counts(run, 0), tradeoff.counts(run, max(steps))) if steps else ""


def gap(members: list[Run], steps: pd.DataFrame, planned: int) -> None:
    """The probe set's gap, and the one of each step's own accepted traces as a series of its own."""
    probe = together(catalog.probe_frame, members)
    traces = each(f"{n:.0f} traces a kind" for n in probe["n_traces"].dropna().unique())
    fig, facts = live.probe_gap(probe, steps, planned), facts_of(members, traces)
    figure.show(fig, headline=headlines.gap(probe), note=PROBE_NOTE, facts=facts, frame=probe, key="lab-probe")


def evaluations(members: list[Run], planned: int, metrics: tuple[str, ...]) -> None:
    """Held-out measures over the steps, under what they say."""
    frame, fig, says, aloud = evaluated(evaluations_of(members), members, planned, metrics)
    if metrics == MAIN:
        st.html(f'<div class="counts">{cliff_counts(members)}</div>')
    facts = facts_of(members)
    figure.show(fig, headline=says, aloud=aloud, note=PASS_NOTE, facts=facts, frame=frame, key="lab-pass")


def cliff_counts(members: list[Run]) -> str:
    """The cliffs of each run before training and now, in large type with its λ's mark: what a lecture hall watches."""
    names, parts = catalog.arm_labels(members), []
    looks = style.looks_of((names[m.id], tradeoff.settings(m)["lambda_"]) for m in members)
    for m in members:
        rows = [r for r in catalog.rows_of(m, "eval") if r["cliff"]["value"] is not None]
        if rows:
            first, now = (round(r["cliff"]["value"] * r["n_problems"]) for r in (rows[0], rows[-1]))
            count = f"<b>{first} → {now}</b> of {rows[-1]['n_problems']} cliffs"
            parts.append(f"<span>{style.mark(looks[names[m.id]])} {style.safe(names[m.id])}: {count}</span>")
    return "".join(parts)


def recorded_pair(config: TrainConfig) -> list[Run]:
    """The recorded run of the nearest λ on the same problems, else on the default ones, behind λ = 0 of the same seed."""
    default = TrainConfig()
    runs = [(r, tradeoff.settings(r)) for r in catalog.runs_of("train", recorded=True)]
    runs = [(r, s) for r, s in runs if s["seed"] == default.seed]
    for problems in (config.data.problems, default.data.problems):
        if by_lambda := {s["lambda_"]: r for r, s in runs if s["problems"] == problems}:
            wanted = config.objective.lambda_
            near = min(by_lambda, key=lambda lam: abs(math.log10(lam + 0.01) - math.log10(wanted + 0.01)))
            return [by_lambda[lam] for lam in sorted({0.0, near} & set(by_lambda))]
    return []


def ghost(config: TrainConfig) -> list[Run]:
    """What the recorded pair did: what to expect before anything is started; of other problems only folded. Returns its runs."""
    if not (members := recorded_pair(config)):
        return []
    facts, planned = tradeoff.settings(members[-1]), max(tradeoff.settings(m)["steps"] for m in members)
    words = (
        f"recorded: {facts['problems']}, seed {facts['seed']}; of its λ the nearest to yours is {facts['lambda_']:g}"
    )
    if facts["problems"] == config.data.problems:
        st.badge(state.escape(f"● {words}"), color="gray")
        evaluations(members, planned, MAIN)
        return members
    with st.expander(state.escape(f"Other problems than yours, {words}"), key="lab-ghost", on_change="rerun") as box:
        if box.open:
            evaluations(members, planned, MAIN)
    return members


def panel(what: Panel, frame: pd.DataFrame, facts: str, planned: int) -> None:
    fig = what.draw(frame, planned)
    figure.show(fig, headline=what.says(frame), note=what.note, facts=facts, frame=frame, key=f"lab-{what.key}")


def evaluation_words(members: list[Run], evals: pd.DataFrame) -> tuple[str, str]:
    """Against λ = 0 at the last step that all of them have evaluated, where there is a pair; else from the base to now. Then the
    same for a lecture hall: of a pair coverage alone."""
    steps = list(basis.moments(members, "steps"))
    step, wide = steps[-1] if steps and steps[-1] else None, tradeoff.coverage(members)
    paired = (
        tradeoff.differences(members, step, (wide, "pass@1", "cliff")) if step and len(members) > 1 else pd.DataFrame()
    )
    one = paired[paired["metric"] == wide] if len(paired) else paired
    return headlines.evaluations(evals, paired, f"step {step}"), headlines.one_change(one, f"step {step}")


def evaluations_of(members: list[Run]) -> list[tuple[str, str, list[Any]]]:
    """What `evaluated` stands for: the runs, how they are called, and their evaluations so far."""
    return [
        (str(m.path), name, [(r.get("attempt"), r.get("step")) for r in catalog.rows_of(m, "eval")])
        for m, name in zip(members, catalog.arm_labels(members).values(), strict=True)
    ]


@st.cache_resource(show_spinner=False, max_entries=20)
def evaluated(
    key: list[tuple[str, str, list[Any]]], _members: list[Run], planned: int, metrics: tuple[str, ...]
) -> tuple[pd.DataFrame, go.Figure, str, str]:
    """The evaluations as a frame, drawn and in words, until there is another one: a look comes each second, they come each
    few minutes. Took a third of a look; nothing of it is ever changed."""
    frame = together(catalog.evals_frame, _members)
    return frame, live.pass_at(frame, metrics, planned), *evaluation_words(_members, frame)


def together(read: Callable[[Run], pd.DataFrame], members: list[Run]) -> pd.DataFrame:
    """One frame of one or several runs, told apart by `run`, with each run's `lambda`, by which it has its colour."""
    names, frames = catalog.arm_labels(members), []
    for m in members:
        if not (frame := read(m)).empty:
            frames.append(frame.assign(run=names[m.id], **{"lambda": m.load_config().objective.lambda_}))
    return pd.concat(frames, ignore_index=True) if frames else read(members[0]).assign(**{"lambda": []})


def facts_of(members: list[Run], n: str = "", split: str = "") -> str:
    """n and split, by default as it was evaluated; K, T, seeds and model from the configs that ran."""
    configs = [c for m in members if isinstance(c := m.load_config(), TrainConfig)]
    evals = [rows[0] for m in members if (rows := catalog.rows_of(m, "eval"))]
    return figure.facts_line(
        n=n or each(f"{r.get('n_problems')} problems × {r.get('n_samples')} samples" for r in evals),
        P=each(c.step.prompts_per_step for c in configs),
        K=each(c.step.rollouts for c in configs),
        T=each(c.sampling.temperature for c in configs),
        seed=each(sorted(c.seed for c in configs)),
        problems=each(f"{c.data.problems} ({split or c.evaluation.eval_split})" for c in configs),
        model=each(c.model.model for c in configs),
    )


def facts_of_steps(members: list[Run]) -> str:
    """Of what is measured on the training prompts of each step."""
    configs = [c for m in members if isinstance(c := m.load_config(), TrainConfig)]
    n = each(f"{c.step.prompts_per_step} prompts × {c.step.rollouts} rollouts a step" for c in configs)
    return facts_of(members, n, "train")


def each(values: Iterable[object]) -> str:
    """Different values once each, in their order."""
    return ", ".join(dict.fromkeys(map(str, values)))
