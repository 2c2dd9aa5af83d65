"""`python -m hdpo runs`: list, show, rename, compare, export; and what a run came to, in a few lines."""

from __future__ import annotations

import csv
import io
import json
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from hdpo.cli.args import command
from hdpo.config import knobs
from hdpo.errors import BadInput
from hdpo.knobs import plain
from hdpo.record.files import write_aside
from hdpo.record.fingerprint import comparison_words, spoken
from hdpo.record.folder import Run, all_runs, find_run


def add_commands(commands: Any) -> None:
    p = command(commands, "runs", "list, show, rename, compare and export runs", list_runs)
    actions = p.add_subparsers(metavar="action")
    for name, help, run, arguments in (
        ("show", "what a run is and what it came to", show, ("run",)),
        ("rename", "give a run a name", rename, ("run", "name")),
        ("compare", "the settings in which two runs differ", compare, ("run", "other")),
        ("export", "a run's metrics as CSV, or all that it says of itself as JSON", export, ("run",)),
    ):
        action = command(actions, name, help, run)
        action.usage = f"python -m hdpo runs {name} {' '.join(arguments).upper()} [options]"
        for argument in arguments:
            action.add_argument(argument, metavar=argument.upper())
        if name == "export":
            action.add_argument("--format", choices=("csv", "json"), default="csv", help="default csv")
            action.add_argument("--out", metavar="FILE", help="where to write; without it, standard output")


# --- actions ----------------------------------------------------------------------------------------------------------


def list_runs(args: Any) -> int:
    runs = [r for r in all_runs() if is_run(r)]
    if args.json:
        print(json.dumps([brief(r) for r in runs], ensure_ascii=False))
    elif not runs:
        print("No runs yet. python -m hdpo train --steps 5 makes one.")
    else:
        rows = [brief(r) for r in runs]
        print(table(("run", "name", "kind", "state", "done", "created"), rows))
    return 0


def is_run(run: Run) -> bool:
    try:
        run.frozen()
    except BadInput:
        return False
    return True


def brief(run: Run) -> dict[str, Any]:
    """One line of the list."""
    status, frozen = run.status(), run.frozen()
    created = time.strftime("%Y-%m-%d %H:%M", time.localtime(float(frozen.get("created", 0))))
    name = "" if run.name == run.id else run.name
    done = f"{status.done}/{status.total}" if status.total else ""
    return {
        "run": run.id,
        "name": name,
        "kind": run.kind,
        "state": status.state.value,
        "done": done,
        "created": created,
    }


def show(args: Any) -> int:
    run = find_run(args.run)
    if args.json:
        print(json.dumps({**result_of(run), **run.frozen(), "damage": run.damage()}, ensure_ascii=False))
        return 0
    default = {k.path: k.default for k in knobs(type(run.load_config())())}
    changed = [
        {"setting": k.flag, "value": plain(k.default), "default": plain(default[k.path])}
        for k in knobs(run.load_config())
        if k.default != default[k.path]
    ]
    print(result_text(run))
    print(f"Command: {run.frozen().get('command') or 'none noted'}")
    print(table(("setting", "value", "default"), changed) if changed else "All settings at their defaults.")
    print("\n".join(run.damage()) or "Nothing is damaged.")
    return 0


def rename(args: Any) -> int:
    run = find_run(args.run)
    run.rename(args.name)
    print(
        json.dumps({"run": run.id, "name": run.name}, ensure_ascii=False)
        if args.json
        else f"{run.id} is now called {run.name}."
    )
    return 0


def compare(args: Any) -> int:
    """Only what differs; a setting that one of them has not is shown as absent. And whether their results compare."""
    runs = [find_run(args.run), find_run(args.other)]
    sides = [settings(r) for r in runs]
    rows = [
        {"setting": name, runs[0].id: sides[0].get(name, "absent"), runs[1].id: sides[1].get(name, "absent")}
        for name in dict.fromkeys([*sides[0], *sides[1]])
        if sides[0].get(name, "absent") != sides[1].get(name, "absent")
    ]
    if args.json:
        print(json.dumps(rows, ensure_ascii=False))
    else:
        print(table(("setting", runs[0].id, runs[1].id), rows) if rows else "The two runs have the same settings.")
        print(f"Results: {comparison_words(runs[0].fingerprint, runs[1].fingerprint)}")
    return 0


def settings(run: Run) -> dict[str, Any]:
    """Every setting by its flag, and what else can change a number: kind, fingerprint and versions."""
    found = {"kind": run.kind, **{k.flag: plain(k.default) for k in knobs(run.load_config())}}
    found |= {f"fingerprint: {spoken((name,))}": v or "unknown" for name, v in asdict(run.fingerprint).items()}
    return found | {f"version of {name}": v for name, v in run.frozen().get("versions", {}).items()}


def export(args: Any) -> int:
    run = find_run(args.run)
    text = as_csv(run.metrics()) if args.format == "csv" else json.dumps(everything(run), indent=1, ensure_ascii=False)
    if args.out:
        out = Path(args.out)
        if not out.parent.is_dir():
            raise BadInput(f"out: expected a file in a folder that exists, found {args.out!r}. Make the folder first.")
        write_aside(out, text)
        facts = {"run": run.id, "format": args.format, "out": str(out)}
        print(json.dumps(facts, ensure_ascii=False) if args.json else f"{run.id} is written to {out}.")
    else:
        print(text, end="" if text.endswith("\n") else "\n")
    return 0


def everything(run: Run) -> dict[str, Any]:
    return {**result_of(run), **run.frozen(), "metrics": run.metrics()}


def as_csv(rows: Sequence[Mapping[str, Any]]) -> str:
    """One line a metrics row, columns in order of appearance; nested values become columns such as pass_at.8.value."""
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


# --- what a run came to -----------------------------------------------------------------------------------------------


def result_of(run: Run) -> dict[str, Any]:
    """What --json prints of a run: identity, state, and its last numbers."""
    status = run.status()
    facts = {"run": run.id, "name": run.name, "kind": run.kind, "path": str(run.path), "state": status.state.value}
    return {**facts, "done": status.done, "total": status.total, "message": status.message, "result": numbers(run)}


def numbers(run: Run) -> dict[str, Any]:
    """By kind: evaluations first and last, groups of a scan, members of a sweep."""
    if run.kind == "sweep":
        return {"members": [{**m, **result_of(Run(run.path.parent / m["id"]))} for m in members(run)]}
    if run.kind == "scan":
        rows = run.metrics("scan_group")
        groups = dict(Counter(r["group"] for r in rows))
        return {"problems": len(rows), "groups": groups, "doubtful": sum(bool(r["doubt"]) for r in rows)}
    evals, steps = run.metrics("eval"), run.metrics("step")
    found = {"first_evaluation": evals[0], "last_evaluation": evals[-1]} if evals else {}
    return {**found, "last_step": steps[-1]} if steps else found


def members(run: Run) -> list[dict[str, Any]]:
    """The members of a sweep whose folders are there."""
    return [m for m in run.members() if is_run(Run(run.path.parent / m["id"]))]


def result_text(run: Run) -> str:
    """The same for a person, in a few lines."""
    status, found = run.status(), numbers(run)
    done = f", {status.done} of {status.total}" if status.total else ""
    lines = [f"{run.kind} {run.id}{'' if run.name == run.id else f' ({run.name})'}: {status.state.value}{done}"]
    if run.kind == "sweep":
        lines += [f"  λ = {m['lambda']:g}, seed {m['seed']}: {evaluation_words(m['result'])}" for m in found["members"]]
    elif run.kind == "scan":
        groups = ", ".join(f"{n} {name}" for name, n in found["groups"].items())
        lines.append(f"  {found['problems']} problems: {groups or 'none yet'}; {found['doubtful']} doubtful")
    else:
        lines.append(f"  {evaluation_words(found)}")
    return "\n".join(lines)


def evaluation_words(found: Mapping[str, Any]) -> str:
    """pass@k and cliffs of the last evaluation, with the first one's before the arrow where there are two."""
    if "last_evaluation" not in found:
        return "no evaluation yet"
    first, last = found["first_evaluation"], found["last_evaluation"]
    names = [(f"pass@{k}", lambda e, k=k: e["pass_at"][k]) for k in last["pass_at"]] + [
        ("cliffs", lambda e: e["cliff"])
    ]
    parts = []
    for name, pick in names:
        before = "" if first is last else f"{pick(first)['value']:.3f} → "
        end = pick(last)
        parts.append(f"{name} {before}{end['value']:.3f} [{end['low']:.3f}, {end['high']:.3f}]")
    return f"step {last['step']}: {', '.join(parts)} (n = {last['n_problems']} problems, 95 %)"


def table(columns: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """Aligned text; a long cell is kept whole, since it may be what is looked for."""
    cells = [[str(r[c]) for c in columns] for r in rows]
    widths = [max(len(x) for x in column) for column in zip(columns, *cells, strict=True)]
    lines = [columns, *cells]
    return "\n".join("  ".join(x.ljust(w) for x, w in zip(line, widths, strict=True)).rstrip() for line in lines)
