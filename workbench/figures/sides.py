"""The sentences above the pictures of Side by side. Pure functions."""

from __future__ import annotations

from collections.abc import Mapping

from hdpo.evidence.stats import rate_interval


def peeked(without: tuple[int, int], peek: tuple[int, int], parts_at: int | None) -> str:
    """(correct, graded) of both sides, and the first token in which the telling pair differs, counted from 0.

    >>> peeked((0, 4), (3, 4), 6)
    'Without the solution 0 of 4 rollouts are right, with it 3 of 4; they part at token 7.'
    """
    where = "" if parts_at is None else f"; they part at token {parts_at + 1}"
    return (
        f"Without the solution {without[0]} of {without[1]} rollouts are right, with it {peek[0]} of {peek[1]}{where}."
    )


def stages(counts: Mapping[str, tuple[int, int]], source: str) -> str:
    """(correct, graded) by stage, in order. source: where the counts come from.

    >>> stages({"Base": (0, 4), "λ = 0.3": (3, 4)}, "of the rollouts below")
    'Base: 0 of 4 right; λ = 0.3: 3 of 4 right (of the rollouts below).'
    """
    if not counts:
        return "These runs were not evaluated on this problem: roll out to see what each writes."
    return f"{'; '.join(f'{name}: {c} of {n} right' for name, (c, n) in counts.items())} ({source})."


def rate(correct: int, graded: int) -> str:
    """
    >>> rate(0, 4)
    '0 of 4 right; pass rate 0.00 to 0.53 (95 %)'
    """
    if not graded:
        return "no rollout was graded"
    low, high = rate_interval(correct, graded)
    return f"{correct} of {graded} right; pass rate {low:.2f} to {high:.2f} (95 %)"
