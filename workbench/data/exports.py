"""A run as files to take along, and several runs as the settings in which they differ. Pure functions but for reading."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import pandas as pd

from hdpo.cli.runs import everything
from hdpo.config import CENSUS
from hdpo.errors import HdpoError
from hdpo.record import export
from hdpo.record.folder import Run
from workbench import forms
from workbench.data import catalog
from workbench.data.catalog import names

LISTED = names("state name pass@1 pass@8 curve cliffs note kind lambda seed problems teacher steps created origin")


def listing(frame: pd.DataFrame) -> pd.DataFrame:
    """The list of runs as it is read: `catalog.runs_frame` with fewer columns, in the same order of rows."""
    origin = (
        frame["recorded"]
        .map(lambda recorded: "recorded" if recorded else "yours")
        .where(frame["sweep"] == "", "part of a sweep")
    )
    noted = frame["note"].where(frame["note"] != "")  # a column of nothing takes no room
    return frame.assign(origin=origin, note=noted, **{"lambda": lambdas(frame)})[LISTED]


def lambdas(frame: pd.DataFrame) -> pd.Series:
    """λ as text; of a sweep those of its members."""
    known = frame["lambda"].map(lambda v: "" if pd.isna(v) else f"{v:g}")
    of_members = frame.sort_values("lambda").groupby("sweep")["lambda"].unique()
    told = {sweep: ", ".join(f"{v:g}" for v in values) for sweep, values in of_members.items() if sweep}
    return known.where(known != "", frame["id"].map(told).fillna(""))


def in_families(frame: pd.DataFrame) -> pd.DataFrame:
    """The list of runs with each sweep before its members, where the newest of them stood."""
    family = frame["sweep"].where(frame["sweep"].isin(frame["id"]), frame["id"])
    first = pd.Series(range(len(frame)), frame.index).groupby(family).transform("min")
    order = pd.DataFrame({"first": first, "member": family != frame["id"]})
    return frame.loc[order.sort_values(["first", "member"], kind="stable").index]


def chosen(frame: pd.DataFrame, text: str, kinds: Sequence[str], states: Sequence[str]) -> pd.DataFrame:
    """The runs of these kinds and states (all without) whose name, id, problems, model or note hold the text."""
    words = frame[["name", "id", "problems", "model", "note"]].fillna("").agg(" ".join, axis=1).str.casefold()
    shown = words.str.contains(text.strip().casefold(), regex=False)
    for column, wanted in (("kind", kinds), ("state", states)):
        shown &= frame[column].isin(wanted) if wanted else True
    return frame[shown]


def results(several: Sequence[Run]) -> pd.DataFrame:
    """What these runs came to: the last evaluation with its 95 % intervals, a row a run; those without one are left out."""
    rows, labels = [], catalog.labels(several)
    for run in several:
        evals = catalog.evals_frame(run)
        if not evals.empty:
            last = evals[evals["step"] == evals["step"].max()].set_index("metric")
            cells = {m: interval(last.loc[m]) for m in ("pass@1", "pass@8", "greedy", "cliff") if m in last.index}
            rows.append({"run": labels[run.id], "step": int(last["step"].iloc[0]), **cells})
    return pd.DataFrame(rows)


def interval(row: pd.Series) -> str:
    """
    >>> interval(pd.Series({"value": 0.614, "low": 0.55, "high": 0.671}))
    '61.4 % (55.0 to 67.1)'
    """
    return f"{100 * row['value']:.1f} % ({100 * row['low']:.1f} to {100 * row['high']:.1f})"


def differences(several: list[Run]) -> pd.DataFrame:
    """Settings in which these runs differ, one column a run; empty where they are the same or fewer than two.

    A setting that another kind of run does not have reads as an empty cell. Raises BadInput for a damaged config.
    """
    names = catalog.labels(several)
    columns = {names[run.id]: {"kind": run.kind, **forms.flat(run.frozen()["config"])} for run in several}
    frame = pd.DataFrame(columns, dtype=object).fillna("").rename_axis("setting")
    return frame[frame.nunique(axis=1) > 1].reset_index() if len(several) > 1 else frame.iloc[0:0].reset_index()


@dataclass(frozen=True)
class Export:
    """One file of a run: what the button says, the text, and how it is saved."""

    words: str
    text: Callable[[Run], str]
    name: str
    mime: str


def exports(kind: str) -> list[Export]:
    """What a run of this kind can be taken along as."""
    steps = Export("Steps (CSV)", partial(as_csv, catalog.steps_frame), "steps.csv", "text/csv")
    evaluations = Export("Evaluations (CSV)", partial(as_csv, catalog.evals_frame), "evaluations.csv", "text/csv")
    problems = Export("Problems (CSV)", partial(as_csv, catalog.scan_frame), "problems.csv", "text/csv")
    tables = {
        "train": [steps, evaluations],
        "sweep": [steps, evaluations],
        "evaluate": [evaluations],
        **dict.fromkeys(CENSUS, [problems]),
    }
    always = [
        Export("Config (JSON)", config_json, "config.json", "application/json"),
        Export("All rows (JSONL)", all_rows, "metrics.jsonl", "application/jsonl"),
        Export("Everything (JSON)", whole_json, "run.json", "application/json"),
    ]
    return [*tables.get(kind, []), *always]


def config_json(run: Run) -> str:
    """The frozen config with its versions, as it lies in the folder."""
    return json.dumps(run.frozen(), indent=1, ensure_ascii=False)


def whole_json(run: Run) -> str:
    """Config, fingerprint, results and rows, a sweep's with those of its members: what `runs export --format json` writes."""
    return json.dumps(everything(run), indent=1, ensure_ascii=False)


def all_rows(run: Run) -> str:
    """Every row that still stands, a sweep's with its members', one JSON object a line."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in export.rows(run))


def as_csv(read: Callable[[Run], pd.DataFrame], run: Run) -> str:
    """A run's frame; a sweep's is its members' frames, each with that run's id, λ and seed before it."""
    frames = [read(run)]
    if members := export.members(run):
        frames = [member_frame(read(member), member.id, facts) for facts, member in members]
    return pd.concat(frames, ignore_index=True).to_csv(index=False)


def member_frame(frame: pd.DataFrame, run_id: str, facts: Mapping[str, Any]) -> pd.DataFrame:
    who = {"run": run_id, "lambda": facts["lambda"], "seed": facts["seed"]}
    columns = [*who, *frame.columns.difference(list(who), sort=False)]
    return frame.assign(**who)[columns]


def damage(run: Run) -> list[str]:
    """One sentence for each part of the folder that cannot be read, the config's own meaning included."""
    found = run.damage()
    try:
        run.load_config()
    except HdpoError as e:
        found = list(dict.fromkeys([*found, str(e)]))
    return found
