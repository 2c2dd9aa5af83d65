"""Two traces of a Side by side request compared: where they first part, and the token lens over one of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import streamlit as st

from hdpo.evidence.stats import first_divergence
from hdpo.records import Outcome
from workbench.components import lens, request, rollouts
from workbench.state import LINKED, alone, escape, sentences

SIDE_WORDS = {"student": "unprivileged", "privileged": "privileged", "wrong": "wrong ground truth"}
AGAINST = {
    "drifting": "the same weights, privileged",
    "frozen": "the run's first weights, privileged (frozen teacher)",
    "wrong": "the same weights, a wrong ground truth",
}
LENS_NOTE = (
    "What this is: the trace is held fixed and read twice, behind the privileged prompt and behind the plain one; the colour is "
    "how far the two next-token distributions are apart. What is normal: most tokens near 0, and a few forks that "
    "carry the sum: where knowing the solution changes what comes next. With a wrong ground truth, what remains is style."
)


@dataclass(frozen=True)
class TraceChoice:
    """One rollout of a request's result."""

    side: str
    index: int
    rollout: dict[str, Any]

    @property
    def words(self) -> str:
        outcome = Outcome(self.rollout["outcome"])
        return f"{SIDE_WORDS[self.side]} {self.index + 1} {rollouts.BADGES[outcome][0]} {outcome.value}"


def choices(asked: request.Request) -> dict[str, TraceChoice]:
    """Every rollout with tokens, by its words; sides in order."""
    assert asked.result is not None
    found = [
        TraceChoice(side, i, r)
        for side in asked.payload["sides"]
        for i, r in enumerate(asked.result[side]["rollouts"])
        if r["token_ids"]
    ]
    return {t.words: t for t in found}


@dataclass(frozen=True)
class Pair:
    """Two traces and the first token (from 0) in which they differ, None where they are the same."""

    left: TraceChoice
    right: TraceChoice

    @property
    def at(self) -> int | None:
        return first_divergence(self.left.rollout["token_ids"], self.right.rollout["token_ids"])

    def fork(self, side: str) -> tuple[int, int] | None:
        """(rollout, token) of the parting on that side."""
        mine = next((t for t in (self.left, self.right) if t.side == side), None)
        return None if mine is None or self.at is None else (mine.index, self.at)


def telling_pair(traces: dict[str, TraceChoice]) -> tuple[str, str]:
    """The pair to begin with: the first accepted privileged trace, and the unprivileged one that drew the same numbers."""
    words = list(traces)
    accepted = [w for w, t in traces.items() if t.side == "privileged" and Outcome(t.rollout["outcome"]).is_correct]
    right = next(iter(accepted), next((w for w, t in traces.items() if t.side == "privileged"), words[-1]))
    index = traces[right].index
    left = next((w for w, t in traces.items() if (t.side, t.index) == ("student", index)), words[0])
    return left, right


def telling(asked: request.Request) -> Pair | None:
    """That pair of an answered request, None where a side wrote nothing."""
    traces = choices(asked)
    if {"student", "privileged"} - {t.side for t in traces.values()}:
        return None
    left, right = telling_pair(traces)
    return Pair(traces[left], traces[right])


def compare(asked: request.Request) -> None:
    """The lens, and folded any two traces beside each other; where there is anything to compare."""
    traces = choices(asked)
    if not traces:
        st.caption("No trace was written, so there is nothing to compare.")
        return

    def body() -> None:
        with sentences():
            show_token_lens(asked, traces)
            with st.expander("Where any two traces part"):
                show_parting(traces)

    alone(body)


def show_parting(traces: dict[str, TraceChoice]) -> None:
    """Two traces, what they share, and the first token in which they differ, marked in both."""
    words = list(traces)
    columns = st.columns(2)
    chosen = []
    for column, name, first in zip(columns, ("left", "right"), telling_pair(traces), strict=True):
        picked = column.selectbox(f"Trace on the {name}", words, index=words.index(first), key=f"side-trace-{name}")
        chosen.append(traces[picked])
    at = Pair(*chosen).at
    st.caption(parting_words(chosen[0], chosen[1], at))
    for column, name, trace in zip(columns, ("left", "right"), chosen, strict=True):
        with column:
            lens.token_strip(lens.parting_tokens(trace.rollout["pieces"], at), key=f"side-strip-{name}", bars=False)


def parting_words(left: TraceChoice, right: TraceChoice, at: int | None) -> str:
    """Where two traces part, in words."""
    if at is None:
        return "Both traces are the same, token by token."
    lengths = [len(t.rollout["token_ids"]) for t in (left, right)]
    if at >= min(lengths):
        return f"The shorter trace ends after {at} tokens; up to there both are the same."
    count = "one token" if at == 1 else f"{at} tokens"
    shared = (
        f"They share {count} (slanted) and part at token {at + 1} (barred)" if at else "They part at the first token"
    )
    same = left.index == right.index and left.side != right.side
    cause = (
        "both drew the same random numbers, so the prompts drive them apart"
        if same
        else "they drew different random numbers"
    )
    return f"{shared}; {cause}."


def show_token_lens(asked: request.Request, traces: dict[str, TraceChoice]) -> None:
    """One trace under two prompts, token by token; the picture first, what it is of below."""
    room, words = st.container(), list(traces)
    left, middle, right = st.columns([2, 1, 2], vertical_alignment="bottom")
    picked = left.selectbox("Trace", words, index=words.index(telling_pair(traces)[1]), key="side-lens-trace")
    measure = middle.segmented_control(
        "Measure",
        list(lens.NAMES),
        default="jsd",
        required=True,
        format_func=lambda m: lens.NAMES[m],
        key="side_measure",
        **LINKED,
    )
    offered = ["drifting", *(["frozen"] if asked.payload["checkpoint"] else []), "wrong"]
    against = right.selectbox(
        "Plain prompt against",
        offered,
        format_func=lambda a: AGAINST[a],
        key="side_against",
        help=f"A frozen teacher differs from a drifting one only for a trained checkpoint.\n\n{LENS_NOTE}",
    )
    trace = traces[picked]
    answer = request.ask_once("lens", lens_question(asked.payload, trace, against))

    def draw() -> None:
        if answer.error:
            st.error(escape(answer.error))
        elif answer.result is None:
            st.caption(request.waiting_words(answer))
        else:
            key = f"side-lens-{asked.job}-{trace.side}-{trace.index}"
            lens.show_lens(lens.Lens(answer.result, str(measure)), fork_of(trace, traces), key=key)

    with room:
        request.watch([answer], draw)


def fork_of(trace: TraceChoice, traces: dict[str, TraceChoice]) -> int | None:
    """Where a trace parts from the one that drew the same numbers behind the other prompt."""
    other = "privileged" if trace.side == "student" else "student"
    same = next((t for t in traces.values() if (t.side, t.index) == (other, trace.index)), None)
    return None if same is None else Pair(trace, same).at


def lens_question(asked: dict[str, Any], trace: TraceChoice, against: str) -> dict[str, Any]:
    """The request `lens` for a trace of an earlier `rollouts` request: the same model, problem and prompts."""
    kept = ("model", "checkpoint", "problem", "prompts", "other")
    return {name: asked[name] for name in kept} | {
        "request": "lens",
        "side_of_trace": trace.side,
        "token_ids": trace.rollout["token_ids"],
        "against": against,
    }
