"""The cliff map as the page Cliffs shows it: which scan or training, the picture live, and a prompt of a training opened."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.config import ImportConfig
from hdpo.errors import HdpoError
from hdpo.record.folder import Run
from hdpo.records import Problem
from workbench.components import figure, picker, scans, session
from workbench.components.follow import badges, follow
from workbench.components.web import Picture
from workbench.data import catalog, explore, fates, verdict
from workbench.data.basis import moments
from workbench.figures import cliffs, headlines
from workbench.state import LINKED, escape, linked_choice, page

SCAN = "scan"
DRAWN = 2000  # dots
NOTE = (
    "What this is: a dot a prompt, higher the more of its samples are right; the band at the bottom holds the cliffs, where none "
    "is. Places within a cell say nothing; above 16 samples, rates are drawn in sixteenths, in narrow columns in eighths. Reinforcement learning hears only of "
    "the prompts in the middle: in the band and at 100 % every reward is the same, so every advantage is zero. "
)
STILL = NOTE + (
    "What is normal: the upper levels in the band, and the rest spread over the middle or, for a well trained model, near the top. "
    "Many truncated rollouts in the band mean that the longest completion is too short, not that the problems are too hard."
)
PLAYED = NOTE + (
    "Recovered: a cliff before training with a right sample now. Relapsed: one that had a right sample in between. Newly lost: a "
    "cliff now that was none before. What is normal: λ = 0 sharpens what is mixed and leaves the band; λ > 0 lifts prompts out of "
    "it, and some fall back. Cliffs heal by luck too: the redraw is the untrained model's, sampled again with another seed. One pair "
    "is one seed: Tradeoff has all, with training noise. The interval covers the recovered share of these cliffs."
)


def choice() -> list[Run]:
    """The arms of the chosen training, λ = 0 first; none where the scan is shown. Key: cliffs_map."""
    runs = {r.id: r for r in catalog.runs_of("train") if catalog.table_steps(r, "eval")}
    labels = {SCAN: "the scan", **{i: picker.label_of(run) for i, run in runs.items()}}
    words = (
        "A scan stands still. A training plays over its evaluations, beside λ = 0 of the same seed where that was run."
    )
    chosen = linked_choice("Map of", labels, "cliffs_map", SCAN, words)
    return [] if chosen == SCAN else fates.arms_of(runs[chosen])


def scan_of(run: Run, arms: Sequence[Run]) -> pd.DataFrame:
    """The prompts of the scan, or of the last evaluation that the arms share, as `catalog.scan_frame`."""
    if not arms:
        return catalog.scan_frame(run)
    step = max(moments(arms, "steps"), default=0)
    return fates.as_scan(arms[-1], step, problems_of(arms[-1]))


def problems_of(run: Run) -> dict[str, Problem]:
    """The problems that a training evaluates, by id; none where their file is gone."""
    with suppress(HdpoError):
        return {p.id: p for p in picker.read_source(source_of(run)).problems}
    return {}


def source_of(run: Run) -> picker.ProblemSource:
    config = run.load_config()
    return picker.ProblemSource(config.data, config.evaluation.eval_split)


def show(run: Run, arms: Sequence[Run], listed: set[str], opened: str | None) -> None:
    """The map with what its runs are doing, redrawn while one of them goes on; a full rerun at the end. listed: prompts that the
    filters let through, the others are faint."""
    active = any(not r.status().state.ended for r in arms or [run])

    def draw() -> None:
        if arms:
            draw_training(arms, listed, opened)
        else:
            scans.show_status(run)
            draw_scan(run, listed, opened)
            scans.show_reading(run)
        if st.session_state.pop("cliffs-picked", False) and active:  # a pick in a fragment draws that alone
            st.rerun()

    follow(arms or [run], draw) if active else draw()


def draw_scan(run: Run, listed: set[str], opened: str | None) -> None:
    scan = catalog.scan_frame(run)
    table = explore.prompt_table(scan, run.looks())
    frame = cliffs.of_scan(table)
    if frame.empty:
        st.caption("No prompt is here yet; the first ones come as a whole chunk.")
        return
    config = run.load_config()
    if isinstance(config, ImportConfig):
        facts = figure.facts_line(n=f"{len(scan)} prompts", rollouts="drawn elsewhere", file=config.data.problems)
    else:
        facts = figure.facts_line(
            n=f"{len(scan)} prompts",
            K=config.rollouts,
            T=config.sampling.temperature,
            seed=config.seed,
            model=config.model.adapter or config.model.model,
            problems=f"{config.data.problems} {config.split}",
        )
        picker.few_words(config.model.model, config.data.problems)
    says = headlines.regimes(cliffs.count_regimes(scan["group"]))
    if (every := math.ceil(len(frame) / DRAWN)) > 1:
        st.caption(f"Of {len(frame):,} prompts every {every}th is drawn; the headline and the table have them all.")
    draw(cliffs.cliff_map(frame.iloc[::every], across()), says, STILL, facts, table, (listed, opened))


def draw_training(arms: Sequence[Run], listed: set[str], opened: str | None) -> None:
    frame = fates.over_steps(arms)
    if frame.empty:
        st.caption("No evaluation is shared by these runs yet.")
        return
    luck = fates.redraw(arms[-1], frame) if st.session_state.get("cliffs_luck", True) else None
    data = cliffs.cliff_map(frame, across(), luck)
    facts = f"{data['moments'][-1]} · {data['most']} samples a prompt · {session.facts_of(list(arms))}"
    draw(data, headline(arms, int(frame["step"].max())), PLAYED, facts, fates.summary(frame), (listed, opened))


def headline(arms: Sequence[Run], step: int) -> str:
    """What came of the cliffs by this step, beside luck."""
    names = catalog.arm_labels(arms)
    found = [o for run in arms if (o := verdict.outcome(run, names[run.id], step)) is not None]
    if not found:
        return "Before training: the map moves with the first evaluation after it."
    drawn = catalog.runs_of(*verdict.REDRAWN)
    luck, nonsense = (verdict.by_luck(arms[-1], found[-1].cliffs, drawn, p) for p in ("none", "nonsense"))
    return f"By step {step}, on {found[-1].problems} prompts: {verdict.sentence(found, luck, nonsense)}"


def draw(
    data: dict[str, Any], says: str, note: str, facts: str, frame: pd.DataFrame, marked: tuple[set[str], str | None]
) -> None:
    """marked: the prompts that the filters let through, and the opened one."""
    listed, opened = marked
    faded = [i for i, _ in data["prompts"] if i not in listed]
    held, at = st.session_state.get("cliffs-at", ("", 0))
    kept = {"at": at} if held == st.session_state.get("cliffs_map") else {}
    more = {"opened": opened or "", "faded": faded, "alt": f"Cliff map. {says}"}
    picture = Picture("map", data | more | kept)
    figure.show(picture, headline=says, note=note, facts=facts, frame=frame, key="cliffs-map", on_picked=open_picked)


def open_picked() -> None:
    """The dot's prompt is the opened one, as if its row had been clicked; the map stays at its step."""
    picked = st.session_state["cliffs-map"].picked
    st.session_state["cliffs_prompt"], st.session_state["cliffs-picked"] = picked["id"], True
    st.session_state["cliffs-at"] = (st.session_state["cliffs_map"], picked["at"])


def settings(runs: Sequence[Run], played: bool) -> None:
    """How the map is drawn, and whose it is. Keys: cliffs_across, cliffs_luck."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.segmented_control(
            "Across",
            ("level", "source"),
            default="level",
            required=True,
            key="cliffs_across",
            label_visibility="collapsed",
            **LINKED,
        )
        if played:
            words = "Rings: cliffs that the untrained model gets out of by another seed alone."
            st.toggle("Untrained redraw", value=True, key="cliffs_luck", help=words, **LINKED)
    badges(runs)


def across() -> str:
    return str(st.session_state.get("cliffs_across") or "level")


def side_params(run: Run) -> dict[str, str]:
    """The query parameters with which Side by side opens the problems that a training evaluates, answered by its newest
    checkpoint where it kept one."""
    return picker.source_params("side", source_of(run)) | ({"side_model": run.id} if run.checkpoints() else {})


def open_prompt(arms: Sequence[Run], problem_id: str) -> None:
    """A prompt of a training: its text, what it did at each step, and where to read the model on it."""
    problem, run = problems_of(arms[-1]).get(problem_id), arms[-1]
    if problem is None:
        st.info(f"The text of {escape(problem_id)} is not here: its problem file is gone or has changed.")
    else:
        picker.problem_text(problem)
        params = side_params(run) | {"side_problem": problem_id}
        kept = "side_model" in params
        words = "Read it side by side, answered by its newest checkpoint" if kept else "Read it side by side"
        st.page_link(page("side_by_side"), label=words, icon=":material/compare_arrows:", query_params=params)
    found = fates.history(fates.over_steps(arms), problem_id)
    st.dataframe(found, hide_index=True, height="content", alt="Right samples of this prompt at each evaluated step")
    st.caption("An evaluation keeps counts, not texts: Side by side draws rollouts anew. A scan keeps them.")
