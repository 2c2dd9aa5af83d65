"""Side by side: one prompt, without its solution left, with it right, and on request a third column with a wrong one.

What is shown belongs to the settings under which it was asked, kept as the request itself; settings changed since are
said to be so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hdpo.assets import ASSETS
from hdpo.config import Information, ModelConfig, PromptConfig, SamplingConfig, ScanConfig, knobs, to_json
from hdpo.data.prompts import pick_other
from hdpo.errors import BadInput
from hdpo.records import Outcome, Problem
from workbench import forms
from workbench.components import picker, request, rollouts, traces, written
from workbench.data import catalog, explore
from workbench.figures import sides as says
from workbench.state import LINKED, escape, link_box

PAGE = "side"
PEEK, TRAINED = VIEWS = ("the peek", "before and after")
TITLES = {"student": "Without the solution", "privileged": "With it", "wrong": "Control: a wrong one"}
NONE = "none"
THIRD = (NONE, Information.WRONG_ANSWER.value, Information.WRONG_OTHER.value)
MAY_PASS = {
    Information.WRONG_ANSWER: "Why it may pass all the same: of this solution only the number in the box is wrong, its steps are "
    "the right ones. A rollout that follows the steps and works out the last one itself ends at the right answer.",
    Information.WRONG_OTHER: "Another problem's worked solution: what it shares with the right one is style, not knowledge. "
    "A rollout that is right all the same would have been so without it.",
}
MOST_ROLLOUTS = 16  # a side, on one page
RECORDED = ASSETS / "side_by_side.json"  # the question of a first visit, and what the model wrote


@dataclass(frozen=True)
class Setup:
    """Everything a request needs, and where the problem comes from. other: the problem whose solution stands for a wrong one,
    if such a control is on."""

    source: picker.ProblemSource
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

    @property
    def line(self) -> str:
        """The settings in one line."""
        count = "greedy" if self.greedy else f"K = {self.rollouts}, T = {self.sampling.temperature:g}"
        shown = self.prompts.information.value
        return f"{count}, at most {self.sampling.max_new_tokens} tokens, seed {self.seed}; privileged prompt: {shown}"


def choose(which: DeltaGenerator, folded: DeltaGenerator, trained: bool) -> Setup:
    """The problem in one place, all other settings in another; of a trained pair, model and wording are its own. Raises
    BadInput."""
    with folded:
        left, middle, right = st.columns(3)
    with left:
        source = picker.problem_source(PAGE)
        file = picker.read_source(source)
        picker.show_reading(file.counts())
    pool = {p.id: p for p in file.problems}
    with which:
        problem = picker.problem_picker(PAGE, pool, first_cliff(pool), middle)
    model, third = picker.ModelChoice(ModelConfig()), NONE
    if not trained:
        with right:
            model = picker.model_picker(PAGE)
            third = st.selectbox("Third column", THIRD, key="side_third", **LINKED, help=third_help())
    with folded:
        sampling, count, seed, greedy = sampling_settings()
        prompts = PromptConfig() if trained else wording_settings(model.prompts)
    other = other_problem(prompts.information, third, problem, pool, seed)
    sides = ("student", "privileged", *(() if third == NONE else ("wrong",)))
    return Setup(source, problem, model, prompts, sampling, count, seed, greedy, sides, other)


def third_help() -> str:
    return "A control: the privileged prompt with a wrong ground truth.\n\n" + "\n\n".join(
        f"**{kind.value}**: {words}" for kind, words in MAY_PASS.items()
    )


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
        st.button("Back to the default wording", key="side_wording", on_click=forms.default_wording, args=(f"{PAGE}_",))
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
    """The problem with its solution, and each side's prompt exactly as the model receives it; asked for only while open."""
    box = st.expander("The worked solution, and exactly what the model receives", key="side-prompts", on_change="rerun")
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
        picker.problem_text(setup.problem)
        request.watch([asked], draw)


def roll_out(setup: Setup) -> request.Request | None:
    """The button with the settings in a line, and the request that it asked; before the first click the recorded one, where
    it is of exactly these settings."""
    question, held = setup.rollouts_question(), st.session_state.get("side_asked")
    if held is not None and held["problem"]["id"] != setup.problem.id:
        forget()  # never one problem's rollouts under another's name
    with st.container(horizontal=True, vertical_alignment="center"):
        if st.button("Roll out", type="primary", key="side_start"):
            request.drop("rollouts")
            st.session_state["side_asked"] = question
        link_box("side")
        st.caption(escape(setup.line), width="content")
        asked, kept = st.session_state.get("side_asked"), recorded()
        if asked is None and request.canonical(kept.payload) == request.canonical(question):
            st.badge("recorded: these rollouts come with the project", color="gray")
            return kept
    if asked is None:
        return None
    if request.canonical(asked) != request.canonical(question):
        st.caption("The settings have changed since these rollouts were asked for: roll out again to use them.")
    return request.ask_once("rollouts", asked)


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
                st.button("Stop writing", key="side_stop", on_click=forget)
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
    if side == "wrong":
        st.caption(MAY_PASS[Information.WRONG_OTHER if asked.payload["other"] else Information.WRONG_ANSWER])


def outcomes(asked: request.Request, side: str) -> list[Outcome]:
    assert asked.result is not None
    return [Outcome(r["outcome"]) for r in asked.result[side]["rollouts"]]
