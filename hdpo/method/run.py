"""Algorithm 1 as a function, and the loop around it: sample, grade, find the cliffs, peek, keep R=1, update.

Nothing here remembers what it can compute: the draws are keyed, the data position follows from the step, the learning
rate from the step. So a checkpoint is the adapter, AdamW's moments and a step, and a resumed run is the uninterrupted one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch

from hdpo.config import ProblemConfig, StepConfig, TrainConfig
from hdpo.errors import BadInput, Stopped
from hdpo.grading.verify import VerifierPool
from hdpo.method.advantages import advantages
from hdpo.method.evaluate import load_split, measure, note_problems, prepare, summarise
from hdpo.method.gap import Pair, draw_probe, probe_means, probe_rows, token_gaps
from hdpo.method.groups import Collector, accepted, distillable, signal_accounting
from hdpo.method.objective import DistillItem, Scale, add_distillation, grpo_gradient, policy_items, teacher_weights
from hdpo.method.rehearsal import rehearse
from hdpo.model.batching import Trace
from hdpo.model.policy import Policy, Weights
from hdpo.record.folder import Run, RunWriter
from hdpo.record.progress import Report
from hdpo.records import Group, Outcome, Problem
from hdpo.sampling.draws import DrawKey, Purpose, epoch_order

T = TypeVar("T")


@dataclass
class Training:
    """What a run holds on to between steps."""

    config: TrainConfig
    policy: Policy
    collector: Collector
    optimiser: torch.optim.Optimizer
    train: Sequence[Problem]
    validation: Sequence[Problem]
    writer: RunWriter
    report: Report


def train(writer: RunWriter, config: TrainConfig, report: Report, checkpoint: Path | None = None) -> None:
    """Run, or go on from a checkpoint, to the last step. Raises Stopped after a stop, with a checkpoint written."""
    report("loading the model", 0, config.step.steps)
    with VerifierPool() as verifier:
        t = start(writer, config, report, verifier)
        with closing(t.collector.sampler):
            run_steps(t, checkpoint)


def run_steps(t: Training, checkpoint: Path | None) -> None:
    """From the checkpoint, if there is one, to the last step."""
    c, first = t.config, 0
    if checkpoint is not None:
        first = int(t.policy.load(checkpoint, t.optimiser)["step"])
    if t.policy.device.type == "cuda":  # elsewhere the system gives way slowly, and the estimate must do
        t.writer.metric("rehearsal", first, **rehearse(t.collector, c, t.train))
    for step in range(first + 1, c.step.steps + 1):
        try:
            t.report("training", step - 1, c.step.steps)
        except Stopped:
            if step - 1 > first:
                save(t, step - 1)
            raise
        t.writer.metric("step", step, **hdpo_step(t, step))
        if step == 1:  # after the first step, which people wait for: the weights of step 0 are still to be had
            evaluate_at(t, 0)
        last = step == c.step.steps
        if last or step % c.evaluation.eval_every == 0:
            evaluate_at(t, step)
        if last or step % c.step.checkpoint_every == 0:
            save(t, step)


def start(writer: RunWriter, config: TrainConfig, report: Report, verifier: VerifierPool) -> Training:
    """Problems, model and optimiser. Problems whose gold cannot be parsed leave, and are counted."""
    file = load_split(config.data, "train")
    held_out = load_split(first_problems(config), config.evaluation.eval_split).problems
    note_problems(writer, file)
    fine = verifier.gold_ok([p.answer for p in file.problems])
    usable = [p for p, ok in zip(file.problems, fine, strict=True) if ok]
    if len(usable) < config.step.prompts_per_step:
        raise BadInput(
            f"problems: expected at least {config.step.prompts_per_step} with a parsable answer, one step's worth, found {len(usable)}. Lower prompts-per-step or give more problems."
        )
    writer.metric("gold", 0, train=len(usable), ungradable=len(file.problems) - len(usable), held_out=len(held_out))
    policy, collector = prepare(config, file.problems, verifier, report.ranks)
    optimiser = torch.optim.AdamW(
        policy.trainable,
        lr=config.step.learning_rate,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=config.step.weight_decay,
    )
    return Training(config, policy, collector, optimiser, usable, held_out, writer, report)


def first_problems(config: TrainConfig) -> ProblemConfig:
    """The problem set, read no further than the evaluation needs."""
    wanted = config.evaluation.eval_problems
    return replace(config.data, limit=min(wanted, config.data.limit or wanted))


def hdpo_step(t: Training, step: int) -> dict[str, Any]:
    """One step of Algorithm 1. Returns what the run's `step` row records."""
    c, clock = t.config, time.perf_counter()
    t.collector.seconds = {"sample": 0.0, "verify": 0.0}
    problems = batch_of(t.train, c.seed, step, c.step.prompts_per_step)
    groups = t.collector.collect(problems, c.step.rollouts, DrawKey(c.seed, Purpose.STUDENT, step))
    seconds = dict(t.collector.seconds)

    cliffs = distillable(groups)[: c.step.max_cliffs] if c.objective.lambda_ > 0 else []
    peek_clock = time.perf_counter()
    with beside(t, lambda: peek(t, cliffs, step)) as peeking:
        update_clock = time.perf_counter()
        row = update(t, groups, cliffs, peeking, step)
        peeked = peeking()
    t.policy.version = step
    write_rollouts(t, step, groups, peeked)
    tried = [g.problem.id for g, p in zip(cliffs, peeked, strict=True) if p.fits]
    row |= signal_accounting(groups, tried, [g.problem.id for g, _ in accepted(peeked)])
    row |= counts(groups, peeked)
    seconds["update"] = time.perf_counter() - update_clock - row["seconds_privileged"]
    row["seconds_privileged"] += update_clock - peek_clock
    return (
        row
        | t.collector.sampler.parity()
        | {**{f"seconds_{k}": v for k, v in seconds.items()}, "seconds": time.perf_counter() - clock}
    )


def peek(t: Training, cliffs: Sequence[Group], step: int) -> list[Group]:
    """The privileged groups of these cliffs (Algorithm 1, step 4), with the teacher's top-k."""
    c = t.config
    return t.collector.collect(
        [g.problem for g in cliffs],
        c.step.privileged_rollouts,
        DrawKey(c.seed, Purpose.PRIVILEGED, step),
        privileged=True,
        weights=teacher_weights(c.objective),
        topk=c.objective.topk,
    )


@contextmanager
def beside(t: Training, work: Callable[[], T]) -> Iterator[Callable[[], T]]:
    """What gives the work's result. The work is done first, or, where the flat model leaves a core idle, on that while
    the block goes on: this took an HDPO step from 1.85 to 1.4 of a GRPO step."""
    if t.policy.flat is None or torch.get_num_threads() == 1 or t.report.ranks.count > 1:
        done = work()
        t.collector.sampler.release()
        yield lambda: done
    else:
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            yield pool.submit(work).result


def batch_of(problems: Sequence[Problem], seed: int, step: int, size: int) -> list[Problem]:
    """The problems of a step: each epoch visits all in its own order; no problem twice in a batch's epoch."""
    first = (step - 1) * size
    orders = {e: epoch_order(seed, e, len(problems)) for e in {i // len(problems) for i in (first, first + size - 1)}}
    batch = [problems[orders[i // len(problems)][i % len(problems)]] for i in range(first, first + size)]
    return list({p.id: p for p in batch}.values())  # where two epochs meet, a problem may come twice


def update(
    t: Training, groups: Sequence[Group], cliffs: Sequence[Group], peeking: Callable[[], list[Group]], step: int
) -> dict[str, Any]:
    """One optimiser update (Algorithm 1, step 7), and what it optimised. The privileged groups are asked for once the
    first term is done; seconds_privileged is what was waited for them."""
    c = t.config
    tokens = sum(len(r.token_ids) for g in groups for r in g.rollouts)
    scale = Scale(tokens, 0, c.sampling.temperature, c.step.micro_batch_tokens)
    grpo = policy_items(groups, c.objective)
    first = grpo_gradient(t.policy, grpo, c.objective, scale, t.report.ranks)
    clock = time.perf_counter()
    kept = accepted(peeking())
    waited = time.perf_counter() - clock
    student_prompt = {g.problem.id: g.prompt_ids for g in cliffs}
    distil = [
        DistillItem(Trace(student_prompt[g.problem.id], r.token_ids), Trace(g.prompt_ids, r.token_ids), r.topk)
        for g, r in kept
    ]
    scale = replace(scale, tokens_accepted=sum(len(r.token_ids) for _, r in kept))
    terms = add_distillation(t.policy, first, distil, c.objective, scale, t.report.ranks)
    rate = learning_rate(step, c.step)
    for group in t.optimiser.param_groups:
        group["lr"] = rate
    norm = 0.0
    if grpo or distil:  # without a signal nothing moves: AdamW's momentum and weight decay would
        norm = float(torch.nn.utils.clip_grad_norm_(t.policy.trainable, c.step.grad_norm))
        t.optimiser.step()
    return {
        "lambda": c.objective.lambda_,
        "learning_rate": rate,
        "grad_norm": norm,
        "updated": bool(grpo or distil),
        "loss": terms.loss_grpo + c.objective.lambda_ * terms.loss_jsd,
        **asdict(terms),
        "tokens_student": tokens,
        "tokens_accepted": scale.tokens_accepted,
        "accepted_rollouts": len(kept),
        "seconds_privileged": waited,
    }


def learning_rate(step: int, c: StepConfig) -> float:
    """Warm-up from 0.1× to 1× over `warmup` steps, then constant (App. C). step counts from 1.

    >>> c = StepConfig(learning_rate=1.0, warmup=10)
    >>> [round(learning_rate(s, c), 2) for s in (1, 6, 11, 500)]
    [0.1, 0.55, 1.0, 1.0]
    """
    return c.learning_rate * (0.1 + 0.9 * min(1.0, (step - 1) / c.warmup if c.warmup else 1.0))


def counts(groups: Sequence[Group], peeked: Sequence[Group]) -> dict[str, Any]:
    rollouts = [r for g in groups for r in g.rollouts]
    rewards = [r.reward for r in rollouts if r.reward is not None]
    outcomes = [r.outcome for r in rollouts]
    return {
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "rollouts": len(rollouts),
        "truncated": outcomes.count(Outcome.TRUNCATED),
        "no_answer": outcomes.count(Outcome.NO_ANSWER),
        "grader_errors": outcomes.count(Outcome.GRADER_ERROR),
        "length": sum(len(r.token_ids) for r in rollouts) / len(rollouts) if rollouts else None,
        "privileged_rollouts": sum(len(g.rollouts) for g in peeked),
        "tokens_privileged": sum(len(r.token_ids) for g in peeked for r in g.rollouts),
    }


def write_rollouts(t: Training, step: int, groups: Sequence[Group], peeked: Sequence[Group]) -> None:
    advantage = [a for g in groups for a in advantages(g.rewards, t.config.objective.advantage)]
    t.writer.rollouts(step, groups, "student", advantage=advantage)
    passed = [r.reward == 1.0 for g in peeked for r in g.rollouts]
    t.writer.rollouts(step, peeked, "privileged", accepted=passed)


def evaluate_at(t: Training, step: int) -> None:
    """pass@k on the held-out problems and the gap on the fixed probe set, for every λ including 0."""
    clock, c, n = time.perf_counter(), t.config, len(t.validation)

    def tell(done: int) -> None:
        t.report.tell(replace(t.report.last, phase=f"evaluating at step {step}: {done} of {n} problems"))

    tell(0)
    weights = Weights.CURRENT if step else Weights.INITIAL
    rows = measure(t.collector, t.validation, c.evaluation, DrawKey(c.seed, Purpose.EVALUATION, step), tell, weights)
    t.writer.table("eval", step, rows)
    summary = summarise(rows, c.evaluation, c.sampling)
    t.writer.metric("eval", step, **summary, seconds=time.perf_counter() - clock)
    if c.evaluation.probe_cliffs:
        probe_at(t, step, weights, rows)


def probe_at(t: Training, step: int, weights: Weights, evaluated: Sequence[dict[str, Any]]) -> None:
    """Measure the realizability gap on the probe set; at step 0 draw it, among the cliffs, and write it down."""
    c, ranks = t.config, t.report.ranks
    if step == 0:
        cliffs = {r["problem_id"] for r in evaluated if r["kind"] == "cliff"}
        chosen = [p for p in t.validation if p.id in cliffs][: c.evaluation.probe_cliffs]
        pairs = draw_probe(t.collector, chosen, c)
        t.writer.table("probe", 0, [pair_row(p) for p in pairs])
    else:
        pairs = [pair_of(r) for r in Run(t.writer.path).table("probe", 0)]
    mine = token_gaps(
        t.policy,
        ranks.share(pairs),
        topk=c.objective.topk,
        micro_batch_tokens=c.step.micro_batch_tokens,
        weights=weights,
    )
    gaps = ranks.gather(mine)
    t.writer.table("gap", step, probe_rows(t.policy, pairs, gaps))
    for on in sorted({p.on for p in pairs}):
        t.writer.metric("probe", step, **probe_means(pairs, gaps, on))


def pair_row(p: Pair) -> dict[str, Any]:
    ids = {
        "student_prompt": p.student.prompt_ids,
        "teacher_prompt": p.teacher.prompt_ids,
        "completion": p.student.completion_ids,
    }
    return {"problem_id": p.problem_id, "on": p.on, **{k: list(v) for k, v in ids.items()}}


def pair_of(row: dict[str, Any]) -> Pair:
    done = tuple(row["completion"])
    return Pair(
        row["problem_id"],
        row["on"],
        Trace(tuple(row["student_prompt"]), done),
        Trace(tuple(row["teacher_prompt"]), done),
    )


def save(t: Training, step: int) -> None:
    """A checkpoint, written aside and renamed, by rank 0."""
    if not t.report.ranks.first:
        return
    aside = t.writer.checkpoint_folder(step)
    position = step * t.config.step.prompts_per_step
    t.policy.save(aside, t.optimiser, {"step": step, "data_position": position, "attempt": t.writer.attempt})
    t.writer.close_checkpoint(aside, step)
