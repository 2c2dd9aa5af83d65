"""Choosing a model (bundled, a run's newest checkpoint, a folder) and a problem, as widgets whose value stands in the URL.

Keys start with the page's name: query parameters belong to the whole app, and two pages must not share a choice by
accident. What a link says is looked up among what exists; only what is no run's name is taken as a path.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from hdpo.config import ModelConfig, ProblemConfig, PromptConfig, to_json
from hdpo.data import sets
from hdpo.data.problems import BUNDLED as BUNDLED_PREFIX
from hdpo.data.problems import MIXES, ProblemFile, load_problems, told
from hdpo.errors import BadInput
from hdpo.hub import is_hub_id
from hdpo.presets import SHIPPED, brought, wording_of
from hdpo.record.folder import Run
from hdpo.records import Problem
from workbench import columns, state
from workbench.components import fetching
from workbench.components.rollouts import printable, raw_text
from workbench.data import catalog
from workbench.forms import problem_sets, whole, with_typed
from workbench.state import LINKED, escape, linked_choice

BUNDLED = "bundled"
SETS = tuple(f"{BUNDLED_PREFIX}{mix}" for mix in MIXES)
FILE_SPLITS = ("all", "validation", "train")
MOST_READ = 20_000  # problems of a file that are read for a list
MOST_LISTED = 1000  # problems offered in one list; a search reaches the others
_ID_IN_LABEL = re.compile(r"\[([^\[\]]+)\]$")


@dataclass(frozen=True)
class ModelChoice:
    """Which weights, and the wording they know. For a run: the model that it trained, and its newest checkpoint."""

    config: ModelConfig
    checkpoint: str = ""
    prompts: PromptConfig = PromptConfig()

    def payload(self) -> dict[str, Any]:
        """For an interactive request: the checkpoint lies over the run's own start, which a frozen teacher keeps."""
        return {"model": to_json(self.config), "checkpoint": self.checkpoint}

    def started(self) -> ModelConfig:
        """For a scan: the checkpoint is where it starts from."""
        return replace(self.config, adapter=self.checkpoint) if self.checkpoint else self.config


@dataclass(frozen=True)
class ProblemSource:
    """Which problems: a bundled set or a file, and its split."""

    config: ProblemConfig
    split: str


def label_of(run: Run) -> str:
    """A run in a list and in a link: its name, and in brackets the id by which a link finds it after a renaming."""
    return run.id if catalog.label(run) == run.id else f"{catalog.label(run)} [{run.id}]"


def id_in(text: str) -> str:
    """
    >>> id_in("my run [20261122-101500-scan-3f2a]"), id_in("bundled")
    ('20261122-101500-scan-3f2a', 'bundled')
    """
    found = _ID_IN_LABEL.search(text)
    return found[1] if found else text


def model_picker(page: str) -> ModelChoice:
    """Choose the weights. Key: <page>_model. Raises BadInput where the chosen run cannot be read."""
    runs = {run.id: run for run in catalog.runs_of("train") if run.checkpoints()}
    key = f"{page}_model"
    linked = id_in(st.query_params.get(key, ""))
    if linked in runs and key not in st.session_state:
        st.session_state[key] = label_of(runs[linked])
    chosen = st.selectbox(
        "Model",
        with_typed(key, [*SHIPPED, *(label_of(run) for run in runs.values())]),
        key=key,
        **LINKED,
        accept_new_options=True,
        placeholder="or the path of a folder",
        help="The bundled model, SmolLM2 raised on stories, the newest checkpoint of a run, or a folder in transformers' format (type its path).",
    )
    run = runs.get(id_in(chosen or BUNDLED))
    if run is None:
        name = chosen or BUNDLED
        model = ModelConfig(model=name if name in SHIPPED else whole(name), dtype=brought(name).get("dtype", "float32"))
        fetching.offer(model.model, f"{page}_fetch")
        return ModelChoice(model, prompts=wording_of(model.model))
    config = run.load_config()
    st.caption(f"Its newest checkpoint: {run.checkpoints()[-1].name}.")
    return ModelChoice(config.model, str(run.checkpoints()[-1]), config.prompts)


def problem_source(page: str) -> ProblemSource:
    """Choose problem set and split. Keys: <page>_set, <page>_split, <page>_columns."""
    chosen = st.selectbox(
        "Problem set",
        with_typed(f"{page}_set", problem_sets()),
        key=f"{page}_set",
        **LINKED,
        accept_new_options=True,
        placeholder="or the path of a file",
        help="A bundled set, one that is kept (page Problems), a JSONL, CSV or Parquet file, or a folder of shards (type its path).",
    )
    kept = sets.opened({"problems": chosen or SETS[0]})
    problems = whole(kept["problems"])
    bundled = problems.startswith(BUNDLED_PREFIX)
    # Two keys: the splits of a bundled set and of a file have different defaults, and a default stays out of the URL.
    splits = ("validation", "train", "test") if bundled else FILE_SPLITS
    key = f"{page}_split" if bundled else f"{page}_side"
    split = st.selectbox("Split", splits, key=key, **LINKED)
    if not bundled and len(kept) == 1:
        ready = columns.choose(problems, f"{page}_columns")
        text = st.text_input(
            "Columns",
            key=f"{page}_columns",
            **LINKED,
            placeholder="text=question,solution=answer,answer=final",
            help="Only for a file whose columns are not known by name.",
        )
        if not ready:
            raise BadInput(columns.WANTED)
        kept["columns"] = text.strip()
    return ProblemSource(ProblemConfig(**kept | {"problems": problems}), split)


def source_params(page: str, source: ProblemSource) -> dict[str, str]:
    """The query parameters that restore a source on a page.

    >>> source_params("side", ProblemSource(ProblemConfig(), "validation"))
    {'side_set': 'bundled:steep', 'side_split': 'validation'}
    """
    bundled = source.config.problems.startswith(BUNDLED_PREFIX)
    called = sets.called(source.config.problems)
    params = {f"{page}_set": called, f"{page}_split" if bundled else f"{page}_side": source.split}
    written = source.config.columns if called == source.config.problems else ""
    return params | ({f"{page}_columns": written} if written else {})


def read_source(source: ProblemSource) -> ProblemFile:
    """The problems of a source, the first MOST_READ; cached by the file's size and time of change. Raises BadInput."""
    config = source.config
    bundled = config.problems.startswith(BUNDLED_PREFIX)
    at = (0, 0) if bundled else catalog.stamp(Path(config.problems))
    return _read(config, source.split, at)


@st.cache_data(show_spinner="Reading the problems", max_entries=8)
def _read(config: ProblemConfig, split: str, at: catalog.Stamp) -> ProblemFile:
    problems = config.problems
    if problems.startswith(BUNDLED_PREFIX):
        return load_problems(ProblemConfig(problems), split)
    if is_hub_id(problems):
        raise BadInput(
            f"problems: expected a bundled set or a file here, found the hub id {problems!r}. Pages ask nobody outside: scan or train with it, or save a part of it as a file."
        )
    return load_problems(replace(config, limit=min(config.limit or MOST_READ, MOST_READ)), split)


def few_words(model: str, problems: str) -> None:
    """What to expect of the bundled model on problems that it was not raised on; nothing for another model or its own sets."""
    if model == BUNDLED and not problems.startswith(BUNDLED_PREFIX):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            st.caption(
                "The bundled model was raised on few words: on other problems nearly all are cliffs.", width="content"
            )
            st.page_link(state.page("glossary"), label="Model card", query_params={"glossary_card": "true"})


def show_reading(counts: Mapping[str, Any]) -> None:
    """What of a problem file was left out, and why; nothing where nothing was. counts: of `ProblemFile`, or a run's row."""
    if counts["read"] == counts.get("problems", counts["read"] - counts["duplicates"] - counts["skipped"]):
        return
    st.caption(escape(told(counts)) + ".")
    if skipped := counts.get("skipped_first"):
        with st.expander("Rows left out", type="compact"):
            raw_text("\n".join(skipped))


def problem_picker(page: str, pool: Mapping[str, Problem], first: str, search: DeltaGenerator) -> Problem:
    """Choose one problem of a pool (by id), with a search in text, source and id. Keys: <page>_problem, <page>_search.

    first: what is chosen where neither the link nor the person chose; the pool's first where it is not in the pool. search:
    where the search stands.
    """
    key, start = f"{page}_problem", first if first in pool else next(iter(pool))
    words = search.text_input("Search", key=f"{page}_search", placeholder="in text, source or id").strip().lower()
    found = [i for i, p in pool.items() if words in f"{p.text} {i} {p.source}".lower()]
    ids = found[:MOST_LISTED]
    # What is chosen stays on offer beyond the list's end, and where the search does not match it.
    for kept in (start, st.query_params.get(key), st.session_state.get(key)):
        if isinstance(kept, str) and kept in pool and kept not in ids:
            ids.append(kept)
    words = "What the search finds, and what is chosen."
    labels = {i: f"{i} · {printable(pool[i].text)}"[:90] for i in ids}
    chosen = linked_choice("Problem", labels, key, start, words)
    more = f"; the first {MOST_LISTED} are listed." if len(found) > MOST_LISTED else "."
    search.caption(f"{len(found)} of {len(pool)} match{more}")
    return pool[chosen]


def problem_text(problem: Problem) -> None:
    """The problem as it is: id, source, level and gold answer, its text, and its worked solution, all literal."""
    level = "" if problem.level is None else f", level {problem.level}"
    st.text(printable(f"{problem.id}: {problem.source}{level}; gold answer {problem.answer}"))
    raw_text(problem.text)
    with st.expander("Its worked solution y*", type="compact"):
        raw_text(problem.solution)
