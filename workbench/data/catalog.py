"""Runs → DataFrames. What is read from a file is cached under that file's size and time of change.

Values are nats, tokens and seconds as the engine wrote them; nothing is computed here but the shape of a table.
Columns always exist, also where a run has no rows yet, so that figures and pages need no special case.

This file is long: a reader for each table of a run folder, all cached alike.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import streamlit as st

from hdpo.config import ModelConfig
from hdpo.errors import HdpoError
from hdpo.record import folder
from hdpo.record.files import read_table
from hdpo.record.folder import Run, runs_root


def names(words: str) -> list[str]:
    return words.split()


STEP_COLUMNS = names(
    "run step lambda learning_rate loss loss_grpo loss_jsd grad_norm grad_norm_grpo grad_norm_jsd reward "
    "groups_mixed groups_solved groups_cliff_recovered groups_cliff_lost groups_cliff_skipped groups_cliff_too_long "
    "groups_doubtful_truncation groups_doubtful_grader groups_no_signal groups_too_long groups_ungradable "
    "rollouts truncated no_answer grader_errors tokens_student tokens_privileged tokens_accepted "
    "privileged_rollouts accepted_rollouts length entropy jsd_floor teacher_mass student_mass step_gap off_policy "
    "sampler_mismatch parity_mean parity_max parity_kl parity_tokens "
    "seconds_sample seconds_verify seconds_privileged seconds_update seconds"
)
EVAL_COLUMNS = names("run step metric value low high n_problems n_samples temperature")
SLICE_COLUMNS = names("run step slice metric value low high n_problems")
PROBE_COLUMNS = names("run step on metric value low high n_traces n_tokens")
SCAN_COLUMNS = names(
    "problem_id source level problem gold group doubt n correct truncated no_answer grader_errors disputed step"
)
RUN_COLUMNS = names(
    "id name kind state message phase done total seconds_left lambda seed teacher problems model steps "
    "pass@1 pass@8 cliffs curve note created recorded sweep command path"
)
GAP_COLUMNS = names(
    "trace on problem_id position token_id token kl_drifting jsd_drifting lemma1 range_bound kl_frozen "
    "mismatch teacher_mass student_mass"
)
COUNT_COLUMNS = names("problem_id level source n correct greedy truncated no_answer grader_errors kind")
GROUP_COLUMNS = names(
    "step role problem_id source level problem gold kind doubt index text outcome answer tokens token_ids "
    "logprob_sum advantage accepted"
)
PROBE_METRICS = names("kl_drifting kl_frozen jsd_drifting mismatch lemma1 range_bound teacher_mass student_mass")

BUNDLED = ModelConfig().model

Stamp = tuple[int, int]  # size in bytes, time of change in ns; (0, 0) where there is no file


def stamp(path: Path | str) -> Stamp:
    """What a cached reading is valid for."""
    try:
        facts = os.stat(path)
    except OSError:
        return (0, 0)
    return (facts.st_size, facts.st_mtime_ns)


def run_by_id(run_id: str) -> Run | None:
    """A run of this folder or one that comes with the project; None for any other text, whatever a link says."""
    return next((r for r in folder.all_runs() if r.id == run_id), None)


def runs_of(*kinds: str, recorded: bool | None = None) -> list[Run]:
    """Runs with a readable config of these kinds (all without), own ones first, newest first."""
    frame = runs_frame()
    if kinds:
        frame = frame[frame["kind"].isin(kinds)]
    if recorded is not None:
        frame = frame[frame["recorded"] == recorded]
    return [Run(Path(p)) for p in frame["path"]]


def label(run: Run) -> str:
    """How a run is called on a page: its name, or λ and seed or an import's file where it was given none, behind its model
    where that is not the bundled one."""
    facts = frozen_facts(str(run.path), stamp(run.path / "config.json"))
    model, name = Path(facts.get("model", BUNDLED)).name, run.name
    if facts.get("kind") == "train" and name == run.id:
        name = f"{run.id} · λ = {facts['lambda']:g}, seed {facts['seed']}"
    elif facts.get("kind") == "import" and name == run.id:
        name = Path(facts["problems"]).name
    return name if model == BUNDLED or model in name else f"{model}, {name}"


def labels(several: Iterable[Run]) -> dict[str, str]:
    """id → label; where two have the same name, both say when they were started."""
    found = {run.id: label(run) for run in several}
    twice = {name for name, count in Counter(found.values()).items() if count > 1}
    return {i: f"{name} · {i}" if name in twice and name != i else name for i, name in found.items()}


def arm_labels(several: Iterable[Run]) -> dict[str, str]:
    """id → how a train run is called beside others in a figure: its λ, with its seed where that tells more, and its whole
    label where even these are the same."""
    runs = list(several)
    facts = {run.id: frozen_facts(str(run.path), stamp(run.path / "config.json")) for run in runs}
    by_lambda = {i: f"λ = {f['lambda']:g}" if "lambda" in f else i for i, f in facts.items()}
    by_seed = {i: f"{words}, seed {facts[i].get('seed')}" for i, words in by_lambda.items()}
    for words in (by_lambda, by_seed):
        if len(set(words.values())) == len(runs):
            return words
    return labels(runs)


# --- the list of runs -------------------------------------------------------------------------------------------------


def runs_frame() -> pd.DataFrame:
    """One row a run folder, own ones first, newest first. Columns: RUN_COLUMNS; a damaged folder has kind 'damaged'.

    Every page asks for it at every rerun: a run that has ended is read again where its folder or a file that it is made of
    has changed, and of a list that stands still the frame itself is kept.
    """
    global _listed
    held, now, rows = _listed, {}, {}
    for run in folder.all_runs():
        path = str(run.path)
        now[path] = tuple(stamp(f"{path}/{name}") for name in READ)
        kept = held.rows.get(path)
        still = kept is not None and kept["ended"] and held.at.get(path) == now[path]
        rows[path] = kept if kept is not None and still else run_row(run)
    if held.at == now and all(rows[path] is held.rows.get(path) for path in now):
        return held.frame
    parents = {m["id"]: row["id"] for row in rows.values() for m in row["members"]}
    listed = [{**row, "sweep": parents.get(row["id"], "")} for row in rows.values()]
    frame = pd.DataFrame(listed, columns=RUN_COLUMNS)
    frame["created"] = pd.to_datetime(frame["created"])
    _listed = Listed(now, rows, frame)  # replaced as a whole: sessions are threads
    return frame


@dataclass(frozen=True)
class Listed:
    """The list as it was last read, by path: what each row is valid for, the row, and the frame of them all."""

    at: dict[str, tuple[Stamp, ...]]
    rows: dict[str, dict[str, Any]]
    frame: pd.DataFrame


READ = (".", "config.json", "status.json", "metrics.jsonl")  # names, notes and members are renamed into the folder
_listed = Listed({}, {}, pd.DataFrame(columns=RUN_COLUMNS))


def run_row(run: Run) -> dict[str, Any]:
    """The status of a run that has not ended also depends on whether its process lives."""
    facts = frozen_facts(str(run.path), stamp(run.path / "config.json"))
    last = last_eval(str(run.path), stamp(run.path / "metrics.jsonl"))
    status = run.status()
    return {
        **facts,
        **last,
        "id": run.id,
        "name": label(run),
        "state": status.state.value,
        "note": run.note,
        "message": facts.get("message") or status.message,
        "phase": status.phase,
        "done": status.done,
        "total": status.total,
        "seconds_left": status.seconds_left,
        "recorded": run.recorded,
        "path": str(run.path),
        "members": members(run),
        "ended": status.state.ended,
    }


@lru_cache(maxsize=5000)
def frozen_facts(path: str, at: Stamp) -> dict[str, Any]:
    """What config.json says, flat; kind 'damaged' and its sentence where it cannot be read."""
    try:
        frozen = Run(Path(path)).frozen()
        config = Run(Path(path)).load_config()
    except HdpoError as e:
        return {"kind": "damaged", "message": str(e), "created": None, "command": ""}
    train = getattr(config, "train", config)
    facts = {
        "kind": frozen["kind"],
        "created": local_time(frozen.get("created")),
        "command": frozen.get("command", ""),
        "problems": train.data.problems,
        "model": train.model.model,
        "seed": getattr(config, "seed", None),
    }
    if frozen["kind"] in ("train", "sweep"):
        facts |= {"teacher": train.objective.teacher.value, "steps": train.step.steps}
    if frozen["kind"] == "train":
        facts["lambda"] = config.objective.lambda_
    return facts


def local_time(seconds: Any) -> datetime | None:
    """Of a moment in seconds since 1970; None where a damaged file holds none."""
    try:
        return datetime.fromtimestamp(float(seconds))
    except (TypeError, ValueError, OverflowError, OSError):
        return None


@lru_cache(maxsize=5000)
def last_eval(path: str, at: Stamp) -> dict[str, Any]:
    """The newest pass@k and share of cliffs of a run, and pass@8 at each evaluation ('curve'); of a scan its share of cliffs."""
    rows = [r for r in Run(Path(path)).metrics("eval") if isinstance(r.get("pass_at"), dict)]
    if not rows:
        groups = [r.get("group") for r in Run(Path(path)).metrics("scan_group")]
        return {"cliffs": groups.count("cliff") / len(groups)} if groups else {}
    curve = [r["pass_at"]["8"]["value"] for r in rows if "8" in r["pass_at"]]
    cliffs = rows[-1].get("cliff") or {}
    last = {f"pass@{k}": v["value"] for k, v in rows[-1]["pass_at"].items()}
    return {**last, "cliffs": cliffs.get("value"), "curve": curve}


def members(run: Run) -> list[dict[str, Any]]:
    """The members of a sweep so far: id, lambda, seed. Empty for any other run."""
    return read_members(str(run.path), stamp(run.path / "members.json"))


@lru_cache(maxsize=5000)
def read_members(path: str, at: Stamp) -> list[dict[str, Any]]:
    return Run(Path(path)).members()


# --- metrics ----------------------------------------------------------------------------------------------------------


def rows_of(run: Run, *kinds: str) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl that still stand, of these kinds. Not cached here: `hdpo.record.files` reads on from where it was,
    and a cache that copies would cost more than that."""
    return run.metrics(*kinds)


def steps_frame(run: Run) -> pd.DataFrame:
    """One row an optimiser step. Columns: STEP_COLUMNS; `run` is the label, nulls are NaN."""
    return read_steps(str(run.path), stamp(run.path / "metrics.jsonl"), label(run))


@st.cache_data(show_spinner=False, max_entries=60)
def read_steps(path: str, at: Stamp, name: str) -> pd.DataFrame:
    """Only the rows that are new become numbers: a live page asks each second, and a run can have thousands."""
    rows = Run(Path(path)).metrics("step")
    last, frame = _steps.get(path, (None, pd.DataFrame()))
    if not frame.empty and len(rows) >= len(frame) and rows[len(frame) - 1] is last:
        frame = pd.concat([frame, step_columns(rows[len(frame) :])], ignore_index=True)
    else:
        frame = step_columns(rows)
    _steps[path] = (rows[-1] if rows else None, frame)
    if len(_steps) > 60:
        _steps.pop(next(iter(_steps)))
    return frame.assign(run=name)[STEP_COLUMNS]


_steps: dict[str, tuple[dict[str, Any] | None, pd.DataFrame]] = {}


def step_columns(rows: list[dict[str, Any]]) -> pd.DataFrame:
    return pd.DataFrame({c: numbers([r.get(c) for r in rows]) for c in STEP_COLUMNS if c != "run"})


def numbers(values: list[Any]) -> np.ndarray:
    """As float64, with NaN for a null and for what is no number."""
    try:
        return np.array(values, dtype=float)
    except (TypeError, ValueError):  # a damaged row
        return pd.to_numeric(pd.Series(values, dtype=object), errors="coerce").to_numpy(dtype=float)


def evals_frame(run: Run) -> pd.DataFrame:
    """Long: run, step, metric (pass@1 …, greedy, cliff, solved), value, low, high, n_problems, n_samples, temperature."""
    rows, name = [], label(run)
    for r in rows_of(run, "eval"):
        facts = {"run": name, **{k: r.get(k) for k in ("step", "n_problems", "n_samples", "temperature")}}
        rows += [{**facts, "metric": m, **interval} for m, interval in measured(r)]
    return numeric(pd.DataFrame(rows, columns=EVAL_COLUMNS), keep=("run", "metric"))


def slices_frame(run: Run, by: str = "level") -> pd.DataFrame:
    """Long, one row a slice and metric; `by` is 'level' or 'source'. Columns: SLICE_COLUMNS."""
    rows, name = [], label(run)
    for r in rows_of(run, "eval"):
        for slice_name, part in (r.get(f"by_{by}") or {}).items():
            facts = {"run": name, "step": r["step"], "slice": slice_name, "n_problems": part.get("n_problems")}
            rows += [{**facts, "metric": m, **interval} for m, interval in measured(part)]
    return numeric(pd.DataFrame(rows, columns=SLICE_COLUMNS), keep=("run", "slice", "metric"))


def measured(row: dict[str, Any]) -> Iterable[tuple[str, dict[str, float]]]:
    """(metric, {value, low, high}) of an evaluation row or one of its slices."""
    for k, interval in (row.get("pass_at") or {}).items():
        yield f"pass@{k}", interval
    for name in ("greedy", "cliff", "solved"):
        if isinstance(row.get(name), dict):
            yield name, row[name]


def probe_frame(run: Run) -> pd.DataFrame:
    """Long: run, step, on ('privileged' or 'own' traces), metric (nats per token), value, low, high, n_traces, n_tokens."""
    rows, name = [], label(run)
    for r in rows_of(run, "probe"):
        facts = {"run": name, **{k: r.get(k) for k in ("step", "on", "n_traces", "n_tokens")}}
        rows += [{**facts, "metric": m, **r[m]} for m in PROBE_METRICS if isinstance(r.get(m), dict)]
    return numeric(pd.DataFrame(rows, columns=PROBE_COLUMNS), keep=("run", "on", "metric"))


def numeric(frame: pd.DataFrame, keep: tuple[str, ...]) -> pd.DataFrame:
    """Nulls as NaN and whole columns of numbers, so that a figure never meets an object column."""
    for name in frame.columns.difference(list(keep)):
        frame[name] = pd.to_numeric(frame[name], errors="coerce")
    return frame


# --- tables and rollouts ----------------------------------------------------------------------------------------------


def scan_frame(run: Run) -> pd.DataFrame:
    """One row a scanned problem, in the order of the scan. Columns: SCAN_COLUMNS; `step` is the part with its rollouts."""
    texts = {r["id"]: r for r in table_rows(run, "problems", 0)}
    rows = []
    for r in rows_of(run, "scan_group"):
        known = texts.get(r.get("problem_id"), {})
        rows.append({"disputed": "", **r, "problem": known.get("text", ""), "gold": known.get("answer", "")})
    frame = pd.DataFrame(rows, columns=SCAN_COLUMNS)
    return numeric(frame, keep=("problem_id", "source", "problem", "gold", "group", "doubt", "disputed"))


def group_rows(run: Run, step: int, problem_id: str) -> pd.DataFrame:
    """The rollouts of one problem at one step (a scan: its part), student first. Columns: GROUP_COLUMNS."""
    frame = step_rollouts(run, step)
    return frame[frame["problem_id"] == problem_id].reset_index(drop=True)


def step_rollouts(run: Run, step: int) -> pd.DataFrame:
    """All rollouts of one step, student first. Columns: GROUP_COLUMNS; absent ones are None."""
    parts = run.path / "rollouts" / "parts.jsonl"
    return read_rollouts(str(run.path), step, stamp(parts))


@st.cache_data(show_spinner=False, max_entries=60)
def read_rollouts(path: str, step: int, at: Stamp) -> pd.DataFrame:
    frame = pd.DataFrame(Run(Path(path)).rollouts(step=step), columns=GROUP_COLUMNS)
    return frame.sort_values("role", ascending=False, kind="stable").reset_index(drop=True)


def rollout_steps(run: Run) -> list[int]:
    """Steps with rollouts on disk, ascending."""
    return sorted({int(p["step"]) for p in run.parts() if p.get("part")})


def gap_frame(run: Run, step: int) -> pd.DataFrame:
    """Per token on the fixed probe traces, nats. Columns: GAP_COLUMNS."""
    return pd.DataFrame(table_rows(run, "gap", step), columns=GAP_COLUMNS)


def eval_counts(run: Run, step: int) -> pd.DataFrame:
    """Per validation problem: n samples and how many were correct. Columns: COUNT_COLUMNS."""
    return pd.DataFrame(table_rows(run, "eval", step), columns=COUNT_COLUMNS)


def table_steps(run: Run, name: str) -> list[int]:
    """Steps for which a table is closed, ascending."""
    return list(run.tables(name))


def table_rows(run: Run, name: str, step: int) -> list[dict[str, Any]]:
    path = run.tables(name).get(step)
    return read_rows(str(path), stamp(path)) if path else []


@st.cache_data(show_spinner=False, max_entries=200)
def read_rows(path: str, at: Stamp) -> list[dict[str, Any]]:
    return read_table(Path(path))


def root_is_writable() -> bool:
    """Whether a run could be started here."""
    root = runs_root()
    place = next(p for p in (root, *root.parents) if p.exists())
    return os.access(place, os.W_OK)
