"""Settings as widgets: one widget a knob of the config dataclasses, in the URL while it differs from its default.

Names, limits, help and the paper's values come from the config; here are only words for labels and the steps of the
arrows. What a widget gives back is checked again by the config itself: a browser can send anything.

This file is long: one widget a kind of setting.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Any

import streamlit as st

from hdpo.config import Knob, PromptConfig, SweepConfig, TrainConfig, knobs, replace_knobs
from hdpo.data import sets
from hdpo.data.problems import MIXES
from hdpo.errors import BadInput
from hdpo.grading.graders import whole as whole_grader
from hdpo.model.defaults import following
from hdpo.presets import PRESETS, SHIPPED
from workbench import columns
from workbench.state import LINKED, escape, own_machine

LAMBDAS = (0.0, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
BUNDLED = tuple(f"bundled:{mix}" for mix in MIXES)
WORDING = tuple(k for k in knobs(PromptConfig()) if k.type is str)  # texts of several lines
MAIN = (
    "problems",
    "steps",
    "prompts_per_step",
    "rollouts",
    "privileged_rollouts",
    "learning_rate",
    "seed",
    "teacher",
    "divergence",
)
SECTIONS = {
    "model": "Model",
    "data": "Problems",
    "prompts": "Prompts",
    "sampling": "Sampling",
    "objective": "Objective",
    "step": "Step",
    "evaluation": "Evaluation",
}
LABELS = {
    "problems": "Problem set",
    "prompts_per_step": "Prompts a step (P)",
    "rollouts": "Rollouts a prompt (K)",
    "privileged_rollouts": "Privileged rollouts a cliff (J)",
    "topk": "Top-k of JSD_k",
    "clip_eps": "Clip range ε",
    "max_new_tokens": "Longest completion (tokens)",
    "top_p": "Top-p",
    "ks": "k of pass@k",
    "eval_every": "Steps between evaluations",
    "eval_problems": "Evaluation problems",
    "eval_samples": "Samples a problem (n)",
    "rank": "LoRA rank",
    "alpha": "LoRA alpha",
    "targets": "LoRA targets",
    "dtype": "Weights' dtype",
    "grad_norm": "Gradient norm limit",
    "fraction": "Fraction revealed",
    "student": "Student's prompt",
    "privileged": "Privileged prompt",
    "columns": "Columns of a file",
    "limit": "Read at most (0: all)",
}
SEEDS = "Of a pair: this many, from the seed below on. From two on an interval knows how trainings vary."
ARROWS = {"learning_rate": 1e-4, "temperature": 0.1, "grad_norm": 0.1, "clip_eps": 0.05, "weight_decay": 0.01}


def label(name: str) -> str:
    """
    >>> label("prompts_per_step"), label("weight_decay")
    ('Prompts a step (P)', 'Weight decay')
    """
    return LABELS.get(name) or name.rstrip("_").replace("_", " ").capitalize()


def words(value: Any) -> str:
    """A value as a person writes it.

    >>> words(0.0003), words((1, 4)), words(0.0)
    ('0.0003', '1,4', '0')
    """
    if isinstance(value, tuple):
        return ",".join(words(v) for v in value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, Enum):
        return str(value.value)
    return f"{value:g}" if isinstance(value, float) else str(value)


def hint(k: Knob) -> str:
    paper = f" Paper: {k.paper}." if k.paper else ""
    return f"{k.help}. Default: {words(k.default) or 'empty'}.{paper} Flag: {k.flag}"


def with_typed(key: str, options: Sequence[str]) -> list[str]:
    """The options of a list that takes typed values, with the one that is typed or linked now."""
    typed = st.session_state.get(key) or st.query_params.get(key)
    return [*options, typed] if typed and typed not in options else list(options)


def setting(k: Knob, prefix: str) -> Any:
    """The widget of one knob and its value, plain (an enum's value, not the enum). Key and URL name: prefix + name."""
    shared: dict[str, Any] = {"key": prefix + k.name, "help": hint(k), **LINKED}
    if k.name == "problems":
        return st.selectbox(
            label(k.name),
            with_typed(shared["key"], problem_sets()),
            accept_new_options=True,
            placeholder="or the path of a file",
            **shared,
        )
    if k.options:
        options = [words(o) for o in k.options]
        return st.selectbox(label(k.name), options, index=options.index(words(k.default)), **shared)
    if k.type is bool:
        return st.checkbox(label(k.name), value=k.default, **shared)
    if k.type in (int, float):
        return number(k, shared)
    if is_wording(k):
        return st.text_area(label(k.name), value=k.default, **shared)
    text = st.text_input(label(k.name), value=words(k.default), **shared)
    return whole_numbers(text, k) if isinstance(k.default, tuple) else text


def problem_sets() -> tuple[str, ...]:
    """The sets that have a name here: bundled and kept ones."""
    return (*BUNDLED, *(sets.PREFIX + name for name in sets.names()))


def is_wording(k: Knob) -> bool:
    """Whether its lines matter, so that it is edited as a text and never in one line, whichever config it comes from."""
    return k.name in {w.name for w in WORDING}


def number(k: Knob, shared: dict[str, Any]) -> Any:
    """A number input; an emptied one is a sentence, not a guess."""
    cast = k.type
    low, high = (None if x is None else cast(x) for x in (k.low, k.high))
    step = 1 if cast is int else ARROWS.get(k.name, 0.05)
    form = "%d" if cast is int else "%g"
    found = st.number_input(label(k.name), low, high, cast(k.default), step=step, format=form, **shared)
    if found is None:
        raise BadInput(
            f"{k.flag[2:]}: expected a number, found an empty field. Give one; the default is {words(k.default)}."
        )
    return cast(found)


def whole_numbers(text: str, k: Knob) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise BadInput(
            f"{k.flag[2:]}: expected whole numbers with commas between, found {text!r}. Write it as {words(k.default)}."
        ) from None


def lambda_setting(prefix: str) -> float:
    """The λ slider, 0 and a log scale, with a field for any other value beside it."""
    k = next(k for k in knobs(TrainConfig()) if k.name == "lambda_")
    left, right = st.columns([4, 1], vertical_alignment="bottom")
    chosen = left.select_slider(
        "λ, the weight of the distillation term", LAMBDAS, k.default, words, prefix + "lambda", **LINKED, help=hint(k)
    )
    other = right.text_input(
        "Another λ",
        key=prefix + "another_lambda",
        placeholder="such as 0.05",
        **LINKED,
        help="Any number from 0; empty leaves the choice to the slider.",
    )
    return free_number(other, "lambda") if other.strip() else float(chosen)


def arms_setting(prefix: str) -> tuple[tuple[float, ...], int]:
    """What else a pair runs beside λ = 0 and the λ of the slider: further λ, and over how many seeds."""
    left, right = st.columns([2, 1], vertical_alignment="bottom")
    more = left.multiselect(
        "More λ beside them", [words(v) for v in LAMBDAS[1:]], key=prefix + "more", placeholder="none", **LINKED
    )
    seeds = right.number_input("Seeds", 1, 20, 1, key=prefix + "seeds", help=SEEDS, **LINKED)
    return tuple(map(float, more)), seeds or 1


def free_number(text: str, name: str) -> float:
    """
    >>> free_number(" 0,05 ", "lambda")
    0.05
    """
    try:
        return float(text.strip().replace(",", "."))
    except ValueError:
        raise BadInput(f"{name}: expected a number, found {text.strip()!r}. Give a number such as 0.05.") from None


def settings(wanted: Iterable[Knob], prefix: str) -> dict[str, Any]:
    """Widgets in a grid that wraps; name → value."""
    values: dict[str, Any] = {}
    grid = st.grid(5, min_column_width=165)
    for k in wanted:
        with grid.cell(column_span=2 if is_wording(k) else 1):
            values[k.name] = setting(k, prefix)
    return values


def train_form(prefix: str, lam: float) -> tuple[TrainConfig, bool]:
    """The λ lab's form but for λ: presets, the settings that matter, all others in an expander; and whether all columns of a
    file are known that are needed. Raises BadInput."""
    default = TrainConfig()
    known = {k.name: k for k in knobs(default)}
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Presets:", width="content")
        for name, preset in PRESETS.items():
            told = "".join(f"\n- {line}" for line in preset.differs)
            taken = st.session_state.get(f"{prefix}preset", "bundled") == name
            st.button(
                f"✓ {name}" if taken else name,
                key=f"{prefix}{name}",
                on_click=use_preset,
                args=(name, prefix),
                help=f"{preset.help[:1].upper()}{preset.help[1:]}. λ stays.{told}",
            )
    values = settings((known[name] for name in MAIN), prefix)
    ready = columns.choose(whole(values["problems"] or BUNDLED[0]), f"{prefix}columns")
    with st.expander("All other settings"):
        for section, title in SECTIONS.items():
            rest = [k for k in known.values() if k.path[0] == section and k.name not in (*MAIN, "lambda_")]
            if rest:
                st.caption(title)
                values |= settings(rest, prefix)
    config = settled(replace_knobs(default, {"lambda_": lam, **values}))
    st.caption(escape(changed_words(config)))
    return config, ready


def changed_words(config: TrainConfig) -> str:
    """
    >>> changed_words(replace_knobs(TrainConfig(), {"steps": 20, "lambda_": 1.0}))
    'Not at its default: Steps 20 (60).'
    """
    default = {k.name: k.default for k in knobs(TrainConfig())}
    found = [
        f"{label(k.name)} {words(k.default)} ({words(default[k.name])})"
        for k in knobs(config)
        if k.name != "lambda_" and k.default != default[k.name]
    ]
    return f"Not at its default: {', '.join(found)}." if found else "All settings but λ are at their defaults."


def use_preset(name: str, prefix: str) -> None:
    """Callback: what this preset says, and back to its default what the preset before it said and nobody changed since. All
    else stays as it was chosen; `bundled` is the defaults, all of them but λ."""
    mine, before = PRESETS[name].settings, PRESETS[st.session_state.get(f"{prefix}preset", "bundled")].settings
    st.session_state[f"{prefix}preset"] = name
    for k in knobs(TrainConfig()):
        left = k.name in before and st.session_state.get(prefix + k.name) == as_shown(before[k.name])
        if k.name != "lambda_" and (k.name in mine or left or name == "bundled"):
            st.session_state[prefix + k.name] = as_shown(mine.get(k.name, k.default))


def as_shown(value: Any) -> Any:
    """A setting's value as its widget holds it."""
    return value if isinstance(value, (int, float)) else words(value)


def default_wording(prefix: str) -> None:
    """Callback: the wordings back to their defaults."""
    for k in WORDING:
        st.session_state[prefix + k.name] = k.default


def settled(config: TrainConfig) -> TrainConfig:
    """As the run shall keep it: whole paths, since the worker may stand in another folder, and what follows from model
    and adapter where a setting was left as it was (`hdpo.model.defaults`, as the command line has it). Raises BadInput."""
    grader_here(config.data.grader)
    for path in (config.model.adapter, config.model.chat_template):
        if path and Path(path).expanduser().exists():
            whole(path)
    plain = {k.path: k.default for k in knobs(TrainConfig())}
    config = replace_knobs(
        config, sets.opened({k.name: k.default for k in knobs(config) if k.default != plain[k.path]})
    )
    if config.model.model not in SHIPPED:
        config = replace(config, model=replace(config.model, model=whole(config.model.model)))
    for name in ("problems", "validation_problems"):
        source = getattr(config.data, name)
        if source:
            config = replace_knobs(config, {name: whole(source)})
    config = replace_knobs(config, {"grader": whole_grader(config.data.grader)})
    chosen = {k.name: k.default for k in knobs(config) if k.default != plain[k.path]}
    return replace_knobs(config, following(chosen, {k.name for k in knobs(config)})[0])


def whole(path: str) -> str:
    """A path from any folder; what is named otherwise stays as it is. Raises BadInput where other machines can ask."""
    if sets.is_named(path):
        return path
    found = Path(path).expanduser().resolve()
    if not own_machine() and not found.is_relative_to(sets.root()):
        way = "Upload the file on the page Problems, or name the path in a terminal"
        raise BadInput(f"path: expected a name, since this app is open to other machines, found a path. {way}.")
    return str(found)


def grader_here(spec: str) -> None:
    """Raises BadInput for a grader that is code, where other machines can ask."""
    if ".py:" in spec and not own_machine():
        found = f"none that is code, since this app is open to other machines, found {spec!r}"
        raise BadInput(f"grader: expected {found}. Name it in a terminal: --grader FILE.py:FUNCTION.")


def as_pair(config: TrainConfig, more: tuple[float, ...] = (), seeds: int = 1) -> SweepConfig:
    """λ = 0, this λ and `more` with the same seeds, from this one on. Raises BadInput where all would be the same."""
    lambdas = tuple(sorted({0.0, config.objective.lambda_, *more}))
    if len(lambdas) == 1:
        raise BadInput(
            "lambda: expected a λ above 0 for a pair, found 0. A pair is λ = 0 beside another λ: move the slider."
        )
    plain = replace_knobs(config, {"lambda_": TrainConfig().objective.lambda_, "seed": TrainConfig().seed})
    return SweepConfig(train=plain, lambdas=lambdas, seeds=tuple(range(config.seed, config.seed + seeds)))


def title(config: TrainConfig | SweepConfig) -> str:
    """The name a run gets at its start.

    >>> title(TrainConfig()), title(as_pair(TrainConfig()))
    ('steep: λ = 0.3, seed 0', 'steep: λ = 0 and 0.3, seed 0')
    >>> title(as_pair(TrainConfig(), (3.0,), 3))
    'steep: λ = 0, 0.3 and 3, seeds 0 to 2'
    """
    train = config.train if isinstance(config, SweepConfig) else config
    source = Path(train.data.problems.removeprefix("bundled:")).stem
    if isinstance(config, SweepConfig):
        *others, last = map(words, config.lambdas)
        first, end = config.seeds[0], config.seeds[-1]
        seeds = f"seed {first}" if end == first else f"seeds {first} to {end}"
        return f"{source}: λ = {', '.join(others)} and {last}, {seeds}"
    return f"{source}: λ = {words(config.objective.lambda_)}, seed {config.seed}"


def flat(config: dict[str, Any]) -> dict[str, str]:
    """Nested settings as 'section.name' → words, to compare and to list.

    >>> flat({"step": {"steps": 5}, "seed": 0})
    {'step.steps': '5', 'seed': '0'}
    """
    found: dict[str, str] = {}
    for name, value in config.items():
        if isinstance(value, dict):
            found |= {f"{name}.{inner}": text for inner, text in flat(value).items()}
        else:
            found[name.rstrip("_")] = words(tuple(value) if isinstance(value, list) else value)
    return found
