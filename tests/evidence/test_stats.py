"""Statistics: exact values, intervals that cover as often as they say, a power that simulation confirms."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
    # pass@2 of (4,0), (4,1), (4,2), (4,4): 0, 1/2, 5/6, 1; sd .442, t(3) 3.182, over √4.
    found = stats.mean_pass_at_k([(4, 0), (4, 1), (4, 2), (4, 4)], 2)
    values = [0.0, 1 / 2, 5 / 6, 1.0]
    half = 3.18245 * np.std(values, ddof=1) / 2
    assert found.value == pytest.approx(np.mean(values))
    assert found.low == max(0.0, found.low) == pytest.approx(max(0.0, np.mean(values) - half))
    assert found.high == 1.0  # cut
    assert (found.n_prompts, found.n_samples, found.k) == (4, 16, 2)


@pytest.mark.parametrize("correct", [0, 8])
def test_no_spread_is_no_certainty(correct):
    found = stats.mean_pass_at_k([(8, correct)] * 20, 8)
    assert found.value == correct / 8
    assert found.high - found.low == pytest.approx(1 - 0.025 ** (1 / 20))  # 16.8 points, as Clopper-Pearson's
    assert found.low <= found.value <= found.high


def test_one_prompt_says_next_to_nothing():
    found = stats.mean_pass_at_k([(8, 4)], 1)
    assert found.value == 0.5 and found.low < 0.02 and found.high > 0.98


@UNHURRIED
@given(counts=st.lists(COUNTS, min_size=1, max_size=30))
def test_every_interval_holds_its_value_and_stays_within_bounds(counts):
    for found in (stats.mean_pass_at_k(counts, 1), stats.cliff_fraction(counts), stats.cover_at(counts, 0.5)):
        assert 0.0 <= found.low <= found.value + 1e-12 and found.value - 1e-12 <= found.high <= 1.0


def test_coverage_of_the_mean_over_prompts():
    rng = np.random.default_rng(1)
    truth = 0.88 * 0.7 / 1.2
    hits = 0
    for _ in range(300):
        found = stats.mean_pass_at_k(draw_counts(rng, draw_rates(rng, 40), 8), 1)
        hits += found.low <= truth <= found.high
    assert 0.91 <= hits / 300 <= 0.99


# --- plain rates ---


def test_wilson_against_published_values():
    assert stats.wilson(0, 10) == pytest.approx((0.0, 0.2775), abs=1e-4)
    assert stats.wilson(5, 10) == pytest.approx((0.2366, 0.7634), abs=1e-4)
    low, high = stats.wilson(3, 8)
    assert stats.wilson(5, 8) == pytest.approx((1 - high, 1 - low))
    assert all(stats.wilson(0, n)[0] == 0.0 and stats.wilson(n, n)[1] == 1.0 for n in range(1, 300))
    with pytest.raises(BadInput):
        stats.wilson(3, 0)


def test_wilson_covers():
    for p in (0.05, 0.4):
        chances = [math.comb(40, c) * p**c * (1 - p) ** (40 - c) for c in range(41)]
        covered = sum(w for c, w in enumerate(chances) if stats.wilson(c, 40)[0] <= p <= stats.wilson(c, 40)[1])
        assert 0.92 <= covered <= 0.99


def test_cliff_fraction_and_cover():
    counts = [(8, 0), (8, 0), (8, 2), (8, 8)]
    assert stats.cliff_fraction(counts).value == 0.5
    assert (stats.cliff_fraction(counts).low, stats.cliff_fraction(counts).high) == stats.wilson(2, 4)
    assert [stats.cover_at(counts, tau).value for tau in (0.1, 0.25, 0.26, 1.0)] == [0.5, 0.5, 0.25, 0.25]
    for tau in (0.0, 1.1, math.nan):
        with pytest.raises(BadInput):
            stats.cover_at(counts, tau)


@pytest.mark.parametrize("rollouts", [1, 8, 64])
def test_a_cliffs_upper_bound_leaves_one_chance_in_twenty(rollouts):
    assert (1 - stats.cliff_upper(rollouts)) ** rollouts == pytest.approx(0.05)


def test_no_prompt_is_a_sentence():
    for call in (stats.cliff_fraction, lambda c: stats.mean_pass_at_k(c, 1)):
        with pytest.raises(BadInput, match="at least one prompt"):
            call([])


# --- differences ---


def test_paired_difference_by_hand():
    found = stats.paired_difference([0.5, 0.75, 1.0, 0.0], [0.25, 0.5, 0.5, 0.0])
    half = 3.18245 * np.std([0.25, 0.25, 0.5, 0.0], ddof=1) / 2
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-5)
    assert found.low < 0  # not cut
    back = stats.paired_difference([0.25, 0.5, 0.5, 0.0], [0.5, 0.75, 1.0, 0.0])
    assert (back.value, back.low, back.high) == pytest.approx((-found.value, -found.high, -found.low))


def test_pairing_removes_what_the_prompts_share():
    rng = np.random.default_rng(2)
    hard, noise = rng.random(100), 0.02 * rng.standard_normal(100)
    found = stats.paired_difference(hard + 0.1 + noise, hard)
    assert found.high - found.low < 0.02


def test_identical_arms_are_not_certain_to_be_identical():
    found = stats.paired_difference([0.5] * 30, [0.5] * 30)
    assert found.value == 0.0
    assert found.high == -found.low == pytest.approx(1 - 0.025 ** (1 / 30))


def test_equal_differences_are_equal_in_spite_of_rounding():
    found = stats.paired_difference([0.4, 0.3, 0.9], [0.3, 0.2, 0.8])
    assert found.high - found.low > 0.5


@pytest.mark.parametrize(("a", "b"), [([1.0], [1.0, 2.0]), ([], []), ([math.nan], [0.0]), ([[1.0]], [[1.0]])])
def test_what_cannot_be_paired_is_refused(a, b):
    with pytest.raises(BadInput):
        stats.paired_difference(a, b)
    with pytest.raises(BadInput):
        stats.seeds_difference([a], [b])


def test_seeds_difference_by_hand():
    a = [[0.5, 1.0, 0.5], [0.5, 0.5, 0.75]]
    b = [[0.0, 0.5, 0.5], [0.5, 0.5, 0.25]]
    d = np.array([[0.5, 0.5, 0.0], [0.0, 0.0, 0.5]])
    by_seed, by_prompt = d.mean(1).var(ddof=1) / 2, d.mean(0).var(ddof=1) / 3
    assert by_prompt == pytest.approx(0.0)  # so the seeds' one degree decides: t = 12.706
    found = stats.seeds_difference(a, b)
    half = 12.7062 * math.sqrt(by_seed)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25 - half, 0.25 + half), abs=1e-3)


def test_one_prompt_over_two_seeds_has_the_seeds_spread_alone():
    found = stats.seeds_difference([[0.5], [0.75]], [[0.0], [0.5]])
    half = 12.7062 * 0.125  # sd .1768 over √2
    assert (found.value, found.high) == pytest.approx((0.375, 0.375 + half), abs=1e-3)


def test_one_seed_is_the_paired_difference():
    a, b = [0.5, 0.75, 1.0], [0.25, 0.5, 0.5]
    assert stats.seeds_difference([a], [b]) == stats.paired_difference(a, b)
    with pytest.raises(BadInput, match="same seeds"):
        stats.seeds_difference([a], [b, b])
    with pytest.raises(BadInput, match="same seeds"):
        stats.seeds_difference([], [])


@pytest.mark.parametrize(("seed_sd", "prompt_sd", "rest_sd"), [(0.1, 0.0, 0.1), (0.0, 0.3, 0.1), (0.05, 0.2, 0.3)])
def test_the_interval_over_three_seeds_covers(seed_sd, prompt_sd, rest_sd):
    rng = np.random.default_rng(3)
    zeros, hits = np.zeros((3, 50)), 0
    for _ in range(600):
        d = 0.1 + seed_sd * rng.standard_normal((3, 1)) + prompt_sd * rng.standard_normal((1, 50))
        found = stats.seeds_difference(list(d + rest_sd * rng.standard_normal((3, 50))), list(zeros))
        hits += found.low <= 0.1 <= found.high
    assert hits / 600 >= 0.905  # its worst case is .93; a normal or bootstrap interval reaches about .8


# --- power ---


@pytest.mark.parametrize(("n", "k"), [(8, 1), (16, 8)])
def test_detectable_difference_is_what_a_simulation_detects(n, k):
    """Two arms with the same rates; a constant effect of the named size is found about 80 times in 100."""
    rng = np.random.default_rng(4)
    effect = np.mean([stats.detectable_difference(draw_counts(rng, draw_rates(rng, 200), 16), n, k) for _ in range(10)])
    found = 0
    for _ in range(150):
        rates = draw_rates(rng, 200)
        a, b = (pass_values(draw_counts(rng, rates, n), k) for _ in range(2))
        found += stats.paired_difference(np.array(a) + effect, b).low > 0
    assert 0.68 <= found / 150 <= 0.92


def test_detectable_difference_of_coins_is_the_textbooks():
    # All prompts near one half: Var = .25/16, z .975 = 1.98 at 99 degrees, z .8 = .842.
    found = stats.detectable_difference([(64, 32)] * 100, 16, 1)
    assert found == pytest.approx((1.984 + 0.842) * math.sqrt(2 * 0.25 / 16 / 100), rel=0.02)


def test_more_of_anything_detects_less():
    counts = draw_counts(np.random.default_rng(5), draw_rates(np.random.default_rng(6), 100), 16)
    base = stats.detectable_difference(counts, 16, 8)
    assert stats.detectable_difference(counts, 32, 8) < base
    assert stats.detectable_difference(counts, 16, 1) < base
    assert stats.detectable_difference(counts, 16, 8, power=0.9) > base
    assert stats.detectable_difference(counts, 16, 8, seeds=4) == pytest.approx(base / 2)
    assert 0 < stats.detectable_difference(counts, 2000, 8) < base  # no overflow
    assert stats.detectable_difference([(16, 0)] * 100, 16, 8) > 0  # cliffs are not certain


@pytest.mark.parametrize("setting", [{"seeds": 0}, {"power": 1.0}, {"k": 32}])
def test_impossible_plans_are_refused(setting):
    with pytest.raises(BadInput):
        stats.detectable_difference(**{"counts_baseline": [(8, 4)], "n_samples": 16, "k": 1, **setting})


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
    assert stats.verdict_words(Estimate(value, low, high, 10, None)) == words


@pytest.mark.parametrize(
    ("a", "b", "index"),
    [([1, 2, 3], [1, 2, 3], None), ([1, 2], [1, 2, 3], 2), ([4], [1], 0), ([1, 5], [1, 6], 1), ([], [], None)],
)
def test_first_divergence(a, b, index):
    assert stats.first_divergence(a, b) == index
    assert stats.first_divergence(b, a) == index
