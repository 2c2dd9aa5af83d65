"""How good a policy is: pass@k by the unbiased estimator, greedy accuracy, cliff fraction, by level and by source.

The prompt is the unit of every interval. Draws of an evaluation are keyed by seed and step and by nothing else: two runs that
differ in λ are compared on the same uniforms, and two steps of one run on fresh ones.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import groupby
from typing import Any

from hdpo.config import EvalConfig, EvaluateConfig, SamplingConfig, ScanConfig, TrainConfig
from hdpo.data.problems import ProblemFile, load_problems
from hdpo.data.prompts import fits
from hdpo.errors import BadInput, brief
from hdpo.evidence import stats
from hdpo.evidence.measured import chosen_half
from hdpo.grading.graders import MATH
from hdpo.grading.verify import VerifierPool, says
from hdpo.method.groups import Collector
from hdpo.method.identity import Problems, pin_fingerprint
from hdpo.model.fit import PROBLEMS_AT_ONCE, SLOW_PROBLEMS_AT_ONCE, check_fits
from hdpo.model.policy import load_policy
from hdpo.record.folder import CHUNK_TABLE, Run, RunWriter
from hdpo.record.progress import Report
from hdpo.record.ranks import ALONE
from hdpo.records import Group, GroupKind, Outcome, problem_row
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, Sampler
from hdpo.sampling.transformers import TransformersSampler

Rows = list[dict[str, Any]]


def measure(
    collector: Collector, problems: Problems, draw: Draw, tell: Callable[[int], None], kept: RunWriter | None = None
) -> Rows:
    """One row a problem: n, correct, greedy, what became of the rest. tell(done problems) may raise Stopped.

    kept: where the chunks of an earlier attempt stand and those of this one are closed; all ranks see that folder.
    """
    rows, left = chunks_left(collector, problems, kept)
    for number, part in left:
        sampled, greedy = collector.collect(part, draw), collector.collect(part, replace(draw, n=1, greedy=True))
        found = [problem_row(g, h) for g, h in zip(sampled, greedy, strict=True)]
        if kept:
            kept.table(CHUNK_TABLE, number, found)
        rows += found
        tell(len(rows))
    return rows


def chunks_left(
    collector: Collector, problems: Problems, kept: RunWriter | None
) -> tuple[Rows, list[tuple[int, Problems]]]:
    """The rows that an earlier attempt closed in `kept`, and the chunks that are left, each with its number. Between two
    of them comes a look at the clock and the stop flag: so few problems where they take minutes.

    Raises BadInput where the rows are not of the first of these problems.
    """
    policy, before = collector.policy, collector.ranks.agree(Run(kept.path).chunks() if kept else [])
    rows = [row for chunk in before for row in chunk]
    if [r["problem_id"] for r in rows] != [p.id for p in problems[: len(rows)]]:
        raise BadInput("resume: expected the problems that this run began with, found others. Start a new run.")
    size = SLOW_PROBLEMS_AT_ONCE if not policy.small and policy.device.type == "cpu" else PROBLEMS_AT_ONCE
    left = [problems[i : i + size] for i in range(len(rows), len(problems), size)]
    return rows, list(enumerate(left, len(before)))


def disputed(group: Group, verifier: VerifierPool) -> str:
    """Both parses of the first doubtful rollout of a cliff: without a verdict, or wrong though the gold stands in its
    answer. "" where none is doubtful, and for a grader that parses nothing."""
    gold, failed = group.problem.answer, Outcome.GRADER_ERROR
    if verifier.grader.kind != MATH or not group.gradable or any(r.outcome.is_correct for r in group.rollouts):
        return ""
    for r in group.rollouts:
        if r.outcome is failed or (r.outcome is Outcome.WRONG and says(r.answer, gold)):
            parsed_gold, parsed = verifier.parses([gold, r.answer])
            return f"{brief(r.answer)} is parsed as {brief(parsed)}, the gold {brief(gold)} as {brief(parsed_gold)}"
    return ""


def summarise(rows: Rows, config: EvalConfig, how: SamplingConfig) -> dict[str, Any]:
    """The values of an `eval` row: all prompts, by level, by source. Raises BadInput where no prompt is countable.

    Prompts whose gold cannot be parsed, that do not fit the context, or with fewer graded samples than twice the
    largest k leave the estimates and are counted in `left_out`.
    """
    good = countable(rows, config)
    if not good:
        found = f"at least one problem with {2 * max(config.ks)} graded samples, found none of {len(rows)}"
        raise BadInput(f"evaluation: expected {found}. Are the gold answers and prompts right?")
    samples = sum(r["n"] for r in good)
    return {
        **estimates(good, config.ks),
        **halves(good),
        "n_samples": config.eval_samples,
        "temperature": how.temperature,
        "left_out": len(rows) - len(good),
        "ungradable": sum(r["kind"] == GroupKind.UNGRADABLE.value for r in rows),
        "length": sum(r["length"] for r in good) / len(good),
        "truncated": sum(r["truncated"] for r in good) / samples,
        "by_level": estimates_by("level", good, config.ks),
        "by_source": estimates_by("source", good, config.ks),
    }


def countable(rows: Rows, config: EvalConfig) -> Rows:
    """The rows with samples enough for every k."""
    return [r for r in rows if GroupKind(r["kind"]).is_measured and r["n"] >= 2 * max(config.ks)]


def halves(rows: Rows) -> dict[str, float | None]:
    """pass@1 on two halves of the problems, the same in every run: the best checkpoint is chosen on the one, and what it
    is worth is read on the other. None for a half without a problem."""
    found: dict[str, list[float]] = {"chosen_on": [], "read_on": []}
    for r in rows:
        found["chosen_on" if chosen_half(r) else "read_on"].append(r["correct"] / r["n"])
    return {name: sum(values) / len(values) if values else None for name, values in found.items()}


def estimates_by(column: str, rows: Rows, ks: Sequence[int]) -> dict[str, Any]:
    """The estimates of each value of a column, where it is known."""
    known = sorted((r for r in rows if r[column] is not None), key=lambda r: str(r[column]))
    return {str(value): estimates(list(part), ks) for value, part in groupby(known, key=lambda r: r[column])}


def estimates(rows: Rows, ks: Sequence[int]) -> dict[str, Any]:
    """pass@k, greedy, cliff and solved shares, each with its 95 % interval; the prompt is the unit."""
    counts = [(r["n"], r["correct"]) for r in rows]
    greedy = [r["greedy"] == 1 for r in rows if r["greedy"] is not None]
    return {
        "n_problems": len(rows),
        "pass_at": {str(k): bounds(stats.mean_pass_at_k(counts, k)) for k in ks},
        "cliff": bounds(stats.share([c == 0 for _, c in counts])),
        "solved": bounds(stats.share([c == n for n, c in counts])),
        "greedy": bounds(stats.share(greedy)) if greedy else None,
    }


def collapsed(evals: Sequence[dict[str, Any]]) -> int | None:
    """The step of the best pass@1, where the last evaluation lies below it and their intervals apart; None else.

    >>> row = lambda step, low, high: {"step": step, "pass_at": {"1": {"value": (low + high) / 2, "low": low, "high": high}}}
    >>> collapsed([row(0, 0.3, 0.4), row(5, 0.5, 0.6), row(9, 0.4, 0.49)]), collapsed([row(0, 0.3, 0.4), row(5, 0.25, 0.35)])
    (5, None)
    """
    best = max(evals, key=lambda r: r["pass_at"]["1"]["value"])
    return best["step"] if evals[-1]["pass_at"]["1"]["high"] < best["pass_at"]["1"]["low"] else None


def bounds(e: stats.Estimate) -> dict[str, float]:
    return {"value": e.value, "low": e.low, "high": e.high}


def prepare(config: Any, others: Problems, verifier: VerifierPool, report: Report | None = None) -> Collector:
    """Model, sampler and grader of a config that has them. Raises BadInput where they cannot fit in memory."""
    check_fits(config)
    policy = load_policy(config.model, config.seed)
    if report:
        policy.between = report.inside
    sampler: Sampler = TransformersSampler(policy)
    if config.model.sampler == "vllm":
        from hdpo.sampling import vllm as vllm_sampler

        topk = config.objective.topk if isinstance(config, TrainConfig) else 0  # the most that it will be asked for
        sampler = vllm_sampler.make(policy, config.model, topk)
    collector = Collector(
        policy, sampler, verifier, config.prompts, config.sampling, others, report.ranks if report else ALONE
    )
    new, by_length = config.sampling.max_new_tokens, sorted(others, key=lambda p: len(p.text))
    shortest = collector.student_ids(by_length[0]) if by_length else ()
    if not fits(len(shortest), new, policy.context):
        room = f"room beside the prompt in the {policy.context} tokens of the model"
        found = f"prompts of {len(shortest)} tokens or more and {new} new ones"
        raise BadInput(f"max-new-tokens: expected {room}, found {found}. Lower --max-new-tokens.")
    return collector


@contextmanager
def at_work(
    writer: RunWriter, config: ScanConfig | EvaluateConfig, report: Report
) -> Iterator[tuple[Problems, Collector]]:
    """Problems and collector of a scan or an evaluation; what it begins with is noted."""
    file = load_problems(config.data, config.split)
    problems = file.problems[: config.evaluation.eval_problems if isinstance(config, EvaluateConfig) else None]
    report("loading the model", 0, len(problems), "problems")
    note_problems(writer, file)
    with VerifierPool(grader=config.data.grader) as verifier:
        collector = prepare(config, file.problems, verifier, report)
        pin_fingerprint(writer, config, collector.policy, problems)
        with closing(collector.sampler):
            yield problems, collector


def scan(writer: RunWriter, config: ScanConfig, report: Report) -> None:
    """K rollouts of every problem: which are cliffs? Each chunk is closed on the disk before the next begins."""
    with at_work(writer, config, report) as (problems, collector):
        rows, left = chunks_left(collector, problems, writer)
        done = len(rows)
        report("scanning", done, len(problems), "problems")
        for number, part in left:
            groups = collector.collect(part, Draw(config.rollouts, DrawKey(config.seed, Purpose.SCAN)))
            writer.rollouts(number, groups, "student")
            for g in groups:
                row = problem_row(g) | {"disputed": disputed(g, collector.verifier)}
                writer.metric("scan_group", number, **{"group": row.pop("kind"), **row})
            done += len(groups)
            report("scanning", done, len(problems), "problems")
    writer.metric("scan", 0, problems=len(problems), seconds=collector.seconds, **collector.sampler.parity())


def note_problems(writer: RunWriter, file: ProblemFile, held_out: ProblemFile | None = None) -> None:
    """What was read, and what was left out and why, visibly; of a validation set of its own too."""
    writer.table("problems", 0, [vars(p) for p in file.problems])
    writer.metric("data", 0, **file.counts(), **({"validation": held_out.counts()} if held_out else {}))


def evaluate(writer: RunWriter, config: EvaluateConfig, report: Report) -> None:
    """pass@k of one model or adapter on one split; the run ends with an `eval` row and its per-problem table."""
    started = time.perf_counter()
    with at_work(writer, config, report) as (problems, collector):
        draw = Draw(config.evaluation.eval_samples, DrawKey(config.seed, Purpose.EVALUATION))
        rows = measure(collector, problems, draw, lambda n: report("evaluating", n, len(problems), "problems"), writer)
    writer.table("eval", 0, rows)
    writer.drop_tables(CHUNK_TABLE)
    summary = summarise(rows, config.evaluation, config.sampling) | collector.sampler.parity()
    writer.metric("eval", 0, **summary, seconds=time.perf_counter() - started)
