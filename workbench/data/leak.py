"""Leak or learning: how much of a step's accepted privileged rollouts is copied from the solution, and whether they name the
answer before they derive it. A student that is taught such traces learns what it cannot know. No Streamlit here."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import SequenceMatcher
from statistics import median

import pandas as pd

WORD = re.compile(r"\w+|[^\w\s]")


def copied(text: str, solution: str) -> tuple[int, int]:
    """(words and signs of the longest run that the solution has too, all of the text).

    >>> copied("3+4=7; so 7*2=14", "first 3+4=7; then 7*2=14")
    (6, 12)
    """
    said, shown = WORD.findall(text), WORD.findall(solution)
    return SequenceMatcher(None, said, shown, autojunk=False).find_longest_match().size, len(said)


def named_first(text: str, answer: str) -> bool:
    """Whether the answer stands in the text by itself, no part of a calculation, before an equals sign or a box gives it.

    >>> named_first("The answer is 14. Since 7*2=14", "14"), named_first("7*2=14 \\boxed{14}", "14")
    (True, False)
    >>> named_first("2*7=14; 14-7=7", "7")
    False
    """
    alone = rf"(?<![\w.+*/^-]){re.escape(answer)}(?!\w|\.\d|\s*[+*/^=-])"
    found = re.search(alone, text) if answer else None
    return found is not None and not text[: found.start()].rstrip().endswith(("=", "{", ":", "+", "*", "/", "-"))


def sentence(accepted: pd.DataFrame, solutions: Mapping[str, str]) -> str:
    """accepted: the rows of a step's privileged rollouts with R = 1 (problem_id, text, gold). "" where there is nothing to tell."""
    rows = [(r["text"], r["gold"], solutions.get(r["problem_id"], "")) for r in accepted.to_dict("records")]
    runs = [copied(text, solution) for text, _, solution in rows if solution]
    if not runs:
        return ""
    share = median(longest / words for longest, words in runs if words)
    early = sum(named_first(text, gold) for text, gold, solution in rows if solution)
    return (
        f"Leak or learning: of {len(runs)} accepted privileged rollouts of this step the middle one copies {100 * share:.0f} % of "
        f"itself from the solution in one piece, and {early} name the answer before they derive it."
    )
