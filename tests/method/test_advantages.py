"""Advantages: what each form is, that a group's sum is 0, and that a grader error is no wrong answer."""

import math
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hdpo.config import Advantage
from hdpo.method.advantages import advantages

UNHURRIED = settings(deadline=None)
FORMS = list(Advantage)
REWARDS = st.lists(st.sampled_from([0.0, 0.25, 1.0]), min_size=2, max_size=16)
WITH_ERRORS = st.lists(st.sampled_from([0.0, 1.0, None]), min_size=1, max_size=16)


@UNHURRIED
@given(REWARDS)
def test_leave_one_out_is_the_reward_minus_the_mean_of_the_others(rewards):
    found = advantages(rewards, Advantage.LEAVE_ONE_OUT)
    for i, reward in enumerate(rewards):
        others = rewards[:i] + rewards[i + 1 :]
        assert found[i] == pytest.approx(reward - sum(others) / len(others), abs=1e-12)


@UNHURRIED
@given(REWARDS)
def test_leave_one_out_is_a_scaled_dr_grpo(rewards):
    scale = len(rewards) / (len(rewards) - 1)
    for loo, dr in zip(
        advantages(rewards, Advantage.LEAVE_ONE_OUT), advantages(rewards, Advantage.DR_GRPO), strict=True
    ):
        assert loo == pytest.approx(scale * dr, abs=1e-12)


@UNHURRIED
@given(REWARDS)
def test_std_form_has_unit_variance_unless_the_group_is_degenerate(rewards):
    found = advantages(rewards, Advantage.STD)
    expected = 0.0 if len(set(rewards)) == 1 else 1.0
    assert sum(a * a for a in found) / len(found) == pytest.approx(expected)


@pytest.mark.parametrize("form", FORMS)
@UNHURRIED
@given(rewards=WITH_ERRORS)
def test_the_sum_of_a_group_is_zero_and_errors_get_nothing(form, rewards):
    found = advantages(rewards, form)
    assert len(found) == len(rewards)
    assert math.fsum(found) == pytest.approx(0.0, abs=1e-9)
    assert all(a == 0.0 for a, r in zip(found, rewards, strict=True) if r is None)


@pytest.mark.parametrize("form", FORMS)
@UNHURRIED
@given(rewards=WITH_ERRORS)
def test_a_grader_error_changes_nothing_for_the_rest(form, rewards):
    graded = [r for r in rewards if r is not None]
    kept = tuple(a for a, r in zip(advantages(rewards, form), rewards, strict=True) if r is not None)
    assert kept == advantages(graded, form)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("rewards", [(0.0,) * 8, (1.0,) * 8, (0.1, 0.1, 0.1), (None, 1.0), (None, None), (1.0,), ()])
def test_no_signal_is_exactly_zero(form, rewards):
    # Three times 0.1 has a mean of 0.10000000000000002 when summed naively: its floats' deviation is not 0.
    assert advantages(rewards, form) == (0.0,) * len(rewards)


def test_the_module_brings_no_torch():
    code = "import sys, hdpo.method.advantages, hdpo.evidence.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
