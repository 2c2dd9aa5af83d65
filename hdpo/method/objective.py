"""`L = L_GRPO + λ · L_JSD` onto the adapter's gradient: each term over its one denominator, whatever the micro-batches.

L_GRPO is divided by all student tokens of the step, zero-advantage groups and final end tokens included; L_JSD by all
accepted privileged tokens. Both counts are taken once a step, before anything is split, and are arguments here (over
several ranks: their sums). The two terms go through the model in micro-batches of their own, so that the gradient norm
of each costs no second backward pass. Vocabulary-sized work is done in chunks that the backward pass computes again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
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
from hdpo.records import Group, TopK

WHOLE = {  # over the whole vocabulary
    Divergence.JSD: losses.jsd_full,
    Divergence.FORWARD_KL: losses.forward_kl,
    Divergence.REVERSE_KL: losses.reverse_kl,
}


@dataclass(frozen=True)
class PolicyItem:
    """One student rollout with a signal. sampled_logprobs: the sampler's, (T,) nats, to log the mismatch."""

    trace: Trace
    advantage: float
    sampled_logprobs: tuple[float, ...]


@dataclass(frozen=True)
class DistillItem:
    """One accepted privileged rollout under both prompts. topk: the teacher's, if the sampler kept it; sampled_logprobs: with
    which it was drawn, (T,) nats, where they are known."""

    student: Trace
    teacher: Trace
    topk: TopK | None = None
    sampled_logprobs: tuple[float, ...] = ()


Grpo = Sequence[PolicyItem]
Distil = Sequence[DistillItem]


@dataclass(frozen=True)
class Scale:
    """What one step divides by and samples at. tokens_*: sums over all ranks; temperature: of the policy ratio."""

    tokens_student: int
    tokens_accepted: int
    temperature: float
    micro_batch_tokens: int


@dataclass(frozen=True)
class Terms:
    """What one step optimised: both losses (nats a token, unweighted; loss_jsd whatever the divergence), the gradient norms
    of L_GRPO and of λ·L_JSD, and per-token means. off_policy: log π_θ(y|x) less the log-prob with which the trace was drawn
    (under x ⊕ y*), in nats: how far from the student's own the traces are."""

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
    off_policy: float | None


def teacher_weights(objective: ObjectiveConfig) -> Weights:
    """Drifting: as they are now; frozen: as at step 0."""
    return Weights.INITIAL if objective.teacher is Teacher.FROZEN else Weights.CURRENT


def policy_items(groups: Sequence[Group], objective: ObjectiveConfig) -> list[PolicyItem]:
    """The rollouts that give a signal."""
    return [i for g in groups for i in with_signal(g, advantages(g.rewards, objective.advantage))]


def with_signal(group: Group, advantage: Sequence[float]) -> list[PolicyItem]:
    """The rollouts whose advantage is not zero; the others add exactly nothing and are not forwarded."""
    each = zip(group.rollouts, advantage, strict=True)
    return [PolicyItem(Trace(group.prompt_ids, r.token_ids), a, r.logprobs) for r, a in each if a != 0.0]


@dataclass(frozen=True)
class GrpoPart:
    """What the first term left: its gradient is in the adapter's `.grad`; sums (3,) over `tokens` tokens."""

    sums: Tensor
    tokens: int
    norm: float


def grpo_gradient(
    policy: Policy, grpo: Grpo, objective: ObjectiveConfig, scale: Scale, ranks: Ranks = ALONE
) -> GrpoPart:
    """∇L_GRPO alone, without a look at scale.tokens_accepted: privileged rollouts can be drawn meanwhile.

    grpo: of all ranks; each passes its share through the model, and all end with the same gradient and sums.
    """
    policy.model.zero_grad(set_to_none=True)
    with policy.accumulating():
        sums = _grpo_backward(policy, ranks.share(grpo), objective, scale)
    norm = add_up(policy, sums, ranks, grpo)
    return GrpoPart(sums, sum(len(i.trace.completion_ids) for i in grpo), norm)


def add_distillation(
    policy: Policy, first: GrpoPart, distil: Distil, objective: ObjectiveConfig, scale: Scale, ranks: Ranks = ALONE
) -> Terms:
    """λ ∇L_JSD onto the gradient of the first term: ∇(L_GRPO + λ L_JSD) is in the adapter's `.grad` (Algorithm 1, step 7).
    Says what was optimised. Empty lists give a term of exactly 0 and no NaN; λ = 0 is exactly GRPO. distil: of all ranks.
    """
    grpo_grads = [p.grad for p in policy.trainable]
    policy.model.zero_grad(set_to_none=True)
    if objective.lambda_ == 0:
        distil, scale = [], replace(scale, tokens_accepted=0)
    with policy.accumulating():
        sums = _distil_backward(policy, ranks.share(distil), objective, scale)
    norm = add_up(policy, sums, ranks, distil)
    for p, g in zip(policy.trainable, grpo_grads, strict=True):
        if g is not None:
            p.grad = g if p.grad is None else p.grad.add_(g)
    loss_grpo = float(first.sums[0]) / scale.tokens_student if scale.tokens_student else 0.0
    _, entropy, mismatch = (first.sums / first.tokens).tolist() if first.tokens else [None] * 3
    mismatch = None if isnan(mismatch or 0.0) else mismatch
    loss_jsd, *means = (sums / scale.tokens_accepted).tolist() if scale.tokens_accepted else [None] * 6
    drawn = [x for i in distil for x in i.sampled_logprobs]
    floor, mass, student_mass, gap, said = means
    off_policy = None
    if said is not None and len(drawn) == scale.tokens_accepted and scale.temperature == 1 and not isnan(sum(drawn)):
        off_policy = said - sum(drawn) / len(drawn)
    lost = loss_grpo, loss_jsd or 0.0
    return Terms(*lost, first.norm, norm, entropy, mismatch, floor, mass, student_mass, gap, off_policy)


def add_up(policy: Policy, sums: Tensor, ranks: Ranks, items: Sequence[object]) -> float:
    """The gradient and the sums of all ranks, on every rank (without a share of the items it adds 0); its norm."""
    if ranks.count > 1 and items:
        for p in policy.trainable:
            p.grad = torch.zeros_like(p) if p.grad is None else p.grad
        found = sums.to(policy.device)
        ranks.add([*(p.grad for p in policy.trainable), found])
        sums.copy_(found)
    grads = [p.grad for p in policy.trainable if p.grad is not None]
    return float(torch.nn.utils.get_total_norm(grads)) if grads else 0.0


def group_gradient_norm(
    policy: Policy, group: Group, rewards: Sequence[float | None], objective: ObjectiveConfig, scale: Scale
) -> tuple[tuple[float, ...], float]:
    """Advantages under these (perhaps edited) rewards, and the norm of the GRPO gradient of this group alone.

    The same backward pass as for any group: on a cliff every advantage is 0, and so is the norm.
    """
    a = advantages(rewards, objective.advantage)
    tokens = sum(len(r.token_ids) for r in group.rollouts)
    first = grpo_gradient(policy, with_signal(group, a), objective, replace(scale, tokens_student=tokens))
    policy.model.zero_grad(set_to_none=True)
    return a, first.norm


def _grpo_backward(policy: Policy, items: Grpo, objective: ObjectiveConfig, scale: Scale) -> Tensor:
    """Sums over tokens of (surrogate, entropy, |mismatch|); the gradient of the first / tokens_student is added."""
    total = torch.zeros(3)
    for chosen in policy.parts([i.trace for i in items], scale.micro_batch_tokens):
        batch = policy.batch([items[i].trace for i in chosen], scale.micro_batch_tokens)
        advantage = torch.tensor([items[i].advantage for i in chosen], device=policy.device)[batch.rows_N]
        sampled = torch.tensor([x for i in chosen for x in items[i].sampled_logprobs], device=policy.device)

        def per_edge(logits: Tensor, target: Tensor) -> Tensor:
            logp = (logits / scale.temperature).log_softmax(-1).gather(-1, target[:, None])[:, 0]
            with torch.no_grad():
                entropy = losses.entropy(logits.log_softmax(-1))
            return torch.stack([logp, entropy], -1)

        each = over_vocabulary(policy, policy.hidden(batch), per_edge, batch.targets_E)
        logp, entropy = each[batch.edges_N].T
        # One update a batch: the old log-probs are these very ones, detached, and the ratio is 1.
        loss = losses.clipped_surrogate(logp, logp.detach(), advantage, clip_eps=objective.clip_eps)
        sums = torch.stack([loss, entropy, (logp.detach() - sampled).abs()]).sum(-1)
        (sums[0] / scale.tokens_student).backward()
        total += sums.detach().cpu()
    return total


def _distil_backward(policy: Policy, items: Distil, objective: ObjectiveConfig, scale: Scale) -> Tensor:
    """Sums over tokens of (divergence, floor, teacher's mass, student's mass, gap, student's log-prob); the gradient of
    λ · the first / tokens_accepted is added.

    The top-k kept while sampling stands for the teacher only under its own weights and where no more of it is read; else
    it is asked again.
    """
    weights = teacher_weights(objective)

    def stands(item: DistillItem) -> bool:
        kept = item.topk is not None and item.topk.weights == policy.name_of(weights)
        return kept and objective.divergence not in WHOLE

    total = torch.zeros(6)
    for kept in (True, False):
        some = [i for i in items if stands(i) is kept]
        for chosen in policy.parts([i.student for i in some], scale.micro_batch_tokens):
            part = [some[i] for i in chosen]
            batch = policy.batch([i.student for i in part], scale.micro_batch_tokens)
            hidden = policy.hidden(batch)
            if kept:
                teacher = [x[batch.first_E] for x in _kept_topk(part, objective.topk, policy.device)]
                each = over_vocabulary(policy, hidden, partial(_topk_terms, objective), batch.targets_E, *teacher)
            else:
                behind = policy.batch([i.teacher for i in part], scale.micro_batch_tokens)
                with torch.no_grad():
                    asked = policy.hidden(behind, weights)[behind.edges_N[batch.first_E]]
                each = over_vocabulary(policy, hidden, partial(_asked_terms, policy, objective), batch.targets_E, asked)
            sums = each[batch.edges_N].sum(0)
            (objective.lambda_ * sums[0] / scale.tokens_accepted).backward()
            total += sums.detach().cpu()
    return total


def _kept_topk(items: Sequence[DistillItem], k: int, device: torch.device) -> tuple[Tensor, Tensor]:
    ids = torch.cat([torch.as_tensor(i.topk.ids)[:, :k] for i in items if i.topk is not None]).long()
    logp = torch.cat([torch.as_tensor(i.topk.logprobs)[:, :k] for i in items if i.topk is not None])
    return ids.to(device), logp.to(device)


def _topk_terms(objective: ObjectiveConfig, logits: Tensor, target: Tensor, ids: Tensor, teacher_top: Tensor) -> Tensor:
    """(n, 6) from the teacher's kept top-k: the loss, floor, both captured masses, gap with one tail bucket, log-prob."""
    student = logits.log_softmax(-1)
    student_top = student.gather(-1, ids)
    with torch.no_grad():
        gap = losses.coarse_kl(teacher_top, student_top)
    if objective.divergence is Divergence.SFT:
        loss = losses.negative_log_likelihood(student, target)
    else:
        loss = losses.jsd_topk(teacher_top, student_top)
    return _six(loss, teacher_top, student_top, gap, student, target)


def _asked_terms(
    policy: Policy, objective: ObjectiveConfig, logits: Tensor, target: Tensor, teacher_hidden: Tensor
) -> Tensor:
    """The same six from full-vocabulary teacher logits; the gap is then exact."""
    student = logits.log_softmax(-1)
    with torch.no_grad():
        teacher = policy.logits(teacher_hidden).log_softmax(-1)
        teacher_top, ids = teacher.topk(min(objective.topk, teacher.shape[-1]), -1)
        gap = losses.forward_kl(teacher, student).clamp(min=0.0)
    if objective.divergence in WHOLE:
        loss = WHOLE[objective.divergence](teacher, student)
        return _six(loss, teacher_top, student.gather(-1, ids), gap, student, target)
    terms = _topk_terms(objective, logits, target, ids, teacher_top)
    return torch.cat([terms[:, :4], gap[:, None], terms[:, 5:]], -1)


def _six(
    loss: Tensor, teacher_top: Tensor, student_top: Tensor, gap: Tensor, student: Tensor, target: Tensor
) -> Tensor:
    with torch.no_grad():
        mass, student_mass = losses.captured_mass(teacher_top), losses.captured_mass(student_top)
        said = -losses.negative_log_likelihood(student, target)
    return torch.stack([loss, losses.jsd_floor(mass), mass, student_mass, gap, said], -1)


def over_vocabulary(policy: Policy, hidden: Tensor, per_edge: Callable[..., Tensor], *aligned: Tensor) -> Tensor:
    """per_edge(logits, *aligned) in chunks of CHUNK_ELEMENTS logits. (E, H), (E, …) → (E, M).

    More than one chunk: each is computed again in the backward pass, so that at most one chunk of logits exists.
    """

    def chunk(h: Tensor, *rest: Tensor) -> Tensor:
        return per_edge(policy.logits(h), *rest)

    size = max(1, CHUNK_ELEMENTS // policy.vocabulary)
    if len(hidden) <= size:
        return chunk(hidden, *aligned)
    parts = [x.split(size) for x in (hidden, *aligned)]
    return torch.cat([checkpoint(chunk, *c, use_reentrant=False) for c in zip(*parts, strict=True)])
