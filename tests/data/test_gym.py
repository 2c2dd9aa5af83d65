"""Problems that reasoning-gym makes: the same again by their name, right by the task's own scorer."""

from __future__ import annotations

import sys
from typing import Any

import pytest

from hdpo.config import Information, ProblemConfig, PromptConfig
from hdpo.data.problems import load_problems
from hdpo.data.prompts import reference
from hdpo.data.sets import opened
from hdpo.errors import BadInput
from hdpo.grading.verify import VerifierPool
from hdpo.method.identity import digest_of_problems, grader_words
from hdpo.records import Outcome

NAME = "reasoning-gym:chain_sum?seed=3&size=40"


def problems(name: str) -> Any:
    return load_problems(ProblemConfig(**opened({"problems": name})), "all").problems


def test_without_the_package_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(BadInput, match="pip install reasoning-gym"):
        problems(NAME)


def test_a_name_makes_the_same_problems_again_and_another_seed_others() -> None:
    pytest.importorskip("reasoning_gym")
    first, again = problems(NAME), problems(NAME)
    assert first == again and 30 < len(first) <= 40 and first[0].source == "chain_sum"
    assert digest_of_problems(first) != digest_of_problems(problems(NAME.replace("seed=3", "seed=4")))
    assert not first[0].solution


def test_its_scorer_is_the_grader_and_less_than_1_is_wrong() -> None:
    pytest.importorskip("reasoning_gym")
    assert opened({"problems": NAME})["grader"] == NAME
    assert opened({"problems": NAME, "grader": "exact"})["grader"] == "exact"
    p = problems(NAME)[0]
    said = [f"<answer>{p.answer}</answer>", reference(p, Information.ANSWER), f"\\boxed{{{p.answer} or so}}", "well"]
    with VerifierPool(grader=NAME) as pool:
        found = [v.outcome for v in pool.grade([(s, p.answer) for s in said], [p.text] * len(said))]
        (foreign,) = pool.grade([(said[0], p.answer)], ["not of this set"])
    assert found == [Outcome.CORRECT, Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER]
    assert foreign.outcome is Outcome.GRADER_ERROR
    assert "reasoning-gym 0." in grader_words(NAME)


def test_worked_solutions_come_along_where_a_task_has_them() -> None:
    pytest.importorskip("reasoning_gym")
    p = problems("reasoning-gym:gsm_symbolic?size=2")[0]
    assert p.solution.endswith(f"\\boxed{{{p.answer}}}.") and "####" not in p.solution
    assert reference(p, PromptConfig().information) == p.solution


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("chain_sun", "such as chain_sum"),
        ("chain_sum?terms=2", "expected settings of chain_sum"),
        ("chain_sum?seed=x", "expected settings of chain_sum"),
        ("chain_sum?size=999999999", "found 'size above 100,000'"),
    ],
)
def test_a_task_or_setting_that_is_none_is_a_sentence(name: str, words: str) -> None:
    pytest.importorskip("reasoning_gym")
    with pytest.raises(BadInput, match=words):
        problems(f"reasoning-gym:{name}")
