"""Is it a cliff? What 0 of K correct rollouts leave open, and how fresh ones close it. numpy and scipy only.

The whole scan says how many cliffs are bad luck, hardly ever which: `fit`, a zero-inflated beta-binomial. A share π of
the prompts is impossible (p = 0), the pass rates of the others follow one Beta(a, b) (Kazdan et al. 2025, arXiv
2510.05197, has it without the zeros). Its posterior stands on a grid, under a prior that gives π = 0 one half and is
flat in the other π, in logit a/(a+b) and in log (a+b): flat in all π it finds impossible prompts where there are none.

Fresh rollouts of one prompt say which: `interval`, a confidence sequence. Against a pass rate p the likelihood under a
mixture of others, over that under p, is a martingale from 1, so it ever reaches 20 with a chance of 5 % at most
(Ville's inequality; Robbins 1970; Howard et al. 2021, arXiv 1810.08240). The rates that it has not reached 20 against
hold the true one at every look at once, however often and for whatever reason one looks. `python -m tests.simulations`
has how often.
"""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq
from scipy.special import betainc, betaln, expit, xlog1py, xlogy

from hdpo.evidence.stats import FEWEST, LEVEL, Counts, Estimate
from hdpo.records import GroupKind

BELOW = 1 / 64  # a cliff's pass rate lies below it
LATER = 64  # rollouts at which the cliffs of a scan are foretold
MIXTURE = (0.5, 32.0)  # the Beta of the other rates, with mean 1/65: it decides cliffs soonest, 0 of 261 do
_LIMIT = -np.log(1.0 - LEVEL)
_DRAWS = 4000  # of a prediction, always the same

_SHARES = np.linspace(0.0, 0.99, 100)[:, None]  # (Π, 1) of π
_PRIOR = np.where(_SHARES == 0.0, len(_SHARES) - 1.0, 1.0)
_MEAN, _SIZE = (x.ravel() for x in np.meshgrid(expit(np.linspace(-5, 5, 41)), np.geomspace(0.3, 100.0, 31)))
_A, _B = _MEAN * _SIZE, (1.0 - _MEAN) * _SIZE  # (J,)


class Cause(str, Enum):
    """Why a prompt has no correct rollout; the first that holds."""

    UNGRADABLE = "ungradable gold"
    GRADER = "grader in doubt"  # it failed on a rollout, or called one wrong in which the gold stands
    CUT_OFF = "cut off"  # a rollout was, so its answer is not known
    NO_ANSWER = "no answer found"  # in half of the rollouts or more
    UNLUCKY = "unlucky"  # its pass rate is rather above BELOW than below
    UNSOLVED = "unsolved"


class Decision(str, Enum):
    CLIFF = "cliff"
    NOT = "not a cliff"
    OPEN = "undecided"


@dataclass(frozen=True)
class Cliff:
    """A prompt with 0 of `scanned` graded rollouts correct in its scan.

    drawn, n, correct: rollouts since, those with a verdict, and the correct ones. low, high: the confidence sequence of
    its pass rate, by these alone. below: the chance that the rate lies below BELOW, by the scan and them, None where
    nothing was graded or the scan cannot tell; spread: the posterior's standard deviation of the rate."""

    cause: Cause
    scanned: int
    drawn: int
    n: int
    correct: int
    low: float
    high: float
    below: float | None
    spread: float
    decision: Decision

    def words(self, below: float = BELOW) -> str:
        rate = "1/64" if below == BELOW else f"{below:.4g}"
        told = {Decision.OPEN: f"undecided after {self.n}", Decision.CLIFF: f"cliff: pass rate below {rate}"}
        return told.get(self.decision, self.decision.value)


@dataclass(frozen=True)
class Triage:
    """Of a scan: its prompts without a correct rollout by id; how many of the measured ones among them would still have
    none at LATER rollouts, a posterior prediction; between which values the share of impossible prompts may lie, by the
    profile likelihood. Both None where the scan cannot tell; `told` says what it can."""

    cliffs: dict[str, Cliff]
    still: Estimate | None
    impossible: tuple[float, float] | None
    told: str

    @property
    def causes(self) -> dict[str, int]:
        found = Counter(c.cause for c in self.cliffs.values())
        return {cause.value: found[cause] for cause in Cause}


@dataclass(frozen=True, eq=False)
class Posterior:
    """Of π and of the Beta(a, b): weights (Π, J) over the grid, which sum to 1. impossible: see `Triage`."""

    weights: NDArray[np.float64]
    impossible: tuple[float, float]

    def below(self, n: int, c: int) -> float:
        """The chance that the pass rate of a prompt with c of n correct lies below BELOW."""
        return float((self.weights * (1.0 - _possible(n, c) * (1.0 - betainc(_A + c, _B + n - c, BELOW)))).sum())

    def spread(self, n: int, c: int) -> float:
        """The standard deviation of its pass rate."""
        mean, more = (_A + c) / (_SIZE + n), (_A + c + 1.0) / (_SIZE + n + 1.0)
        weights = self.weights * _possible(n, c)
        first, second = float((weights * mean).sum()), float((weights * mean * more).sum())
        return max(second - first**2, 0.0) ** 0.5

    def still(self, ns: Sequence[int]) -> Estimate:
        """Of prompts with 0 of n correct, how many would have none at LATER rollouts: expected, and the middle 95 % of
        the posterior prediction."""
        rng = np.random.default_rng(0)
        at, total = rng.choice(self.weights.size, _DRAWS, p=self.weights.ravel()), np.zeros(_DRAWS)
        for n, times in sorted(Counter(ns).items()):
            total += rng.binomial(times, (_zero(max(n, LATER)) / _zero(n)).ravel()[at])
        low, high = np.quantile(total, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(float(total.mean()), float(low), float(high), len(ns))


def _zero(n: int) -> NDArray[np.float64]:
    """(Π, J) the chance of none in n."""
    return _SHARES + (1.0 - _SHARES) * np.exp(betaln(_A, _B + n) - betaln(_A, _B))


def _possible(n: int, c: int) -> NDArray[np.float64]:
    """(Π, J) the chance that a prompt with c of n correct is not impossible."""
    return 1.0 - _SHARES / _zero(n) if c == 0 else np.ones_like(_SHARES)


def fit(counts: Counts) -> Posterior:
    """The posterior given (n, c) of the measured prompts; without any it is the prior."""
    return _fit(tuple(sorted(Counter(counts).items())))


@lru_cache(maxsize=8)
def _fit(counts: tuple[tuple[tuple[int, int], int], ...]) -> Posterior:
    logs = np.zeros((len(_SHARES), len(_A)))
    for (n, c), times in counts:
        if c:
            logs += times * (np.log1p(-_SHARES) + betaln(_A + c, _B + n - c) - betaln(_A, _B))
        else:
            logs += times * np.log(_zero(n))
    profile = logs.max(axis=1) - logs.max()
    allowed = _SHARES[profile > -1.92, 0]  # half the 95 % quantile of χ² with one degree
    weights = _PRIOR * np.exp(logs - logs.max())
    return Posterior(weights / weights.sum(), (float(allowed[0]), float(allowed[-1])))


@lru_cache(maxsize=1024)
def _of_prompt(posterior: Posterior, n: int, c: int) -> tuple[float, float]:
    """below and spread."""
    return posterior.below(n, c), posterior.spread(n, c)


def evidence(p: float, n: ArrayLike, c: ArrayLike) -> NDArray[np.float64]:
    """log of how much better the mixture foretold c of n correct than the pass rate p; n and c alike, of any shape."""
    a, b = MIXTURE
    wrong = np.subtract(n, c)
    return betaln(np.add(a, c), b + wrong) - betaln(a, b) - xlogy(c, p) - xlog1py(wrong, -p)


@lru_cache(maxsize=65536)
def interval(n: int, c: int) -> tuple[float, float]:
    """The confidence sequence after n rollouts with c correct: holds the pass rate at all n at once, 95 times in 100.

    >>> interval(0, 0), [round(x, 4) for x in interval(261, 0)], [round(x, 4) for x in interval(16, 4)]
    ((0.0, 1.0), [0.0, 0.0156], [0.0166, 0.72])
    """

    def end(edge: float) -> float:
        if evidence(edge, n, c) <= _LIMIT:
            return round(edge)
        return float(brentq(lambda p: evidence(p, n, c) - _LIMIT, min(edge, c / n), max(edge, c / n)))

    return (end(1e-300) if c else 0.0), (end(1.0 - 1e-16) if c < n else 1.0)


def triage(
    rows: Collection[Mapping[str, Any]], looks: Collection[Mapping[str, Any]] = (), below: float = BELOW
) -> Triage:
    """rows: of a scan (`scan_group`). looks: batches of fresh rollouts of its prompts. below: see `Decision`."""
    counts = [(int(r["n"]), int(r["correct"])) for r in rows if 0 <= r["correct"] <= r["n"] > 0]
    zeros = [n for n, c in counts if c == 0]
    posterior, still, impossible = fit(counts), None, None
    if not zeros:
        told = "No measured prompt is without a correct rollout."
    elif len(counts) < FEWEST or len(zeros) == len(counts):
        found = "all are without a correct rollout" if len(counts) >= FEWEST else f"it takes {FEWEST}"
        told = f"The scan cannot tell impossible from unlucky: it measured {len(counts)} prompts, and {found}."
    else:
        still, impossible = posterior.still(zeros), posterior.impossible
        told = _told(still, impossible, max(zeros), len(counts))
    fresh: dict[str, Counter[str]] = defaultdict(Counter, {})
    for look in looks:
        fresh[look["problem_id"]].update({name: look[name] for name in ("drawn", "n", "correct")})
    cliffs = {}
    for r in rows:
        seen = fresh[r["problem_id"]]
        n, c = seen["n"], seen["correct"]
        below_it, spread = _of_prompt(posterior, int(r["n"]) + n, c)
        chance = below_it if still and r["n"] + n else None
        if cause := cause_of(r, chance):
            low, high = interval(n, c)
            decision = Decision.CLIFF if high < below else Decision.NOT if low > below else Decision.OPEN
            cliff = Cliff(cause, int(r["n"]), seen["drawn"], n, c, low, high, chance, spread, decision)
            cliffs[r["problem_id"]] = cliff
    return Triage(cliffs, still, impossible, told)


def cause_of(row: Mapping[str, Any], below: float | None) -> Cause | None:
    """Of one row of a scan; None where a rollout is correct, or none was drawn. below: see `Cliff`."""
    if row["group"] == GroupKind.UNGRADABLE.value:
        return Cause.UNGRADABLE
    if row["correct"] or row["group"] == GroupKind.TOO_LONG.value:
        return None
    if row["grader_errors"] or row.get("disputed"):
        return Cause.GRADER
    if row["truncated"]:
        return Cause.CUT_OFF
    if 2 * row["no_answer"] >= row["n"]:
        return Cause.NO_ANSWER
    return Cause.UNLUCKY if below is not None and below < 0.5 else Cause.UNSOLVED


def _told(still: Estimate, impossible: tuple[float, float], k: int, prompts: int) -> str:
    low, high = impossible
    words = f"Of {still.n_prompts} prompts with 0 of {k} correct, {still.value:.0f} ({still.low:.0f} to {still.high:.0f}) would "
    words += f"still have none at {LATER} rollouts (95 %, a zero-inflated beta-binomial over {prompts} prompts). "
    words += f"{100 * low:.0f} to {100 * high:.0f} % of all prompts may be impossible (profile likelihood)"
    return f"{words}: these counts do not tell impossible from rare." if low == 0 else f"{words}."
