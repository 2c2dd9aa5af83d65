"""`python -m hdpo runs`: what lies in the runs folder, and all that can be done with it but running it."""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from operator import itemgetter
from pathlib import Path
from typing import Any

from hdpo.cli.args import command, some
from hdpo.cli.results import is_run, measured, result_of, result_text, table
from hdpo.cli.terminal import say, tell
from hdpo.config import knobs
from hdpo.errors import BadInput
from hdpo.knobs import plain
from hdpo.record.export import as_csv, members, rows
from hdpo.record.files import write_aside
from hdpo.record.fingerprint import comparison_words, differences, spoken
from hdpo.record.folder import Run, State, all_runs, find_run
from hdpo.work import jobs
from hdpo.work.trash import discard, restore

Rows = Sequence[Mapping[str, Any]]
COLUMNS = ("run", "name", "kind", "state", "done", "λ", "model", "data", "pass@1", "pass@8", "created")


def add_commands(commands: Any) -> None:
    p = command(commands, "runs", "list, show, compare, export, rename, stop and delete runs", list_runs)
    which = "RUN: an id or its end, a name, a folder, or latest"
    actions = p.add_subparsers(metavar="action", title="actions", description=which)
    for name, help, run, arguments in (
        ("list", "all runs, newest first (what runs alone does too)", list_runs, ()),
        ("show", "what a run is and what it came to", show, ("run",)),
        ("compare", "the settings in which two runs differ, and their results", compare, ("run", "other")),
        (
            "export",
            "its rows as CSV, or all it says as JSON, a pair's or sweep's its members' (its adapter: hdpo export)",
            export,
            ("run",),
        ),
        ("rename", "give a run a name", rename, ("run", "name")),
        ("stop", "have a run stop at its next step edge, or leave the queue", stop, ("run",)),
        ("delete", "move a run to the trash, a sweep with its members", delete, ("run",)),
        ("restore", "take a deleted run back out of the trash", undelete, ("run",)),
    ):
        action = command(actions, f"runs {name}", help, run, arguments)
        if name == "export":
            kinds = "rows of this kind alone, such as step or eval; may be repeated"
            action.add_argument("--kind", metavar="NAME", type=some, action="append", default=[], help=kinds)
            action.add_argument("--format", choices=("csv", "json"), help="default csv; json where --json asks for it")
            action.add_argument("--out", metavar="FILE", type=some, help="where to write; without it, standard output")
        if name == "delete":
            action.add_argument("--yes", action="store_true", help="do not ask")


def list_runs(args: Any) -> int:
    found = [brief(r) for r in all_runs()]
    for r in found:
        if r["kind"] == "damaged" and not args.json:
            say(f"{r['message']} python -m hdpo runs delete {r['run']} takes it away.")
    rows = table(COLUMNS, map(itemgetter(*COLUMNS), found))
    return tell(args, found, rows if found else "No runs yet. This makes one: python -m hdpo train --steps 5")


def brief(run: Run) -> dict[str, Any]:
    """One line of the list; a damaged folder has one too."""
    status = run.status()
    facts = {**dict.fromkeys(COLUMNS, ""), "run": run.id, "name": "" if run.name == run.id else run.name}
    facts |= {"state": status.state.value, "done": f"{status.done}/{status.total}" if status.total else ""}
    try:
        frozen, config, last = run.frozen(), run.load_config(), run.metrics("eval")[-1:]
    except BadInput as e:
        return {**facts, "kind": "damaged", "message": str(e)}
    inner = getattr(config, "train", config)
    lambdas = (
        []
        if getattr(config, "arms", ())
        else getattr(config, "lambdas", None) or ([inner.objective.lambda_] if run.kind == "train" else [])
    )
    facts |= {"kind": run.kind, "λ": ",".join(f"{lam:g}" for lam in lambdas)}
    facts |= {"model": Path(inner.model.model).name, "data": Path(inner.data.problems).name}
    facts |= {f"pass@{k}": round(e["value"], 3) for row in last for k, e in row["pass_at"].items() if k in ("1", "8")}
    return facts | {"created": time.strftime("%Y-%m-%d %H:%M", time.localtime(frozen.get("created", 0)))}


def show(args: Any) -> int:
    run = find_run(args.run)
    facts = {**result_of(run), **run.frozen(), "note": run.note, "damage": run.damage()}
    if args.json:  # which a config that cannot be read does not hinder
        return tell(args, facts, "")
    config = run.load_config()
    pairs = zip(knobs(config), knobs(type(config)()), strict=True)
    changed = [(k.flag, plain(k.default), plain(d.default)) for k, d in pairs if k.default != d.default]
    words = [result_text(run), f"Command: {facts.get('command') or 'none noted'}"]
    words += [f"Forward pass: {facts['forward']}"] if "forward" in facts else []
    words += [f"Note: {run.note}"] if run.note else []
    words += facts["damage"] or ["Nothing is damaged."]
    words += [table(("setting", "value", "default"), changed) if changed else "All settings at their defaults."]
    return tell(args, facts, "\n".join(words))


def compare(args: Any) -> int:
    """Only settings that differ; one that a run has not is shown as absent. Then what came out, and the paired difference."""
    a, b = find_run(args.run), find_run(args.other)
    left, right = settings(a), settings(b)
    names = [n for n in {**left, **right} if left.get(n, "absent") != right.get(n, "absent")]
    differing = [{"setting": n, a.id: left.get(n, "absent"), b.id: right.get(n, "absent")} for n in names]
    measured, found = comparison_words(a.fingerprint, b.fingerprint), results(a, b)
    columns, ends = ("setting", a.id, b.id), ("at the end", a.id, b.id, "difference")
    same = "The two runs have the same settings."
    words = [table(columns, map(itemgetter(*columns), differing)) if differing else same]
    words += [f"\nResults: {measured if found else f'none to compare. {measured}'}"]
    words += [table(ends, map(itemgetter(*ends), found))] if found else []
    return tell(args, {"settings": differing, "measured": measured, "results": found}, "\n".join(words))


def settings(run: Run) -> dict[str, Any]:
    """Every setting by its flag, and what else can change a number: kind, fingerprint and versions."""
    settings = {k.flag: plain(k.default) for k in knobs(run.load_config())}
    made_of = {f"fingerprint: {spoken((name,))}": v or "unknown" for name, v in asdict(run.fingerprint).items()}
    versions = {f"version of {name}": v for name, v in run.frozen().get("versions", {}).items()}
    return {"kind": run.kind, **settings, **made_of, **versions}


def results(a: Run, b: Run) -> list[dict[str, str]]:
    """The last evaluations side by side, pass@k with the paired difference over the problems of both; none where one has
    no evaluation, or they do not measure the same."""
    from hdpo.evidence.stats import seeds_difference, verdict_words  # scipy, which no other action needs

    last = [r.metrics("eval")[-1:] for r in (a, b)]
    if not all(last) or differences(a.fingerprint, b.fingerprint)[0]:
        return []
    (x,), (y,) = last
    tables = a.table("eval", x["step"]), b.table("eval", y["step"])
    said = {"cliffs": ""}
    for k in x["pass_at"]:
        left, right = paired(tables[:1], tables[1:], int(k))  # one seed an arm
        said[f"pass@{k}"] = verdict_words(seeds_difference(right, left)) if len(*left) > 1 else "no problems in common"
    mine, other = measured(x), measured(y)
    return [{"at the end": n, a.id: mine[n], b.id: other[n], "difference": said[n]} for n in mine if n in other]


def paired(a: Sequence[Rows], b: Sequence[Rows], k: int) -> list[list[list[float]]]:
    """pass@k of both arms, (S, P) each, from the table of every seed's evaluation: the problems that all of them sampled
    at least k times, in one order."""
    from hdpo.evidence.stats import pass_at_k

    arms = [[{r["problem_id"]: (r["n"], r["correct"]) for r in rows} for rows in arm] for arm in (a, b)]
    runs = [run for arm in arms for run in arm]
    common = [p for p in runs[0] if all(p in run and run[p][0] >= k for run in runs)]
    return [[[pass_at_k(*run[p], k) for p in common] for run in arm] for arm in arms]


def export(args: Any) -> int:
    run = find_run(args.run)
    form = args.format or ("json" if args.json and not args.out else "csv")
    if args.json and not args.out and form == "csv":
        raise BadInput("format: expected json beside --json, found csv. Leave one of them out, or give --out FILE.")
    if form == "csv":
        text = as_csv(rows(run, *args.kind))
    else:
        text = json.dumps(rows(run, *args.kind) if args.kind else everything(run), indent=1, ensure_ascii=False)
    if not args.out:
        print(text, end="" if text.endswith("\n") else "\n")
        return 0
    out = Path(args.out)
    if not out.parent.is_dir() or out.is_dir():
        found = "a folder" if out.is_dir() else "no folder that it could lie in"
        raise BadInput(f"out: expected a file to write, found {found}: {args.out}. Give a file's path.")
    write_aside(out, text)
    return tell(args, {"run": run.id, "format": form, "out": str(out)}, f"{run.id} is written to {out}.")


def everything(run: Run) -> dict[str, Any]:
    """All that a run says of itself, a sweep's members with all that they say."""
    found = {**result_of(run), **run.frozen(), "metrics": run.metrics()}
    return found | ({"members": [everything(m) for _, m in members(run) if is_run(m)]} if run.kind == "sweep" else {})


def rename(args: Any) -> int:
    run = find_run(args.run)
    run.rename(args.name)
    return done(args, [run], f"{run.id} is now called {run.name}.")


def stop(args: Any) -> int:
    run = find_run(args.run)
    if (state := run.status().state).ended:
        words = f"expected a run that waits or runs, found it {state.value}"
        raise BadInput(f"{run.id}: {words}. Nothing is to be stopped.")
    jobs.stop(run)
    now = "has left the queue" if run.status().state is State.STOPPED else "stops at its next step edge"
    return done(args, [run], f"{run.id} {now}. Go on with it later: python -m hdpo {run.kind} --resume {run.id}")


def delete(args: Any) -> int:
    run = find_run(args.run)
    with_members = f" and its {n} members" if (n := len(members(run))) else ""
    if not args.yes:
        if args.json or not sys.stdin.isatty():
            words = "expected --yes where nobody can be asked, found neither"
            raise BadInput(f"delete: {words}. Add it to delete {run.id}.")
        print(f"Delete {run.id}{with_members}? [y/N] ", end="", file=sys.stderr, flush=True)
        if sys.stdin.readline().strip().lower() not in ("y", "yes"):
            say("Nothing was deleted.")
            return 0
    moved = discard(run)
    where = f"lies in {moved[0].path.parent}; python -m hdpo runs restore {run.id} brings it back"
    return done(args, moved, f"{run.id}{with_members} {where}.")


def undelete(args: Any) -> int:
    back = restore(args.run)
    return done(args, back, f"{back[0].id} is back.")


def done(args: Any, runs: list[Run], words: str) -> int:
    facts = [{"run": r.id, "name": r.name, "path": str(r.path), "state": r.status().state.value} for r in runs]
    return tell(args, {**facts[0], "runs": facts}, words)
