"""A training run around the step: problems and model, the loop, evaluations, probes, checkpoints.

A checkpoint is the adapter, AdamW's moments and a step: with keyed draws a resumed run is the uninterrupted one.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from hdpo.config import TrainConfig
from hdpo.data.problems import training_problems
from hdpo.data.prompts import can_show
from hdpo.errors import BadInput, Stopped
from hdpo.grading.verify import VerifierPool
from hdpo.method.advantages import advantages
from hdpo.method.evaluate import collapsed, countable, measure, note_problems, prepare, summarise
from hdpo.method.gap import Lens, Pair, draw_probe, probe_means, probe_rows, token_gaps
from hdpo.method.identity import pin_fingerprint
from hdpo.method.rehearsal import rehearse
from hdpo.method.step import Learner, batch_of, hdpo_step
from hdpo.model.batching import Trace
from hdpo.model.policy import Weights
from hdpo.record.folder import Run, RunWriter
from hdpo.record.progress import Report, time_left
from hdpo.records import Problem
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw

PROBE_IDS = ("student_prompt", "teacher_prompt", "completion")  # columns of the probe's table


@dataclass
class Training:
    """What a run holds on to between steps."""

    learner: Learner
    train: Sequence[Problem]
    validation: Sequence[Problem]
    writer: RunWriter
    report: Report
    evaluated: set[int]


def train(writer: RunWriter, config: TrainConfig, report: Report, checkpoint: Path | None = None) -> Iterator[int]:
    """Run, or go on from a checkpoint, to the last step; rests after each, so that several runs of one process can advance
    together. Raises Stopped after a stop, with a checkpoint written."""
    report("loading the model", 0, config.step.steps)
    with VerifierPool(grader=config.data.grader) as verifier:
        t = start(writer, config, report, verifier)
        with closing(t.learner.collector.sampler):
            yield from run_steps(t, checkpoint)


def run_steps(t: Training, checkpoint: Path | None) -> Iterator[int]:
    """From the checkpoint, if there is one, to the last step: the number of each, when all of it is written down."""
    c, first = t.learner.config, 0
    if checkpoint is not None:
        first = int(t.learner.policy.load(checkpoint, t.learner.optimiser)["step"])
    if t.learner.policy.device.type == "cuda":  # elsewhere the system gives way slowly, and the estimate must do
        t.writer.metric("rehearsal", first, **rehearse(t.learner.collector, c, t.train))
    done = first
    try:
        complete(t, first)  # what a stop may have cut off
        for step in range(first + 1, c.step.steps + 1):
            t.report("training", step - 1, c.step.steps, left=left(t, step - 1))
            take_step(t, step)
            done = step
            complete(t, step)
            if step == c.step.steps or step % c.step.checkpoint_every == 0 or is_best(t, step):
                save(t, step)
            if c.step.stop_on_collapse and step < c.step.steps and step % c.evaluation.eval_every == 0:
                refuse_collapse(t)
            yield step
    except Stopped:
        if done > first:
            save(t, done)
        raise


def complete(t: Training, step: int) -> None:
    """The evaluations that are due after this step and do not stand yet. That of step 0 comes after the first step, which
    people wait for: its weights are still to be had."""
    c = t.learner.config
    due = step and (step == c.step.steps or step % c.evaluation.eval_every == 0)
    for at in [0] * bool(step) + [step] * bool(due):
        if at not in t.evaluated:
            evaluate_at(t, at)
            t.evaluated.add(at)


def refuse_collapse(t: Training) -> None:
    """Raises Stopped, with the way to the best checkpoint, where the last evaluation says that the run collapsed."""
    evals = [r for r in t.report.ranks.agree(Run(t.writer.path).metrics("eval")) if "1" in r["pass_at"]]
    if evals and (best := collapsed(evals)) is not None:
        now, then = (
            next(r["pass_at"]["1"]["value"] for r in evals if r["step"] == s) for s in (evals[-1]["step"], best)
        )
        words = f"pass@1 fell from {then:.3f} at step {best} to {now:.3f}, with intervals apart"
        raise Stopped(f"It collapsed: {words}. The best checkpoint is {t.writer.path.name}@best.")


def left(t: Training, done: int) -> float | None:
    """Seconds to the end of the run, by what its steps and evaluations took so far, those before a resume included."""
    c, run = t.learner.config, Run(t.writer.path)
    steps, evaluations = ([r["seconds"] for r in run.metrics(kind)] for kind in ("step", "eval"))
    more = c.evaluation_count - 1 - done // c.evaluation.eval_every
    return time_left(steps, evaluations, c.step.steps - done, more)


def start(writer: RunWriter, config: TrainConfig, report: Report, verifier: VerifierPool) -> Training:
    """Problems, model and optimiser. Problems whose gold cannot be parsed leave, and are counted."""
    file, apart = training_problems(config)
    held_out = apart.problems
    note_problems(writer, file, apart if config.data.validation_problems else None)
    fine = verifier.gold_ok([p.answer for p in file.problems])
    usable = [p for p, ok in zip(file.problems, fine, strict=True) if ok]
    if len(usable) < config.step.prompts_per_step:
        raise BadInput(
            f"problems: expected at least {config.step.prompts_per_step} with a parsable answer, one step's worth, found {len(usable)}. Lower prompts-per-step or give more problems."
        )
    writer.metric("gold", 0, train=len(usable), ungradable=len(file.problems) - len(usable), held_out=len(held_out))
    collector = prepare(config, file.problems, verifier, report)
    policy, c = collector.policy, config.step
    pin_fingerprint(writer, config, policy, held_out, usable)
    betas, eps = (0.9, 0.999), 1e-8
    optimiser = torch.optim.AdamW(policy.trainable, c.learning_rate, betas, eps, c.weight_decay)
    learner = Learner(config, policy, collector, optimiser, report.ranks)
    evaluated = {row["step"] for row in Run(writer.path).metrics("eval", "not_evaluated")}
    return Training(learner, usable, held_out, writer, report, evaluated)


def take_step(t: Training, step: int) -> dict[str, Any]:
    """One step on the run's next problems, written down. Returns its `step` row."""
    c = t.learner.config
    done = hdpo_step(t.learner, batch_of(t.train, c.seed, step, c.step.prompts_per_step), step)
    advantage = [a for g in done.groups for a in advantages(g.rewards, c.objective.advantage)]
    t.writer.rollouts(step, done.groups, "student", advantage=advantage)
    accepted = [r.reward == 1.0 for g in done.peeked for r in g.rollouts]
    t.writer.rollouts(step, done.peeked, "privileged", accepted=accepted)
    t.writer.metric("step", step, **done.row)
    return done.row


def evaluate_at(t: Training, step: int) -> None:
    """pass@k on the held-out problems and the gap on the fixed probe set, for every λ including 0. Where the grader fails
    on too many answers of every problem, that is written in place of pass@k, and the run goes on."""
    clock, c, n = time.perf_counter(), t.learner.config, len(t.validation)

    def tell(done: int) -> None:
        t.report.meanwhile(f"evaluating at step {step}: {done} of {n} problems", max(step, 1))

    tell(0)
    weights = Weights.CURRENT if step else Weights.INITIAL
    draw = Draw(c.evaluation.eval_samples, DrawKey(c.seed, Purpose.EVALUATION, step), weights)
    rows = measure(t.learner.collector, t.validation, draw, tell)
    seconds = time.perf_counter() - clock
    if c.evaluation.probe_cliffs:
        probe_at(t, step, weights, rows)
    if not countable(rows, c.evaluation) and (errors := sum(r["grader_errors"] for r in rows)):
        t.writer.metric("not_evaluated", step, problems=n, grader_errors=errors)
    else:
        t.writer.table("eval", step, rows)
        summary = summarise(rows, c.evaluation, c.sampling)
        t.writer.metric("eval", step, **summary, seconds=seconds)  # the last of it: where this stands, all does


def probe_at(t: Training, step: int, weights: Weights, evaluated: Sequence[dict[str, Any]]) -> None:
    """Measure the realizability gap on the probe set; at step 0 draw it, among the cliffs, and write it down."""
    c, ranks = t.learner.config, t.report.ranks
    if step == 0:
        cliffs = {r["problem_id"] for r in evaluated if r["kind"] == "cliff"}
        told = [p for p in t.validation if p.id in cliffs and can_show(p, c.prompts.information)]
        pairs = draw_probe(t.learner.collector, told[: c.evaluation.probe_cliffs], c)
        t.writer.table("probe", 0, [pair_row(p) for p in pairs])
    else:
        pairs = [pair_of(r) for r in Run(t.writer.path).table("probe", 0)]
    lens = Lens(weights, topk=c.objective.topk, micro_batch_tokens=c.step.micro_batch_tokens)
    gaps = ranks.gather(token_gaps(t.learner.policy, ranks.share(pairs), lens))
    t.writer.table("gap", step, probe_rows(t.learner.policy, pairs, gaps))
    for on in sorted({p.on for p in pairs}):
        t.writer.metric("probe", step, **probe_means(pairs, gaps, on))


def pair_row(p: Pair) -> dict[str, Any]:
    ids = zip(PROBE_IDS, (p.student.prompt_ids, p.teacher.prompt_ids, p.student.completion_ids), strict=True)
    return {"problem_id": p.problem_id, "on": p.on, **{name: list(x) for name, x in ids}}


def pair_of(row: dict[str, Any]) -> Pair:
    student, teacher, done = (tuple(row[name]) for name in PROBE_IDS)
    return Pair(row["problem_id"], row["on"], Trace(student, done), Trace(teacher, done))


def is_best(t: Training, step: int) -> bool:
    """Whether this step was evaluated, and no trained one before was better where the best is chosen."""
    chosen_on = Run(t.writer.path).chosen_on()
    return step in chosen_on and max(chosen_on, key=lambda s: (chosen_on[s], -s)) == step


def save(t: Training, step: int) -> None:
    """A checkpoint, written aside and renamed, by rank 0."""
    if not t.report.ranks.first:
        return
    position = step * t.learner.config.step.prompts_per_step
    state = {"step": step, "data_position": position, "attempt": t.writer.attempt}
    with t.writer.checkpoint(step) as aside:
        t.learner.policy.save(aside, t.learner.optimiser, state)
