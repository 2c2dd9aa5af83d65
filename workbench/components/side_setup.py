"""What Side by side asks for: problem, model, sampling, information and wording as widgets, and the requests they make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hdpo.config import (
    Information,
    ModelConfig,
    ProblemConfig,
    PromptConfig,
    SamplingConfig,
    ScanConfig,
    knobs,
    to_json,
)
from hdpo.data import sets
from hdpo.data.prompts import answered, can_show, pick_other
from hdpo.errors import BadInput
from hdpo.records import Problem
from workbench import forms
from workbench.components import picker
from workbench.data import catalog
from workbench.state import LINKED

PAGE = "side"
PEEK, TRAINED = VIEWS = ("the peek", "before and after")
NONE = "none"
THIRD = (NONE, Information.WRONG_ANSWER.value, Information.WRONG_OTHER.value)
MAY_PASS = {
    Information.WRONG_ANSWER: "Why it may pass all the same: of this solution only the number in the box is wrong, its steps are "
    "the right ones. A rollout that follows the steps and works out the last one itself ends at the right answer.",
    Information.WRONG_OTHER: "Another problem's worked solution: what it shares with the right one is style, not knowledge. "
    "A rollout that is right all the same would have been so without it.",
}
MOST_ROLLOUTS = 16  # a side, on one page


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
            "grader": self.source.config.grader,
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
        forms.grader_here(source.config.grader)
    pool = {p.id: p for p in file.problems}
    with which:
        problem = picker.problem_picker(PAGE, pool, first_cliff(pool), middle)
    model, third = picker.ModelChoice(ModelConfig()), NONE
    if not trained:
        with right:
            model = picker.model_picker(PAGE)
            picker.few_words(model.config.model, source.config.problems)
            third = st.selectbox("Third column", THIRD, key="side_third", **LINKED, help=third_help())
    with folded:
        sampling, count, seed, greedy = sampling_settings()
        prompts = PromptConfig() if trained else wording_settings(model.prompts)
    if not can_show(problem, prompts.information):
        folded.caption("This problem has no worked solution, so what the privileged prompt reveals is its answer.")
        prompts = replace(prompts, information=Information.ANSWER)
    other = other_problem(prompts.information, third, problem, pool, seed)
    sides = ("student", "privileged", *(() if third == NONE else ("wrong",)))
    return Setup(source, problem, model, prompts, sampling, count, seed, greedy, sides, other)


def lab_params(setup: Setup) -> dict[str, str]:
    """The query parameters with which the λ lab trains this model on these problems; defaults stay out."""
    data, plain = setup.source.config, ProblemConfig()
    problems = sets.called(data.problems)
    written = data.columns if problems == data.problems else ""
    params = {"lab_problems": problems, "lab_columns": written, "lab_model": setup.model.config.model}
    alone = setup.prompts.information is Information.ANSWER
    params |= {"lab_information": Information.ANSWER.value} if alone else {}
    defaults = {"lab_problems": plain.problems, "lab_columns": plain.columns, "lab_model": ModelConfig().model}
    return {name: value for name, value in params.items() if value != defaults.get(name)}


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
    written, plain = forms.settings(forms.WORDING, f"{PAGE}_"), PromptConfig()
    changed = {name: text for name, text in written.items() if text != getattr(plain, name)}
    untouched = not changed.keys() & {"student", "privileged"}
    if changed:
        st.button("Back to the default wording", key="side_wording", on_click=forms.default_wording, args=(f"{PAGE}_",))
    elif fitting != plain:
        st.caption("Untouched, so the wording that this model knows is used instead: see below what it receives.")
    wording = replace(fitting if untouched else plain, **changed)
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
    others = map(answered, pool.values()) if information is Information.ANSWER else pool.values()
    return pick_other(problem, list(others), seed)
