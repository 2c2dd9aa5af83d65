"""A run's rows as one file to take along; a pair or a sweep is taken along as its members, one after another."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

from hdpo.errors import BadInput
from hdpo.record.folder import Run


def members(run: Run) -> list[tuple[dict[str, Any], Run]]:
    """(id, lambda and seed; the run) of a sweep's members whose folders are there; empty for any other run."""
    return [(m, Run(p)) for m in run.members() if (p := run.path.parent / m["id"]).is_dir()]


def rows(run: Run, *kinds: str) -> list[dict[str, Any]]:
    """Rows of metrics.jsonl that still stand, of these kinds (all without); a sweep's are its members', each with run,
    arm where it has one, lambda and seed before it. Raises BadInput for a kind of which there are none."""
    found = run.metrics()
    for facts, member in members(run):
        who = {"run": member.id, **{k: v for k, v in facts.items() if k != "id"}}
        found += [who | row for row in member.metrics()]
    here = list(dict.fromkeys(r["kind"] for r in found))
    if unknown := ", ".join(k for k in kinds if k not in here):
        has = f"kinds of rows that {run.id} has ({', '.join(here) or 'none yet'})"
        raise BadInput(f"kind: expected {has}, found {unknown}. Choose from these.")
    return [r for r in found if not kinds or r["kind"] in kinds]


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a row, columns in order of appearance; nested values become columns such as pass_at.8.value."""
    flat = [flatten(r) for r in rows]
    columns = list(dict.fromkeys(name for r in flat for name in r))
    out = io.StringIO()
    writer = csv.DictWriter(out, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(flat)
    return out.getvalue()


def flatten(row: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """
    >>> flatten({"step": 1, "pass_at": {"8": {"value": 0.5}}})
    {'step': 1, 'pass_at.8.value': 0.5}
    """
    found: dict[str, Any] = {}
    for name, value in row.items():
        if isinstance(value, Mapping):
            found |= flatten(value, f"{path}{name}.")
        else:
            found[f"{path}{name}"] = json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
    return found
