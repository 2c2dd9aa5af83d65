"""Side by side: one prompt, without its solution left, with it right, and on request a third column with a wrong one.

What is shown belongs to the settings under which it was asked, kept as the request itself; settings changed since are
said to be so.
"""

from __future__ import annotations

import json
from typing import Any

import streamlit as st

from hdpo.assets import ASSETS
from hdpo.config import Information, TrainConfig
from hdpo.records import Outcome
from workbench.components import picker, request, rollouts, traces, written
from workbench.components.side_setup import MAY_PASS, Setup
from workbench.data import explore, microscope
from workbench.figures import sides as says
from workbench.state import escape, link_box

TITLES = {
    "student": "Without the solution (student)",
    "privileged": "With it (privileged)",
    "wrong": "Control: a wrong one",
}
MICROSCOPE = (
    "The factor before a token's log-prob in what is maximised, in thousandths, this group alone. GRPO divides by each rollout's own "
    "length, so short right answers and long wrong ones are favoured; DAPO and the leave-one-out form here by all tokens of the "
    "group; Dr. GRPO by the longest completion, without the standard deviation. λ·L_JSD (λ = {lam}) has a denominator of its own: "
    "the accepted tokens; how hard each token is pulled there is in the lens below."
)
RECORDED = ASSETS / "side_by_side.json"  # the question of a first visit, and what the model wrote


def show_prompts(setup: Setup) -> None:
    """The problem with its solution, and each side's prompt exactly as the model receives it; asked for only while open."""
    box = st.expander("The worked solution, and exactly what the model receives", key="side-prompts", on_change="rerun")
    if not box.open:
        return
    with box:
        picker.problem_text(setup.problem)
        received(setup.question("prompt") | {"sides": list(setup.sides)})


def received(question: dict[str, Any]) -> None:
    """What a request of kind "prompt" is answered with, a column a side."""
    asked = request.ask_once("prompt", question)

    def draw() -> None:
        if asked.error:
            st.error(escape(asked.error))
        elif asked.result is None:
            st.caption(request.waiting_words(asked))
        else:
            for column, side in zip(st.columns(len(question["sides"])), question["sides"], strict=True):
                with column:
                    st.caption(f"{TITLES[side]}: {asked.result[f'{side}_tokens']} of {asked.result['context']} tokens")
                    rollouts.raw_text(asked.result[f"{side}_text"])

    request.watch([asked], draw)


def roll_out(setup: Setup) -> request.Request | None:
    """The button with the settings in a line, and the request that it asked; before the first click the recorded one, where
    it is of exactly these settings."""
    question, held = setup.rollouts_question(), st.session_state.get("side_asked")
    if held is not None and held["problem"]["id"] != setup.problem.id:
        forget()  # never one problem's rollouts under another's name
    with st.container(horizontal=True, vertical_alignment="center"):
        new = st.button("Roll out", type="primary", key="side_start")
        if "side_asked" in st.session_state and not setup.greedy:
            new |= st.button("Draw again", key="side_again", on_click=next_seed, args=(setup.seed,))
        if new:
            request.drop("rollouts")
            st.session_state["side_asked"] = question
        link_box("side")
        st.caption(escape(setup.line), width="content")
        asked, kept = st.session_state.get("side_asked"), recorded()
        same = request.canonical(kept.payload) == request.canonical(question)
        if asked is None and same:
            st.badge("recorded: these rollouts come with the project", color="gray")
            return kept
        if asked is None:
            return None
        answer = request.ask_once("rollouts", asked)
        if answer.result is not None and not answer.error:
            again = ": the recorded ones again" if texts(answer) == texts(kept) else ""
            st.badge(f"written here in {answer.seconds:.1f} s, seed {asked['seed']}{again}", color="blue")
    if request.canonical(asked) != request.canonical(question):
        st.caption("The settings have changed since these rollouts were asked for: roll out again to use them.")
    return answer


def texts(asked: request.Request) -> list[list[str]]:
    """What each side wrote."""
    return [[r["text"] for r in (asked.result or {})[side]["rollouts"]] for side in asked.payload["sides"]]


def next_seed(seed: int) -> None:
    """Callback: before the page is drawn, since a widget's value can be set no later."""
    st.session_state["side_seed"] = seed + 1


def recorded() -> request.Request:
    """The answer that comes with the project."""
    kept = json.loads(RECORDED.read_text(encoding="utf-8"))
    return request.Request(kept["payload"], job=0, asked=0.0, result=kept["result"])


def show_sides(setup: Setup, asked: request.Request | None) -> None:
    """The problem; what came out in one sentence; the columns, streamed while they are written, then with verdicts."""
    rollouts.raw_text(setup.problem.text)
    if asked is None:
        st.info("Roll out to see both sides write, token by token. All sides draw the same random numbers.")
        return

    def draw() -> None:
        if asked.error:
            st.error(escape(asked.error))
        if asked.pending:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.button("Stop writing", key="side_halt", on_click=forget)
                st.caption(request.waiting_words(asked), width="content")
        pair = traces.telling(asked) if asked.result else None
        if asked.result:
            st.markdown(f"#### {escape(headline(asked, pair))}", anchors=False)
        sides = asked.payload["sides"]
        for column, side in zip(st.columns(len(sides)), sides, strict=True):
            with column:
                st.markdown(f"**{TITLES[side]}**")
                if asked.result is None:
                    show_stream(asked, side)
                else:
                    show_side(asked, side, pair)

    request.watch([asked], draw)
    if asked.result is not None:
        show_reading(asked)


def headline(asked: request.Request, pair: traces.Pair | None) -> str:
    without, peek = (explore.graded(outcomes(asked, side)) for side in ("student", "privileged"))
    return says.peeked(without, peek, None if pair is None else pair.at)


def show_reading(asked: request.Request) -> None:
    """What HDPO would do with this sample, and whose rollouts these are."""
    name = asked.payload["problem"]["id"]
    both = (outcomes(asked, "student"), outcomes(asked, "privileged"))
    if all(both):
        st.caption(f"{escape(name)}. {explore.sample_sentence(*both)}")
        with st.expander("What each objective gives these tokens", key="side-microscope", on_change="rerun") as box:
            if box.open:
                microscope_of(asked)


def microscope_of(asked: request.Request) -> None:
    """What each objective would give every token of this group."""
    assert asked.result is not None
    cliff = not any(o.is_correct for o in outcomes(asked, "student"))  # nothing else is distilled
    limit, lam = int(asked.payload["sampling"]["max_new_tokens"]), cliff * TrainConfig().objective.lambda_
    found = {side: [int(r["tokens"]) for r in asked.result[side]["rollouts"]] for side in ("student", "privileged")}
    student = microscope.weights(outcomes(asked, "student"), found["student"], limit)
    peeks = microscope.distilled(outcomes(asked, "privileged"), found["privileged"], lam)
    st.markdown(f"**{escape(microscope.sentence(student, peeks))}**")
    st.dataframe(student, hide_index=True, alt="Weight of a token by objective", key="side-weights")
    st.dataframe(peeks, hide_index=True, alt="Weight of a privileged token", key="side-weights-peek")
    st.caption(MICROSCOPE.format(lam=f"{lam:g}"))


def forget() -> None:
    request.drop("rollouts")
    st.session_state.pop("side_asked", None)


def show_stream(asked: request.Request, side: str) -> None:
    count = 1 if asked.payload["greedy"] else asked.payload["k"]
    for i in range(count):
        st.code(rollouts.printable(asked.texts.get((side, i), "")) + "▌", language=None, wrap_lines=True)


def show_side(asked: request.Request, side: str, pair: traces.Pair | None) -> None:
    assert asked.result is not None
    found = asked.result[side]
    if found["rollouts"]:
        st.caption(f"{says.rate(*explore.graded(outcomes(asked, side)))}; prompt of {found['prompt_tokens']} tokens")
    if not found["fits"]:
        longest = asked.payload["sampling"]["max_new_tokens"]
        st.warning(
            f"This prompt ({found['prompt_tokens']} tokens) and {longest} new tokens exceed the model's context. A prompt is "
            "never cut: shorten one of them."
        )
    if not found.get("gradable", True):
        st.warning("The gold answer of this problem cannot be parsed, so no verdict here counts.")
    fork = None if pair is None else pair.fork(side)
    written.draw(found["rollouts"], key=f"side-written-{asked.job}-{side}", filtered=side == "privileged", fork=fork)
    if side == "wrong" and asked.payload["prompts"]["information"] != Information.ANSWER.value:
        st.caption(MAY_PASS[Information.WRONG_OTHER if asked.payload["other"] else Information.WRONG_ANSWER])


def outcomes(asked: request.Request, side: str) -> list[Outcome]:
    assert asked.result is not None
    return [Outcome(r["outcome"]) for r in asked.result[side]["rollouts"]]
