"""Draws belong to tokens: the same key gives the same uniform, another one another."""

import numpy as np

from hdpo.sampling.draws import DrawKey, Purpose, epoch_order, uniforms

KEY = DrawKey(3, Purpose.STUDENT, 7)


def test_a_key_is_its_own_whatever_was_drawn_before() -> None:
    first = uniforms(KEY, "a", 1, 5)
    uniforms(KEY, "b", 0, 50)
    assert (uniforms(KEY, "a", 1, 5) == first).all()


def test_every_part_of_the_key_matters() -> None:
    others = [
        uniforms(DrawKey(4, Purpose.STUDENT, 7), "a", 1, 5),
        uniforms(DrawKey(3, Purpose.PRIVILEGED, 7), "a", 1, 5),
        uniforms(DrawKey(3, Purpose.STUDENT, 8), "a", 1, 5),
        uniforms(KEY, "b", 1, 5),
        uniforms(KEY, "a", 2, 5),
        uniforms(DrawKey(3, Purpose.STUDENT, 71), "", 1, 5),  # no gluing of step and problem
    ]
    assert all((o != uniforms(KEY, "a", 1, 5)).all() for o in others)


def test_they_are_uniform() -> None:
    u = np.concatenate([uniforms(KEY, "a", g, 64) for g in range(200)])
    assert abs(u.mean() - 0.5) < 0.01 and abs(u.var() - 1 / 12) < 0.003
    assert u.min() >= 0.0 and u.max() < 1.0


def test_an_epoch_visits_every_problem_once_in_its_own_order() -> None:
    a, b = epoch_order(0, 0, 50), epoch_order(0, 1, 50)
    assert sorted(a) == sorted(b) == list(range(50)) and (a != b).any()
