"""Estimates with honest intervals. numpy and scipy.special only: pages import this.

Conventions: counts are `(n, c)` pairs, n rollouts of one prompt of which c are correct. The prompt is the unit: a
standard error is the spread of the per-prompt values over √P, never over √(P·n) (Miller 2024, arXiv 2411.00640). Arms
are compared prompt by prompt. Every interval is two-sided, 95 %. Rates are fractions, not per cent. How often the
intervals hold the truth is simulated by `python -m tests.simulations`.

The spread of a few values in a known range is often too small: the rare prompt that would widen it was not drawn. So
half an unseen prompt at each end of the range joins it (`_variance`), which moves no mean, weighs nothing at 240
prompts and much at 8, and makes P equal values no certainty.

This file is long: every interval that a page shows is here.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaincinv, chdtri, ndtr, stdtrit

from hdpo.errors import BadInput

LEVEL = 0.95
_TAIL = (1.0 - LEVEL) / 2.0
POWER = 0.8  # with which a difference shows that is called detectable
FEWEST = 8  # fewer prompts say too little of the noise to come

Counts = Sequence[tuple[int, int]]
Values = Sequence[float] | NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A value with its 95 % interval [low, high], and the prompts behind it (P)."""

    value: float
    low: float
    high: float
    n_prompts: int


@dataclass(frozen=True)
class Spread:
    """What a difference between two arms varies by: standard deviations, fractions.

    problems: of the effect over prompts, gains on some and losses on others. seeds: of a whole training. rest: of one
    training on one prompt, rollouts and all. Assumed where no pair is at hand: about that of the recorded pairs, λ =
    0.3 and 3 against 0 on the steep mix at step 60, with .25 (pass@1) and .34 (pass@8), 0 to .017, and .11 and .2."""

    problems: float = 0.3
    seeds: float = 0.01
    rest: float = 0.2


@dataclass(frozen=True)
class Detectable:
    """The smallest true difference that would show, a fraction; None where it cannot be told, and `reason` says why."""

    value: float | None
    reason: str = ""


def pass_at_k(n: int, c: int, k: int) -> float:
    """Chance that k of n rollouts, drawn without replacement, hold a correct one: `1 - C(n-c,k)/C(n,k)`, in integers
    up to the division. Unbiased for 1-(1-p)^k (Chen et al. 2021, arXiv 2107.03374). Raises BadInput unless 0 ≤ c ≤ n
    and 1 ≤ k ≤ n: with fewer rollouts than k no unbiased estimate exists.

    >>> pass_at_k(4, 1, 2), pass_at_k(4, 3, 2), pass_at_k(8, 0, 8)
    (0.5, 1.0, 0.0)
    """
    _checked([(n, c)])
    if not 1 <= k <= n:
        raise BadInput(f"pass@{k} needs k between 1 and the rollouts per prompt, {n}: sample at least {k}, or lower k.")
    return (math.comb(n, k) - math.comb(n - c, k)) / math.comb(n, k)


def mean_pass_at_k(counts: Counts, k: int) -> Estimate:
    """Mean of the per-prompt pass@k with the interval of Korn and Graubard (1998).

    That is `rate_interval` at the number of yes-or-no prompts that would vary as much: P·m(1-m)/s², less what Student's
    t says of a spread from P values, and at most the rollouts there are. It holds for few and for skewed prompts, where
    ±t is too narrow on the side of the prompts not drawn."""
    values = np.array([pass_at_k(n, c, k) for n, c in _checked(counts)])
    prompts, samples = len(values), sum(n for n, _ in counts)
    mean, variance = float(values.mean()), _variance(values, 0.0, 1.0)
    centre = (float(values.sum()) + 0.5) / (prompts + 1)  # with the half prompts, as in the variance
    effective = prompts * centre * (1.0 - centre) / variance * (_t_quantile(math.inf) / _t_quantile(prompts)) ** 2
    effective = min(effective, float(samples))
    return Estimate(mean, *_exact(mean * effective, effective), prompts)


def pass_curve(counts: Counts) -> dict[int, Estimate]:
    """pass@k for k = 1, 2, 4 … and for the fewest rollouts of a prompt; beyond those it is unknown.

    >>> {k: e.value for k, e in pass_curve([(3, 0), (4, 4)]).items()}
    {1: 0.5, 2: 0.5, 3: 0.5}
    """
    least = min(n for n, _ in _checked(counts))
    return {k: mean_pass_at_k(counts, k) for k in sorted({2**i for i in range(least.bit_length())} | {least})}


def rate_interval(c: int, n: int) -> tuple[float, float]:
    """Interval for a plain rate of c in n: one prompt's pass rate, or a share of prompts.

    Clopper and Pearson's exact one, with all 5 % on the one side that is left where c is 0 or n: 0 of 8 says p < 0.31,
    one bound in every table and sentence. It holds the truth at least 93.1 times in 100, whatever the rate and n;
    Wilson's falls to 83 at rates near 0.01.

    >>> [round(x, 3) for x in rate_interval(0, 8)], [round(x, 3) for x in rate_interval(4, 8)]
    ([0.0, 0.312], [0.157, 0.843])
    """
    _checked([(n, c)])
    return _exact(c, n)


def share(hits: Sequence[bool]) -> Estimate:
    """Share of prompts of which something is true, as that they are cliffs. What each of those may still hide:
    `rate_interval(0, n)`.

    >>> share([True, False, False, True]).value
    0.5
    """
    interval = rate_interval(sum(hits), len(hits))
    return Estimate(sum(hits) / len(hits), *interval, len(hits))


def mean_value(values: Values) -> Estimate:
    """Mean of one value a unit (a prompt, a trace), Student's t over the units; one unit has no interval: ±inf.

    >>> mean_value([1.0, 2.0, 3.0]).value, mean_value([2.0]).low
    (2.0, -inf)
    """
    array = _finite(values, "list")
    if len(array) == 1:
        return Estimate(float(array[0]), -math.inf, math.inf, 1)
    spread = float(array.std(ddof=1)) / math.sqrt(len(array)) * _t_quantile(len(array) - 1)
    mean = float(array.mean())
    return Estimate(mean, mean - spread, mean + spread, len(array))


def seeds_difference(a: Sequence[Values], b: Sequence[Values], among: int = 1) -> Estimate:
    """How much arm a exceeds arm b over training seeds, one or more: one array of per-prompt shares a seed, between 0
    and 1, the same prompts in the same order. among: of so many differences, whose intervals then all hold their truths at
    once 95 times in 100 (Bonferroni).

    d[s, p] = a[s][p] - b[s][p]; the value is its mean, not cut at 0. Seeds and prompts are crossed random effects
    (every seed is evaluated on the same prompts), so Var(mean) = σ²_seed/S + σ²_prompt/P + σ²_rest/(SP). The variance
    of the seed means over S plus that of the prompt means over P estimates this and counts the last part twice: wide
    rather than narrow. Each part keeps the t of its own degrees, `√(t²V_seed + t²V_prompt)`: Banerjee's interval
    (1960), which never covers less than it says. Pooled degrees (Satterthwaite's) do when two seeds happen to agree:
    10 to 14 % false claims. The price is the width: two seeds know the training noise by one degree, t = 12.7; three
    by 4.3. With one seed training noise is not covered: say so."""
    d = _differences(a, b)
    value, half = float(d.mean()), float(_half_width(*_parts(d), d.shape[0], d.shape[1], _TAIL / among))
    return Estimate(value, max(value - half, -1.0), min(value + half, 1.0), d.shape[1])


def detectable_again(a: Sequence[Values], b: Sequence[Values], among: int = 1) -> Detectable:
    """From which true difference on a comparison like this one shows it, by the variances of these very pairs: beyond
    the half width of `seeds_difference`, which it cannot contradict. With one seed training noise is not in it."""
    d = _differences(a, b)
    if d.shape[1] < FEWEST:
        return Detectable(None, f"{d.shape[1]} problems are too few, it takes {FEWEST}")
    by_seed, by_prompt = _parts(d)
    return _shown(by_seed, by_prompt, by_seed + by_prompt, d.shape, 1.0, _TAIL / among)


def spread_of(a: Sequence[Values], b: Sequence[Values]) -> Spread:
    """How pairs of runs varied, for the plan of more of them; the moments' estimates, cut at 0. One seed cannot tell
    what is the problem's from what is the training's: all goes to the problems."""
    d = _differences(a, b)
    seeds, prompts = d.shape
    rest = 0.0
    if seeds > 1 and prompts > 1:
        left = d - d.mean(axis=0) - d.mean(axis=1, keepdims=True) + d.mean()
        rest = float((left**2).sum()) / ((seeds - 1) * (prompts - 1))
    by_prompt = float(d.mean(axis=0).var(ddof=1)) - rest / seeds if prompts > 1 else 0.0
    by_seed = float(d.mean(axis=1).var(ddof=1)) - rest / prompts if seeds > 1 else 0.0
    return Spread(*(math.sqrt(max(v, 0.0)) for v in (by_prompt, by_seed, rest)))


def sources(a: Sequence[Values], b: Sequence[Values], sampling: float) -> dict[str, float]:
    """What the mean difference varies by, as shares of its variance: the problems, the seeds, the samples a problem, and the
    rest, a training's own way with a problem. sampling: mean variance of one value by its samples, both arms together; with one
    seed the problems hold what is the training's."""
    spread, (seeds, prompts) = spread_of(a, b), _differences(a, b).shape
    rest = spread.rest**2
    found = {"problems": spread.problems**2 * seeds, "seeds": spread.seeds**2 * prompts, "samples": min(sampling, rest)}
    found["rest"] = rest - found["samples"]
    total = sum(found.values())
    return {name: value / total for name, value in found.items()} if total else {}


def sampling_variance(counts: Counts, k: int) -> float:
    """Mean over prompts of the variance that pass@k has from its own samples; 0 where there are fewer than 2k a prompt."""
    return _sampling_variance(counts, min(n for n, _ in counts), k) if min(n for n, _ in counts) >= 2 * k else 0.0


def detectable_difference(counts: Counts, samples: int, k: int, seeds: int, prompts: int, spread: Spread) -> Detectable:
    """Smallest true rise of pass@k that `seeds_difference` shows 80 times in 100, planned from a baseline's counts.

    The variances are those of that interval. The spread is an assumption, to be said; its seeds count from two on, as
    in the interval, and its rest is at least what `samples` rollouts a prompt in both arms make at the baseline's
    rates, which is estimated without bias and takes 2k rollouts a prompt. prompts: how many will be evaluated. Where
    only a few rollouts or problems tell of the effect it shows more often than it says, up to 90 in 100: such means
    are skewed."""
    if seeds < 1:
        raise BadInput(f"Expected at least one seed, found {seeds}.")
    pass_at_k(samples, 0, k)
    used = [(n, c) for n, c in _checked(counts) if n >= 2 * k]
    if (found := min(len(used), prompts)) < FEWEST:
        return Detectable(None, f"it takes {FEWEST} problems with {2 * k} samples each, found {found}")
    by_seed = spread.seeds**2 / seeds if seeds > 1 else 0.0
    by_prompt = spread.problems**2 / prompts
    rest = max(2.0 * _sampling_variance(used, samples, k), spread.rest**2) / (seeds * prompts)
    unseen = 1.0 / prompts**2  # the half prompts of `_variance`
    total, room = by_seed + by_prompt + rest, 1.0 - mean_pass_at_k(used, k).value
    return _shown(by_seed + rest, by_prompt + rest + unseen, total, (seeds, prompts), room)


def first_divergence(a: Sequence[int], b: Sequence[int]) -> int | None:
    """First index at which two token sequences part, a shorter one parting at its end; None if equal.

    >>> first_divergence([5, 6, 7], [5, 9, 7]), first_divergence([5], [5, 6]), first_divergence([5], [5])
    (1, 1, None)
    """
    return next((i for i, (x, y) in enumerate(zip_longest(a, b)) if x != y), None)


def verdict_words(difference: Estimate) -> str:
    """A difference in words, in percentage points; one whose interval holds 0 (ends included) is not visible.

    >>> verdict_words(Estimate(0.152, 0.101, 0.203, 240)), verdict_words(Estimate(0.02, -0.01, 0.05, 240))
    ('higher by 15.2 points (10.1 to 20.3)', 'no visible difference')
    """
    if difference.low <= 0.0 <= difference.high:
        return "no visible difference"
    word = "higher" if difference.value > 0 else "lower"
    near, far = sorted((abs(difference.low), abs(difference.high)))
    return f"{word} by {100 * abs(difference.value):.1f} points ({100 * near:.1f} to {100 * far:.1f})"


def _exact(c: float, n: float) -> tuple[float, float]:
    """`rate_interval` for real c of n. A limit between the one-sided bound of 0 (or n) and its two-sided one is moved
    to the former: otherwise the two errors meet there, 7.5 % at 50 trials."""
    bound, stricter = (1.0 - LEVEL) ** (1.0 / n), _TAIL ** (1.0 / n)
    if c <= 0.0:
        return 0.0, 1.0 - bound
    if c >= n:
        return bound, 1.0
    low, high = float(betaincinv(c, n - c + 1.0, _TAIL)), float(betaincinv(c + 1.0, n - c, 1.0 - _TAIL))
    low = 1.0 - bound if 1.0 - bound < low < 1.0 - stricter else low
    return low, bound if stricter < high < bound else high


def _variance(values: NDArray[np.float64], lowest: float, highest: float) -> float:
    """Sample variance with half an unseen value at each end of the range; P degrees for P values."""
    more, seen = len(values) + 1, float(values.sum()) + (lowest + highest) / 2.0
    squares = float((values**2).sum()) + (lowest**2 + highest**2) / 2.0
    return (squares - seen**2 / more) / len(values)


def _differences(a: Sequence[Values], b: Sequence[Values]) -> NDArray[np.float64]:
    """a - b, (S, P), checked."""
    if len(a) == 0 or len(a) != len(b):
        raise BadInput(f"Expected the same seeds in both arms, found {len(a)} and {len(b)}: pair them by seed.")
    prompts = len(_finite(a[0], "first"))
    first = np.stack([_finite(x, "first", prompts) for x in a])
    return first - np.stack([_finite(x, "second", prompts) for x in b])


def _parts(d: NDArray[np.float64]) -> tuple[float, float]:
    """The variance of the mean of d (S, P) through its seeds (0 for one seed) and through its prompts."""
    seeds, prompts = d.shape
    by_seed = float(d.mean(axis=1).var(ddof=1)) / seeds if seeds > 1 else 0.0
    return by_seed, _variance(d.mean(axis=0), -1.0, 1.0) / prompts


def _half_width(
    by_seed: Values | float, by_prompt: float, seeds: int, prompts: int, tail: float = _TAIL
) -> NDArray[np.float64]:
    t_seed = _t_quantile(seeds - 1, tail) if seeds > 1 else 0.0
    return np.sqrt(t_seed**2 * np.asarray(by_seed) + _t_quantile(prompts, tail) ** 2 * by_prompt)


def _shown(
    by_seed: float, by_prompt: float, variance: float, shape: tuple[int, int], room: float, tail: float = _TAIL
) -> Detectable:
    """The difference whose interval leaves 0 out POWER of the time, where the two parts of the interval's variance are
    expected to be by_seed and by_prompt and the mean has `variance`. From few seeds by_seed is any draw of a χ²."""
    seeds, prompts = shape
    drawn = chdtri(seeds - 1, (np.arange(100) + 0.5) / 100) / (seeds - 1) if seeds > 1 else np.ones(1)
    half = _half_width(by_seed * drawn, by_prompt, seeds, prompts, tail)
    effects = np.geomspace(1e-4, 1.0, 200)[:, None]
    powers = ndtr((effects - half) / math.sqrt(variance)).mean(axis=1)
    value = float(np.interp(POWER, powers, effects[:, 0], right=math.inf))
    if value > room:
        least = f"{100 * value:.1f} points" if value < 1.0 else "any difference"
        return Detectable(None, f"it would take {least}, and there is room for {100 * room:.1f}")
    return Detectable(value)


def _t_quantile(degrees: float, tail: float = _TAIL) -> float:
    return float(stdtrit(degrees, 1.0 - tail))


def _sampling_variance(counts: Counts, m: int, k: int) -> float:
    """Mean over prompts of the variance that pass@k has from m fresh rollouts, without bias; every n at least 2k.

    With q the chance of a wrong rollout E[(1 - pass@k)²] = Σ_j h(j) q^(2k-j), h(j) the chance that two draws
    of k among m share j, and C(n-c, i)/C(n, i) estimates q^i without bias."""
    shared = [math.comb(k, j) * math.comb(m - k, k - j) / math.comb(m, k) for j in range(k + 1)]
    total = 0.0
    for (n, c), times in Counter(counts).items():
        powers = [math.comb(n - c, i) / math.comb(n, i) for i in range(2 * k + 1)]  # q^i
        total += times * (sum(h * powers[2 * k - j] for j, h in enumerate(shared)) - powers[2 * k])
    return max(total / len(counts), 0.0)


def _checked(counts: Counts) -> Counts:
    if not len(counts):
        raise BadInput("Expected counts of at least one prompt, found none: no prompt was gradable, or none was run.")
    for n, c in counts:
        if n < 1 or not 0 <= c <= n:
            raise BadInput(f"Expected c correct of n rollouts with 0 ≤ c ≤ n and n ≥ 1, found c = {c} and n = {n}.")
    return counts


def _finite(values: Values, which: str, length: int | None = None) -> NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1 or not len(array) or not np.isfinite(array).all():
        raise BadInput(f"Expected one finite value a prompt in the {which} arm, found {array.tolist()!r:.80}.")
    if length is not None and len(array) != length:
        raise BadInput(f"Expected the same {length} prompts in both arms, found {len(array)}: pair them by problem id.")
    return array
