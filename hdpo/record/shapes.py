"""What a file of a run must look like to be read. What does not is left out and named as damage."""

import math
from pathlib import Path
from types import NoneType
from typing import Any

NUMBER = (int, float)
STATUS: dict[str, Any] = {"phase": str, "message": str, "done": int, "total": int, "pid": int, "bad_input": bool}
STATUS |= {"updated": NUMBER, "pid_start": (str, *NUMBER), "seconds_left": (NoneType, *NUMBER)}


def has(row: Any, **types: Any) -> bool:
    """Whether this is a mapping with these entries; True and False are no numbers."""
    return isinstance(row, dict) and all(
        isinstance(row.get(k), t) and (t is bool or not isinstance(row[k], bool)) for k, t in types.items()
    )


def is_plain(value: Any) -> bool:
    """Whether every number in it is finite and no larger than tables hold."""
    if isinstance(value, dict | list):
        return all(map(is_plain, value.values() if isinstance(value, dict) else value))
    return not isinstance(value, NUMBER) or (abs(value) < 2**63 and math.isfinite(value))


def is_row(row: Any) -> bool:
    """A row of a log, in the shape of its kind."""
    if not has(row, step=int, attempt=int) or not is_plain(row) or not -1 <= row["step"] < 2**31:
        return False
    if "part" in row:
        known = has(row, role=str, part=str, groups=dict) and all(isinstance(n, int) for n in row["groups"].values())
        return known and Path(row["part"]).name == row["part"]
    match row.get("kind", ""):
        case "eval":
            slices = [row.get("by_level") or {}, row.get("by_source") or {}]
            whole = all(isinstance(s, dict) and all(map(_is_evaluation, s.values())) for s in slices)
            return whole and _is_evaluation(row) and _counts(row)
        case "data" | "gold":
            return _counts(row)
        case "scan_group":
            counts = dict.fromkeys(("n", "correct", "truncated", "no_answer", "grader_errors"), 0)
            texts = {"disputed": ""} | row
            names = dict.fromkeys(("problem_id", "group", "doubt", "disputed"), str)
            return has(texts, **names) and has(counts | row, **dict.fromkeys(counts, int))
        case "confirm":
            counted = has(row, problem_id=str, drawn=int, n=int, correct=int)
            return counted and 0 <= row["correct"] <= row["n"] <= row["drawn"]
        case "probe":
            return has(row, on=str) and all(map(_is_interval, (v for v in row.values() if isinstance(v, dict))))
        case "step":
            return not any(isinstance(v, dict | list) for v in row.values())
        case kind:
            return isinstance(kind, str)


def _counts(row: Any) -> bool:
    return has({"ungradable": 0} | row, ungradable=int)


def _is_evaluation(row: Any) -> bool:
    measured = has(row, pass_at=dict, cliff=dict) and row["pass_at"]
    return bool(measured) and all(map(_is_interval, [*row["pass_at"].values(), row["cliff"]]))


def _is_interval(value: Any) -> bool:
    """Without ends where one value says nothing of its spread."""
    ends = (NoneType, *NUMBER)
    return has(value, value=NUMBER) and {"low", "high"} <= value.keys() and has(value, low=ends, high=ends)


def is_member(row: Any) -> bool:
    """An entry of members.json: a folder beside the sweep's, and which member that is."""
    return has(row, id=str, seed=int) and has(row, **{"lambda": NUMBER}) and Path(row["id"]).name == row["id"] != ""


def is_status(data: Any) -> bool:
    return has(data, state=str) and is_plain(data) and has(data, **{k: t for k, t in STATUS.items() if k in data})


def is_frozen(data: Any) -> bool:
    """What config.json holds around the config itself."""
    whole = has(data, kind=str, config=dict) and {"created": 0, "command": "", "versions": {}} | data
    return has(whole, created=NUMBER, command=str, versions=dict) and is_plain(data)
