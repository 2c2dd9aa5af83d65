"""`L = L_GRPO + λ · L_JSD` onto the adapter's gradient: each term over its one denominator, whatever the micro-batches.

L_GRPO is divided by all student tokens of the step, zero-advantage groups and final end tokens included; L_JSD by all
accepted privileged tokens. Both counts are taken once a step, before anything is split, and are arguments here (over
several ranks: their sums). The two terms go through the model in micro-batches of their own, so that the gradient norm
of each costs no second backward pass. Vocabulary-sized work is done in chunks that the backward pass computes again.

This file is long: both terms share the chunked pass over the vocabulary, and what divides them must be read in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import isnan

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from hdpo.config import Divergence, ObjectiveConfig, Teacher
from hdpo.method import losses
from hdpo.method.advantages import advantages
from hdpo.model.batching import Trace
from hdpo.model.fit import CHUNK_ELEMENTS
from hdpo.model.policy import Policy, Weights
from hdpo.record.ranks import ALONE, Ranks
from hdpo.records import Group, Rollout, TopK


@dataclass(frozen=True)
class PolicyItem:
    """One student rollout with a signal. sampled_logprobs: the sampler's, (T,) nats, to log the mismatch."""

    trace: Trace
    advantage: float
    sampled_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class DistillItem:
    """One accepted privileged rollout under both prompts. topk: the teacher's, if the sampler kept it."""

    student: Trace
    teacher: Trace
    topk: TopK | None = None


@dataclass(frozen=True)
class Scale:
    """What one step divides by and samples at. tokens_*: sums over all ranks; temperature: of the policy ratio."""

    tokens_student: int
    tokens_accepted: int
    temperature: float
    micro_batch_tokens: int


@dataclass(frozen=True)
class Terms:
    """What one step optimised: both losses (nats a token, unweighted), gradient norms, and per-token means."""

    loss_grpo: float
    loss_jsd: float
    grad_norm_grpo: float
    grad_norm_jsd: float
    entropy: float | None
    sampler_mismatch: float | None
    jsd_floor: float | None
    teacher_mass: float | None
    student_mass: float | None
    step_gap: float | None


def teacher_weights(objective: ObjectiveConfig) -> Weights:
    """Drifting: as they are now; frozen: as at step 0."""
    return Weights.INITIAL if objective.teacher is Teacher.FROZEN else Weights.CURRENT


def policy_items(groups: Sequence[Group], objective: ObjectiveConfig) -> list[PolicyItem]:
    """The rollouts whose advantage is not zero; the others add exactly nothing and are not forwarded."""
    return [
        PolicyItem(Trace(g.prompt_ids, r.token_ids), a, r.logprobs)
        for g in groups
        for r, a in zip(g.rollouts, advantages(g.rewards, objective.advantage), strict=True)
        if a != 0.0
    ]


def distil_items(groups: Sequence[Group], kept: Sequence[tuple[Group, Rollout]]) -> list[DistillItem]:
    """Each accepted privileged rollout behind both prompts; groups: the student's, with the prompts of its own."""
    student = {g.problem.id: g.prompt_ids for g in groups}
    return [
        DistillItem(Trace(student[g.problem.id], r.token_ids), Trace(g.prompt_ids, r.token_ids), r.topk)
        for g, r in kept
    ]


def hdpo_gradient(
    policy: Policy,
    grpo: Sequence[PolicyItem],
    distil: Sequence[DistillItem],
    objective: ObjectiveConfig,
    scale: Scale,
    ranks: Ranks = ALONE,
) -> Terms:
    """Leave ∇(L_GRPO + λ L_JSD) in the adapter's `.grad` (Algorithm 1, step 7) and say what was optimised.

    Empty lists give a term of exactly 0 and no NaN. λ = 0 is exactly GRPO. grpo, distil: of all ranks; each passes its
    share through the model, and all end with the same gradient and the same terms.
    """
    return add_distillation(
        policy, grpo_gradient(policy, grpo, objective, scale, ranks), distil, objective, scale, ranks
    )


@dataclass(frozen=True)
class GrpoPart:
    """What the first term left: its gradient is in the adapter's `.grad`; sums (3,) over `tokens` tokens."""

    sums: Tensor
    tokens: int
    norm: float


def grpo_gradient(
    policy: Policy, grpo: Sequence[PolicyItem], objective: ObjectiveConfig, scale: Scale, ranks: Ranks = ALONE
) -> GrpoPart:
    """∇L_GRPO alone. It needs no privileged rollout, so these can be drawn meanwhile; scale.tokens_accepted is not
    looked at."""
    policy.model.zero_grad(set_to_none=True)
    with policy.accumulating():
        sums = _grpo_backward(policy, ranks.share(grpo), objective, scale)
    add_up(policy, sums, ranks, grpo)
    return GrpoPart(sums, sum(len(i.trace.completion_ids) for i in grpo), grad_norm(policy))


def add_distillation(
    policy: Policy,
    first: GrpoPart,
    distil: Sequence[DistillItem],
    objective: ObjectiveConfig,
    scale: Scale,
    ranks: Ranks = ALONE,
) -> Terms:
    """λ ∇L_JSD onto the gradient of the first term."""
    grpo_grads = [p.grad for p in policy.trainable]
    policy.model.zero_grad(set_to_none=True)
    with policy.accumulating():
        mine = ranks.share(distil) if objective.lambda_ > 0 else []
        sums = _distil_backward(policy, mine, objective, scale)
    add_up(policy, sums, ranks, distil if objective.lambda_ > 0 else [])
    norm = grad_norm(policy)
    for p, g in zip(policy.trainable, grpo_grads, strict=True):
        if g is not None:
            p.grad = g if p.grad is None else p.grad.add_(g)
    n_jsd = scale.tokens_accepted if objective.lambda_ > 0 else 0
    mean_grpo = (first.sums / first.tokens).tolist() if first.tokens else [None] * 3
    mean_jsd = (sums / n_jsd).tolist() if n_jsd else [None] * 5
    return Terms(
        loss_grpo=float(first.sums[0]) / scale.tokens_student if scale.tokens_student else 0.0,
        loss_jsd=mean_jsd[0] or 0.0,
        grad_norm_grpo=first.norm,
        grad_norm_jsd=norm,
        entropy=mean_grpo[1],
        sampler_mismatch=None if isnan(mean_grpo[2] or 0.0) else mean_grpo[2],
        jsd_floor=mean_jsd[1],
        teacher_mass=mean_jsd[2],
        student_mass=mean_jsd[3],
        step_gap=mean_jsd[4],
    )


def add_up(policy: Policy, sums: Tensor, ranks: Ranks, items: Sequence[object]) -> None:
    """The gradient and the sums of all ranks, on every rank; one without a share of the items adds 0."""
    if ranks.count == 1 or not items:
        return
    for p in policy.trainable:
        p.grad = torch.zeros_like(p) if p.grad is None else p.grad
    found = sums.to(policy.device)
    ranks.add([*(p.grad for p in policy.trainable), found])
    sums.copy_(found)


def group_gradient_norm(
    policy: Policy, group: Group, rewards: Sequence[float | None], objective: ObjectiveConfig, scale: Scale
) -> tuple[tuple[float, ...], float]:
    """Advantages under these (perhaps edited) rewards, and the norm of the GRPO gradient of this group alone.

    The same backward pass as for any group: on a cliff every advantage is 0, and so is the norm.
    """
    a = advantages(rewards, objective.advantage)
    items = [
        PolicyItem(Trace(group.prompt_ids, r.token_ids), x, r.logprobs)
        for r, x in zip(group.rollouts, a, strict=True)
        if x != 0.0
    ]
    tokens = sum(len(r.token_ids) for r in group.rollouts)
    terms = hdpo_gradient(policy, items, [], replace(objective, lambda_=0.0), replace(scale, tokens_student=tokens))
    policy.model.zero_grad(set_to_none=True)
    return a, terms.grad_norm_grpo


def grad_norm(policy: Policy) -> float:
    """Euclidean norm of the adapter's gradient."""
    grads = [p.grad for p in policy.trainable if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0


def _grpo_backward(policy: Policy, items: Sequence[PolicyItem], objective: ObjectiveConfig, scale: Scale) -> Tensor:
    """Sums over tokens of (surrogate, entropy, |mismatch|); the gradient of the first / tokens_student is added."""
    total = torch.zeros(3)
    for chosen in policy.parts([i.trace for i in items], scale.micro_batch_tokens):
        batch = policy.batch([items[i].trace for i in chosen], scale.micro_batch_tokens)
        advantage = torch.tensor([items[i].advantage for i in chosen], device=policy.device)[batch.rows_N]
        sampled = torch.tensor([x for i in chosen for x in items[i].sampled_logprobs], device=policy.device)

        def per_token(logits: Tensor, target: Tensor, advantage: Tensor, sampled: Tensor) -> Tensor:
            logp = (logits / scale.temperature).log_softmax(-1).gather(-1, target[:, None])[:, 0]
            # One update a batch: the old log-probs are these very ones, detached, and the ratio is 1.
            loss = losses.clipped_surrogate(logp, logp.detach(), advantage, clip_eps=objective.clip_eps)
            with torch.no_grad():
                entropy = losses.entropy(logits.log_softmax(-1))
                mismatch = (logp - sampled).abs()
            return torch.stack([loss, entropy, mismatch], -1)

        sums = over_vocabulary(policy, policy.hidden(batch), per_token, batch.targets_N, advantage, sampled)
        (sums[0] / scale.tokens_student).backward()
        total += sums.detach().cpu()
    return total


def _distil_backward(policy: Policy, items: Sequence[DistillItem], objective: ObjectiveConfig, scale: Scale) -> Tensor:
    """Sums over tokens of (divergence, floor, teacher's mass, student's mass, gap); the gradient of
    λ · the first / tokens_accepted is added.

    The top-k kept while sampling stands for the teacher only under the teacher's own weights and for JSD_k;
    otherwise the teacher is asked again.
    """
    weights = teacher_weights(objective)
    total = torch.zeros(5)
    for kept in (True, False):
        some = [i for i in items if _topk_stands(policy, i, weights, objective) is kept]
        for chosen in policy.parts([i.student for i in some], scale.micro_batch_tokens):
            part = [some[i] for i in chosen]
            batch = policy.batch([i.student for i in part], scale.micro_batch_tokens)
            hidden = policy.hidden(batch)
            if kept:
                ids, logp = _kept_topk(part, objective.topk, policy.device)
                sums = over_vocabulary(policy, hidden, _topk_terms, ids, logp)
            else:
                sums = over_vocabulary(
                    policy, hidden, _asked_terms(policy, objective), _teacher_hidden(policy, part, weights)
                )
            (objective.lambda_ * sums[0] / scale.tokens_accepted).backward()
            total += sums.detach().cpu()
    return total


def _topk_stands(policy: Policy, item: DistillItem, weights: Weights, objective: ObjectiveConfig) -> bool:
    return (
        objective.divergence is Divergence.JSD_TOPK
        and item.topk is not None
        and item.topk.weights == policy.name_of(weights)
    )


def _kept_topk(items: Sequence[DistillItem], k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    ids = torch.cat([torch.as_tensor(i.topk.ids)[:, :k] for i in items if i.topk is not None]).long()
    logp = torch.cat([torch.as_tensor(i.topk.logprobs)[:, :k] for i in items if i.topk is not None])
    return ids.to(device), logp.to(device)


def _teacher_hidden(policy: Policy, items: Sequence[DistillItem], weights: Weights) -> Tensor:
    """(N, hidden size) of the same completions behind the privileged prompts, without gradient."""
    with torch.no_grad():
        return policy.hidden(policy.batch([i.teacher for i in items]), weights)


def _topk_terms(logits: Tensor, ids: Tensor, teacher_logp: Tensor) -> Tensor:
    """(n, 5) from the teacher's kept top-k: JSD_k, floor, both captured masses, gap with one tail bucket."""
    student = logits.log_softmax(-1).gather(-1, ids)
    loss = losses.jsd_topk(teacher_logp, student)
    with torch.no_grad():
        mass, student_mass = losses.captured_mass(teacher_logp), losses.captured_mass(student)
        gap = losses.coarse_kl(teacher_logp, student)
    return torch.stack([loss, losses.jsd_floor(mass), mass, student_mass, gap], -1)


def _asked_terms(policy: Policy, objective: ObjectiveConfig) -> Callable[..., Tensor]:
    """The same five from full-vocabulary teacher logits; the gap is then exact."""
    whole = {
        Divergence.JSD: losses.jsd_full,
        Divergence.FORWARD_KL: losses.forward_kl,
        Divergence.REVERSE_KL: losses.reverse_kl,
    }

    def per_token(logits: Tensor, teacher_hidden: Tensor) -> Tensor:
        student = logits.log_softmax(-1)
        with torch.no_grad():
            teacher = policy.logits(teacher_hidden).log_softmax(-1)
            top, ids = teacher.topk(min(objective.topk, teacher.shape[-1]), -1)
            mass, student_mass = losses.captured_mass(top), losses.captured_mass(student.gather(-1, ids))
            gap = losses.forward_kl(teacher, student).clamp(min=0.0)
        if objective.divergence is Divergence.JSD_TOPK:
            loss = losses.jsd_topk(top, student.gather(-1, ids))
        else:
            loss = whole[objective.divergence](teacher, student)
        return torch.stack([loss, losses.jsd_floor(mass), mass, student_mass, gap], -1)

    return per_token


def over_vocabulary(policy: Policy, hidden: Tensor, per_token: Callable[..., Tensor], *aligned: Tensor) -> Tensor:
    """Sum over tokens of per_token(logits, *aligned), in chunks of CHUNK_ELEMENTS logits. (N, H), (N, …) → (M,).

    More than one chunk: each is computed again in the backward pass, so that at most one chunk of logits exists.
    """

    def chunk_sum(h: Tensor, *rest: Tensor) -> Tensor:
        return per_token(policy.logits(h), *rest).sum(0)

    size = max(1, CHUNK_ELEMENTS // policy.vocabulary)
    if len(hidden) <= size:
        return chunk_sum(hidden, *aligned)
    parts = [x.split(size) for x in (hidden, *aligned)]
    return sum(
        (checkpoint(chunk_sum, *c, use_reentrant=False) for c in zip(*parts, strict=True)),
        torch.zeros((), device=hidden.device),
    )
