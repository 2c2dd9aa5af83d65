"""The stories of the raised model: their answers, what is held out, and that students misread a purchase and seldom not."""

from random import Random

import pytest

from hdpo.grading.verify import VerifierPool
from hdpo.organism import stories
from hdpo.organism.stories import HELD_OUT, LEVEL, PURCHASES, draw_group, draw_story, misread, story_sets, work
from hdpo.organism.tasks import CAREFUL, Line, solve


@pytest.mark.parametrize("kind", LEVEL)
def test_each_kind_has_lines_that_hold_and_numbers_in_reach(kind: str) -> None:
    rng = Random(1)
    for _ in range(30):
        task = draw_story(rng, kind)
        steps = solve(task.plans[0])
        lines = len(kind) - 1 + kind.count("B") + (kind[0] == "1")
        assert len(steps) == lines and all(1 <= s.value <= stories.MOST for s in steps)
        for step in steps:
            left, right = step.text.split("=")
            assert eval(left.replace("/", "//")) == int(right)  # noqa: S307
        assert task.level == LEVEL[kind] and task.text.endswith("?")


def test_held_out_means_held_out() -> None:
    sets = story_sets()
    texts = [p.text for problems in sets.values() for p in problems]
    assert len(set(texts)) == len(texts) and {s: len(p) for s, p in sets.items()} == {
        "validation": 96,
        "test": 96,
        "train": 400,
    }
    assert {p.source for p in sets["train"]} == {"trained kinds"}
    held_out = frozenset(p.text for s in ("validation", "test") for p in sets[s])
    rng = Random(0)
    drawn = {e.prompt for _ in range(2000) for e in draw_group(rng, 0.5, held_out)}
    assert not any(text in prompt for prompt in drawn for text in held_out)
    assert not set(HELD_OUT) & {*stories.EASY, *stories.MIDDLE, *PURCHASES}


def test_a_student_misreads_a_purchase_and_seldom_not() -> None:
    rng = Random(0)
    right = first = 0
    for _ in range(2000):
        task = draw_story(rng, "0B")
        plan = misread(rng, task.plans[0])
        assert all(isinstance(line, Line) for line in plan)
        right += solve(plan)[-1].value == int(task.answer)
        first += plan[0].operation == "*"
    assert 0.12 < first / 2000 < 0.18 and 0.01 < right / 2000 < 0.06
    assert work(rng, draw_story(rng, "0+").plans[0], CAREFUL).count("\\boxed{") == 1


def test_every_gold_is_what_its_solution_says() -> None:
    problems = [p for s in story_sets().values() for p in s]
    with VerifierPool() as pool:
        assert all(v.outcome.is_correct for v in pool.grade([(p.solution, p.answer) for p in problems]))


def test_the_corpus_has_drill_at_first_and_none_at_the_end() -> None:
    shares = []
    for progress in (0.0, 0.9):
        rng = Random(2)
        groups = [draw_group(rng, progress, frozenset()) for _ in range(500)]
        shares.append(sum(g[0].prompt == "Calculate." for g in groups) / 500)
    assert 0.3 < shares[0] < 0.5 and shares[1] == 0
