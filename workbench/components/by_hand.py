"""λ by hand: on one recorded cliff, without training, what λ does to the gradient and what one step of it does to the answer.

The worker measures every λ and step size of the sliders at once; the picture goes through them without asking again.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.config import Advantage
from hdpo.records import Outcome
from workbench import launch, state
from workbench.components import figure, gradient, group, request, sides
from workbench.components.lens import piece_word
from workbench.components.web import Picture
from workbench.data.glossary import meaning
from workbench.figures import headlines, style

LAMBDAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0)
SIZES = (1.0, 3.0, 10.0, 30.0, 100.0, 300.0)
START = {False: (0.3, 100.0), True: (3.0, 10.0)}  # where the sliders begin, by whether a mixed prompt is in the batch
NOTE = (
    "What this is: the gradient of each term with respect to the LoRA weights, and one accepted privileged trace, read under the "
    "prompt without the solution before and after one step θ − α∇L, which is measured and taken back: each bar is the probability of "
    "a token given those before it. The right token is the one that the student gives least to. Training takes AdamW's step instead, "
    "which gives each weight about the same length, so α is no learning rate of a run. What is normal: without λ a cliff moves "
    "nothing; with it the few tokens rise where the plan goes on, and a step that is too long breaks the others. "
)


def show() -> None:
    """The picture under its toggle, in a fragment of its own."""
    words = "Without it GRPO's gradient is 0: this cliff alone is the batch."
    mixed = st.toggle("A mixed prompt in the batch as well", key="lab_hand_mixed", help=words, **state.LINKED)
    asked = request.ask_once("by-hand", question(mixed))

    def draw() -> None:
        if asked.error:
            st.error(state.escape(asked.error))
        elif asked.result is None:
            st.caption(state.escape(request.waiting_words(asked)))
        else:
            picture(asked.payload, asked.result)

    request.watch([asked], draw)


def question(mixed: bool) -> dict[str, Any]:
    """The request `by_hand` for the recorded cliff. mixed: with the Overview's mixed prompt in the batch."""
    kept = sides.recorded()
    own, peeked = ((kept.result or {})[side]["rollouts"] for side in ("student", "privileged"))
    beside = gradient.two_groups().get("Mixed") if mixed else None
    return {
        "request": "by_hand",
        **launch.model_payload(),
        **{name: kept.payload[name] for name in ("problem", "prompts", "sampling")},
        "rollouts": [{"token_ids": r["token_ids"], "outcome": r["outcome"]} for r in own],
        "rewards": [Outcome(r["outcome"]).reward for r in own],
        "advantage": Advantage.LEAVE_ONE_OUT.value,
        "accepted": [r["token_ids"] for r in peeked if Outcome(r["outcome"]).is_correct],
        "beside": beside and group.gradient_payload(beside, Advantage.LEAVE_ONE_OUT.value, beside.rewards),
        "lambdas": list(LAMBDAS),
        "sizes": list(SIZES),
    }


def picture(payload: dict[str, Any], found: dict[str, Any]) -> None:
    st.text(payload["problem"]["text"])
    frame = frame_of(found)
    facts = figure.facts_line(
        n="1 cliff and 1 mixed prompt" if payload["beside"] else "1 cliff",
        rollouts=len(payload["rollouts"]),
        accepted_traces=len(payload["accepted"]),
        T=payload["sampling"]["temperature"],
        model=payload["model"]["model"],
    )
    start = START[payload["beside"] is not None]
    says, about = headlines.by_hand(frame, *start), NOTE + meaning("L_GRPO", "L_JSD")
    figure.show(
        Picture("by_hand", data_of(found, start)),
        headline=says,
        note=about,
        facts=facts,
        frame=frame,
        key="lab-by-hand",
    )


def frame_of(found: dict[str, Any]) -> pd.DataFrame:
    """One row a λ and a step size: norms, cosine, and probabilities of the right token, of the answer and, as the mean
    log-probability, of the trace, each before and after the step."""
    weakest = found["before"].index(min(found["before"]))

    def read(log_probs: list[float], when: str) -> dict[str, float]:
        answer = math.exp(math.fsum(log_probs[i] for i in found["answer"]))
        mean = math.fsum(log_probs) / len(log_probs)
        return {f"token_{when}": math.exp(log_probs[weakest]), f"answer_{when}": answer, f"mean_logp_{when}": mean}

    rows = []
    for i, lam in enumerate(LAMBDAS):
        norms = {"norm_grpo": found["grpo"], "norm_jsd": lam * found["jsd"], "norm_sum": found["sums"][i]}
        for size, after in zip(SIZES, found["after"][i], strict=True):
            moment = read(found["before"], "before") | read(after, "after")
            rows.append({"lambda": lam, "size": size, **norms, "cosine": found["cosine"], **moment})
    return pd.DataFrame(rows)


def data_of(found: dict[str, Any], start: tuple[float, float] = START[False]) -> dict[str, Any]:
    """What the script draws; probabilities in the place of log-probabilities."""
    before = [math.exp(x) for x in found["before"]]
    return {
        "lambdas": [{"value": lam, "colour": style.lambda_look(lam).colour} for lam in LAMBDAS],
        "sizes": list(SIZES),
        "at": [LAMBDAS.index(start[0]), SIZES.index(start[1])],
        "grpo": found["grpo"],
        "jsd": found["jsd"],
        "sums": found["sums"],
        "cosine": found["cosine"],
        "pieces": [piece_word(p) for p in found["pieces"]],
        "right": before.index(min(before)),
        "answer": found["answer"],
        "before": before,
        "after": [[[math.exp(x) for x in row] for row in some] for some in found["after"]],
        "looks": {"grpo": style.MIXED.colour, "before": style.GREY.colour},
    }
