r"""Where a completion says its answer. Pure text, for the parent of the verifier's processes and for the prompts.

The last \boxed{…} counts, alone, whatever stands before, between or behind; nothing but a comma, a semicolon, "and" or
"or" between makes one answer of several. The rules in words, with examples: assets/GRADING.md.
"""

import re

BOX = re.compile(r"\\boxed\s*\{")  # \boxed as a word, and \fbox, are no boxes
_BRACE = re.compile(r"\\.|[{}]", re.DOTALL)
_BLANK = r"(?:[\s$]|\\[()\[\],;: ]|\\q?quad)*"
_WORD = r"(?:and|or|\\text\s*\{\s*(?:and|or)\s*\})"
_SEPARATOR = re.compile(rf"{_BLANK}(?:[,;]{_BLANK}{_WORD}?|{_WORD}){_BLANK}")
# Without a box: a formula close behind the word "answer", in $…$, $$…$$, \(…\), \[…\] or [….]
_FORMULA = re.compile(r"(?i:answer)[^$\\\[\n]{0,50}(?:\$\$?([^$\n]+)\$|\\\((.+?)\\\)|\\?\[(.+?)\\?\])")


def last_box(text: str) -> tuple[int, int] | None:
    r"""(start, end) of what stands inside the last \boxed{…}; None where there is none, or where that one is unclosed.

    >>> text = r"\boxed{\frac{1}{2}}"
    >>> text[slice(*last_box(text))]
    '\\frac{1}{2}'
    """
    starts = [box.end() for box in BOX.finditer(text)]
    return inside(text, starts[-1]) if starts else None


def inside(text: str, start: int) -> tuple[int, int] | None:
    """From `start` to the brace that closes what was open there."""
    depth = 1
    for brace in _BRACE.finditer(text, start):
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return start, brace.start()
    return None


def answer_in(completion: str) -> str | None:
    r"""The answer as it was written, spaces around it aside; None where there is none.

    Thinking, up to the last </think>, is no part of it, and unfinished thinking is all there is.

    >>> answer_in(r"\boxed{41}. Wait: \boxed{42}"), answer_in(r"$\boxed{1}$ and $\boxed{2}$"), answer_in(r"\boxed{42}, \boxed{")
    ('42', '1, 2', None)
    """
    text = completion.rpartition("</think>")[2]
    if "<think>" in text:
        return None
    boxes = list(BOX.finditer(text))
    if not boxes:
        found = list(_FORMULA.finditer(text))
        return next(filter(None, found[-1].groups())).strip() or None if found else None
    answers: list[str] = []
    following = None  # where the box behind this one begins
    for box in reversed(boxes):
        place = inside(text, box.end())
        if following is not None and not (place and _SEPARATOR.fullmatch(text, place[1] + 1, following)):
            break
        answers.insert(0, text[slice(*place)].strip() if place else "")
        following = box.start()
    return ", ".join(dict.fromkeys(filter(None, answers))) if answers[-1] else None
