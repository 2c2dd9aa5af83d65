"""What a problem set is, as the page Problems shows it: chosen or uploaded, its columns mended, counted, and kept under a name."""

from __future__ import annotations

import hashlib
import re
import shutil
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import streamlit as st

from hdpo.config import Information, ProblemConfig, ScanConfig, knobs, replace_knobs, to_json
from hdpo.data import sets
from hdpo.data.problems import load_problems
from hdpo.errors import BadInput
from hdpo.grading.graders import whole as whole_grader
from hdpo.hub import is_hub_id
from hdpo.model.defaults import following
from hdpo.record.files import beside
from hdpo.records import Problem
from workbench import columns, forms
from workbench.components import picker, request
from workbench.components.rollouts import raw_text
from workbench.data import catalog
from workbench.state import LINKED, at_once, escape, next_step, say_refusal

PAGE = "problems"
KINDS = ["csv", "tsv", "jsonl", "json", "parquet", "gz"]
GRADERS = ("math", "exact", "number", "choice")
UPLOADS = ".uploads"  # in the folder of the sets
KEPT_S = 24 * 3600.0  # seconds that an upload waits to be kept as a set
SHOWN = 5  # problems
NEW = "problems_next"  # what the page shows from the next drawing on


def choose() -> ScanConfig | None:
    """Set, settings and model as widgets; None where a column is still to be chosen. Raises BadInput."""
    if new := st.session_state.pop(NEW, ""):
        st.session_state["problems_set"] = new
    left, right = st.columns(2)
    with left:
        chosen = st.selectbox(
            "Problem set",
            forms.with_typed("problems_set", forms.problem_sets()),
            key="problems_set",
            format_func=lambda name: Path(name).name if UPLOADS in name else name,
            **LINKED,
            accept_new_options=True,
            placeholder="or the path of a file, or a hub id",
        )
        model = picker.model_picker(PAGE)
    most = st.get_option("server.maxUploadSize")
    words = "CSV, JSON lines, JSON or Parquet; text also as .gz."
    right.file_uploader(
        f"Or upload one, up to {most} MB", KINDS, key="problems_upload", on_change=take_upload, help=words
    )
    say_refusal()
    given = sets.opened({"problems": chosen or forms.BUNDLED[0]})
    kept, problems = len(given) > 1, forms.whole(given["problems"])
    read = {} if kept else read_as(problems)
    if read is None:
        return None
    config = replace_knobs(ScanConfig(), {**given, **read, "problems": problems})
    config = replace(config, model=model.config, prompts=model.prompts)
    return replace_knobs(config, following({"model": model.config.model}, {"max_new_tokens"})[0])


def read_as(problems: str) -> dict[str, Any] | None:
    """The grader, and of what is not bundled its columns and the share held out; None where a column is to be chosen."""
    known = {k.name: k for k in knobs(ProblemConfig())}
    bundled = problems.startswith("bundled:")
    ready = bundled or columns.choose(problems, "problems_columns", always=True)
    first, *others = st.columns(3)
    options = forms.with_typed("problems_grader", GRADERS)
    help = forms.hint(known["grader"])
    grader = first.selectbox("Grader", options, key="problems_grader", accept_new_options=True, help=help, **LINKED)
    forms.grader_here(grader or GRADERS[0])
    values = {"grader": whole_grader(grader or GRADERS[0])}
    for name, place in zip(() if bundled else ("columns", "validation_share"), others, strict=False):
        with place:
            values[name] = forms.setting(known[name], "problems_")
    return values if ready else None


def take_upload() -> None:
    """Callback: the page shows the uploaded file."""
    if (given := st.session_state["problems_upload"]) is not None:
        st.session_state[NEW] = str(uploaded(given))
        st.session_state.pop("problems_columns", None)


def uploaded(given: Any) -> Path:
    """What an uploader gives, as a file beside the sets, under its own name. Old ones go."""
    folder = sets.root() / UPLOADS
    for old in folder.iterdir() if folder.is_dir() else ():
        if time.time() - old.stat().st_mtime > KEPT_S:
            shutil.rmtree(old, ignore_errors=True)
    data = given.getvalue()
    name = re.sub(r"[^\w.-]+", "_", Path(given.name).name).lstrip(".")[-100:]
    place = folder / hashlib.blake2b(data, digest_size=16).hexdigest() / name
    place.parent.mkdir(parents=True, exist_ok=True)
    with beside(place) as aside:
        aside.write_bytes(data)
    return place


def show(config: ScanConfig) -> None:
    """What takes a whole reading, of the interactive worker; asked again where the file has changed."""
    at = list(catalog.stamp(config.data.problems))
    asked = request.ask_once(PAGE, {"request": "survey", "config": to_json(config), "at": at})

    request.tell(asked, tell)


def preview(data: ProblemConfig) -> None:
    """The first problems, which stand there before the set is read; nothing of a hub set, which pages do not ask for."""
    if is_hub_id(data.problems):
        return
    with st.expander(f"The first {SHOWN} problems", expanded=True):
        for problem in first_problems(data, catalog.stamp(data.problems)):
            left, right = st.columns([3, 2])
            with left:
                raw_text(cut(problem.text))
            with right:
                raw_text(f"gold: {cut(problem.answer)}\n{cut(problem.solution) or '(no worked solution)'}")


def tell(found: dict[str, Any]) -> None:
    """Headline, what to mend, and the rest as a list."""
    st.markdown(f"#### {escape(said(found))}", anchors=False)
    for words in found["warnings"]:
        st.warning(escape(words))
    st.markdown("\n".join(f"- {escape(words)}" for words in found["told"]))
    if skipped := found["counts"]["skipped_first"]:
        with st.expander("Rows left out", type="compact"):
            raw_text("\n".join(skipped))


def said(found: dict[str, Any]) -> str:
    """
    >>> said({"counts": {"problems": 60, "skipped": 1}, "sides": {"train": 57, "validation": 3}})
    '60 problems: 57 to train on, 3 held out, 1 row left out.'
    """
    c, sides = found["counts"], found["sides"]
    test = f", {sides['test']:,} for the test" if "test" in sides else ""
    out = f", {c['skipped']:,} row{'s' * (c['skipped'] > 1)} left out" if c["skipped"] else ""
    held = f"{sides['train']:,} to train on, {sides['validation']:,} held out"
    return f"{c['problems']:,} problems: {held}{test}{out}."


@st.cache_data(show_spinner=False, max_entries=20)
def first_problems(data: ProblemConfig, at: catalog.Stamp) -> tuple[Problem, ...]:
    return load_problems(replace(data, limit=SHOWN), "all").problems


def cut(text: str, most: int = 400) -> str:
    """
    >>> cut("a long text", 6)
    'a long …'
    """
    return text if len(text) <= most else f"{text[:most]} …"


def keep(name: str, data: ProblemConfig) -> None:
    """Raises BadInput."""
    sets.keep(name, data)
    st.session_state[NEW] = sets.PREFIX + name


def keep_or_delete(data: ProblemConfig) -> None:
    """A name for what is chosen; or, of a set that is kept, the way to be rid of it."""
    called = sets.called(data.problems)
    if called.startswith(sets.PREFIX):
        delete(called.removeprefix(sets.PREFIX))
        return
    if called.startswith("bundled:"):
        return
    stem = re.sub(r"[^\w-]+", "-", Path(called).name.partition(".")[0]).strip("-")
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    name = left.text_input("Name of the set", value=stem, key="problems_name", max_chars=60)
    with right:
        help = "A copy with these settings, which every form and command takes as set:NAME."
        if at_once("Keep as a set", lambda: keep(name, data), "problems_", "problems_keep", type="primary", help=help):
            keep(name, data)
            st.rerun()


def delete(name: str) -> None:
    needed = sets.users(name)
    with st.popover("Delete this set"):
        if needed:
            runs = ", ".join(run.name for run in needed[:5]) + " …" * (len(needed) > 5)
            st.markdown(escape(f"{runs} read it. They stay readable; none can be resumed or evaluated without it."))
        st.button("Delete it", key="problems_delete", on_click=remove, args=(name,))


def remove(name: str) -> None:
    """Callback."""
    try:
        sets.remove(name, sure=True)
        st.session_state[NEW] = forms.BUNDLED[0]
    except BadInput as e:
        st.session_state["refusal"] = str(e)


def next_steps(data: ProblemConfig) -> None:
    """On to a scan and a training with this set; an upload is kept first, since a run reads it later."""
    called = sets.called(data.problems)
    if UPLOADS in Path(called).parts:
        st.info("Keep it as a set, then scan it and train on it.")
        return
    written = {} if called.startswith((sets.PREFIX, "bundled:")) else {"columns": data.columns, "grader": data.grader}
    there = {k: v for k, v in written.items() if v != getattr(ProblemConfig(), k)}
    scan = {f"cliffs_{k}": v for k, v in {"set": called, **there}.items() if k != "grader"}
    next_step("find its cliffs", "cliffs", **scan)
    lab = {"problems": called, **there}
    if not is_hub_id(called) and not any(p.solution for p in first_problems(data, catalog.stamp(data.problems))):
        lab["information"] = Information.ANSWER.value
    next_step("set up a training on it", "lambda_lab", **{f"lab_{k}": v for k, v in lab.items()})
