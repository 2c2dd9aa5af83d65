"""The rollout card: verdict, extracted answer beside gold, tokens, advantage, and the text exactly as it was written.

What a model or a problem file wrote is untrusted: it is shown by `st.code` without a language, or escaped in `st.html`,
and never as Markdown.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.records import Outcome
from workbench.data.explore import why_no_answer

# Symbol and colour of each verdict; the word beside them is the outcome's own, so that nothing hangs on colour.
BADGES = {
    Outcome.CORRECT: ("✓", "green"),
    Outcome.WRONG: ("✗", "red"),
    Outcome.NO_ANSWER: ("∅", "orange"),
    Outcome.TRUNCATED: ("✂", "violet"),
    Outcome.GRADER_ERROR: ("?", "gray"),
}
LONG = 1500  # characters above which a text scrolls in its own box
_UNSEEN = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b\u200e\u200f\u202a-\u202e\u2028\u2029\u2066-\u2069\ufeff\ud800-\udfff]"
)


@dataclass(frozen=True)
class Card:
    """One rollout as it is read. index counts from 0; answer, tokens, advantage and note are left out where they are None or empty. also:
    indices of the others that are word for word like it. edited: a reward by hand, which the verdict does not know."""

    index: int
    text: str
    outcome: Outcome
    answer: str | None
    gold: str
    tokens: int | None
    advantage: float | None = None
    note: str = ""
    also: tuple[int, ...] = ()
    edited: float | None = None


def printable(text: str) -> str:
    """Every character visible: control, direction and zero-width characters and half surrogates as ⟨hex code⟩.

    Unseen, a direction mark can turn the order of what is read, and half a surrogate cannot be sent to a browser.

    >>> printable("a\\x00b\\u202ec\\n")
    'a⟨0000⟩b⟨202E⟩c\\n'
    """
    return _UNSEEN.sub(lambda m: f"⟨{ord(m.group()):04X}⟩", text)


def escaped(text: str) -> str:
    """For `st.html`: visible characters, no markup."""
    return html.escape(printable(text), quote=True)


def raw_text(text: str, empty: str = "(empty)") -> None:
    """A model's or a file's text, exactly; a long one in a box of its own."""
    shown = printable(text) if text else empty
    st.code(shown, language=None, wrap_lines=True, height=320 if len(shown) > LONG else "content")


def facts_html(card: Card) -> str:
    """The line under the verdict: answer beside gold, tokens, advantage. Escaped."""
    why = why_no_answer(card.outcome, card.text)
    answer = code_html(card.answer) if card.answer else f"none found{': ' * bool(why)}{escaped(why)}"
    parts = [*([] if card.answer is None else [f"answer {answer}"]), f"gold {code_html(card.gold)}"]
    parts += [] if card.tokens is None else [f"{card.tokens} tokens"]
    if card.advantage is not None:
        parts.append(f"advantage <b>{signed(card.advantage)}</b>")
    style = "font-size:.875rem;display:flex;flex-wrap:wrap;gap:.1rem 1rem;align-items:baseline;overflow-wrap:anywhere"
    return f'<div style="{style}">' + "".join(f"<span>{p}</span>" for p in parts) + "</div>"


def code_html(text: str) -> str:
    return f'<code style="font-size:1em">{escaped(text)}</code>'


def signed(value: float) -> str:
    """
    >>> signed(0.571428), signed(-0.142857), signed(0.0)
    ('+0.571', '−0.143', '0')
    """
    return "0" if value == 0 else f"{value:+.3f}".replace("-", "−")


def rollout_card(card: Card) -> None:
    """Draw one rollout in a bordered box."""
    symbol, colour = BADGES[card.outcome]
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center", gap="small"):
            numbers = ", ".join(str(i + 1) for i in (card.index, *card.also))
            times = f" × {len(card.also) + 1}" if card.also else ""
            st.markdown(f"**Rollout{'s' if times else ''} {numbers}**{times}", width="content")
            if card.edited is None:
                st.badge(f"{symbol} {card.outcome.value}", color=colour)  # type: ignore[arg-type]
            else:  # the verdict is no more what the numbers below stand on
                st.badge(f"✎ reward {card.edited:.0f}, edited; the verifier says: {card.outcome.value}", color="gray")
        st.html(facts_html(card))
        if card.note:
            st.text(card.note)
        raw_text(card.text, "(an empty completion)")


def cards_of(
    rows: pd.DataFrame, advantages: Sequence[float] | None = None, notes: Sequence[str] | None = None
) -> list[Card]:
    """Cards of a run folder's rollout rows (`catalog.group_rows`); advantages, if given, replace the rows' own."""
    records = rows.to_dict("records")
    given: Sequence[float | None] = advantages if advantages is not None else [own_advantage(r) for r in records]
    words = notes if notes is not None else [""] * len(records)
    return [card_of(r, a, w) for r, a, w in zip(records, given, words, strict=True)]


def own_advantage(row: Mapping[str, Any]) -> float | None:
    value = row.get("advantage")
    return None if value is None or pd.isna(value) else float(value)


def card_of(row: Mapping[str, Any], advantage: float | None, note: str) -> Card:
    return Card(
        int(row["index"]),
        str(row["text"]),
        Outcome(row["outcome"]),
        None if pd.isna(row["answer"]) else str(row["answer"]),
        str(row["gold"]),
        None if pd.isna(row["tokens"]) else int(row["tokens"]),
        advantage,
        note,
    )


def grouped(cards: Sequence[Card]) -> list[Card]:
    """Cards that differ by nothing but their number as one, in the order of their first."""
    alike: dict[Card, list[int]] = {}
    for card in cards:
        alike.setdefault(replace(card, index=0), []).append(card.index)
    return [replace(card, index=first, also=tuple(others)) for card, (first, *others) in alike.items()]


def reward_squares(rewards: Sequence[float | None]) -> None:
    """A square a rollout: filled where its reward is 1, empty at 0, a question mark without a verdict."""
    words = {1.0: ("■", "1"), 0.0: ("□", "0"), None: ("?", "none")}
    signs = "".join(words[r][0] for r in rewards)
    heard = "rewards: " + ", ".join(words[r][1] for r in rewards)
    st.html(
        f'<div style="display:flex;flex-wrap:wrap;gap:0 .75rem;align-items:center">rewards '
        f'<span role="img" aria-label="{heard}" style="font-size:1.4rem;letter-spacing:.15rem">{signs}</span></div>'
    )


def rollout_list(cards: Sequence[Card], columns: int = 1) -> None:
    """Cards in order, row by row in this many columns; a sentence where there are none."""
    if not cards:
        st.caption("No rollouts.")
        return
    for start in range(0, len(cards), columns):
        for place, card in zip(st.columns(columns), cards[start : start + columns], strict=False):
            with place:
                rollout_card(card)
