"""Side by side: one prompt, unprivileged left, privileged right, and on request a third column with a wrong ground truth.

What is shown belongs to the settings under which it was asked, kept as the request itself; settings changed since are
said to be so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import streamlit as st

from hdpo.config import Information, PromptConfig, SamplingConfig, ScanConfig, knobs, to_json
from hdpo.data.prompts import pick_other
from hdpo.errors import BadInput
from hdpo.records import Outcome, Problem
from workbench import forms
from workbench.components import picker, request, rollouts
from workbench.data import catalog, explore
from workbench.state import LINKED, escape, link_box

PAGE = "side"
TITLES = {
    "student": "Unprivileged: the problem alone",
    "privileged": "Privileged: the problem and its ground truth",
    "wrong": "Control: a wrong ground truth",
}
NONE = "none"
THIRD = (NONE, Information.WRONG_ANSWER.value, Information.WRONG_OTHER.value)
MOST_ROLLOUTS = 16  # a side, on one page


@dataclass(frozen=True)
class Setup:
    """Everything a request needs. other: the problem whose solution stands for a wrong one, if such a control is on."""

    problem: Problem
    model: picker.ModelChoice
    prompts: PromptConfig
    sampling: SamplingConfig
    rollouts: int
    seed: int
    greedy: bool
    sides: tuple[str, ...]
    other: Problem | None

    def question(self, name: str) -> dict[str, Any]:
        """What every request has in common."""
        return {
            "request": name,
            **self.model.payload(),
            "problem": asdict(self.problem),
            "prompts": to_json(self.prompts),
            "other": asdict(self.other) if self.other else None,
        }

    def rollouts_question(self) -> dict[str, Any]:
        return self.question("rollouts") | {
            "sampling": to_json(self.sampling),
            "sides": list(self.sides),
            "k": self.rollouts,
            "seed": self.seed,
            "greedy": self.greedy,
        }


def choose() -> Setup:
    """Problem, model, sampling, information and wording as widgets; the problem's text. Raises BadInput."""
    left, middle, right = st.columns(3)
    with left:
        source = picker.problem_source(PAGE)
        file = picker.read_source(source)
        picker.show_reading(file.counts())
    pool = {p.id: p for p in file.problems}
    with middle:
        problem = picker.problem_picker(PAGE, pool, first_cliff(pool))
    with right:
        model = picker.model_picker(PAGE)
        third = st.selectbox(
            "Third column",
            THIRD,
            key="side_third",
            **LINKED,
            help="A control: the privileged prompt with a wrong ground truth. What it shares with the right one is style, not knowledge.",
        )
    picker.problem_text(problem)
    sampling, count, seed, greedy = sampling_settings()
    prompts = wording_settings(model.prompts)
    other = other_problem(prompts.information, third, problem, pool, seed)
    sides = ("student", "privileged", *(() if third == NONE else ("wrong",)))
    return Setup(problem, model, prompts, sampling, count, seed, greedy, sides, other)


def first_cliff(pool: Mapping[str, Problem]) -> str:
    """A cliff of the newest scans that is in the pool: the best prompt to begin with. "" where none is known."""
    for run in catalog.runs_of("scan")[:3]:
        scan = catalog.scan_frame(run)
        found = [i for i in scan[scan["group"] == "cliff"]["problem_id"] if i in pool]
        if found:
            return found[0]
    return ""


def sampling_settings() -> tuple[SamplingConfig, int, int, bool]:
    """Sampling, rollouts a side, seed, greedy. Keys: side_k, side_temperature, side_max_new_tokens, side_seed, side_greedy."""
    known = {k.name: k for k in knobs(ScanConfig())}
    grid = st.grid(5, min_column_width=150, vertical_alignment="bottom")
    with grid.cell():
        count = st.number_input("Rollouts a side (K)", 1, MOST_ROLLOUTS, 4, key="side_k", **LINKED)
    values: dict[str, Any] = {}
    for name in ("temperature", "max_new_tokens", "seed"):
        with grid.cell():
            values[name] = forms.setting(known[name], f"{PAGE}_")
    with grid.cell():
        words = "One rollout a side, the likeliest token each time."
        greedy = st.toggle("Greedy", key="side_greedy", **LINKED, help=words)
    sampling = SamplingConfig(temperature=values["temperature"], max_new_tokens=values["max_new_tokens"])
    return sampling, int(count or 1), values["seed"], greedy


def wording_settings(fitting: PromptConfig) -> PromptConfig:
    """What the privileged prompt reveals, and both wordings. An untouched wording is the one that the model knows."""
    known = {k.name: k for k in knobs(PromptConfig())}
    with st.expander("What the privileged prompt reveals, and the wording"):
        first, second = st.columns(2)
        with first:
            information = Information(forms.setting(known["information"], f"{PAGE}_"))
        with second:
            fraction = PromptConfig().fraction
            if information is Information.FRACTION:
                fraction = forms.setting(known["fraction"], f"{PAGE}_")
        student, privileged = forms.settings(forms.WORDING, f"{PAGE}_").values()
        plain = PromptConfig()
        untouched = (student, privileged) == (plain.student, plain.privileged)
        if not untouched:
            st.button(
                "Back to the default wording", key="side_wording", on_click=forms.default_wording, args=(f"{PAGE}_",)
            )
        elif fitting != plain:
            st.caption("Untouched, so the wording that this model knows is used instead: see below what it receives.")
    wording = fitting if untouched else replace(plain, student=student, privileged=privileged)
    return replace(wording, information=information, fraction=fraction)


def other_problem(
    information: Information, third: str, problem: Problem, pool: Mapping[str, Problem], seed: int
) -> Problem | None:
    """The problem that a wrong-other control shows, fixed by seed and problem. Raises BadInput where there is none."""
    controls = {information.value, third} & {Information.WRONG_OTHER.value}
    if not controls:
        return None
    if third == Information.WRONG_ANSWER.value:
        raise BadInput(
            "Third column: expected wrong-other or none while the privileged column shows another problem's solution, "
            "found wrong-answer. Choose one of these, or reveal something else."
        )
    return pick_other(problem, list(pool.values()), seed)


def show_prompts(setup: Setup) -> None:
    """Each side's prompt exactly as the model receives it; asked for only while it is open."""
    box = st.expander("Exactly what the model receives", key="side-prompts", on_change="rerun")
    if not box.open:
        return
    asked = request.ask_once("prompt", setup.question("prompt"))

    def draw() -> None:
        if asked.error:
            st.error(escape(asked.error))
        elif asked.result is None:
            st.caption(request.waiting_words(asked))
        else:
            for column, side in zip(st.columns(len(setup.sides)), setup.sides, strict=True):
                with column:
                    st.caption(f"{TITLES[side]}: {asked.result[f'{side}_tokens']} of {asked.result['context']} tokens")
                    rollouts.raw_text(asked.result[f"{side}_text"])

    with box:
        request.watch([asked], draw)


def roll_out(setup: Setup) -> request.Request | None:
    """The button, and the request that it asked; None before the first click."""
    question = setup.rollouts_question()
    with st.container(horizontal=True):
        if st.button("Roll out", type="primary", key="side_start"):
            request.drop("rollouts")
            st.session_state["side_asked"] = question
        link_box("side")
    asked = st.session_state.get("side_asked")
    # Never one problem's rollouts under another's name.
    if asked is not None and asked["problem"]["id"] != setup.problem.id:
        forget()
        asked = None
    if asked is None:
        st.info("Roll out to see both sides write, token by token. All sides draw the same random numbers.")
        return None
    if request.canonical(asked) != request.canonical(question):
        st.caption("The settings above have changed since these rollouts were asked for: roll out again to use them.")
    return request.ask_once("rollouts", asked)


def show_sides(asked: request.Request) -> None:
    """The columns: streamed while they are written, then as cards with verdicts and the R = 1 filter."""

    def draw() -> None:
        if asked.error:
            st.error(escape(asked.error))
        if asked.pending:
            with st.container(horizontal=True, vertical_alignment="center"):
                st.button("Stop writing", key="side_stop", on_click=forget)
                st.caption(request.waiting_words(asked), width="content")
        sides = asked.payload["sides"]
        for column, side in zip(st.columns(len(sides)), sides, strict=True):
            with column:
                st.markdown(f"#### {TITLES[side]}")
                if asked.result is None:
                    show_stream(asked, side)
                else:
                    show_side(asked, side)
        if asked.result is not None:
            both = (outcomes(asked, "student"), outcomes(asked, "privileged"))
            if all(both):
                st.markdown(explore.sample_sentence(*both))

    request.watch([asked], draw)


def forget() -> None:
    request.drop("rollouts")
    st.session_state.pop("side_asked", None)


def show_stream(asked: request.Request, side: str) -> None:
    count = 1 if asked.payload["greedy"] else asked.payload["k"]
    for i in range(count):
        st.code(rollouts.printable(asked.texts.get((side, i), "")) + "▌", language=None, wrap_lines=True)


def show_side(asked: request.Request, side: str) -> None:
    assert asked.result is not None
    found = asked.result[side]
    st.caption(
        f"Prompt of {found['prompt_tokens']} tokens. {explore.outcome_counts(outcomes(asked, side)) if found['rollouts'] else ''}"
    )
    if not found["fits"]:
        longest = asked.payload["sampling"]["max_new_tokens"]
        st.warning(
            f"This prompt and {longest} new tokens exceed the model's context. A prompt is never cut: shorten one of them."
        )
    if not found.get("gradable", True):
        st.warning("The gold answer of this problem cannot be parsed, so no verdict here counts.")
    rollouts.rollout_list([side_card(asked, side, i, r) for i, r in enumerate(found["rollouts"])])


def side_card(asked: request.Request, side: str, index: int, rollout: Mapping[str, Any]) -> rollouts.Card:
    outcome, note = Outcome(rollout["outcome"]), ""
    if side == "privileged":
        taken, why = explore.acceptance(outcome, int(rollout["tokens"]))
        note = f"{'✓' if taken else '✗'} {why}"
    gold = asked.payload["problem"]["answer"]
    return rollouts.Card(index, rollout["text"], outcome, rollout["answer"], gold, int(rollout["tokens"]), note=note)


def outcomes(asked: request.Request, side: str) -> list[Outcome]:
    assert asked.result is not None
    return [Outcome(r["outcome"]) for r in asked.result[side]["rollouts"]]
