"""A verdict names the rule that decided, in the words of the grader that gave it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from hdpo.grading.explain import explain
from hdpo.grading.verify import VerifierPool


@pytest.fixture(scope="module")
def pools() -> Iterator[dict[str, VerifierPool]]:
    made = {name: VerifierPool(grader=name) for name in ("math", "pattern:A: (.+)", "number:0.02", "choice", "exact")}
    yield made
    for pool in made.values():
        pool.close()


@pytest.mark.parametrize(
    ("grader", "gold", "answer", "verdict", "rule"),
    [
        ("math", "1/2", "0.5", "correct", "compared as numbers"),
        ("math", "12 cm", r"so \boxed{12\text{ m}}", "wrong", "units are not converted"),
        ("math", "42", "42", "correct", "character by character"),
        ("math", "42", "41", "wrong", "two whole numbers"),
        ("math", "no", "on", "wrong", "compared as written"),
        ("math", "(x+1)^2", "x^2+2x+1", "correct", "compared by math-verify"),
        ("math", r"\frac12", r"\boxed{\dfrac{1}{2}}", "correct", "read alike"),
        ("math", "7", "2+2=7", "wrong", "the answer's equation is false"),
        ("math", "7", "9^{9^{9^{9}}}", "wrong", "a number too large to be computed equals its own text alone"),
        ("math", "7", "<think>7", "no answer found", "no answer stands where this grader looks"),
        ("math", "N/A", "3", "ungradable", "nobody can be right about this gold"),
        ("pattern:A: (.+)", "18", "A: 18.0", "correct", "compared as numbers"),
        ("pattern:A: (.+)", "18", "B: 18", "no answer found", "no answer stands where this grader looks"),
        ("number:0.02", "100", "about 101", "correct", "within 0.02 of the gold, relatively"),
        ("choice", "B", "The answer is (C).", "wrong", "the letters"),
        ("exact", "ab", " ab", "correct", "character by character"),
    ],
)
def test_the_rule_that_decided(
    pools: dict[str, VerifierPool], grader: str, gold: str, answer: str, verdict: str, rule: str
) -> None:
    found = explain(pools[grader], gold, answer)
    assert (found["verdict"], found["rule"]) == (verdict, rule)
