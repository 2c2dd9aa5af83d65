"""The token lens: one trace under two prompts, token by token: probabilities as bars, the gap in nats.

The strip is a picture of its own (`web/tokens.js`), where a token is set as text, never as markup. A token's gap is shown by
shade and underline, its numbers when it is chosen, and all of them in a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from workbench.components import figure, web
from workbench.components.rollouts import printable
from workbench.figures import gap, headlines
from workbench.state import escape

# Grades 1, 2, 3 begin here. Fixed, not scaled to the trace: two traces, and two runs, can be compared by eye.
GRADES = {"jsd": (0.01, 0.05, 0.2), "kl": (0.02, 0.2, 1.0)}
NAMES = {"jsd": "JSD", "kl": "KL"}
BIGGEST, RIVALS = 5, 4
SIDES = ("with the solution", "without it")
BARS = "Bars: the probability of the written token, filled with the solution, hollow without. ▼: the other side goes another way. Arrow keys move."
NATS = "A nat is a factor of e ≈ 2.7: where KL is 1 nat, what the privileged prompt writes is there on average 2.7 × as likely with the solution as without."

PULL = (
    "What this is: what the logit of a token gets of one step where the teacher is sure of it, by the probability q that the "
    "student gives it: JSD q(1 − q)/2 · ln((1 + q)/q), forward KL 1 − q; a dot a token of this trace. What is normal: JSD is "
    "weakest just where the student is most wrong, which is why it takes some twenty steps to begin there, and forward KL "
    "strongest, which is why it takes over the update."
)


@dataclass(frozen=True)
class Lens:
    """A lens request's result with its measure. Lists have one entry a token; top lists (piece, probability) pairs."""

    result: dict[str, Any]
    measure: str

    @property
    def values(self) -> list[float]:
        """(T,) nats of the measure."""
        return [float(v) for v in self.result[self.measure]]


@dataclass(frozen=True)
class StripToken:
    """What the picture draws of one token. p and least: with the solution, without it; p is None where it is below `least`,
    the smallest that is listed. rivals: the likeliest next tokens of both prompts, dicts of text, p and own."""

    text: str
    classes: str
    label: str
    title: str = ""
    says: str = ""
    facts: str = ""
    p: tuple[float | None, float | None] = (None, None)
    least: tuple[float, float] = (0.0, 0.0)
    rivals: list[dict[str, Any]] = field(default_factory=list)


def grade(value: float, measure: str) -> int:
    """
    >>> grade(0.001, "jsd"), grade(0.3, "jsd"), grade(0.3, "kl")
    (0, 3, 2)
    """
    return sum(value >= edge for edge in GRADES[measure])


def piece_text(piece: str) -> str:
    """A token so that it can be seen and clicked: a line break as ↵ and a new line, an empty one as ∅.

    >>> piece_text("\\n"), piece_text(""), piece_text(" a")
    ('↵\\n', '∅', ' a')
    """
    return printable(piece).replace("\n", "↵\n") or "∅"


def piece_word(piece: str) -> str:
    """A token in a table: spaces and line breaks as symbols."""
    return printable(piece).replace(" ", "␣").replace("\n", "↵").replace("\t", "⇥") or "∅"


def biggest(values: Sequence[float], count: int = BIGGEST) -> list[int]:
    """Positions of the largest values, largest first.

    >>> biggest([0.1, 0.5, 0.3], 2)
    [1, 2]
    """
    return sorted(range(len(values)), key=lambda i: (-values[i], i))[:count]


def lens_tokens(lens: Lens, fork: int | None) -> list[StripToken]:
    """The strip of a lens: grade as class, numbers as words and bars. fork: where it parts from another trace, if it does."""
    r, tokens = lens.result, []
    for i, (piece, value) in enumerate(zip(r["piece"], lens.values, strict=True)):
        label = f"token {i + 1} '{piece_word(piece)}': {NAMES[lens.measure]} {value:.4f} nats"
        label += "; they part here" if i == fork else ""
        classes = f"g{grade(value, lens.measure)}" + (" parts" if i == fork else "")
        p, lists = (r["teacher_p"][i], r["student_p"][i]), (r["teacher_top"][i], r["student_top"][i])
        least = tuple(top[-1][1] for top in lists)
        facts = f"JSD {r['jsd'][i]:.4f} nats · KL {r['kl'][i]:.4f} nats"
        title, says = f"Token {i + 1} of {len(r['piece'])}, '{piece_word(piece)}':", likely_words(*p, least)
        tokens.append(
            StripToken(piece_text(piece), classes, label, title, says, facts, p, least, rivals(piece, *lists))
        )
    return tokens


def likely_words(p: float | None, q: float | None, least: tuple[float, ...]) -> str:
    """How much likelier the solution makes a written token (p with it, q without), and the same in nats.

    >>> likely_words(0.9, 0.1, (0.0, 0.0))
    'with the solution 9 × as likely (0.900 against 0.100; ln 9 = 2.20 nats).'
    >>> likely_words(0.9, None, (0.0, 0.01))
    'with the solution more than 90 × as likely (0.900 against less than 0.010).'
    """
    words = [
        f"{x:.3f}" if x is not None else f"less than {max(low, 0.001):.3f}"
        for x, low in zip((p, q), least, strict=True)
    ]
    if not p and not q:
        return f"both prompts give it little ({words[0]} and {words[1]})."
    if p is None or not q:
        up = p is not None
        ratio = (p if up else q) / max(least[up], 1e-6)  # type: ignore[operator]
        return (
            f"with{'' if up else 'out'} the solution more than {ratio:.3g} × as likely ({words[0]} against {words[1]})."
        )
    ratio = p / q
    if 0.95 < ratio < 1.05:
        return f"about as likely with the solution as without ({words[0]} against {words[1]})."
    nats = f"ln {ratio:.3g} = {math.log(ratio):.2f}".replace("-", "−")
    return f"with the solution {ratio:.3g} × as likely ({words[0]} against {words[1]}; {nats} nats)."


def rivals(piece: str, teacher: list[Any], student: list[Any], count: int = RIVALS) -> list[dict[str, Any]]:
    """The heads of both lists in one, likeliest first: text, p (with the solution, without it), whether it was written."""
    tops = [dict(reversed(top)) for top in (teacher, student)]
    heads = dict.fromkeys(word for top in (teacher, student) for word, _ in top[:count])
    ordered = sorted(heads, key=lambda word: -max(top.get(word, 0.0) for top in tops))
    return [{"text": piece_word(w), "p": [top.get(w) for top in tops], "own": w == piece} for w in ordered]


def token_table(lens: Lens) -> pd.DataFrame:
    """Every token with every number, nats; the mass columns are shares of the distribution in its top-k."""
    names = ["kl", "jsd", "range_bound", "lemma1", "mismatch", "teacher_mass", "student_mass"]
    frame = pd.DataFrame({name: lens.result[name] for name in names if lens.result.get(name) is not None})
    frame.insert(0, "token", [piece_word(p) for p in lens.result["piece"]])
    frame.insert(0, "position", range(1, len(frame) + 1))
    return frame


def trace_sentence(lens: Lens) -> str:
    """Mean and sum over the trace, and how much of the sum the biggest tokens hold."""
    values = lens.values
    if not values:
        return "The trace has no tokens."
    total, name = math.fsum(values), NAMES[lens.measure]
    top = math.fsum(values[i] for i in biggest(values))
    share = f", {100 * top / total:.0f} % of it in the {min(BIGGEST, len(values))} biggest" if total > 0 else ""
    return (
        f"{name}: {total / len(values):.4f} nats per token over {len(values)} tokens; {total:.3f} nats in all{share}."
    )


def legend(measure: str, more: str) -> str:
    low, middle, high = GRADES[measure]
    return f"Underlines: {NAMES[measure]} in nats, dotted from {low}, solid from {middle}, double from {high}. {more}"


def gap_tokens(trace: pd.DataFrame) -> list[StripToken]:
    """The strip of one trace of a probe set, graded by the gap before. trace: `workbench.data.gap.of_trace`."""
    found = []
    for row in trace.itertuples():
        label = f"token {row.position + 1} '{piece_word(row.token)}': KL {row.before:.4f} → {row.after:.4f} nats"
        found.append(StripToken(piece_text(row.token), f"g{grade(row.before, 'kl')}", label))
    return found


def token_strip(
    tokens: Sequence[StripToken], *, key: str, start: int = 0, jumps: Sequence[tuple[int, str]] = (), bars: bool = True
) -> None:
    """Draw a strip. jumps: buttons that choose a token; start: the token chosen first; bars: with probabilities and rivals."""
    data = {"tokens": [asdict(t) for t in tokens], "start": start, "jumps": jumps, "bars": bars, "names": SIDES}
    web.component("tokens")(key=key, data=data)


def show_lens(lens: Lens, fork: int | None, *, key: str) -> None:
    """What the trace says in one sentence, the strip with its biggest tokens to jump to, and every token as a table."""
    top = biggest(lens.values)
    st.markdown(f"#### {escape(lens_headline(lens))}", anchors=False)
    jumps = [(i, f"Token {i + 1}: {lens.values[i]:.3f} nats") for i in top]
    jumps += [(fork, f"▼ The fork, token {fork + 1}")] if fork is not None and fork < len(lens.values) else []
    token_strip(lens_tokens(lens, fork), key=key, start=top[0] if top else 0, jumps=jumps)
    st.caption(f"{legend(lens.measure, BARS)} {trace_sentence(lens)} {NATS}")
    with st.expander("How hard JSD and forward KL pull here", key=f"{key}-pull", on_change="rerun") as box:
        if box.open:
            tokens = pd.DataFrame(
                {"token": [piece_word(p) for p in lens.result["piece"]], "q": lens.result["student_p"]}, dtype=object
            )
            tokens = tokens.astype({"q": float})
            fig = gap.pull(tokens)
            figure.show(fig, headline=headlines.pull(tokens), note=PULL, facts="", frame=tokens, key=f"{key}-pulls")
    with st.expander("Every token as a table"):
        st.dataframe(token_table(lens), hide_index=True, alt="The gap of every token, nats")


def lens_headline(lens: Lens) -> str:
    """At which token the two prompts differ most, and by how much."""
    if not lens.values:
        return "The trace has no tokens."
    i = biggest(lens.values, 1)[0]
    token = lens_tokens(lens, None)[i]
    says = f"{token.says.partition(' (')[0].rstrip('.')}."  # the numbers stand under the strip
    return f"The two prompts differ most at {token.title[0].lower()}{token.title[1:]} {says}"


def parting_tokens(pieces: Sequence[str], parts_at: int | None) -> list[StripToken]:
    """A strip that marks where a trace parts from another: what is shared is slanted, the first other token is barred."""
    tokens = []
    for i, piece in enumerate(pieces):
        if parts_at is None or i < parts_at:
            classes, word = "shared", "shared"
        else:
            classes, word = ("parts", "parts here") if i == parts_at else ("", "after the parting")
        tokens.append(StripToken(piece_text(piece), classes, f"token {i + 1} '{piece_word(piece)}': {word}"))
    return tokens
