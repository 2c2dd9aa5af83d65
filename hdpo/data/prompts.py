"""Prompts: the student's, and the privileged x ⊕ y* (Sec. 3.1 of the paper) with the reference in the user turn.

A prompt is one user message through the tokenizer's own chat template, so a reference can never stand in the
assistant turn. The privileged information is a choice; two of the choices are wrong on purpose, as controls.
The tokenizer is an argument: nothing here imports transformers.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import Any, Protocol

from hdpo.config import Information, Wording
from hdpo.errors import BadInput
from hdpo.records import Problem

Messages = list[dict[str, str]]
_PLACEHOLDER = re.compile(r"\{problem\}|\{reference\}")
_BOX = re.compile(r"\\boxed\s*\{")
_INTEGER = re.compile(r"-?[0-9]+")


class ChatTokenizer(Protocol):
    """The part of a transformers tokenizer that prompts need."""

    chat_template: Any

    def apply_chat_template(self, conversation: Messages, *, tokenize: bool, add_generation_prompt: bool) -> Any: ...

    def __call__(self, text: str, *, add_special_tokens: bool) -> Any: ...


def student_messages(problem: Problem, wording: Wording) -> Messages:
    """One user message with the problem alone."""
    return _user(wording.student, {"{problem}": problem.text})


def privileged_messages(problem: Problem, wording: Wording, reference: str) -> Messages:
    """One user message with the problem and the reference text that `reference()` chose."""
    return _user(wording.privileged, {"{problem}": problem.text, "{reference}": reference})


def _user(template: str, values: dict[str, str]) -> Messages:
    # One pass: a problem text that itself contains "{reference}" stays as it is.
    return [{"role": "user", "content": _PLACEHOLDER.sub(lambda mark: values[mark.group()], template)}]


def render(tokenizer: ChatTokenizer, messages: Messages) -> tuple[str, tuple[int, ...]]:
    """The prompt as the model receives it, as text and as token ids, up to where the assistant begins.

    The ids are those of the text with no special tokens added: the template has written them already.
    Raises BadInput where the tokenizer has no chat template.
    """
    if not tokenizer.chat_template:
        raise BadInput(
            "The tokenizer of this model has no chat template, so its prompts cannot be written; "
            "choose an instruct model, or put a chat_template.jinja into the model folder."
        )
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    return text, tuple(tokenizer(text, add_special_tokens=False)["input_ids"])


def fits(prompt_len: int, max_new_tokens: int, context: int) -> bool:
    """Whether prompt and new tokens (all in tokens) go into the context together. A prompt is never cut."""
    return prompt_len + max_new_tokens <= context


def reference(problem: Problem, information: Information, fraction: float = 0.5, other: Problem | None = None) -> str:
    """The text that stands for y* in the privileged prompt.

    fraction: share of the solution's steps, rounded up (FRACTION alone); "" where the box is the only step.
    other: the problem whose solution is shown (WRONG_OTHER alone), see `pick_other`.

    Raises BadInput for a fraction outside (0, 1], where `other` is missing or has the same answer, and where there is no
    worked solution to show.
    """
    if not can_show(problem, information):
        raise BadInput(
            f"information: expected a worked solution of {problem.id} for '{information.value}', found none in its set. "
            "Give --information answer, or name the column of the solutions."
        )
    if information is Information.ANSWER:
        return f"\\boxed{{{problem.answer}}}"
    if information is Information.SOLUTION:
        return problem.solution
    if information is Information.FRACTION:
        return first_steps(problem.solution, fraction)
    if information is Information.WRONG_ANSWER:
        return _with_wrong_answer(problem)
    if other is None or same_answer(other, problem):
        found = "none" if other is None else f"{other.id} with the same answer {other.answer}"
        raise BadInput(f"The control for {problem.id} needs another problem with a different answer, found {found}.")
    return other.solution


def can_show(problem: Problem, information: Information) -> bool:
    """Whether a problem has what the privileged prompt is to tell: all but the answer is taken from its worked solution."""
    return bool(problem.solution) or information is Information.ANSWER


def same_answer(first: Problem, second: Problem) -> bool:
    """Equal as written, spaces aside: enough to choose a control, not a verdict."""
    return first.answer.replace(" ", "") == second.answer.replace(" ", "")


def pick_other(problem: Problem, pool: Sequence[Problem], seed: int) -> Problem:
    """Another problem with another answer, the same for the same seed, problem and pool."""
    start = _hash(f"{seed}\n{problem.id}") % max(len(pool), 1)
    for candidate in (*pool[start:], *pool[:start]):
        if candidate.solution and not same_answer(candidate, problem):
            return candidate
    raise BadInput(
        f"None of the {len(pool)} problems has another answer than {problem.id} ({problem.answer}); "
        "load more problems, or choose the control wrong-answer."
    )


def first_steps(solution: str, fraction: float) -> str:
    """The first ceil(fraction·n) of n steps, without any box. Steps are lines, else parts between "; ", else sentences.

    >>> first_steps("2*3=6; 4*5=20; 6+20=26 \\\\boxed{26}", 0.5)
    '2*3=6; 4*5=20'
    """
    if not 0 < fraction <= 1:
        raise BadInput(f"The fraction of the solution must be above 0 and at most 1, found {fraction}.")
    separator = next((mark for mark in ("\n", "; ") if mark in solution.strip()), " ")
    parts = re.split(r"(?<=[.!?])\s+", solution) if separator == " " else solution.split(separator)
    steps = [step for step in map(_unboxed, parts) if step]
    return separator.join(steps[: math.ceil(fraction * len(steps))])


def _unboxed(step: str) -> str:
    """A step without its box. What is left of "6+20=26 \\boxed{26}" is a step; of "The answer is \\boxed{26}." it is not."""
    box = _BOX.search(step)
    if box is None:
        return step.strip()
    left = step[: box.start()].rstrip("$ ")
    return left.strip() if "=" in left and left[-1].isalnum() else ""


def last_box(text: str) -> tuple[int, int] | None:
    r"""(start, end) of what stands inside the last \boxed{…}; None where no closed one is.

    >>> text = r"\boxed{\frac{1}{2}}"
    >>> text[slice(*last_box(text))]
    '\\frac{1}{2}'
    """
    for box in reversed(list(_BOX.finditer(text))):
        depth = 1
        for place in range(box.end(), len(text)):
            depth += (text[place] == "{") - (text[place] == "}")
            if depth == 0:
                return box.end(), place
    return None


def _with_wrong_answer(problem: Problem) -> str:
    """The own solution with its last box, or the last occurrence of its answer, changed; a box is added where neither is."""
    wrong = _wrong_answer(problem)
    place = last_box(problem.solution)
    if place is None:
        start = problem.solution.rfind(problem.answer)
        if start < 0:
            return f"{problem.solution}\nThe answer is \\boxed{{{wrong}}}."
        place = start, start + len(problem.answer)
    return problem.solution[: place[0]] + wrong + problem.solution[place[1] :]


def _wrong_answer(problem: Problem) -> str:
    """A number near an integer answer, and of its sign; a two-digit integer for any other answer. Fixed by the id."""
    draw = _hash(problem.id)
    answer = problem.answer.replace(",", "").strip()
    if _INTEGER.fullmatch(answer):
        right = int(answer)
        shift = draw % 9 + 1
        down = (draw // 9) % 2 == 1 and (right < 0 or right > shift)
        up_stays = right >= 0 or right + shift < 0
        return str(right - shift if down or not up_stays else right + shift)
    wrong = 11 + draw % 88
    try:
        right_value: Fraction | None = Fraction(answer)  # "12.0" and "24/2" are the integer 12 as well
    except (ValueError, ZeroDivisionError):
        right_value = None
    return str(wrong + (right_value == wrong))


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "big")
