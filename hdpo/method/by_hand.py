"""λ by hand: on one batch, without training, the gradient of each term and what one plain step along their sum does.

Algorithm 1, line 7, as it stands there: θ ← θ − α ∇(L_GRPO + λ L_JSD). Training takes AdamW's step instead, which gives each
weight about the same length; here the length is the gradient's own.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from hdpo.config import ObjectiveConfig
from hdpo.method.objective import Distil, Grpo, Scale, add_distillation, grpo_gradient
from hdpo.model.batching import Trace
from hdpo.model.policy import Policy


@dataclass(frozen=True)
class Measured:
    """grpo, jsd: the norms of ∇L_GRPO and ∇L_JSD; cosine: between them, None where one is 0; sums: (L,) the norm of
    ∇L_GRPO + λ ∇L_JSD at each λ; before: (T,) log-probs of the watched trace; after: (L, S, T) with the step taken."""

    grpo: float
    jsd: float
    cosine: float | None
    sums: list[float]
    before: list[float]
    after: list[list[list[float]]]


def by_hand(
    policy: Policy,
    terms: tuple[Grpo, Distil],
    objective: ObjectiveConfig,
    scale: Scale,
    watched: Trace,
    grid: tuple[Sequence[float], Sequence[float]],
) -> Measured:
    """grid: the λ and the step sizes α, all of them measured. The adapter is afterwards as it was."""
    g, d = gradients(policy, *terms, objective, scale)
    (lambdas, sizes), product = grid, float(g.norm() * d.norm())

    def stepped(lam: float, size: float) -> list[float]:
        with moved(policy, -size * (g + lam * d)):
            return log_probs(policy, watched)

    return Measured(
        grpo=float(g.norm()),
        jsd=float(d.norm()),
        cosine=float(g @ d) / product if product else None,
        sums=[float((g + lam * d).norm()) for lam in lambdas],
        before=log_probs(policy, watched),
        after=[[stepped(lam, size) for size in sizes] for lam in lambdas],
    )


def gradients(
    policy: Policy, grpo: Grpo, distil: Distil, objective: ObjectiveConfig, scale: Scale
) -> tuple[Tensor, Tensor]:
    """∇L_GRPO and ∇L_JSD, each as one vector over the adapter: λ enters linearly."""
    grpo_gradient(policy, grpo, objective, scale)
    g = flat(policy)
    nothing = grpo_gradient(policy, [], objective, scale)
    add_distillation(policy, nothing, distil, replace(objective, lambda_=1.0), scale)
    d = flat(policy)
    policy.model.zero_grad(set_to_none=True)
    return g, d


def flat(policy: Policy) -> Tensor:
    """The adapter's gradient as one vector; what no backward pass reached is 0."""
    return torch.cat([(torch.zeros_like(p) if p.grad is None else p.grad).flatten() for p in policy.trainable])


@contextmanager
def moved(policy: Policy, by: Tensor) -> Iterator[None]:
    """Inside the block the adapter stands elsewhere by this vector; afterwards it is what it was, bit for bit."""
    held = [p.detach().clone() for p in policy.trainable]
    parts = by.split([p.numel() for p in policy.trainable])
    try:
        with torch.no_grad():
            for p, part in zip(policy.trainable, parts, strict=True):
                p.add_(part.view_as(p))
        yield
    finally:
        with torch.no_grad():
            for p, was in zip(policy.trainable, held, strict=True):
                p.copy_(was)


@torch.no_grad()
def log_probs(policy: Policy, trace: Trace) -> list[float]:
    """(T,) of the completion's tokens, at temperature 1."""
    batch = policy.batch([trace])
    logp = policy.logits(policy.hidden(batch)).log_softmax(-1)
    return [float(x) for x in logp.gather(-1, batch.targets_E[:, None])[:, 0]]
