"""Prompts over the steps of a training: how often each was right at each evaluation, and what became of it since the first one.

The fate of a prompt stands beside its regime: recovered, a cliff before training that has a right sample now; relapsed, one that
had a right sample in between and is a cliff again; newly lost, a cliff now that was none before. No Streamlit here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hdpo.evidence.stats import rate_interval
from hdpo.record.folder import Run
from hdpo.records import Problem
from workbench.data import catalog, tradeoff, verdict
from workbench.data.basis import moments

COLUMNS = ("arm", "lambda", "step", "problem_id", "level", "source", "n", "correct", "state")


def arms_of(run: Run) -> list[Run]:
    """The run, behind its λ = 0 partner where there is one that was measured alike."""
    pairs = tradeoff.paired_runs([run], catalog.runs_of("train")) if tradeoff.settings(run)["lambda_"] else {}
    partners = [grpo for _, grpo in pairs.values() if tradeoff.measure_of(grpo) == tradeoff.measure_of(run)]
    return [*partners, run]


def over_steps(arms: Sequence[Run]) -> pd.DataFrame:
    """One row an arm, step and measured prompt, in this order. Columns: COLUMNS; state: regime or fate."""
    names, parts = catalog.arm_labels(arms), []
    for run in arms:
        found = [tradeoff.counts(run, step).reset_index().assign(step=step) for step in moments(arms, "steps")]
        rows = pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=[*COLUMNS, "kind"])
        parts.append(
            rows.assign(arm=names[run.id], state=states(rows), **{"lambda": tradeoff.settings(run)["lambda_"]})
        )
    return pd.concat(parts, ignore_index=True)[list(COLUMNS)]


def states(rows: pd.DataFrame) -> pd.Series:
    """Regime or fate of each row of one arm (step, problem_id, correct, kind), rows in the order of steps.

    >>> kinds = ["cliff", "mixed", "mixed", "cliff", "cliff", "mixed"]
    >>> rows = pd.DataFrame({"step": [0, 0, 5, 5, 9, 9], "problem_id": list("ababab"), "correct": [0, 2, 1, 0, 0, 3]})
    >>> states(rows.assign(kind=kinds)).tolist()
    ['cliff', 'mixed', 'recovered', 'lost', 'relapsed', 'mixed']
    """
    right = rows["correct"] > 0
    groups = right.groupby(rows["problem_id"])
    was, ever = groups.transform("first"), groups.cummax()
    found = rows["kind"].astype(object)
    return found.mask(~was & right, "recovered").mask(~was & ~right & ever, "relapsed").mask(was & ~right, "lost")


def redraw(run: Run, frame: pd.DataFrame) -> tuple[int, pd.Series] | None:
    """Seed of an untrained redraw of the same prompts, and how often each of them was right in it; None where there is none."""
    ids = frame["problem_id"].unique()
    drawn = verdict.redraws(run, list(ids), catalog.runs_of(*verdict.REDRAWN))
    return next(((seed, counts.loc[ids, "correct"]) for seed, counts in sorted(drawn.items())), None)


def summary(frame: pd.DataFrame) -> pd.DataFrame:
    """What became of the cliffs at the last step: a row an arm, the recovered share with its exact 95 % interval."""
    rows = []
    for arm, part in frame.groupby("arm", sort=False):
        last = part[part["step"] == part["step"].max()]["state"].value_counts()
        recovered, relapsed, lost = (int(last.get(s, 0)) for s in ("recovered", "relapsed", "lost"))
        cliffs = recovered + relapsed + int(last.get("cliff", 0))
        low, high = rate_interval(recovered, cliffs) if cliffs else (float("nan"), float("nan"))
        told = {"arm": arm, "step": part["step"].max(), "cliffs before": cliffs, "recovered": recovered}
        rows.append({**told, "from": low, "to": high, "relapsed": relapsed, "newly lost": lost})
    return pd.DataFrame(rows)


def as_scan(run: Run, step: int, problems: Mapping[str, Problem]) -> pd.DataFrame:
    """An evaluation as `catalog.scan_frame` gives a scan; problems: texts by id, as far as they are at hand."""
    rows: list[dict[str, Any]] = []
    for r in catalog.table_rows(run, "eval", step):
        p = problems.get(r["problem_id"])
        known = {"problem": p.text if p else "", "gold": p.answer if p else ""}
        rows.append({"disputed": "", **r, **known, "group": r["kind"], "doubt": r.get("doubt", ""), "step": step})
    return pd.DataFrame(rows, columns=catalog.SCAN_COLUMNS)


def history(frame: pd.DataFrame, problem_id: str) -> pd.DataFrame:
    """One prompt over the steps: a row a step, a column an arm, "3 of 16, recovered"."""
    rows = frame[frame["problem_id"] == problem_id]
    words = rows["correct"].astype(int).astype(str) + " of " + rows["n"].astype(int).astype(str) + ", " + rows["state"]
    return rows.assign(words=words).pivot(index="step", columns="arm", values="words").reset_index()
