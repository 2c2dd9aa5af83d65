"""Algorithm 1 of the paper on one screen: sample, grade, find the cliffs, peek, keep R = 1, update.

Pure but for the sampler: nothing is written, read or decided here beyond one optimiser step. The draws are keyed, the
data position and the learning rate follow from the step, so that nothing is remembered that can be computed.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from typing import Any, TypeVar

import torch

from hdpo.config import StepConfig, TrainConfig
from hdpo.method import arms
from hdpo.method.groups import Collector, signal_accounting
from hdpo.method.objective import Scale, add_distillation, grpo_gradient, policy_items, teacher_weights
from hdpo.model.policy import Policy
from hdpo.record.ranks import ALONE, Ranks
from hdpo.records import Group, Problem, failures
from hdpo.sampling.draws import DrawKey, Purpose, epoch_order
from hdpo.sampling.protocol import Draw

T = TypeVar("T")


@dataclass(frozen=True)
class Learner:
    """What learns: the policy, who rolls it out and grades, and AdamW over its adapter."""

    config: TrainConfig
    policy: Policy
    collector: Collector
    optimiser: torch.optim.Optimizer
    ranks: Ranks = ALONE


@dataclass(frozen=True)
class Step:
    """What one step was: the student's groups, the privileged ones of its cliffs, and what a run records of it."""

    groups: Sequence[Group]
    peeked: Sequence[Group]
    row: dict[str, Any]


def hdpo_step(learner: Learner, problems: Sequence[Problem], step: int) -> Step:
    """One step of Algorithm 1 (Sec. 3.2) on a batch of P problems, counted from 1. The numbers are the paper's."""
    c, how, began = learner.config, learner.config.objective, time.perf_counter()
    seconds = learner.collector.seconds = {"sample": 0.0, "verify": 0.0}
    draw = Draw(c.step.rollouts, DrawKey(c.seed, Purpose.STUDENT, step))
    groups = learner.collector.collect(problems, draw)  # 1. K each
    seconds = {**seconds, "privileged": 0.0}

    sharpens, distils = arms.terms(how, step)
    cliffs = arms.distilled(groups, how)[: c.step.max_cliffs] if distils else []  # 3. where every reward is 0
    with beside(learner, lambda: peek(learner, arms.shown(groups, cliffs, how), step), seconds) as peeking:  # 4. x ⊕ y*
        scale = Scale(count_tokens(groups), 0, c.sampling.temperature, c.step.micro_batch_tokens)
        grpo = policy_items(groups, how) if sharpens else []
        first = grpo_gradient(learner.policy, grpo, how, scale, learner.ranks)  # 2. ∇L_GRPO
        peeked = peeking()
    how = replace(how, lambda_=arms.weight(how, groups, peeked) if distils else 0.0)
    distil = arms.items(learner.collector, cliffs, peeked, how) if how.lambda_ else []  # 5. what has R = 1
    scale = replace(scale, tokens_accepted=sum(len(i.student.completion_ids) for i in distil))
    terms = add_distillation(learner.policy, first, distil, how, scale, learner.ranks)  # 6. + λ ∇L_JSD
    moved = descend(learner, step, signal=bool(grpo or distil))  # 7. θ ← θ − α ∇L_HDPO

    seconds["update"] = time.perf_counter() - began - sum(seconds.values())
    took = {f"seconds_{phase}": s for phase, s in seconds.items()} | {"seconds": time.perf_counter() - began}
    loss = terms.loss_grpo + how.lambda_ * terms.loss_jsd  # what was descended, in nats a token
    row: dict[str, Any] = {"lambda": how.lambda_, "loss": loss, **asdict(terms)}
    row |= {"tokens_student": scale.tokens_student, "tokens_accepted": scale.tokens_accepted}
    row |= {"accepted_rollouts": len(distil), **moved, **counts(groups, peeked)}
    return Step(groups, peeked, row | learner.collector.sampler.parity() | took)


def peek(learner: Learner, cliffs: Sequence[Group], step: int) -> list[Group]:
    """The privileged groups of these cliffs (Algorithm 1, line 4), with the teacher's top-k."""
    c, key = learner.config, DrawKey(learner.config.seed, Purpose.PRIVILEGED, step)
    draw = Draw(c.step.privileged_rollouts, key, teacher_weights(c.objective), c.objective.topk)
    return learner.collector.collect([g.problem for g in cliffs], draw, privileged=True)


@contextmanager
def beside(learner: Learner, work: Callable[[], T], seconds: dict[str, float]) -> Iterator[Callable[[], T]]:
    """What gives the work's result. The work is done first, or, where a small model leaves a core idle, on that while
    the block goes on: this took an HDPO step from 1.85 to 1.4 of a GRPO step. seconds["privileged"]: what was waited."""

    def waited(get: Callable[[], T]) -> T:
        began = time.perf_counter()
        done = get()
        seconds["privileged"] += time.perf_counter() - began
        return done

    if not learner.policy.small or torch.get_num_threads() == 1 or learner.ranks.count > 1:
        done = waited(work)
        learner.collector.sampler.release()
        yield lambda: done
    else:
        with ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(1,)) as pool:
            future = pool.submit(work)
            yield lambda: waited(future.result)


def descend(learner: Learner, step: int, signal: bool) -> dict[str, Any]:
    """One AdamW step along the adapter's gradient. Without a signal none: momentum and weight decay would move it."""
    c, norm = learner.config.step, 0.0
    rate = learning_rate(step, c)
    for group in learner.optimiser.param_groups:
        group["lr"] = rate
    if signal:
        norm = float(torch.nn.utils.clip_grad_norm_(learner.policy.trainable, c.grad_norm))
        learner.optimiser.step()
    learner.policy.version = step
    return {"learning_rate": rate, "grad_norm": norm, "updated": signal}


def learning_rate(step: int, c: StepConfig) -> float:
    """Warm-up from 0.1× to 1× over `warmup` steps, then constant (App. C). step counts from 1.

    >>> c = StepConfig(learning_rate=1.0, warmup=10)
    >>> [round(learning_rate(s, c), 2) for s in (1, 6, 11, 500)]
    [0.1, 0.55, 1.0, 1.0]
    """
    return c.learning_rate * (0.1 + 0.9 * min(1.0, (step - 1) / c.warmup if c.warmup else 1.0))


def batch_of(problems: Sequence[Problem], seed: int, step: int, size: int) -> list[Problem]:
    """The problems of a step: each epoch visits all in its own order; no problem twice in a batch's epoch."""
    first = (step - 1) * size
    orders = {e: epoch_order(seed, e, len(problems)) for e in {i // len(problems) for i in (first, first + size - 1)}}
    batch = [problems[orders[i // len(problems)][i % len(problems)]] for i in range(first, first + size)]
    return list({p.id: p for p in batch}.values())  # where two epochs meet, a problem may come twice


def count_tokens(groups: Sequence[Group]) -> int:
    return sum(len(r.token_ids) for g in groups for r in g.rollouts)


def counts(groups: Sequence[Group], peeked: Sequence[Group]) -> dict[str, Any]:
    """What became of the step's rollouts, and which signal each group gave."""
    rollouts = [r for g in groups for r in g.rollouts]
    rewards = [r.reward for r in rollouts if r.reward is not None]
    return signal_accounting(groups, peeked) | {
        "reward": sum(rewards) / len(rewards) if rewards else None,
        "rollouts": len(rollouts),
        **failures([r.outcome for r in rollouts]),
        "length": count_tokens(groups) / len(rollouts) if rollouts else None,
        "privileged_rollouts": sum(len(g.rollouts) for g in peeked),
        "tokens_privileged": count_tokens(peeked),
    }
