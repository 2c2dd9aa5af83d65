"""What the intervals keep: how often they hold the truth, claim what is not there, and show what is.

    python -m tests.simulations            # about five minutes on one core, the same numbers each time

Every number is a share of simulated comparisons of invented problem sets, drawn rollout by rollout. "Before" are the
intervals that the project used up to its first release: Student's t over prompts, Wilson's for rates, and
Satterthwaite's degrees over seeds. Widths are means in percentage points. Where a row stands for several problem sets,
the figure is the worst of them, the width their median.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit, logit, stdtrit
from scipy.stats import binom

from hdpo.evidence import cliffs, stats

Array = NDArray[np.float64]
Interval = tuple[float, float]
N = 16  # rollouts a problem, as in an evaluation

# True pass rates of `size` problems, five kinds of problem set.
SETS: dict[str, Callable[[np.random.Generator, int], Array]] = {
    "uniform": lambda rng, size: rng.random(size),
    "40 % cliffs": lambda rng, size: np.where(rng.random(size) < 0.4, 0.0, rng.beta(6, 2, size)),
    "hard": lambda rng, size: rng.beta(0.3, 0.7, size),
    "easy": lambda rng, size: rng.beta(8, 1, size),
    "rare successes": lambda rng, size: rng.beta(0.1, 3, size),
}
OF_CLIFFS = ("uniform", "40 % cliffs", "hard", "rare successes")  # easy has none
OF_A_PLAN = ("uniform", "40 % cliffs", "hard")  # the others have too few problems that can move: "cannot be told"


@dataclass(frozen=True)
class Tally:
    """Of many intervals, before and now: share that holds the truth, share that leaves 0 out, mean width."""

    held: tuple[float, float]
    claimed: tuple[float, float]
    width: tuple[float, float]


def tally(intervals: Iterator[tuple[Interval, Interval]], truth: float) -> Tally:
    ends = np.array(list(intervals))  # (runs, before and now, low and high)
    low, high = ends[..., 0], ends[..., 1]
    held = ((low <= truth + 1e-12) & (truth - 1e-12 <= high)).mean(axis=0)
    claimed = ((low > 0) | (high < 0)).mean(axis=0)
    return Tally(*((float(x[0]), float(x[1])) for x in (held, claimed, 100 * (high - low).mean(axis=0))))


def pass_values(rng: np.random.Generator, rates: Array, k: int) -> Array:
    """pass@k of N fresh rollouts at each rate, in the shape of the rates."""
    return of_count(k)[rng.binomial(N, rates)]


@cache
def of_count(k: int) -> Array:
    """pass@k of 0 to N correct rollouts."""
    return np.array([stats.pass_at_k(N, c, k) for c in range(N + 1)])


def sampling_variance(rates: Array, k: int) -> float:
    """Mean over the rates of the variance that pass@k of N rollouts has."""
    chances = binom.pmf(np.arange(N + 1), N, rates[:, None])
    return float((chances @ of_count(k) ** 2 - (chances @ of_count(k)) ** 2).mean())


# --- the intervals of before ---------------------------------------------------------------------------------


def t_before(values: Array, lowest: float, highest: float) -> Interval:
    mean, size = float(values.mean()), len(values)
    if np.ptp(values) < 1e-12:
        unseen = 1.0 - 0.025 ** (1.0 / size)
        return mean - unseen * (mean - lowest), mean + unseen * (highest - mean)
    half = float(stdtrit(size - 1, 0.975) * values.std(ddof=1) / math.sqrt(size))
    return max(mean - half, lowest), min(mean + half, highest)


def seeds_before(d: Array) -> Interval:
    """d: (seeds, problems)."""
    if len(d) == 1 or np.ptp(d) < 1e-12:
        return t_before(d[0], -1.0, 1.0)
    parts = [m.var(ddof=1) / len(m) for m in (d.mean(axis=1), d.mean(axis=0))]
    degrees = sum(parts) ** 2 / sum(v**2 / (size - 1) for v, size in zip(parts, d.shape, strict=True))
    half = float(stdtrit(degrees, 0.975)) * math.sqrt(sum(parts))
    return float(d.mean()) - half, float(d.mean()) + half


def wilson_before(c: int, n: int) -> Interval:
    z = 1.959964
    centre, half = c + z * z / 2, z * math.sqrt(c * (n - c) / n + z * z / 4)
    return (0.0 if c == 0 else (centre - half) / (n + z * z)), (1.0 if c == n else (centre + half) / (n + z * z))


def seeds_now(a: Array, b: Array) -> Interval:
    e = stats.seeds_difference(list(a), list(b))
    return e.low, e.high


# --- what is simulated ---------------------------------------------------------------------------------------


def mean(of_set: str, problems: int, k: int, runs: int) -> Tally:
    """The interval of a mean pass@k."""
    rng, draw = np.random.default_rng(1), SETS[of_set]
    truth = float((1 - (1 - draw(np.random.default_rng(0), 1_000_000)) ** k).mean())

    def intervals() -> Iterator[tuple[Interval, Interval]]:
        for _ in range(runs):
            counts = [(N, int(c)) for c in rng.binomial(N, draw(rng, problems))]
            e = stats.mean_pass_at_k(counts, k)
            yield t_before(np.array([stats.pass_at_k(n, c, k) for n, c in counts]), 0.0, 1.0), (e.low, e.high)

    return tally(intervals(), truth)


def rate(n: int) -> Tally:
    """A plain rate, exactly: least coverage over 1,999 true rates."""
    rates = np.linspace(0.0005, 0.9995, 1999)
    chances = binom.pmf(np.arange(n + 1)[:, None], n, rates)
    held, width = [], []
    for interval in (wilson_before, stats.rate_interval):
        ends = np.array([interval(c, n) for c in range(n + 1)])
        held.append(float((chances * ((ends[:, :1] <= rates) & (rates <= ends[:, 1:]))).sum(axis=0).min()))
        width.append(float(100 * (ends[:, 1] - ends[:, 0]).mean()))
    return Tally((held[0], held[1]), (0.0, 0.0), (width[0], width[1]))


def null(of_set: str, problems: int, k: int, seeds: int, noise: float, runs: int) -> Tally:
    """Two arms without a true difference. noise: each training shifts the logits of all rates by so much (sd)."""
    rng, draw = np.random.default_rng(2), SETS[of_set]

    def intervals() -> Iterator[tuple[Interval, Interval]]:
        for _ in range(runs):
            with np.errstate(divide="ignore"):
                at = logit(draw(rng, problems))
            a, b = (pass_values(rng, expit(at + noise * rng.standard_normal((seeds, 1))), k) for _ in range(2))
            yield seeds_before(a - b), seeds_now(a, b)

    return tally(intervals(), 0.0)


def family(of_set: str, arms: int, seeds: int, noise: float, runs: int) -> Tally:
    """So many arms without a true difference, each against the same reference: the interval that claims most, before (each
    alone) and now (all at once)."""
    rng, draw = np.random.default_rng(4), SETS[of_set]

    def intervals() -> Iterator[tuple[Interval, Interval]]:
        for _ in range(runs):
            with np.errstate(divide="ignore"):
                at = logit(draw(rng, 240))
            drawn = [pass_values(rng, expit(at + noise * rng.standard_normal((seeds, 1))), 8) for _ in range(arms + 1)]
            both = [[stats.seeds_difference(list(drawn[0]), list(a), n) for a in drawn[1:]] for n in (1, arms)]
            worst = [max(of, key=lambda e: max(e.low, -e.high)) for of in both]
            yield (worst[0].low, worst[0].high), (worst[1].low, worst[1].high)

    return tally(intervals(), 0.0)


def moved(kind: str, size: float, rates: Array, k: int, rng: np.random.Generator, room: float) -> Array:
    """By how much each problem's true pass@k rises, `size` on average; room: mean of what is left to 1."""
    left = (1 - rates) ** k
    if kind == "the same for all":
        return np.full(len(rates), size)
    if kind == "in proportion to the room":
        return left * size / room
    return np.where(rng.random(len(rates)) < size / (0.8 * room), 0.8 * left, 0.0)  # a few are all but solved


EFFECTS = ("the same for all", "in proportion to the room", "a few problems move")


def risen(rates: Array, rise: Array, k: int) -> Array:
    """The rates whose pass@k lies so much higher."""
    return 1 - np.clip((1 - rates) ** k - rise, 0.0, 1.0) ** (1 / k)


def planned(kind: str, of_set: str, problems: int, k: int, seeds: int) -> tuple[float, float]:
    """The difference that `detectable_difference` names once it is told how the effect spreads over problems (with the
    sampling noise that the risen rates bring or spare), and the room there is."""
    rng, draw = np.random.default_rng(3), SETS[of_set]
    many = draw(rng, 20_000)
    room, before = float(((1 - many) ** k).mean()), sampling_variance(many, k)
    baselines = [[(N, int(c)) for c in rng.binomial(N, draw(rng, problems))] for _ in range(8)]
    size = 0.02
    for _ in range(6):  # the spread depends on the size, and the size on the spread
        rise = moved(kind, size, many, k, rng, room)
        more = 0.0 if kind == EFFECTS[0] else sampling_variance(risen(many, rise, k), k) - before
        problems = math.sqrt(max(float(rise.var()) + min(more, 0.0) / seeds, 0.0))  # rollouts spared
        spread = stats.Spread(problems, rest=math.sqrt(2 * before + more) if more > 0 else 0.0)
        found = [stats.detectable_difference(c, N, k, seeds, len(c), spread).value for c in baselines]
        size = float(np.mean([v if v is not None else math.nan for v in found]))
    return size, room


def power(kind: str, of_set: str, problems: int, k: int, seeds: int, runs: int) -> tuple[float, Tally]:
    """The planned difference, and how often a comparison with just this effect and the assumed training noise shows it."""
    rng, draw = np.random.default_rng(4), SETS[of_set]
    size, room = planned(kind, of_set, problems, k, seeds)
    if math.isnan(size):
        return size, Tally(*[(math.nan, math.nan)] * 3)

    def intervals() -> Iterator[tuple[Interval, Interval]]:
        for _ in range(runs):
            rates = draw(rng, problems)
            rise = moved(kind, size, rates, k, rng, room)
            b = pass_values(rng, np.tile(rates, (seeds, 1)), k)
            if kind == EFFECTS[0]:
                a = pass_values(rng, np.tile(rates, (seeds, 1)), k) + size
            else:
                a = pass_values(rng, np.tile(risen(rates, rise, k), (seeds, 1)), k)
            a = a + (stats.Spread().seeds * rng.standard_normal((seeds, 1)) if seeds > 1 else 0.0)
            yield seeds_before(a - b), seeds_now(a, b)

    return size, tally(intervals(), size)


def looked(rate: float, looks: int, runs: int) -> tuple[Tally, float]:
    """One prompt, a look after every rollout: does the interval hold its pass rate at all of them? Before: Clopper and
    Pearson's, meant for one look. claimed: decided wrongly. And the median number of rollouts until the decision."""
    rng, n = np.random.default_rng(5), np.arange(1, looks + 1)
    lowest, highest = binom.ppf(0.025, n, rate), binom.ppf(0.975, n, rate)
    held, wrong, decided = np.zeros((runs, 2), bool), np.zeros(runs, bool), np.full(runs, math.inf)
    for i in range(runs):
        c = (rng.random(looks) < rate).cumsum()
        held[i] = ((lowest <= c) & (c <= highest)).all(), (cliffs.evidence(rate, n, c) < math.log(20)).all()
        out = cliffs.evidence(cliffs.BELOW, n, c) >= math.log(20)
        if out.any():
            at = int(out.argmax())
            wrong[i], decided[i] = (c[at] / n[at] < cliffs.BELOW) != (rate < cliffs.BELOW), at + 1
    before, now = held.mean(axis=0)
    return Tally((float(before), float(now)), (0.0, float(wrong.mean())), (math.nan,) * 2), float(np.median(decided))


def foretold(of_set: str, problems: int, runs: int) -> tuple[Tally, float]:
    """How many prompts with 0 of 8 are still without a success at 64; before: all of them, as cliffs are counted. claimed:
    how often the profile range leaves the true share of impossible prompts out. And by how much, on average over their
    prompts, the posterior of a pass rate below 1/64 exceeds the truth."""
    rng, draw = np.random.default_rng(6), SETS[of_set]
    excess, out = [], []

    def intervals() -> Iterator[tuple[Interval, Interval]]:
        for _ in range(runs):
            rates = draw(rng, problems)
            c = rng.binomial(8, rates)
            zeros, posterior = c == 0, cliffs.fit([(8, int(x)) for x in c])
            if 0 < zeros.sum() < problems:
                excess.append(posterior.below(8, 0) - (rates[zeros] < cliffs.BELOW).mean())
                low, high = posterior.impossible
                out.append(not low <= (0.4 if of_set == "40 % cliffs" else 0.0) <= high)
                e, true = posterior.still([8] * int(zeros.sum())), int((rng.binomial(56, rates[zeros]) == 0).sum())
                yield (zeros.sum() - true,) * 2, (e.low - true, e.high - true)

    found = tally(intervals(), 0.0)
    return Tally(found.held, (0.0, float(np.mean(out))), (found.width[0] / 100, found.width[1] / 100)), float(
        np.mean(excess)
    )


# --- the table -----------------------------------------------------------------------------------------------


def row(what: str, figure: str, tallies: list[Tally], worst: Callable[..., float], of: str) -> str:
    before, now = (worst(getattr(t, of)[side] for t in tallies) for side in (0, 1))
    widths = [float(np.median([t.width[side] for t in tallies])) for side in (0, 1)]
    return f"| {what} | {figure} | {100 * before:.1f} | {100 * now:.1f} | {widths[0]:.1f} | {widths[1]:.1f} |"


def table(runs: int = 2000) -> Iterator[str]:
    """Line by line, as Markdown."""
    yield "| interval | figure, % | before | now | width before | width now |"
    yield "|---|---|---|---|---|---|"
    for problems in (8, 16, 40, 240):
        for k in (1, 8):
            found = [mean(s, problems, k, runs) for s in SETS]
            yield row(f"mean pass@{k}, {problems} problems", "least coverage", found, min, "held")
    for n in (8, 16, 48, 240):
        yield row(f"a rate of {n}", "least coverage", [rate(n)], min, "held")
    for problems in (16, 240):
        for k in (1, 8):
            found = [null(s, problems, k, 1, 0.0, runs) for s in SETS]
            yield row(f"difference, 1 seed, {problems} problems, pass@{k}", "most false claims", found, max, "claimed")
    for noise in (0.0, 0.5, 1.0):
        for seeds in (2, 3, 5):
            found = [null(s, 240, k, seeds, noise, runs) for s in SETS for k in (1, 8)]
            words = f"difference, {seeds} seeds, training noise {noise:g} logits"
            yield row(words, "most false claims", found, max, "claimed")
    for seeds in (3, 6):
        found = [family(s, 8, seeds, 0.5, runs // 4) for s in SETS]
        yield row(
            f"one of eight differences, {seeds} seeds, noise 0.5 logits", "most false claims", found, max, "claimed"
        )
    for name, chance in {"0": 0.0, "1/256": 1 / 256, "1/64": 1 / 64, "1/32": 1 / 32, "1/10": 0.1}.items():
        always, until = looked(chance, 10_000, runs)
        words, held = f"a pass rate of {name}, looked at 10,000 times", [f"{100 * x:.1f}" for x in always.held]
        median = "most undecided" if math.isinf(until) else f"half after {until:.0f}"
        after = f"{100 * always.claimed[1]:.1f} decided wrongly, {median}"
        yield f"| {words} | coverage at all looks | {held[0]} | {held[1]} | – | {after} |"
    for problems in (40, 240):
        cliff = [foretold(s, problems, runs // 4) for s in OF_CLIFFS]
        yield row(
            f"still none at 64, of 0 of 8 in {problems} problems (widths in prompts)",
            "least coverage",
            [t for t, _ in cliff],
            min,
            "held",
        )
        out, excess = max(t.claimed[1] for t, _ in cliff), [100 * e for _, e in cliff]
        yield f"| share of impossible prompts, {problems} problems | least coverage | – | {100 - 100 * out:.1f} | – | – |"
        words = f"chance of a pass rate below 1/64, {problems} problems"
        yield f"| {words} | mean excess over the truth | – | {min(excess):.1f} to {max(excess):.1f} | – | – |"
    for kind in EFFECTS:
        for seeds in (1, 2, 3, 5):
            found = [power(kind, s, 240, k, seeds, runs // 2) for s in OF_A_PLAN for k in (1, 8)]
            told = [(size, t) for size, t in found if not math.isnan(size)]
            shares = [100 * t.claimed[1] for _, t in told]
            sizes = [100 * size for size, _ in told]
            width = np.median([t.width[1] for _, t in told])
            yield (
                f"| an effect of {min(sizes):.1f} to {max(sizes):.1f} points, {kind}, {seeds} seed{'s' * (seeds > 1)} | power, of 80 promised | "
                f"– | {min(shares):.0f} to {max(shares):.0f} ({len(told)} of {len(found)} can be told) | – | {width:.1f} |"
            )


if __name__ == "__main__":
    for line in table():
        print(line, flush=True)
