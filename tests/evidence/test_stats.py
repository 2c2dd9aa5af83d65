"""Statistics: exact values, intervals that cover as often as they say, a power that simulation confirms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import beta, binom

from hdpo.errors import BadInput
from hdpo.evidence import stats
from hdpo.evidence.stats import Estimate

UNHURRIED = settings(deadline=None)
COUNTS = st.integers(1, 9).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))


def draw_rates(rng: np.random.Generator, prompts: int) -> np.ndarray:
    """An invented problem set: 12 % impossible prompts, the rest Beta(.7, .5)."""
    return np.where(rng.random(prompts) < 0.12, 0.0, rng.beta(0.7, 0.5, prompts))


def draw_counts(rng: np.random.Generator, rates: np.ndarray, n: int) -> list[tuple[int, int]]:
    return [(n, int(c)) for c in rng.binomial(n, rates)]


def pass_values(counts: list[tuple[int, int]], k: int) -> list[float]:
    return [stats.pass_at_k(n, c, k) for n, c in counts]


# --- pass@k ---


@pytest.mark.parametrize("n", range(1, 8))
def test_pass_at_k_equals_the_enumeration_of_all_subsets(n):
    for c, k in itertools.product(range(n + 1), range(1, n + 1)):
        subsets = list(itertools.combinations([True] * c + [False] * (n - c), k))
        expected = sum(any(subset) for subset in subsets) / len(subsets)
        assert stats.pass_at_k(n, c, k) == pytest.approx(expected, abs=1e-15)


def test_pass_at_k_at_its_ends():
    assert stats.pass_at_k(16, 3, 1) == 3 / 16
    assert stats.pass_at_k(16, 3, 16) == 1.0
    assert stats.pass_at_k(16, 0, 8) == 0.0
    assert 0.0 < stats.pass_at_k(2000, 1, 1000) < 1.0  # the integers outgrow a float, their ratio does not


@pytest.mark.parametrize(("n", "c", "k"), [(4, 1, 8), (4, 5, 1), (4, -1, 1), (0, 0, 1), (4, 2, 0)])
def test_impossible_counts_are_refused_with_a_sentence(n, c, k):
    with pytest.raises(BadInput, match="found c =|sample at least"):
        stats.pass_at_k(n, c, k)


def test_mean_pass_at_k_by_hand():
    # pass@2 of (4,0), (4,1), (4,2), (4,4): 0, 1/2, 5/6, 1; half a prompt at 0 and at 1 join the spread.
    found = stats.mean_pass_at_k([(4, 0), (4, 1), (4, 2), (4, 4)], 2)
    values = [0.0, 1 / 2, 5 / 6, 1.0]
    variance = (sum(v * v for v in values) + 0.5 - 5 * (17 / 30) ** 2) / 4
    as_coins = 4 * (17 / 30) * (13 / 30) / variance * (1.95996 / 2.77645) ** 2  # t of 4 degrees
    mean = np.mean(values)
    exact = (
        beta.ppf(0.025, mean * as_coins, (1 - mean) * as_coins + 1),
        beta.ppf(0.975, mean * as_coins + 1, (1 - mean) * as_coins),
    )
    assert found.value == pytest.approx(mean)
    assert (found.low, found.high) == pytest.approx(exact, abs=1e-4)
    assert found.n_prompts == 4


@pytest.mark.parametrize("correct", [0, 8])
def test_no_spread_is_no_certainty(correct):
    found = stats.mean_pass_at_k([(8, correct)] * 20, 8)
    assert found.value == correct / 8
    assert 0.12 < found.high - found.low < 0.18  # 0 of 20 says p < 0.139
    assert found.low <= found.value <= found.high


def test_one_prompt_says_next_to_nothing():
    found = stats.mean_pass_at_k([(8, 4)], 1)
    assert found.value == 0.5 and found.low < 0.02 and found.high > 0.98


@UNHURRIED
@given(counts=st.lists(COUNTS, min_size=1, max_size=30))
def test_every_interval_holds_its_value_and_stays_within_bounds(counts):
    for found in (stats.mean_pass_at_k(counts, 1), stats.share([c == 0 for _, c in counts])):
        assert 0.0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1.0


# --- plain rates ---


def test_rates_against_published_values():
    assert stats.rate_interval(3, 10) == pytest.approx((0.0667, 0.6525), abs=1e-4)  # Clopper and Pearson, both sides
    assert stats.rate_interval(0, 8) == (0.0, pytest.approx(1 - 0.05 ** (1 / 8)))  # all on the side there is
    low, high = stats.rate_interval(3, 8)
    assert stats.rate_interval(5, 8) == pytest.approx((1 - high, 1 - low))
    assert all(stats.rate_interval(0, n)[0] == 0.0 and stats.rate_interval(n, n)[1] == 1.0 for n in range(1, 300))
    with pytest.raises(BadInput):
        stats.rate_interval(3, 0)


@pytest.mark.parametrize("n", [1, 5, 8, 16, 48, 240])
def test_rates_cover_wherever_the_truth_is(n):
    rates = np.linspace(0.001, 0.999, 999)
    chances = binom.pmf(np.arange(n + 1)[:, None], n, rates)
    ends = np.array([stats.rate_interval(c, n) for c in range(n + 1)])
    assert ((chances * ((ends[:, :1] <= rates) & (rates <= ends[:, 1:]))).sum(axis=0) >= 0.931).all()
    assert (np.diff(ends, axis=0) >= 0).all()  # more right, no limit lower


def test_a_share_has_the_interval_of_its_rate():
    found = stats.share([True, True, False, False])
    assert (found.value, found.low, found.high, found.n_prompts) == (0.5, *stats.rate_interval(2, 4), 4)
    with pytest.raises(BadInput):
        stats.share([])


def test_no_prompt_is_a_sentence():
    with pytest.raises(BadInput, match="at least one prompt"):
        stats.mean_pass_at_k([], 1)


# --- differences ---


def test_paired_difference_by_hand():
    found = stats.seeds_difference([[0.5, 0.75, 1.0, 0.0]], [[0.25, 0.5, 0.5, 0.0]])
    variance = (0.25**2 + 0.25**2 + 0.5**2 + 1.0 - 5 * 0.2**2) / 4  # half a prompt at -1 and at 1: 1.0, four degrees
    half = 2.77645 * math.sqrt(variance / 4)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25 - half, 1.0), abs=1e-5)  # cut at 1
    assert found.low < 0  # not cut
    back = stats.seeds_difference([[0.25, 0.5, 0.5, 0.0]], [[0.5, 0.75, 1.0, 0.0]])
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_pairing_removes_what_the_prompts_share():
    rng = np.random.default_rng(2)
    hard, noise = 0.8 * rng.random(400), 0.02 * rng.standard_normal(400)
    found = stats.seeds_difference([hard + 0.1 + noise], [hard])
    assert found.high - found.low < 0.015


def test_identical_arms_are_not_certain_to_be_identical():
    found = stats.seeds_difference([[0.5] * 30], [[0.5] * 30])
    assert found.value == 0.0
    assert found.high == -found.low == pytest.approx(2.042272 / 30)


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [0.0]), ([[1.0]], [[1.0]])])
def test_what_cannot_be_paired_is_refused(a, b):
    with pytest.raises(BadInput):
        stats.seeds_difference([a], [b])


def test_seeds_difference_by_hand():
    a = [[0.5, 1.0, 0.5], [0.5, 0.5, 0.75]]
    b = [[0.0, 0.5, 0.5], [0.5, 0.5, 0.25]]
    d = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 0.5]])  # every prompt's mean is 1/4
    by_seed, by_prompt = d.mean(1).var(ddof=1) / 2, (3 * 0.25**2 + 1.0 - 4 * 0.1875**2) / 3 / 3
    half = math.sqrt(12.7062**2 * by_seed + 3.18245**2 * by_prompt)
    found = stats.seeds_difference(a, b)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, max(0.25 - half, -1), min(0.25 + half, 1)))


def test_two_seeds_that_agree_by_chance_are_still_two_seeds():
    """The interval of two seeds rests on t = 12.7 for whatever they differ by, however little that is."""
    rng = np.random.default_rng(7)
    b = np.zeros((2, 200))
    a = 0.5 + 0.05 * rng.standard_normal((2, 200))
    gap = 0.03
    a -= a.mean(1, keepdims=True) - np.array([[0.5 - gap / 2], [0.5 + gap / 2]])
    found = stats.seeds_difference(list(a), list(b))
    assert found.high - found.value > 12.7 * gap / 2


def test_one_prompt_over_two_seeds_says_nothing():
    found = stats.seeds_difference([[0.5], [0.75]], [[0.0], [0.5]])
    assert (found.value, found.low, found.high) == (0.375, -1.0, 1.0)


def test_arms_of_other_seeds_are_refused():
    a, b = [0.5, 0.75, 1.0], [0.25, 0.5, 0.5]
    with pytest.raises(BadInput, match="same seeds"):
        stats.seeds_difference([a], [b, b])
    with pytest.raises(BadInput, match="same seeds"):
        stats.seeds_difference([], [])


# --- power ---


def test_detectable_difference_of_coins_is_the_textbooks():
    # All prompts near one half: Var = .25/16, z .975 = 1.98 at 99 degrees, z .8 = .842.
    found = stats.detectable_difference([(64, 32)] * 1000, 16, 1, 1, 1000, stats.Spread(0.0, 0.0, 0.0))
    assert found.value == pytest.approx((1.962 + 0.842) * math.sqrt(2 * 0.25 / 16 / 1000), rel=0.02)


def test_more_of_anything_detects_less():
    counts = draw_counts(np.random.default_rng(5), draw_rates(np.random.default_rng(6), 100), 16)

    def found(n: int = 16, k: int = 8, **more) -> float:
        plan = {"seeds": 1, "prompts": 100, "spread": stats.Spread(rest=0.0), **more}
        return stats.detectable_difference(counts, n, k, **plan).value

    assert found(32) < found() and found(16, 1) < found()
    assert found(prompts=400) < found() < found(spread=stats.Spread(problems=0.5))
    assert found(seeds=5) < found(seeds=3)
    assert 0 < found(2000) < found()  # no overflow


@pytest.mark.parametrize(
    ("counts", "reason"),
    [
        ([(16, 8)] * 5, "8 problems with 16 samples"),
        ([(8, 4)] * 50, "8 problems with 16 samples"),
        ([(16, 16)] * 240, "there is room for 0.0"),
        ([(16, 16)] * 300 + [(16, 5)] * 8, "there is room for 0.0"),
    ],
)
def test_what_cannot_be_told_has_a_reason(counts, reason):
    found = stats.detectable_difference(counts, 16, 8, 1, len(counts), stats.Spread())
    assert found.value is None and reason in found.reason


def test_the_spread_of_pairs_is_found_again():
    rng, zeros = np.random.default_rng(8), [np.zeros(4000)] * 40
    d = 0.3 * rng.standard_normal(4000) + 0.02 * rng.standard_normal((40, 1)) + 0.2 * rng.standard_normal((40, 4000))
    found = stats.spread_of(list(d), zeros)
    assert (found.problems, found.seeds, found.rest) == pytest.approx((0.3, 0.02, 0.2), rel=0.2)
    assert stats.spread_of(d[:1], zeros[:1]).rest == 0.0


@pytest.mark.parametrize("seeds", [1, 2, 3, 6])
def test_the_power_of_a_comparison_never_contradicts_its_interval(seeds):
    rng = np.random.default_rng(seeds)
    for _ in range(50):
        a, b = (rng.random((seeds, 40)) for _ in range(2))
        interval, again = stats.seeds_difference(a, b), stats.detectable_again(a, b)
        assert again.value is None or again.value > (interval.high - interval.low) / 2
    assert "too few" in stats.detectable_again(a[:, :5], b[:, :5]).reason


@pytest.mark.parametrize("setting", [{"seeds": 0}, {"k": 32}])
def test_impossible_plans_are_refused(setting):
    with pytest.raises(BadInput):
        plan = {"k": 1, "seeds": 1, **setting}
        stats.detectable_difference([(8, 4)], 16, prompts=1, spread=stats.Spread(), **plan)


# --- words and traces ---


@pytest.mark.parametrize(
    ("low", "value", "high", "words"),
    [
        (0.021, 0.05, 0.079, "higher by 5.0 points (2.1 to 7.9)"),
        (-0.079, -0.05, -0.021, "lower by 5.0 points (2.1 to 7.9)"),
        (-0.001, 0.05, 0.101, "no visible difference"),
        (0.0, 0.0, 0.0, "no visible difference"),
    ],
)
def test_verdict_words(low, value, high, words):
    assert stats.verdict_words(Estimate(value, low, high, 10)) == words


@pytest.mark.parametrize(
    ("a", "b", "index"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2], [1, 2, 3], 2), ([4], [1], 0), ([1, 5], [1, 6], 1), ([], [], None)],
)
def test_first_divergence(a, b, index):
    assert stats.first_divergence(a, b) == index
    assert stats.first_divergence(b, a) == index
