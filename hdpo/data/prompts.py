"""Prompts: the student's, and the privileged x ⊕ y* (Algorithm 1, line 4) with the reference in the user turn.

A prompt is one user message, behind a system prompt where there is one, through the tokenizer's own chat template, so
a reference can never stand in the assistant turn. The privileged information is a choice; two of the choices are wrong on purpose, as controls.
"""

import math
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from functools import lru_cache
from itertools import cycle
from typing import Any

from hdpo.config import Information, PromptConfig
from hdpo.data.split import number_of
from hdpo.errors import BadInput, first_line
from hdpo.grading.boxes import BOX, last_box
from hdpo.records import Problem

Messages = list[dict[str, str]]
_PLACEHOLDER = re.compile(r"\{problem\}|\{reference\}")
LOREM_IPSUM = (
    "lorem ipsum dolor sit amet consectetur adipiscing elit sed do eiusmod tempor incididunt ut labore et dolore"
)
TODAY = datetime(2026, 1, 1)  # what a template that writes the date is told: the same prompt on every day


def student_messages(problem: Problem, prompts: PromptConfig) -> Messages:
    """The user's message with the problem alone."""
    return _messages(prompts, prompts.student, {"{problem}": problem.text})


def privileged_messages(problem: Problem, prompts: PromptConfig, reference: str) -> Messages:
    """The user's message with the problem and the reference text that `reference()` chose."""
    return _messages(prompts, prompts.privileged, {"{problem}": problem.text, "{reference}": reference})


def student_prompt(tokenizer: Any, problem: Problem, prompts: PromptConfig) -> tuple[str, tuple[int, ...]]:
    """As text and as token ids. Behind nonsense: as many words of Lorem ipsum, from one on that the problem decides, as make it
    the length of the privileged prompt (LoPE, arXiv 2605.05566); what such a prefix recovers needed no solution."""
    found = render(tokenizer, student_messages(problem, prompts))
    if prompts.prefix == "none":
        return found
    shown = problem.solution or answered(problem).solution
    length = len(render(tokenizer, privileged_messages(problem, prompts, shown))[1])
    words, before = LOREM_IPSUM.split(), ""
    first = number_of(problem.id) % len(words)
    for word in cycle(words[first:] + words[:first]):
        if len(found[1]) >= length:
            break
        before += f"{word} "
        found = render(tokenizer, _messages(prompts, before + prompts.student, {"{problem}": problem.text}))
    return found


def _messages(prompts: PromptConfig, template: str, values: dict[str, str]) -> Messages:
    system = [{"role": "system", "content": prompts.system}] if prompts.system else []
    # One pass: a problem text that itself contains "{reference}" stays as it is.
    return [*system, {"role": "user", "content": _PLACEHOLDER.sub(lambda mark: values[mark.group()], template)}]


def render(tokenizer: Any, messages: Messages) -> tuple[str, tuple[int, ...]]:
    """The prompt as the model receives it, as text and as token ids, up to where the assistant begins.

    The ids are those of the text with no special tokens added: the template has written them already. Marks of a turn
    that stand in a message stay text.

    Raises BadInput where the chat template cannot write this prompt, or the tokenizer makes no token of it.
    """
    try:
        options: dict[str, Any] = {"tokenize": False, "add_generation_prompt": True, "strftime_now": TODAY.strftime}
        text = str(tokenizer.apply_chat_template(messages, **options))
    except Exception as e:  # a template is a program: it can fail in any way
        mend = "Mend it, or give another with --chat-template FILE"
        system = " behind a system prompt" * (len(messages) > 1)
        found = f"expected that the model's own writes a user's message{system}, found '{first_line(e)}'"
        raise BadInput(f"chat template: {found}. {mend}.") from e
    try:
        ids = _ids(tokenizer, text, messages[-1]["content"].strip())
        if not ids:
            raise ValueError("no token at all")
    except (TypeError, ValueError, OverflowError) as e:  # a damaged setting of the tokenizer
        again = "Copy the model's tokenizer_config.json and tokenizer again"
        raise BadInput(f"model: expected a tokenizer that makes tokens of a prompt, found '{e}'. {again}.") from e
    return text, ids


def _ids(tokenizer: Any, text: str, message: str) -> tuple[int, ...]:
    """Token ids of a rendered prompt. A message with the tokenizer's special tokens in it is split into plain ones."""
    marks = special_tokens(tokenizer)
    if not any(mark in message for mark in marks):
        return tuple(tokenizer(text, add_special_tokens=False)["input_ids"])
    before, found, after = text.partition(message)
    outer = [tokenizer(part, add_special_tokens=False)["input_ids"] for part in (before, after)]
    inner = tokenizer(message, add_special_tokens=False, split_special_tokens=True)["input_ids"]
    if not found or set(inner) & set(marks.values()):
        mark = next(mark for mark in marks if mark in message)
        found = f"{mark} in {message[:60]!r}, which this tokenizer cannot read as text. Take it out of the problem."
        raise BadInput(f"problems: expected texts without the model's own marks, found {found}")
    return (*outer[0], *inner, *outer[1])


@lru_cache(maxsize=4)
def special_tokens(tokenizer: Any) -> dict[str, int]:
    """Tokens that are marks, not text: mark → id."""
    return {str(t): i for i, t in tokenizer.added_tokens_decoder.items() if t.special}


def fits(prompt_len: int, max_new_tokens: int, context: int) -> bool:
    """Whether prompt and new tokens (all in tokens) go into the context together. A prompt is never cut."""
    return prompt_len + max_new_tokens <= context


def reference(problem: Problem, information: Information, fraction: float = 0.5, other: Problem | None = None) -> str:
    """The text that stands for y* in the privileged prompt.

    fraction: share of the solution's steps, in (0, 1], rounded up (FRACTION alone); "" where the box is the only step.
    other: the problem whose solution is shown (WRONG_OTHER alone), see `pick_other`.

    Raises BadInput where `other` is missing or has the same answer, and where there is no worked solution to show.
    """
    if not can_show(problem, information):
        none = f"expected a worked solution of {problem.id} for '{information.value}', found none in its set"
        raise BadInput(f"information: {none}. Give --information answer, or name the column of the solutions.")
    if information is Information.ANSWER:
        return answered(problem).solution
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


def answered(problem: Problem) -> Problem:
    """With its answer alone for y*."""
    return replace(problem, solution=f"\\boxed{{{problem.answer}}}")


def can_show(problem: Problem, information: Information) -> bool:
    """Whether a problem has what the privileged prompt is to tell: all but the answer is taken from its worked solution."""
    return bool(problem.solution) or information is Information.ANSWER


def shows_alone(problem: Problem, information: Information) -> bool:
    """Whether its privileged prompt is known without another problem beside it."""
    return information is not Information.WRONG_OTHER and can_show(problem, information)


def same_answer(first: Problem, second: Problem) -> bool:
    """Equal as written, spaces aside: enough to choose a control, not a verdict."""
    return first.answer.replace(" ", "") == second.answer.replace(" ", "")


def pick_other(problem: Problem, pool: Sequence[Problem], seed: int) -> Problem:
    """Another problem with another answer, the same for the same seed, problem and pool."""
    start = number_of(f"{seed}\n{problem.id}") % max(len(pool), 1)
    for candidate in (*pool[start:], *pool[:start]):
        if candidate.solution and not same_answer(candidate, problem):
            return candidate
    none = f"None of the {len(pool)} problems has another answer than {problem.id} ({problem.answer})"
    raise BadInput(f"{none}; load more problems, or choose the control wrong-answer.")


def first_steps(solution: str, fraction: float) -> str:
    """The first ceil(fraction·n) of n steps, without any box. Steps are lines, else parts between "; ", else sentences.

    >>> first_steps("2*3=6; 4*5=20; 6+20=26 \\\\boxed{26}", 0.5)
    '2*3=6; 4*5=20'
    """
    separator = next((mark for mark in ("\n", "; ") if mark in solution.strip()), " ")
    parts = re.split(r"(?<=[.!?])\s+", solution) if separator == " " else solution.split(separator)
    steps = [step for step in map(_unboxed, parts) if step]
    return separator.join(steps[: math.ceil(fraction * len(steps))])


def _unboxed(step: str) -> str:
    """A step without its box. What is left of "6+20=26 \\boxed{26}" is a step; of "The answer is \\boxed{26}." it is not."""
    left, *box = BOX.split(step, maxsplit=1)
    if not box:
        return step.strip()
    left = left.rstrip("$ ")
    return left.strip() if "=" in left and left[-1].isalnum() else ""


def _with_wrong_answer(problem: Problem) -> str:
    """The own solution with its last box, or the last occurrence of its answer, changed; a box is added where neither is."""
    wrong = _wrong_answer(problem)
    if place := last_box(problem.solution):
        return problem.solution[: place[0]] + wrong + problem.solution[place[1] :]
    before, found, after = problem.solution.rpartition(problem.answer)
    return f"{before}{wrong}{after}" if found else f"{problem.solution}\nThe answer is \\boxed{{{wrong}}}."


def _wrong_answer(problem: Problem) -> str:
    """A number near an integer answer, and of its sign; a two-digit integer for any other answer. Fixed by the id."""
    draw = number_of(problem.id)
    answer = problem.answer.replace(",", "").strip()
    if re.fullmatch(r"-?[0-9]+", answer):
        right = int(answer)
        shift = draw % 9 + 1
        down = (draw // 9) % 2 == 1 and (right < 0 or right > shift)
        up_stays = right >= 0 or right + shift < 0
        return str(right - shift if down or not up_stays else right + shift)
    wrong = 11 + draw % 88
    with suppress(ValueError, ZeroDivisionError):
        wrong += Fraction(answer) == wrong  # "12.0" and "24/2" are the integer 12 as well
    return str(wrong)
