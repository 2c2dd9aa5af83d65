"""Advantages of one group of rollouts: what reinforcement learning hears of its rewards. Imports no torch."""

import math
from collections.abc import Sequence

from hdpo.config import Advantage


def advantages(rewards: Sequence[float | None], form: Advantage) -> tuple[float, ...]:
    """(G,) rewards of one prompt → (G,) advantages, which sum to 0.

    A reward of None (a grader error) leaves the group: advantage 0, and no part in the baseline of the rest.
    With fewer than two rewards left, or all of them equal, there is no signal and every advantage is exactly
    0. Equality is tested on the whole group and exactly: a standard deviation in floats need not be 0 where
    it should be.

    >>> advantages((1.0, 0.0, 0.0, 0.0), Advantage.LEAVE_ONE_OUT)
    (1.0, -0.3333333333333333, -0.3333333333333333, -0.3333333333333333)
    >>> advantages((1.0, 0.0, 0.0, 0.0), Advantage.DR_GRPO)
    (0.75, -0.25, -0.25, -0.25)
    >>> advantages((1.0, 1.0, 0.0, 0.0), Advantage.STD)
    (1.0, 1.0, -1.0, -1.0)
    >>> advantages((1.0, None, 0.0), Advantage.LEAVE_ONE_OUT)  # the grader's error is no wrong answer
    (1.0, 0.0, -1.0)
    >>> advantages((0.0, 0.0, 0.0), Advantage.LEAVE_ONE_OUT)  # a cliff: no gradient
    (0.0, 0.0, 0.0)
    """
    graded = [r for r in rewards if r is not None]
    if len(set(graded)) < 2:  # none left, one left, or all equal
        return (0.0,) * len(rewards)
    n = len(graded)
    mean = math.fsum(graded) / n
    scale = 1.0  # every form is (r - r̄) times a constant of the group
    if form is Advantage.LEAVE_ONE_OUT:
        scale = n / (n - 1)
    elif form is Advantage.STD:
        scale = 1.0 / math.sqrt(math.fsum((r - mean) ** 2 for r in graded) / n)
    return tuple(0.0 if r is None else (r - mean) * scale for r in rewards)
