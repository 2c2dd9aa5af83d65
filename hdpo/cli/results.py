"""What a run came to: for machines one object, for a person a few lines that end with what to do next."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from hdpo.config import CENSUS, ScanConfig, TrainConfig
from hdpo.errors import BadInput, brief
from hdpo.record.export import members
from hdpo.record.folder import Run, State, Status

DOUBTS = 3  # told one by one
DISAGREEMENTS = 10  # that are listed
CUT_OFF = 0.2  # share of the rollouts above which the length limit is the story
OUTCOMES = {"correct": "correct", "wrong": "wrong", "no_answer": "without an answer", "truncated": "cut off"}
WHY = {  # no step of a training had a signal
    "groups_solved": "were solved by every rollout",
    "groups_cliff_lost": "were cliffs also with the privileged prompt",
}
CLIFFS = ("cliff_recovered", "cliff_lost", "cliff_skipped", "cliff_too_long", "doubtful_grader")
GROUPS = (*CLIFFS, "mixed", "solved", "no_signal", "too_long", "ungradable")
MEANS = {"loss_grpo": "L_GRPO {:.4f}", "loss_jsd": "L_JSD {:.4f}", "grad_norm": "|∇| {:.3g}", "length": "length {:.0f}"}
ROWS_OF = {**dict.fromkeys(CENSUS, "scan_group"), "train": "step", "sweep": "eval", "evaluate": "eval"}


def result_of(run: Run) -> dict[str, Any]:
    """What --json prints of a run: identity, state, its last numbers, and what a person should know of them."""
    status = run.status()
    facts = {"run": run.id, "name": run.name, "kind": run.kind, "path": str(run.path), "state": status.state.value}
    said = {"message": status.message, "told": sentences(run), "next": next_command(run, status)}
    return {**facts, "done": status.done, "total": status.total, **said, "result": numbers(run)}


def numbers(run: Run) -> dict[str, Any]:
    """By kind: evaluations first, best and last, groups and outcomes of a scan, members of a sweep."""
    if run.kind == "sweep":
        return {"members": [{**facts, **result_of(m)} for facts, m in members(run) if is_run(m)]}
    if run.kind in CENSUS:
        return scanned(run) | (verifier_of(run) if run.kind == "import" else {})
    evals, steps = run.metrics("eval"), run.metrics("step")
    found = {"last_step": steps[-1]} if steps else {}
    if not evals:
        return found
    best = max(evals, key=lambda e: list(e["pass_at"].values())[-1]["value"])  # the first of several
    return {"first_evaluation": evals[0], "last_evaluation": evals[-1], "best_evaluation": best, **found}


def scanned(run: Run) -> dict[str, Any]:
    """Groups and outcomes of a scan; why its cliffs are cliffs, and what each of them may be (`evidence.cliffs.Cliff`)."""
    from hdpo.evidence.cliffs import triage  # scipy, which a list of runs does without

    rows = run.metrics("scan_group")
    groups, doubtful = dict(Counter(r["group"] for r in rows)), sum(bool(r["doubt"]) for r in rows)
    found = triage(rows, run.looks())
    told: dict[str, Any] = {
        "causes": found.causes,
        "still": found.still and asdict(found.still),
        "impossible": found.impossible,
    }
    told |= {"told": found.told, "cliffs": {i: asdict(c) for i, c in found.cliffs.items()}}
    return {"problems": len(rows), "groups": groups, "doubtful": doubtful, "rollouts": outcomes(rows), "triage": told}


def verifier_of(run: Run) -> dict[str, Any]:
    """Of an import: pass@k as far as it is known, and our verdicts held to its labels."""
    from hdpo.evidence.stats import pass_curve
    from hdpo.work.imports import compared, disagreements, errors, unjudged

    counts, verdicts = [(r["n"], r["correct"]) for r in run.metrics("scan_group") if r["n"]], compared(run)
    found = {"pass_at": {k: vars(e) for k, e in pass_curve(counts).items()} if counts else {}}
    facts = {"verifier": errors(verdicts), "unjudged": unjudged(verdicts)}
    return found | facts | {"disagreements": disagreements(run, verdicts)}


def verifier_words(found: Mapping[str, Any]) -> list[str]:
    """The same, with the first disagreements."""
    known = ", ".join(f"pass@{k} {interval(e)}" for k, e in found["pass_at"].items())
    lines = [f"{known}; beyond that unknown: no more rollouts of every prompt"] if known else []
    for e in found["verifier"]:
        if e["rollouts"]:
            share = interval({"value": e["share"], "low": e["low"], "high": e["high"]})
            of = f"{e['found']} of {e['rollouts']} rollouts, prompt by prompt {share} of {e['prompts']}"
            lines.append(f"{e['error']} of our verifier: {of}")
    if mute := found["unjudged"]:
        lines.append(
            f"no verdict of our verifier on {mute} labelled rollouts: their golds cannot be read, or it failed on them"
        )
    for d in found["disagreements"][:DISAGREEMENTS]:
        lines.append(
            f"labelled {d['label']}, ours says {d['verdict']}: {brief(d['answer'])!r} for {brief(d['gold'])!r} ({d['rule']})"
        )
    return lines


def is_run(run: Run) -> bool:
    """Whether its config.json can be read."""
    with suppress(BadInput):
        return bool(run.frozen())
    return False


def outcomes(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """How many rollouts of a scan had which outcome; `n` of its rows counts those with a verdict.

    >>> outcomes([{"n": 8, "correct": 1, "truncated": 5, "no_answer": 0, "grader_errors": 0}])["wrong"]
    2
    """
    names = ("n", "correct", "truncated", "no_answer", "grader_errors")
    total = {name: sum(r.get(name, 0) for r in rows) for name in names}
    return total | {"wrong": total["n"] - total["correct"] - total["truncated"] - total["no_answer"]}


def result_text(run: Run) -> str:
    """The same for a person, in a few lines."""
    status, found = run.status(), numbers(run)
    done = f", {status.done} of {status.total}" if status.total else ""
    lines = [f"{run.kind} {run.id}{'' if run.name == run.id else f' ({run.name})'}: {status.state.value}{done}"]
    if run.kind == "sweep":
        for m in found["members"]:
            arm = f"{m['arm']}, " if "arm" in m else ""
            lines.append(f"{arm}λ = {m['lambda']:g}, seed {m['seed']}: {evaluation_words(m['result'])}")
    elif run.kind in CENSUS:
        groups = ", ".join(f"{n} {name} ({n / found['problems']:.0%})" for name, n in found["groups"].items())
        lines.append(f"{found['problems']} problems: {groups or 'none yet'}; {found['doubtful']} doubtful")
        if rollouts := found["rollouts"]:
            shares = (f"{rollouts[k]} {words}" for k, words in OUTCOMES.items())
            lines.append(f"{rollouts['n']} graded rollouts: {', '.join(shares)}")
        if causes := [f"{n} {cause}" for cause, n in found["triage"]["causes"].items() if n]:
            lines += [f"without a correct rollout: {', '.join(causes)}", found["triage"]["told"]]
        lines += verifier_words(found) if run.kind == "import" else []
    else:
        lines.append(evaluation_words(found))
    lines += sentences(run)
    if (then := next_command(run, status)) not in status.message:
        lines.append(f"Next: {then}")
    return "\n  ".join(lines)


def next_command(run: Run, status: Status) -> str:
    """What a person may do now: a command that works in this state."""
    resume = f"{run.kind} --resume {run.id}"
    by_state = {
        State.DONE: f"runs export {run.id} --kind {ROWS_OF[run.kind]}",
        State.RUNNING: f"runs stop {run.id}",
        State.UNHEARD: f"{resume} --take-over",
        State.FAILED: f"runs delete {run.id}" if status.bad_input else resume,
    }
    return f"python -m hdpo {by_state.get(status.state, resume)}"


def evaluation_words(found: Mapping[str, Any]) -> str:
    """pass@k and cliffs of the last evaluation, with the first one's before the arrow where there are two, and the best."""
    if "last_evaluation" not in found:
        return "no evaluation yet"
    first, last, top = (found[f"{which}_evaluation"] for which in ("first", "last", "best"))
    before = {} if first is last else {name: f"{value} → " for name, value in measured(first).items()}
    parts = [f"{name} {before.get(name, '')}{value}" for name, value in measured(last).items()]
    words = f"step {last['step']}: {', '.join(parts)} (n = {last['n_problems']} problems, 95 %)"
    k = list(top["pass_at"])[-1]
    better = top["pass_at"][k]["value"] > last["pass_at"][k]["value"]
    return words if not better else f"{words}; best pass@{k} {interval(top['pass_at'][k])} at step {top['step']}"


def evaluation_line(row: Mapping[str, Any]) -> str:
    """One evaluation of several, as it comes in."""
    return f"evaluation at step {row['step']}: {', '.join(map(' '.join, measured(row).items()))}"


def measured(row: Mapping[str, Any]) -> dict[str, str]:
    """pass@k and cliffs of an evaluation, each with its interval."""
    return {**{f"pass@{k}": interval(e) for k, e in row["pass_at"].items()}, "cliffs": interval(row["cliff"])}


def step_line(row: Mapping[str, Any]) -> str:
    """What a step gave, from its row in metrics.jsonl.

    >>> step_line({"step": 3, "reward": 0.25, "groups_mixed": 6, "groups_cliff_lost": 2, "rollouts": 64, "truncated": 1})
    'step 3: reward 0.250, 2 of 8 cliffs (0 recovered), 1 of 64 cut off'
    """
    of = {name: row.get(f"groups_{name}", 0) for name in GROUPS}
    cliffs = sum(of[name] for name in CLIFFS)
    parts = [f"{cliffs} of {sum(of.values())} cliffs ({of['cliff_recovered']} recovered)"]
    parts.append(f"{row.get('truncated', 0)} of {row.get('rollouts', 0)} cut off")
    parts += [form.format(row[name]) for name, form in MEANS.items() if row.get(name) is not None]
    if seconds := row.get("seconds"):
        parts.append(f"{(row.get('tokens_student', 0) + row.get('tokens_privileged', 0)) / seconds:,.0f} tokens/s")
    if not row.get("updated", True):
        parts.append("no signal, nothing moved")
    reward = row.get("reward")
    return f"step {row['step']}: reward {'none' if reward is None else f'{reward:.3f}'}, {', '.join(parts)}"


def interval(e: Mapping[str, float]) -> str:
    return f"{e['value']:.3f} [{e['low']:.3f}, {e['high']:.3f}]"


def sentences(run: Run) -> list[str]:
    """What was left out of the problems, and why nothing was learned or found, each with what to do about it."""
    from hdpo.data.problems import told  # a list of runs does without

    try:
        config = run.load_config()
    except BadInput as e:
        return [str(e)]
    data = run.metrics("data", "gold")
    found = [f"Problems: {told(r)}." for r in data if "read" in r]
    found += [words for r in run.metrics("import")[-1:] for words in r["told"]]
    if bad := sum(r.get("ungradable", 0) for r in [*data, *run.metrics("eval")[:1]]):
        found.append(f"{bad} problems are left out: their gold answer cannot be parsed.")
    for r in run.metrics("not_evaluated"):
        why = f"the grader failed on {r['grader_errors']} answers to its {r['problems']} problems"
        found.append(f"The evaluation at step {r['step']} is left out: {why}.")
    if isinstance(config, TrainConfig):
        found += about_steps(run.metrics("step"), config)
        if (step := run.best()) is not None:
            row = next(r for r in run.metrics("eval") if r["step"] == step)
            value = "not known" if (read := row.get("read_on")) is None else f"{read:.3f}"
            halves = f"pass@1 {row['chosen_on']:.3f} on the half of the problems that chose it, {value} on the other"
            found.append(f"{run.id}@best is step {step}: {halves}.")
    elif isinstance(config, ScanConfig) and (rows := run.metrics("scan_group")):
        of = outcomes(rows)
        found += about_length(of, config.sampling.max_new_tokens)
        if failed := of["grader_errors"]:
            found.append(f"The grader gave no verdict on {failed} rollouts: it failed on them, or took too long.")
        doubts = [f"{r['problem_id']}, grader in doubt: {r['disputed']}." for r in rows if r.get("disputed")]
        found += doubts[:DOUBTS] + [f"{len(doubts) - DOUBTS} more such doubts."] * (len(doubts) > DOUBTS)
    return found


def about_length(rollouts: Mapping[str, int], limit: int) -> list[str]:
    """Whether the limit of the length decided. rollouts: `truncated` of all, `n` graded or `rollouts`.

    >>> about_length({"truncated": 31, "n": 32}, 64)
    ['31 of 32 rollouts were cut off at 64 tokens and count as wrong: raise --max-new-tokens.']
    """
    cut, of = rollouts["truncated"], rollouts.get("rollouts", rollouts.get("n", 0))
    words = f"{cut} of {of} rollouts were cut off at {limit} tokens and count as wrong: raise --max-new-tokens."
    return [words] if of and cut / of > CUT_OFF else []


def about_steps(steps: Sequence[Mapping[str, Any]], config: TrainConfig) -> list[str]:
    """Of a training: steps that moved nothing, and why."""
    still = [r for r in steps if not r.get("updated", True)]
    if not steps or len(still) < len(steps):
        return []
    names = ("rollouts", "truncated", "groups_solved", "groups_cliff_lost")
    total = {name: sum(r.get(name, 0) for r in steps) for name in names}
    why = [f"{total[name]} groups {words}" for name, words in WHY.items() if total[name]]
    if config.objective.lambda_ == 0:
        why.append("at λ = 0 cliffs give none")
    said = f"None of the {len(steps)} steps had a signal, so the weights never moved{': ' * bool(why)}{', '.join(why)}."
    return [said, *about_length(total, config.sampling.max_new_tokens)]


def table(columns: Sequence[str], rows: Iterable[Iterable[Any]]) -> str:
    """Aligned text; a long cell is kept whole, since it may be what is looked for."""
    lines = [columns, *([str(x) for x in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in lines)
