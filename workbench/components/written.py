"""A side's rollouts as one picture (`web/written.js`): equal ones once, and where a trace parts from its partner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hdpo.records import Outcome
from workbench.components import web
from workbench.components.rollouts import BADGES, printable
from workbench.data import explore


def draw(
    found: Sequence[Mapping[str, Any]], *, key: str, filtered: bool = False, fork: tuple[int, int] | None = None
) -> None:
    """found: the rollouts of one side of an answer. filtered: with the word of the R = 1 filter. fork: (rollout, token) where
    that rollout parts from the one on the other side that is compared with it."""
    web.component("written")(key=key, data={"rollouts": boxes(found, filtered, fork)})


def boxes(found: Sequence[Mapping[str, Any]], filtered: bool, fork: tuple[int, int] | None) -> list[dict[str, Any]]:
    """One box for equal rollouts (same text, same verdict); all text printable, to be set as text."""
    groups: dict[tuple[str, str], list[int]] = {}
    for i, r in enumerate(found):
        groups.setdefault((r["text"], r["outcome"]), []).append(i)
    return [box(found[same[0]], same, filtered, fork) for same in groups.values()]


def box(r: Mapping[str, Any], same: Sequence[int], filtered: bool, fork: tuple[int, int] | None) -> dict[str, Any]:
    outcome, text, shared = Outcome(r["outcome"]), r["text"], None
    if fork is not None and fork[0] in same:
        shared = text[: len("".join(r["pieces"][: fork[1]]))]
        text = text[len(shared) :]
    symbol, colour = BADGES[outcome]
    times = f"× {len(same)} · " if len(same) > 1 else ""
    answer = f"answer {printable(r['answer'])}" if r["answer"] else "no answer in a \\boxed{…}"
    taken, why = explore.acceptance(outcome, int(r["tokens"]))
    return {
        "verdict": f"{symbol} {outcome.value}",
        "colour": colour,
        "facts": f"{times}{answer} · {r['tokens']} tokens",
        "shared": None if shared is None else printable(shared),
        "text": printable(text) or ("" if shared else "(an empty completion)"),
        "note": f"{'✓' if taken else '✗'} {why}" if filtered else "",
    }
