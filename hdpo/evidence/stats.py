"""Estimates with honest intervals. numpy only: pages import this.

Conventions: counts are `(n, c)` pairs, n rollouts of one prompt of which c are correct. The prompt is the
unit: a standard error is the spread of the per-prompt values over √P, never over √(P·n) (Miller 2024, arXiv
2411.00640). Arms are compared prompt by prompt. Every interval is two-sided, 95 %. Rates are fractions, not
per cent.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from hdpo.errors import BadInput

LEVEL = 0.95
_TAIL = (1.0 - LEVEL) / 2.0
_Z = NormalDist().inv_cdf(1.0 - _TAIL)

Counts = Sequence[tuple[int, int]]
Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval [low, high].

    n_prompts: prompts behind it (P). n_samples: rollouts behind it over all prompts, None where only
    per-prompt values were given. k: that of pass@k, where there is one.
    """

    value: float
    low: float
    high: float
    n_prompts: int
    n_samples: int | None
    k: int | None = None


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n rollouts, drawn without replacement, hold a correct one: `1 - C(n-c,k)/C(n,k)`.

    Unbiased for 1-(1-p)^k (Chen et al. 2021, arXiv 2107.03374), exact integers up to the last division.
    Raises BadInput unless 0 ≤ c ≤ n and 1 ≤ k ≤ n: with fewer rollouts than k no unbiased estimate exists.

    >>> pass_at_k(4, 1, 2), pass_at_k(4, 3, 2), pass_at_k(8, 0, 8)
    (0.5, 1.0, 0.0)
    """
    _check_count(n, c)
    if not 1 <= k <= n:
        raise BadInput(f"pass@{k} needs k between 1 and the rollouts per prompt, {n}: sample at least {k}, or lower k.")
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)


def mean_pass_at_k(counts: Counts, k: int) -> Estimate:
    """Mean of the per-prompt pass@k. Interval: Student's t over prompts (P-1 degrees), cut to [0, 1].

    Where all P prompts have the same value the spread says nothing, and the interval is that of `_unspread`.

    >>> mean_pass_at_k([(4, 0), (4, 4)], 1).value
    0.5
    """
    values = np.array([pass_at_k(n, c, k) for n, c in _some(counts)])
    low, high = _t_interval(values, 0.0, 1.0)
    low, high = max(low, 0.0), min(high, 1.0)
    return Estimate(float(values.mean()), low, high, len(values), sum(n for n, _ in counts), k)


def wilson(c: int, n: int) -> tuple[float, float]:
    """Wilson's score interval for a plain rate of c in n: one prompt's pass rate, or a share of prompts.

    >>> [round(x, 3) for x in wilson(0, 8)], [round(x, 3) for x in wilson(4, 8)]
    ([0.0, 0.324], [0.215, 0.785])
    """
    _check_count(n, c)
    centre = (c + _Z**2 / 2) / (n + _Z**2)
    half = _Z * math.sqrt(c * (n - c) / n + _Z**2 / 4) / (n + _Z**2)
    # At the ends the two parts cancel exactly on paper, and only nearly in floats.
    return (0.0 if c == 0 else centre - half), (1.0 if c == n else centre + half)


def cliff_fraction(counts: Counts) -> Estimate:
    """Share of prompts with no correct rollout, Wilson's interval. What each may still hide: `cliff_upper`.

    >>> cliff_fraction([(8, 0), (8, 1), (8, 8), (8, 0)]).value
    0.5
    """
    return _share([c == 0 for _, c in _checked(counts)], counts)


def cover_at(counts: Counts, tau: float) -> Estimate:
    """Cover@τ: share of prompts whose pass rate c/n is at least τ (arXiv 2510.08325), Wilson's interval.

    Unlike pass@k at a large k it does not reward guessing. Plug-in: c/n stands for the rate. τ in (0, 1].

    >>> cover_at([(8, 0), (8, 2), (8, 4), (8, 8)], 0.5).value
    0.5
    """
    if not 0.0 < tau <= 1.0:
        raise BadInput(f"Cover@τ needs τ above 0 and at most 1, found {tau}: τ = 0 would cover every prompt.")
    return _share([c / n >= tau for n, c in _checked(counts)], counts)


def cliff_upper(k: int) -> float:
    """95 % upper bound of a prompt's pass rate after 0 of k correct: `1 - 0.05^(1/k)`, about 3/k.

    >>> round(cliff_upper(8), 3)
    0.312
    """
    if k < 1:
        raise BadInput(f"A bound needs at least one rollout, found {k}: sample the prompt first.")
    return 1.0 - 0.05 ** (1.0 / k)


def mean_value(values: Values) -> Estimate:
    """Mean of one value a unit (a prompt, a trace), Student's t over the units; one unit has no interval: ±inf.

    >>> mean_value([1.0, 2.0, 3.0]).value, mean_value([2.0]).low
    (2.0, -inf)
    """
    array = _finite(values, "list")
    if len(array) == 1:
        return Estimate(float(array[0]), -math.inf, math.inf, 1, None)
    spread = float(array.std(ddof=1)) / math.sqrt(len(array)) * _t_quantile(len(array) - 1)
    mean = float(array.mean())
    return Estimate(mean, mean - spread, mean + spread, len(array), None)


def paired_difference(a: Values, b: Values) -> Estimate:
    """How much a exceeds b: mean over prompts of a - b, the same prompts in the same order. Not cut at 0.

    Student's t over the P differences; where all are the same, the interval of `_unspread`. Covers the
    sampling of prompts and rollouts; training noise is a second level (`seeds_difference`).

    >>> paired_difference([0.5, 0.75, 1.0], [0.25, 0.5, 0.5]).value
    0.3333333333333333
    """
    differences = _finite(a, "first") - _finite(b, "second", len(a))
    low, high = _t_interval(differences, -1.0, 1.0)
    return Estimate(float(differences.mean()), low, high, len(differences), None)


def seeds_difference(a: Sequence[Values], b: Sequence[Values]) -> Estimate:
    """How much arm a exceeds arm b over training seeds: one array of per-prompt values a seed, paired.

    d[s, p] = a[s][p] - b[s][p]; the value is its mean. Seeds and prompts are crossed random effects (every
    seed is evaluated on the same prompts), so Var(mean) = σ²_seed/S + σ²_prompt/P + σ²_rest/(SP). The
    variance of the seed means over S plus that of the prompt means over P estimates this and counts the last
    part twice: wide rather than narrow. Student's t with Satterthwaite's degrees: with 3 seeds and mostly
    seed noise t of 2 degrees, 4.3, where a bootstrap over 3 seeds is far too narrow. In simulations it
    covered 93 to 99 %. With one seed it is `paired_difference`, and training noise is not covered: say so.

    >>> seeds_difference([[0.5, 1.0], [0.5, 0.5]], [[0.0, 0.5], [0.5, 0.5]]).value
    0.25
    """
    if len(a) == 0 or len(a) != len(b):
        raise BadInput(f"Expected the same seeds in both arms, found {len(a)} and {len(b)}: pair them by seed.")
    prompts = len(a[0])
    first = np.stack([_finite(x, "first", prompts) for x in a])
    differences = first - np.stack([_finite(x, "second", prompts) for x in b])  # (S, P)
    if len(a) == 1:
        return paired_difference(a[0], b[0])
    parts = [m.var(ddof=1) / len(m) if len(m) > 1 else 0.0 for m in (differences.mean(1), differences.mean(0))]
    value, variance = float(differences.mean()), float(sum(parts))
    if _all_same(differences):
        low, high = _unspread(value, -1.0, 1.0, prompts)
        return Estimate(value, low, high, prompts, None)
    weights = [part**2 / (size - 1) for part, size in zip(parts, differences.shape, strict=True) if size > 1]
    half = _t_quantile(variance**2 / sum(weights)) * math.sqrt(variance)
    return Estimate(value, value - half, value + half, prompts, None)


def detectable_difference(counts_baseline: Counts, n_samples: int, k: int, seeds: int = 1, power: float = 0.8) -> float:
    """Smallest true difference in pass@k that a paired comparison on these prompts shows with this power.

    `(t + z_power) √(2 v̄ / (P · seeds))`, a fraction; v̄ is the mean over prompts of the variance that pass@k
    has when n_samples rollouts are drawn, taken as the same for both arms. The prompts' true rates are not
    known, so their spread is estimated from the baseline's counts first: c/n itself would call every cliff
    certain. Optimistic: it knows neither a spread of the effect over prompts nor training noise.

    >>> round(detectable_difference([(8, 4)] * 50, 16, 1), 3)
    0.071
    """
    if seeds < 1 or not 0.0 < power < 1.0:
        raise BadInput(f"Expected at least one seed and a power between 0 and 1, found {seeds} and {power}.")
    prompts = len(_checked(counts_baseline))
    rates = np.sin(np.linspace(0.0, math.pi / 2, 61)).clip(1e-6, 1.0 - 1e-12) ** 2  # dense at both ends
    mean_variance = float(_rate_weights(counts_baseline, rates) @ _sampling_variance(n_samples, k, rates))
    quantiles = _t_quantile(max(prompts - 1.0, 1.0)) + NormalDist().inv_cdf(power)
    return quantiles * math.sqrt(2.0 * mean_variance / (prompts * seeds))


def first_divergence(a: Sequence[int], b: Sequence[int]) -> int | None:
    """First index at which two token sequences part, a shorter one parting at its end; None if equal.

    >>> first_divergence([5, 6, 7], [5, 9, 7]), first_divergence([5], [5, 6]), first_divergence([5], [5])
    (1, 1, None)
    """
    shorter = min(len(a), len(b))
    for i in range(shorter):
        if a[i] != b[i]:
            return i
    return None if len(a) == len(b) else shorter


def verdict_words(difference: Estimate) -> str:
    """A difference in words, in percentage points; one whose interval holds 0 (ends included) is not visible.

    >>> verdict_words(Estimate(0.152, 0.101, 0.203, 240, None))
    'higher by 15.2 points (10.1 to 20.3)'
    >>> verdict_words(Estimate(-0.02, -0.031, -0.009, 240, None))
    'lower by 2.0 points (0.9 to 3.1)'
    >>> verdict_words(Estimate(0.02, -0.01, 0.05, 240, None))
    'no visible difference'
    """
    if difference.low <= 0.0 <= difference.high:
        return "no visible difference"
    word = "higher" if difference.value > 0 else "lower"
    near, far = sorted((abs(difference.low), abs(difference.high)))
    return f"{word} by {100 * abs(difference.value):.1f} points ({100 * near:.1f} to {100 * far:.1f})"


def _share(hits: Sequence[bool], counts: Counts) -> Estimate:
    low, high = wilson(sum(hits), len(hits))
    return Estimate(sum(hits) / len(hits), low, high, len(hits), sum(n for n, _ in counts))


def _t_interval(values: NDArray[np.float64], lowest: float, highest: float) -> tuple[float, float]:
    """Student's t for the mean; values that are all the same go to `_unspread` with their possible range."""
    mean = float(values.mean())
    if _all_same(values):
        return _unspread(float(values[0]), lowest, highest, len(values))
    half = _t_quantile(len(values) - 1.0) * float(values.std(ddof=1)) / math.sqrt(len(values))
    return mean - half, mean + half


def _unspread(value: float, lowest: float, highest: float, prompts: int) -> tuple[float, float]:
    """Interval of a mean when all P prompts gave `value`: a rule of three instead of a width of zero.

    Had more than a share `u = 1 - 0.025^(1/P)` of all prompts another value, P equal ones would be seen less
    than one time in 40; at worst these prompts lie at the lowest or at the highest possible value.
    """
    u = 1.0 - _TAIL ** (1.0 / prompts)
    return value - u * (value - lowest), value + u * (highest - value)


def _all_same(values: NDArray[np.float64]) -> bool:
    """Up to rounding: 0.4 - 0.3 and 0.3 - 0.2 are the same difference, and in floats they are not."""
    return bool(np.ptp(values) < 1e-12)


@lru_cache(maxsize=256)
def _t_quantile(degrees: float) -> float:
    """The 97.5 % quantile of Student's t for degrees ν ≥ 1: with t = √ν tan θ the density is ∝ cos^(ν-1) θ.

    >>> [round(_t_quantile(v), 3) for v in (1.0, 2.0, 5.0, 100.0)]
    [12.706, 4.303, 2.571, 1.984]
    """
    if degrees > 1e5:
        return _Z
    theta = np.linspace(0.0, math.pi / 2, 40_001)
    density = np.cos(theta) ** (degrees - 1.0)
    below = np.concatenate([[0.0], np.cumsum(density[1:] + density[:-1])])
    return math.sqrt(degrees) * math.tan(float(np.interp(LEVEL, below / below[-1], theta)))


def _log_binomial(n: int, c: int, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """ln P(c of n | p) for every rate 0 < p < 1; in logs, because C(n, c) outgrows a float."""
    return math.log(math.comb(n, c)) + c * np.log(rates) + (n - c) * np.log1p(-rates)


def _rate_weights(counts: Counts, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """How the prompts' true rates spread over the grid: weights that sum to 1, of nearly maximal likelihood.

    EM for a mixture of binomials, twenty passes from equal weights and no more: the maximum itself is a
    handful of spikes. On three invented mixes the standard error of pass@8 that follows was right within 10 %
    on average; a Jeffreys posterior for each prompt was up to 70 % too high, c/n plugged in up to 47 % low.
    """
    tally = Counter((n, c) for n, c in counts)
    share = np.array(list(tally.values()))[:, None] / len(counts)
    likelihood = np.exp([_log_binomial(n, c, rates) for n, c in tally])  # (distinct counts, grid)
    weights = np.full(len(rates), 1.0 / len(rates))
    for _ in range(20):
        posterior = likelihood * weights
        weights = (share * posterior / posterior.sum(axis=1, keepdims=True)).sum(axis=0)
    return weights


def _sampling_variance(n: int, k: int, rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Variance of the pass@k of one prompt from n fresh rollouts, for each true rate, exactly."""
    chances = np.exp([_log_binomial(n, c, rates) for c in range(n + 1)])  # (n+1, grid)
    values = np.array([pass_at_k(n, c, k) for c in range(n + 1)])
    return (values**2 @ chances - (values @ chances) ** 2).clip(min=0.0)


def _some(counts: Counts) -> Counts:
    if not len(counts):
        raise BadInput(
            "Expected the counts of at least one prompt, found none: no prompt was gradable, or none was run."
        )
    return counts


def _checked(counts: Counts) -> Counts:
    for n, c in _some(counts):
        _check_count(n, c)
    return counts


def _check_count(n: int, c: int) -> None:
    if n < 1 or not 0 <= c <= n:
        raise BadInput(f"Expected c correct of n rollouts with 0 ≤ c ≤ n and n ≥ 1, found c = {c} and n = {n}.")


def _finite(values: Values, which: str, length: int | None = None) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise BadInput(f"Expected one finite value a prompt in the {which} arm, found {array.tolist()!r:.80}.")
    if length is not None and len(array) != length:
        raise BadInput(f"Expected the same {length} prompts in both arms, found {len(array)}: pair them by problem id.")
    return array
