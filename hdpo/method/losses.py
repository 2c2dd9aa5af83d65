"""Losses and divergences per token: pure functions, tensors in, unreduced `(N,)` out, everything in nats.

Axes: `N` completion positions (flat, padding already gone), `V` vocabulary, `K` the teacher's top-k. Every
function works on the last axis and leaves the leading ones alone. Divergences are computed in float32 at
least, whatever the model's dtype, and the teacher's side is always detached. What divides the sums is
`objective.py`'s business alone.
"""

import math

import torch
from torch import Tensor

LN2 = math.log(2.0)
# exp(-1e4) is exactly 0 in float64 too, and -1e4 keeps every difference of logs, and every gradient, finite.
_LOG_ZERO = -1e4


def clipped_surrogate(logp_N: Tensor, old_logp_N: Tensor, advantage_N: Tensor, *, clip_eps: float) -> Tensor:
    """PPO's clipped surrogate per token, to be minimised: `-min(ρA, clip(ρ, 1-ε, 1+ε)A)`, (N,) → (N,).

    ρ = exp(logp - old_logp); the paper takes ε = 0.2 (Sec. 3.2). `old_logp_N` and `advantage_N` are detached.

    >>> logp = torch.log(torch.tensor([0.9, 0.9, 0.1]))
    >>> old = torch.log(torch.tensor([0.6, 0.6, 0.2]))  # ratios 1.5, 1.5, 0.5
    >>> clipped_surrogate(logp, old, torch.tensor([1.0, -1.0, -1.0]), clip_eps=0.2).numpy().round(4).tolist()
    [-1.2000000476837158, 1.5, 0.800000011920929]
    """
    advantage_N = advantage_N.detach()
    ratio_N = (logp_N - old_logp_N.detach()).exp()
    clipped_N = ratio_N.clamp(1.0 - clip_eps, 1.0 + clip_eps)
    return -torch.minimum(ratio_N * advantage_N, clipped_N * advantage_N)


def jsd_topk(teacher_topk_logp_NK: Tensor, student_topk_logp_NK: Tensor) -> Tensor:
    """JSD_k of Sec. 3.2: renormalised top-k teacher against student with exact tail, (N, K) → (N,) nats.

    teacher_topk_logp_NK: raw log-probs of the teacher's K largest tokens; renormalised and detached here.
    student_topk_logp_NK: the student's full-vocabulary log-softmax, read at the same K ids.

        JSD_k = ½ Σ_k p ln(p/m) + ½ Σ_k q ln(q/m) + ½ P_rest ln 2,   m = (p+q)/2,   P_rest = 1 - Σ_k q

    Outside the top-k the teacher has no mass, so m = q/2 there and KL(q‖m) is P_rest ln 2; the ½ is that of
    the JSD's definition. The paper's text writes the tail without the ½; only with it does JSD_k equal the
    full-vocabulary JSD whenever the teacher has no mass outside its top-k. Not symmetric, and 0 at P = Q only
    where the teacher's top-k captures everything: see `jsd_floor`.

    >>> teacher = torch.log(torch.tensor([[0.5, 0.5]]))
    >>> round(jsd_topk(teacher, torch.log(torch.tensor([[0.5, 0.5]]))).item(), 6)
    0.0
    >>> round(jsd_topk(teacher, torch.full((1, 2), -torch.inf)).item() / LN2, 6)  # all in the tail
    1.0
    """
    logp_NK = _at_least_float32(teacher_topk_logp_NK.detach()).clamp(min=_LOG_ZERO).log_softmax(dim=-1)
    logq_NK = _at_least_float32(student_topk_logp_NK)
    rest_N = (1.0 - logq_NK.exp().sum(dim=-1)).clamp(min=0.0)  # rounding can leave -1e-7
    return _half_jsd_terms(logp_NK, logq_NK) + 0.5 * LN2 * rest_N


def captured_mass(topk_logp_NK: Tensor) -> Tensor:
    """The probability c that lies inside the top-k: `Σ_k exp(logp)`, in [0, 1], (N, K) → (N,).

    >>> captured_mass(torch.log(torch.tensor([[0.5, 0.25]]))).tolist()
    [0.75]
    """
    return _at_least_float32(topk_logp_NK).exp().sum(dim=-1).clamp(max=1.0)


def jsd_floor(captured_mass_N: Tensor) -> Tensor:
    """JSD_k(P, P) = ½[2 ln 2 - (1+c) ln(1+c) + c ln c] for captured mass c, in nats, (N,) → (N,).

    What JSD_k still shows when student and teacher agree perfectly; 0 only at c = 1, ½ ln 4 = ln 2 at c = 0.

    >>> [round(x, 4) for x in jsd_floor(torch.tensor([1.0, 0.98, 0.0])).tolist()]
    [0.0, 0.007, 0.6931]
    """
    c_N = _at_least_float32(captured_mass_N)
    return (0.5 * (2.0 * LN2 - torch.xlogy(1.0 + c_N, 1.0 + c_N) + torch.xlogy(c_N, c_N))).clamp(min=0.0)


def jsd_full(teacher_logp_NV: Tensor, student_logp_NV: Tensor) -> Tensor:
    """`½ KL(P‖M) + ½ KL(Q‖M)`, `M = (P+Q)/2`, over the whole vocabulary, (N,) nats (Sec. 3.2).

    Symmetric in value and within [0, ln 2]; the gradient reaches the student only.

    >>> one_hot, other = torch.log(torch.eye(2))
    >>> round(jsd_full(one_hot, other).item() / LN2, 6)
    1.0
    """
    return _half_jsd_terms(_at_least_float32(teacher_logp_NV.detach()), _at_least_float32(student_logp_NV))


def forward_kl(teacher_logp_NV: Tensor, student_logp_NV: Tensor) -> Tensor:
    """`KL(P_T‖P_S)` over the whole vocabulary, (N,) nats: the realizability gap (Sec. 3).

    Gradient to the student only. Infinite where the student excludes a token that the teacher allows.

    >>> p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    >>> round(forward_kl(p, q).item(), 6)  # ½ ln 2 + ½ ln ⅔
    0.143841
    """
    return _kl(_at_least_float32(teacher_logp_NV.detach()), _at_least_float32(student_logp_NV))


def reverse_kl(teacher_logp_NV: Tensor, student_logp_NV: Tensor) -> Tensor:
    """`KL(P_S‖P_T)` over the whole vocabulary, (N,) nats. Gradient to the student only.

    >>> p, q = torch.tensor([0.5, 0.5]).log(), torch.tensor([0.25, 0.75]).log()
    >>> round(reverse_kl(p, q).item(), 6)  # ¼ ln ½ + ¾ ln 3/2
    0.130812
    """
    return _kl(_at_least_float32(student_logp_NV), _at_least_float32(teacher_logp_NV.detach()))


def negative_log_likelihood(student_logp_NV: Tensor, token_N: Tensor) -> Tensor:
    """`-log q(token)`, (N, V), (N,) → (N,) nats: supervised fine-tuning on the traces, without their teacher.

    >>> round(negative_log_likelihood(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([0])).item(), 6)
    0.693147
    """
    return -_at_least_float32(student_logp_NV).gather(-1, token_N[:, None])[:, 0]


def coarse_kl(teacher_topk_logp_NK: Tensor, student_topk_logp_NK: Tensor) -> Tensor:
    """KL(P_T‖P_S) with everything outside the teacher's top-k in one bucket, (N,) nats: never above the exact KL
    (data processing), and equal to it where one token holds the whole tail.

    Both are raw log-probs at the same K ids, not renormalised.

    >>> p, q = torch.tensor([[0.5, 0.3]]).log(), torch.tensor([[0.25, 0.25]]).log()
    >>> round(coarse_kl(p, q).item(), 6)  # .5 ln 2 + .3 ln 1.2 + .2 ln .4
    0.218012
    """
    logp_NK, logq_NK = _at_least_float32(teacher_topk_logp_NK), _at_least_float32(student_topk_logp_NK)
    # The smallest tail that float32 can tell from none; both sides alike, so that equal heads give 0.
    tail_p = (1.0 - logp_NK.exp().sum(-1)).clamp(min=1e-7)
    tail_q = (1.0 - logq_NK.exp().sum(-1)).clamp(min=1e-7)
    return (_kl(logp_NK, logq_NK) + tail_p * (tail_p / tail_q).log()).clamp(min=0.0)


def entropy(logp_NV: Tensor) -> Tensor:
    """`-Σ p ln p` in nats, (N, V) → (N,).

    >>> round(entropy(torch.log(torch.tensor([[0.5, 0.5, 0.0]]))).item() / LN2, 6)
    1.0
    """
    logp_NV = _at_least_float32(logp_NV)
    return -(logp_NV.exp() * logp_NV.clamp(min=_LOG_ZERO)).sum(dim=-1)


def lemma1_bound(delta_NV: Tensor) -> Tensor:
    """Lemma 1 (App. A.2): `KL(softmax z ‖ softmax(z+δ)) ≤ max|δ|²/2`. (N, V) logit differences → (N,) nats.

    A token that both sides exclude (-inf - -inf) takes no part.

    >>> lemma1_bound(torch.tensor([[0.0, 2.0, -1.0], [torch.nan, 2.0, -1.0]])).tolist()
    [2.0, 2.0]
    """
    return largest_shift(delta_NV).square() / 2.0


def largest_shift(delta_NV: Tensor) -> Tensor:
    """`‖δ‖_∞` over tokens that not both sides exclude, (N, V) → (N,); of two weights, Proposition 1 (ii)'s mismatch."""
    return _at_least_float32(delta_NV).nan_to_num(nan=0.0, posinf=torch.inf, neginf=-torch.inf).abs().amax(dim=-1)


def range_bound(delta_NV: Tensor) -> Tensor:
    """`KL(softmax z ‖ softmax(z+δ)) ≤ (max δ - min δ)²/8`. (N, V) logit differences → (N,) nats.

    Beyond the paper: a constant added to δ leaves the KL alone, and Popoviciu bounds the variance in Lemma
    1's proof by a quarter of the squared range. Never looser than `lemma1_bound`, 4 times tighter when δ is
    one-sided. A token that both sides exclude takes no part.

    >>> range_bound(torch.tensor([[0.0, 2.0, -1.0], [5.0, 5.0, 5.0], [torch.nan, 5.0, 5.0]])).tolist()
    [1.125, 0.0, 0.0]
    """
    delta_NV = _at_least_float32(delta_NV)
    excluded = delta_NV.isnan()
    highest, lowest = delta_NV.masked_fill(excluded, -torch.inf), delta_NV.masked_fill(excluded, torch.inf)
    return (highest.amax(dim=-1) - lowest.amin(dim=-1)).square() / 8.0


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()


def _half_jsd_terms(logp: Tensor, logq: Tensor) -> Tensor:
    """`½ Σ p ln(p/m) + ½ Σ q ln(q/m)` over the last axis; neither side has to sum to 1."""
    # logaddexp(-inf, -inf) has a NaN gradient.
    logp, logq = logp.clamp(min=_LOG_ZERO), logq.clamp(min=_LOG_ZERO)
    logm = torch.logaddexp(logp, logq) - LN2
    return 0.5 * (logp.exp() * (logp - logm) + logq.exp() * (logq - logm)).sum(dim=-1)


def _kl(logp: Tensor, logq: Tensor) -> Tensor:
    """`Σ p (ln p - ln q)` with 0 ln 0 = 0; masked first, or 0 · NaN would reach the gradient."""
    p = logp.exp()
    absent = p == 0.0
    return (p * (logp.masked_fill(absent, 0.0) - logq.masked_fill(absent, 0.0))).sum(dim=-1)
