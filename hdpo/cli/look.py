"""`python -m hdpo rollouts` and `gap`: single problems, in this process, as the app's Side by side shows them; `verify`: one
verdict laid open; `bench`: what a session would take here."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from typing import Any

from hdpo.cli.args import add_knobs, add_preset, command, config_from, help_text, some
from hdpo.cli.results import table
from hdpo.cli.terminal import say, tell
from hdpo.config import ProblemConfig, ScanConfig, TrainConfig, knobs, to_json
from hdpo.errors import BadInput
from hdpo.records import Outcome, Problem
from hdpo.work import jobs, prepare_libraries
from hdpo.work.preflight import UNREAD, check

PHASES = {
    "sample": "the student's rollouts",
    "verify": "verdicts",
    "privileged": "the rollouts that may peek",
    "update": "both gradients and AdamW",
}
AGAINST = {
    "drifting": "the model that looks is the student itself",
    "frozen": "the model at the start of its run",
    "wrong": "the student, shown a wrong solution",
}


def add_commands(commands: Any, asked: str | None) -> None:
    for name, help, run in (
        ("rollouts", "unprivileged and privileged rollouts of problems, with verdicts", show_rollouts),
        ("gap", "the realizability gap of one trace a problem, token by token, in nats", show_gap),
    ):
        p = command(commands, name, help, run)
        which = "which problem, by id; may be repeated; without it, the first --limit ones, or one"
        p.add_argument("--problem", action="append", default=[], metavar="ID", type=some, help=which)
        through = "the adapter to look through: RUN (its newest checkpoint), RUN@best, RUN@40 or a folder; without it, the model as it is"
        p.add_argument("--checkpoint", metavar="RUN", type=some, help=through)
        if name == "rollouts":
            p.add_argument("--greedy", action="store_true", help="the most probable tokens instead of draws")
            p.add_argument("--wrong", action="store_true", help="a third side that is shown a wrong solution")
        else:
            p.add_argument("--against", choices=[*AGAINST], default="drifting", help="the teacher (default drifting)")
            whose = "whose completion is looked at: the first correct one, else the first (default privileged)"
            p.add_argument("--trace", choices=("privileged", "student"), default="privileged", help=whose)
        if asked in (None, name):
            add_knobs(p, ScanConfig(), UNREAD[name])
    p = command(commands, "verify", "one verdict: both parses, the rule that decided", show_verdict, ("gold", "answer"))
    p.description = f"{p.description} ANSWER: a whole completion, or what would stand in its box."
    grader = next(k for k in knobs(ProblemConfig()) if k.name == "grader")
    p.add_argument("--grader", metavar="TEXT", type=some, default=grader.default, help=help_text(grader))
    words = "what this machine does with a session: seconds by phase, how long, how much memory"
    p = command(commands, "bench", words, show_bench)
    add_preset(p)
    if asked in (None, "bench"):
        add_knobs(p, TrainConfig(), UNREAD["bench"])


def show_verdict(args: Any) -> int:
    from hdpo.grading.explain import explain
    from hdpo.grading.verify import VerifierPool

    with VerifierPool(grader=args.grader) as pool:
        found = explain(pool, args.gold, args.answer)
    names = {"gold_read": "gold", "answer_read": "answer", "rule": "rule", "verdict": "verdict"}
    return tell(args, found, "\n".join(f"{words:8} {found[name]}" for name, words in names.items()))


def show_bench(args: Any) -> int:
    """Run a few steps of the session that these settings describe, and say what all of it would take."""
    config = config_from(args, TrainConfig())
    check(config)
    prepare_libraries()
    from hdpo.work.bench import bench

    if (running := jobs.running_heavy()) is not None:
        say(f"{running.payload['run']} runs at the same time: what is measured now is slower than this machine.")
    found = bench(config)
    return tell(args, found, bench_text(found, config))


def bench_text(b: Mapping[str, Any], config: TrainConfig) -> str:
    """What was measured, a line each."""
    c, e = config.step, config.evaluation
    steps = f"{b['steps']} steps of {c.prompts_per_step} × {c.rollouts}"
    part = f"{e.eval_problems} problems × {e.eval_samples} and greedy, scaled from a part, without the probe set"
    whole = f"{c.steps} steps and an evaluation each {e.eval_every}; answers can grow longer on the way"
    times = b["step"] / b["floor"]
    away = f"its products alone, at {b['gflops']:.0f} GFLOP/s measured at this width: {times:.1f} × away"
    left = f"{b['memory_left'] / 1e9:.1f} GB left; {b['parameters']:,} weights"
    rows = [
        ("one step", f"{b['step']:.2f} s", f"{b['step_low']:.2f} to {b['step_high']:.2f} over {steps}"),
        *((f"  {name}", f"{s:.2f} s", PHASES[name]) for name, s in b["phases"].items()),
        ("rollouts", f"{b['rollout_tokens_per_s']:,.0f} tokens/s", "of the student"),
        ("one evaluation", f"{b['evaluation']:.1f} s", part),
        ("the session", f"{b['session']:.0f} s", whole),
        ("the limit of a step", f"{b['floor']:.2f} s", away),
        ("memory held", f"{b['memory'] / 1e9:.2f} GB", left),
    ]
    head = f"{b['device']}, {b['threads']} thread(s), torch {b['torch']}, forward pass: {b['forward']}"
    return f"{head}\n{table(('what', 'measured', 'of'), rows)}"


@contextmanager
def looking(args: Any) -> Iterator[tuple[list[Problem], Callable[..., Any]]]:
    """The chosen problems, and ask(request, problem, **fields): what the app's worker would answer under the settings."""
    config: ScanConfig = config_from(args, ScanConfig())
    check(config)
    prepare_libraries()
    from hdpo.work.interactive import Desk

    common: dict[str, Any] = {name: to_json(getattr(config, name)) for name in ("model", "prompts", "sampling")}
    common |= {"checkpoint": args.checkpoint or "", "k": config.rollouts, "seed": config.seed}
    common["grader"], desk = config.data.grader, Desk()

    def ask(request: str, problem: Problem, **fields: Any) -> Any:
        payload = {**common, "request": request, "problem": asdict(problem), **fields}
        return desk.answer(payload, lambda event: None, lambda: False)

    with closing(desk):
        yield chosen(config, args.problem), ask


def chosen(config: ScanConfig, ids: Sequence[str]) -> list[Problem]:
    """The problems with these ids, in this order; without ids the first one, or the first `limit`."""
    from hdpo.data.problems import load_problems

    problems = load_problems(config.data, config.split).problems
    if not ids:
        return list(problems[: config.data.limit or 1])
    by_id = {p.id: p for p in problems}
    if unknown := [i for i in ids if i not in by_id]:
        words = f"expected ids of {config.data.problems}, found {', '.join(unknown)}"
        raise BadInput(f"problem: {words}. The first ones are {', '.join(list(by_id)[:5])}.")
    return [by_id[i] for i in ids]


def show_rollouts(args: Any) -> int:
    sides = ["student", "privileged", *["wrong"] * args.wrong]
    with looking(args) as (problems, ask):
        found = [(p, ask("rollouts", p, sides=sides, greedy=args.greedy)) for p in problems]
    facts = [{"problem": asdict(p), "sides": answer} for p, answer in found]
    return tell(args, facts, "\n\n".join(rollouts_text(p, answer) for p, answer in found))


def rollouts_text(problem: Problem, answer: Mapping[str, Any]) -> str:
    """The problem, and each side's rollouts behind their verdicts."""
    lines = [f"{problem.id}  {problem.text}", f"gold {problem.answer}; solution {problem.solution}"]
    for side, given in answer.items():
        rollouts = given["rollouts"]
        correct = sum(Outcome(r["outcome"]).is_correct for r in rollouts)
        words = f"{correct} of {len(rollouts)} correct" if given["fits"] else "the prompt does not fit the context"
        words = words if given["gradable"] else "the gold answer cannot be parsed, nothing is graded"
        lines.append(f"\n{side} ({given['prompt_tokens']} prompt tokens): {words}")
        for r in rollouts:
            text = "\n    ".join(r["text"].strip().splitlines())
            lines.append(f"  [{r['outcome']}{', ' + r['answer'] if r['answer'] else ''}] {text}")
    return "\n".join(lines)


def show_gap(args: Any) -> int:
    found = []
    with looking(args) as (problems, ask):
        for problem in problems:
            trace = first_correct(ask("rollouts", problem, sides=[args.trace])[args.trace], problem)
            found.append((problem, trace, ask("lens", problem, token_ids=trace["token_ids"], against=args.against)))
    if not args.json:
        say(f"Teacher {args.against}: {AGAINST[args.against]}. Nats; top lists and masses at temperature 1.")
    facts = [{"problem": asdict(p), "trace": t, "gap": lens} for p, t, lens in found]
    return tell(args, facts, "\n\n".join(gap_text(p, t, lens, args.trace) for p, t, lens in found))


def first_correct(side: Mapping[str, Any], problem: Problem) -> dict[str, Any]:
    if not side["rollouts"]:
        words = f"expected a prompt that fits the context, found {side['prompt_tokens']} tokens and the new ones"
        raise BadInput(f"{problem.id}: {words}. Lower max-new-tokens.")
    right = [r for r in side["rollouts"] if Outcome(r["outcome"]).is_correct]
    return dict((right or side["rollouts"])[0])


def gap_text(problem: Problem, trace: Mapping[str, Any], lens: Mapping[str, Any], side: str) -> str:
    """One line a token, and the mean and sum below."""
    names = ("kl", "jsd", "range_bound", "lemma1", "mismatch")
    columns = ("token", *names, "teacher's next", "student's next")
    rows = []
    for i, piece in enumerate(lens["piece"]):
        tops = (" ".join(f"{t!r} {p:.2f}" for t, p in lens[f"{who}_top"][i][:3]) for who in ("teacher", "student"))
        rows.append([repr(piece)[1:-1], *(f"{lens[n][i]:.4f}" for n in names), *tops])
    for word in ("mean", "sum"):
        rows.append([word, *(f"{lens[f'{word}s'][n]:.4f}" for n in names), "", ""])
    head = f"{problem.id}  {problem.text}\n{side} trace [{trace['outcome']}], {trace['tokens']} tokens"
    return f"{head}\n{table(columns, rows)}"
