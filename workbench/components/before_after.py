"""Before and after: what the model wrote on one prompt before training, after λ = 0, after λ > 0, and peeking, side by side.

Runs keep how many samples of each evaluated problem were right, but not their texts: the counts stand there at once, the
rollouts are drawn anew with each run's newest checkpoint, all with the same random numbers.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hdpo.config import TrainConfig, to_json
from hdpo.record.folder import Run, State
from workbench import forms
from workbench.components import picker, request, rollouts, session, written
from workbench.components.side_setup import PAGE, TRAINED, Setup
from workbench.components.sides import outcomes
from workbench.data import catalog, explore, tradeoff, verdict
from workbench.figures import sides as says
from workbench.figures.style import lambda_look, mark
from workbench.state import escape, link_box, linked_choice

Count = tuple[int, int]  # correct, graded

DRAWS = "Model, wording and sampling are the runs' own, K and seed those of the settings; all columns draw the same random numbers."


@dataclass(frozen=True)
class Stage:
    """One column: its weights (slot of the request that draws them), the side that is read, and the evaluation's count of this
    problem, None where it was not among those evaluated. lam: None for the untrained model."""

    title: str
    slot: str
    side: str
    lam: float | None
    checkpoint: str
    evaluated: Count | None = None


def pairs() -> dict[str, tuple[Run, Run]]:
    """Id of a finished run with λ > 0 → it and its λ = 0 partner, where both kept a checkpoint."""
    ended = [r for r in catalog.runs_of("train") if r.checkpoints() and r.status().state is State.DONE]
    treated = [run for run in ended if tradeoff.settings(run)["lambda_"] > 0]
    return {run.id: pair for run in treated for pair in tradeoff.paired_runs([run], ended).values()}


def params(run: Run) -> dict[str, str]:
    """The query parameters that open this run's pair on Side by side; its checkpoint alone where the partner kept none."""
    if run.id in pairs():
        return {"side_view": TRAINED, "side_pair": run.id}
    return {"side_model": run.id} if run.checkpoints() else {}


def show(setup: Setup, figure: DeltaGenerator, controls: DeltaGenerator) -> None:
    """The four columns in `figure`; pair and button in `controls`. Keys: side_pair, side_before."""
    found = pairs()
    if not found:
        figure.info(
            "No pair yet: it takes a finished run with λ = 0 and one with λ > 0, same seed and settings. λ lab makes one."
        )
        return
    with controls:
        left, right = st.columns([2, 3], vertical_alignment="bottom")
        with left:
            labels = {i: f"{catalog.label(run)}, beside λ = 0" for i, (run, _) in found.items()}
            first = session.first_run([run for run, _ in found.values()])
            run, plain = found[linked_choice("Pair", labels, "side_pair", first)]
        stages = stages_of(setup, run, plain)
        with right, st.container(horizontal=True):
            pressed = st.button("Roll out all four", type="primary", key="side_before")
            offer_recovered(setup, run, plain)
            link_box("side")
    asked = asked_of(questions(setup, run, stages), pressed)
    with figure:
        columns(setup, stages, asked)


def offer_recovered(setup: Setup, run: Run, plain: Run) -> None:
    """A button that goes on to the next cliff that this λ recovered and λ = 0 did not, by the evaluations of both; those with
    most right samples first."""
    ends = [verdict.outcome(r, "", step_of(r)) for r in (run, plain)]
    if not ends[0] or not ends[1]:
        return
    alone = [i for i in ends[0].recovered if i not in ends[1].recovered]
    right = tradeoff.counts(run, step_of(run)).loc[alone, "correct"]
    ids = list(right.sort_values(ascending=False, kind="stable").index)
    if ids:
        now = ids.index(setup.problem.id) if setup.problem.id in ids else -1
        words = f"Next cliff that λ = {tradeoff.settings(run)['lambda_']:g} alone recovered ({len(ids)})"
        config = run.load_config()
        source = picker.ProblemSource(config.data, config.evaluation.eval_split)
        chosen = picker.source_params(PAGE, source) | {"side_problem": ids[(now + 1) % len(ids)]}
        st.button(words, key="side_next", on_click=st.session_state.update, args=(chosen,))


def stages_of(setup: Setup, run: Run, plain: Run) -> list[Stage]:
    lam = float(tradeoff.settings(run)["lambda_"])
    at_zero, at_end = (str(r.checkpoints()[-1]) for r in (plain, run))
    return [
        Stage("Base", "stage-base", "student", None, "", evaluated(setup, run, 0)),
        Stage("λ = 0", "stage-zero", "student", 0.0, at_zero, evaluated(setup, plain, step_of(plain))),
        Stage(f"λ = {lam:g}", "stage-lambda", "student", lam, at_end, evaluated(setup, run, step_of(run))),
        Stage("Base, with the peek", "stage-base", "privileged", None, ""),
    ]


def step_of(run: Run) -> int:
    """The step of the newest checkpoint."""
    return int(run.checkpoints()[-1].name.removeprefix("step-"))


def evaluated(setup: Setup, run: Run, step: int) -> Count | None:
    """(correct, graded samples) of this problem in the run's evaluation at that step."""
    data = run.load_config().data
    rows = catalog.eval_counts(run, step)
    mine = rows[rows["problem_id"] == setup.problem.id]
    if mine.empty or setup.source.config.problems not in (data.problems, data.validation_problems):
        return None
    return int(mine.iloc[0]["correct"]), int(mine.iloc[0]["n"])


def questions(setup: Setup, run: Run, stages: list[Stage]) -> dict[str, dict[str, Any]]:
    """The `rollouts` request of each slot: the untrained model answers for both of its columns at once."""
    config: TrainConfig = run.load_config()
    forms.grader_here(config.data.grader)
    found: dict[str, dict[str, Any]] = {}
    for stage in stages:
        question = found.setdefault(stage.slot, {"sides": []})
        question["sides"].append(stage.side)
        question["checkpoint"] = stage.checkpoint
    shared = {
        "request": "rollouts",
        "model": to_json(config.model),
        "problem": asdict(setup.problem),
        "prompts": to_json(config.prompts),
        "other": None,
        "sampling": to_json(config.sampling),
        "grader": config.data.grader,
        "k": setup.rollouts,
        "seed": setup.seed,
        "greedy": setup.greedy,
    }
    return {slot: shared | question for slot, question in found.items()}


def asked_of(asks: dict[str, dict[str, Any]], pressed: bool) -> dict[str, request.Request]:
    """The requests of exactly these questions, once they were asked; others are forgotten, so that no problem's or pair's
    rollouts stand under another's name."""
    if pressed:
        st.session_state["side_stages"] = asks
    if st.session_state.get("side_stages") != asks:
        for slot in asks:
            request.drop(slot)
        st.session_state.pop("side_stages", None)
        return {}
    return {slot: request.ask_once(slot, question) for slot, question in asks.items()}


def columns(setup: Setup, stages: list[Stage], asked: dict[str, request.Request]) -> None:
    rollouts.raw_text(setup.problem.text)

    def draw() -> None:
        for words in dict.fromkeys(r.error for r in asked.values() if r.error):
            st.error(escape(words))
        st.markdown(f"#### {escape(headline(stages, asked))}", anchors=False)
        grid = st.grid(4, min_column_width=210)
        for stage in stages:
            with grid.cell():
                column(stage, asked.get(stage.slot))

    request.watch(list(asked.values()), draw)
    st.caption(DRAWS)


def headline(stages: list[Stage], asked: dict[str, request.Request]) -> str:
    """By the rollouts once all are there; before that by the runs' own evaluations."""
    drawn = {s.title: drawn_count(s, asked) for s in stages}
    if all(c is not None for c in drawn.values()):
        return says.stages({name: c for name, c in drawn.items() if c is not None}, "of the rollouts below")
    kept = {s.title: s.evaluated for s in stages if s.evaluated is not None}
    return says.stages(kept, "of the samples of the runs' own evaluations")


def drawn_count(stage: Stage, asked: dict[str, request.Request]) -> Count | None:
    answer = asked.get(stage.slot)
    return explore.graded(outcomes(answer, stage.side)) if answer is not None and answer.result else None


def column(stage: Stage, answer: request.Request | None) -> None:
    symbol = "" if stage.lam is None else f"{mark(lambda_look(stage.lam))} "
    st.html(f"<b>{symbol}{stage.title}</b>")
    if stage.evaluated is not None:
        st.caption(f"Its evaluation: {says.rate(*stage.evaluated)}")
    elif stage.side == "student":
        st.caption("This problem is not among those that these runs were evaluated on.")
    if answer is None:
        return
    if answer.result is None:
        st.caption("" if answer.error else request.waiting_words(answer))
        return
    found = answer.result[stage.side]
    st.caption(f"These: {says.rate(*explore.graded(outcomes(answer, stage.side)))}")
    if not found["fits"]:
        st.warning("This prompt and its new tokens exceed the model's context. A prompt is never cut.")
    written.draw(found["rollouts"], key=f"side-{stage.slot}-{stage.side}-{answer.job}")
