"""Where a completion says its answer: the rules are in test_rules, here are the places and the odd texts."""

import pytest

from hdpo.grading.boxes import answer_in, last_box


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{\left\{ x \right.}", r"\left\{ x \right."),  # an escaped brace opens nothing
        (r"\boxed{x=\boxed{5}}", "5"),
        (r"\boxed{3}\boxed{5}", "5"),
        (r"\boxed{3}; \boxed{5}, and \boxed{7}", "3, 5, 7"),
        (r"$\boxed{3}$ $\text{or}$ \(\boxed{5}\)", "3, 5"),
        (r"\boxed{2}, then \boxed{3}", "3"),
        (r"\boxed{}, \boxed{3}", "3"),
        (r"\boxed{3}, \boxed{ }", None),
        (r"\boxed{1} and \boxed{2", None),
        ("\\boxed {5}", "5"),
        (r"The answer: $$x^2$$", "x^2"),
        (r"answer $1$, no, answer \(2\)", "2"),
        ("<think>a</think><think>\\boxed{1}", None),
        ("", None),
    ],
)
def test_the_answer_of_a_text(text, answer):
    assert answer_in(text) == answer


def test_the_place_of_the_last_box():
    text = r"\boxed{1} and \boxed{\frac{1}{2}}."
    start, end = last_box(text)
    assert text[start:end] == r"\frac{1}{2}"
    assert last_box("none") is None and last_box(r"\boxed{1} and \boxed{2") is None
