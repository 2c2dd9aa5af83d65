"""A small draw of `python -m tests.simulations`: wide bounds, the worst cells of what was too narrow or promised too much."""

import math

import pytest

from tests import simulations


@pytest.mark.parametrize(("of_set", "problems", "k"), [("rare successes", 40, 1), ("easy", 16, 8), ("uniform", 8, 8)])
def test_a_mean_of_few_or_skewed_problems_covers(of_set, problems, k):
    found = simulations.mean(of_set, problems, k, 300)
    assert found.held[1] >= 0.93 > found.held[0]


def test_two_seeds_claim_nothing_that_is_not_there():
    found = simulations.null("40 % cliffs", 240, 1, seeds=2, noise=1.0, runs=600)
    assert found.claimed[1] <= 0.075 < found.claimed[0]


def test_eight_arms_at_once_claim_no_more_than_one():
    found = simulations.family("uniform", 8, seeds=6, noise=0.5, runs=150)
    assert found.claimed[1] <= 0.08 < found.claimed[0]


def test_a_cliff_may_be_looked_at_for_ever():
    found, until = simulations.looked(1 / 64, 10_000, 150)
    assert found.held[1] >= 0.93 > 0.75 > found.held[0] and found.claimed[1] <= 0.08 and math.isinf(until)
    assert simulations.looked(0.0, 10_000, 2)[1] == 261


def test_the_cliffs_to_come_are_foretold():
    found, excess = simulations.foretold("uniform", 40, 60)
    assert found.held[1] >= 0.9 > found.held[0] and found.claimed[1] <= 0.1 and abs(excess) < 0.2


@pytest.mark.parametrize("seeds", [1, 3])
def test_the_promised_power_is_reached(seeds):
    size, found = simulations.power(simulations.EFFECTS[2], "hard", 240, 1, seeds, 300)
    assert not math.isnan(size) and 0.73 <= found.claimed[1] <= 0.93
