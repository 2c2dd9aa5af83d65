"""The engine computes what it computed: `golden.json`, to the last bit where it was made and within 1e-5 elsewhere."""

import json

import pytest

import hdpo
from tests.method.golden import FILE, KEPT, LAMBDAS, SMALL, made_on, steps_of

GOLDEN = json.loads(FILE.read_text(encoding="utf-8"))


def test_the_golden_file_and_the_engine_have_one_semantics_number() -> None:
    assert GOLDEN["semantics"] == hdpo.SEMANTICS


@pytest.mark.parametrize("lambdas", [(0.0,), (0.3,), LAMBDAS], ids=["λ = 0", "λ = 0.3", "in turn"])
def test_three_steps_are_what_they_were(lambdas: tuple[float, ...]) -> None:
    """Where this fails on purpose: `tests/method/golden.py` says what to do."""
    here = made_on() == GOLDEN["made_on"]
    for lambda_, now in zip(lambdas, steps_of(*lambdas), strict=True):
        golden = GOLDEN["steps"][f"{lambda_:g}"]
        assert len(golden) == len(now) == SMALL["steps"]
        for before, after in zip(golden, now, strict=True):
            for name in KEPT:
                assert after[name] == (before[name] if here else pytest.approx(before[name], rel=1e-5)), name


def test_the_golden_steps_reach_both_terms() -> None:
    assert all(row["loss_grpo"] != 0 and row["grad_norm"] > 0 for rows in GOLDEN["steps"].values() for row in rows)
    assert all(row["loss_jsd"] == 0 for row in GOLDEN["steps"]["0"])
    recovered = [row for row in GOLDEN["steps"]["0.3"] if row["accepted_rollouts"]]
    assert len(recovered) == 2 and all(row["loss_jsd"] > 0 for row in recovered)
