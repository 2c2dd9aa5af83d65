"""The token lens: one trace under two prompts, token by token, in nats.

The strip is a small component of its own, where a token is set as text, never as markup. A token's
size is shown three ways (shade, underline, numbers on hover or focus), and the same numbers stand in a table.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import pandas as pd
import streamlit as st

from workbench.components.rollouts import printable

# Grades 1, 2, 3 begin here. Fixed, not scaled to the trace: two traces, and two runs, can be compared by eye.
GRADES = {"jsd": (0.01, 0.05, 0.2), "kl": (0.02, 0.2, 1.0)}
NAMES = {"jsd": "JSD", "kl": "KL"}
BIGGEST = 5

_CSS = """
.strip { font-family: var(--st-code-font, monospace); font-size: .95rem; line-height: 2.1; color: var(--st-text-color);
  background: var(--st-code-background-color); border-radius: var(--st-base-radius); padding: .6rem .8rem; max-height: 22rem;
  overflow-y: auto; overflow-wrap: anywhere; unicode-bidi: plaintext; }
.strip span { border-radius: 3px; padding: .1rem 1px; cursor: pointer; white-space: pre-wrap; unicode-bidi: isolate;
  text-underline-offset: 5px; }
.strip .g1 { background: color-mix(in srgb, var(--st-orange-color) 18%, transparent); text-decoration: underline dotted 2px; }
.strip .g2 { background: color-mix(in srgb, var(--st-orange-color) 42%, transparent); text-decoration: underline solid 2px; }
.strip .g3 { background: color-mix(in srgb, var(--st-red-color) 50%, transparent); text-decoration: underline double 2px; }
.strip .shared { opacity: .6; }
.strip .parts { border-left: 3px solid var(--st-primary-color); padding-left: 4px; font-weight: 700; }
.strip .picked, .strip span:focus-visible { outline: 2px solid var(--st-primary-color); }
.hover { min-height: 5.2rem; margin-top: .35rem; font-size: .8rem; color: var(--st-text-color); display: flex; gap: .4rem 1.5rem;
  flex-wrap: wrap; font-family: var(--st-code-font, monospace); white-space: pre-wrap; overflow-wrap: anywhere; }
.hover:empty { display: none; }
.hover div { min-width: 8.5rem; }
.hover b { display: block; font-family: var(--st-font); }
"""

_JS = """
export default function (component) {
  const { data, parentElement, setTriggerValue } = component
  const strip = parentElement.querySelector(".strip")
  const hover = parentElement.querySelector(".hover")
  const column = (title, lines) => {
    const box = document.createElement("div")
    const head = document.createElement("b")
    head.textContent = title
    box.append(head, lines.join("\\n"))
    return box
  }
  const describe = (token) => {
    const parts = [column(token.title, token.facts)]
    token.lists.forEach((list) => parts.push(column(list.title, list.lines)))
    hover.replaceChildren(...parts)
  }
  const spans = data.tokens.map((token, i) => {
    const span = document.createElement("span")
    span.textContent = token.text
    span.className = token.classes
    if (!data.details) {
      span.title = token.label
      return span
    }
    span.tabIndex = 0
    span.setAttribute("role", "button")
    span.setAttribute("aria-label", token.label)
    span.setAttribute("aria-pressed", String(data.picked === i))
    const pick = () => setTriggerValue("picked", i)
    span.onmouseenter = span.onfocus = () => describe(token)
    span.onclick = pick
    span.onkeydown = (event) => { if (event.key === "Enter" || event.key === " ") { event.preventDefault(); pick() } }
    return span
  })
  strip.replaceChildren(...spans)
  hover.replaceChildren()
  if (data.details && data.tokens[data.picked]) describe(data.tokens[data.picked])
}
"""

_STRIP = st.components.v2.component(
    "hdpo_token_strip",
    html='<div class="strip" role="group" aria-label="Tokens"></div>\n<div class="hover"></div>',
    css=_CSS,
    js=_JS,
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
    """What the component draws of one token; facts and lists are lines of its hover panel."""

    text: str
    classes: str
    label: str
    title: str = ""
    facts: list[str] = field(default_factory=list)
    lists: list[dict[str, Any]] = field(default_factory=list)


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


def lens_tokens(lens: Lens, picked: int | None) -> list[StripToken]:
    """The strip of a lens: grade as class, numbers as label and hover lines."""
    tokens = []
    for i, (piece, value) in enumerate(zip(lens.result["piece"], lens.values, strict=True)):
        label = f"token {i + 1} '{piece_word(piece)}': {NAMES[lens.measure]} {value:.4f} nats"
        classes = f"g{grade(value, lens.measure)}" + (" picked" if i == picked else "")
        tokens.append(
            StripToken(piece_text(piece), classes, label, f"token {i + 1}", fact_lines(lens, i), top_columns(lens, i))
        )
    return tokens


def fact_lines(lens: Lens, i: int) -> list[str]:
    r = lens.result
    return [
        f"JSD {r['jsd'][i]:.4f} nats",
        f"KL  {r['kl'][i]:.4f} nats",
        f"bounds {r['range_bound'][i]:.3g}, {r['lemma1'][i]:.3g}",
    ]


def top_columns(lens: Lens, i: int, count: int = 4) -> list[dict[str, Any]]:
    """The head of both top-k lists as lines, for the hover panel."""
    sides = (("privileged", "teacher_top"), ("unprivileged", "student_top"))
    return [
        {"title": f"{name}: next token", "lines": [f"{p:.3f}  {piece_word(w)}" for w, p in lens.result[key][i][:count]]}
        for name, key in sides
    ]


def top_table(lens: Lens, i: int) -> pd.DataFrame:
    """Both top-k lists of one token, side by side; p are probabilities at temperature 1."""
    teacher, student = lens.result["teacher_top"][i], lens.result["student_top"][i]
    rows = []
    for rank in range(max(len(teacher), len(student))):
        t = teacher[rank] if rank < len(teacher) else ("", None)
        s = student[rank] if rank < len(student) else ("", None)
        rows.append((rank + 1, piece_word(t[0]), t[1], piece_word(s[0]), s[1]))
    columns = ["rank", "privileged token", "p (privileged)", "unprivileged token", "p (unprivileged)"]
    return pd.DataFrame(rows, columns=columns)


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


def legend(measure: str, more: str = "Hover or focus a token for its numbers, click it for the table.") -> str:
    low, middle, high = GRADES[measure]
    return f"{NAMES[measure]} in nats: no mark below {low}; dotted from {low}; solid from {middle}; double, red from {high}. {more}"


def gap_tokens(trace: pd.DataFrame) -> list[StripToken]:
    """The strip of one trace of a probe set, graded by the gap before. trace: `workbench.data.gap.of_trace`."""
    found = []
    for row in trace.itertuples():
        label = f"token {row.position + 1} '{piece_word(row.token)}': KL {row.before:.4f} → {row.after:.4f} nats"
        found.append(StripToken(piece_text(row.token), f"g{grade(row.before, 'kl')}", label))
    return found


def token_strip(tokens: Sequence[StripToken], *, key: str, picked: int | None = None, details: bool = True) -> None:
    """Draw a strip. A click stores the token's index in `st.session_state[picked_key(key)]`."""

    def clicked() -> None:
        choice = st.session_state[key].picked
        if choice is not None and 0 <= int(choice) < len(tokens):
            st.session_state[picked_key(key)] = int(choice)

    data = {"tokens": [asdict(t) for t in tokens], "picked": picked, "details": details}
    _STRIP(key=key, data=data, on_picked_change=clicked)


def picked_key(key: str) -> str:
    return f"{key}-token"


def picked_token(key: str, count: int) -> int | None:
    """The token chosen last in the strip of that key, if the strip still has it."""
    choice = st.session_state.get(picked_key(key))
    return choice if isinstance(choice, int) and choice < count else None


def show_lens(lens: Lens, *, key: str) -> None:
    """Strip, the five biggest as buttons, both top-k lists of the chosen token, and every token as a table."""
    values = lens.values
    top = biggest(values)
    picked = picked_token(key, len(values))
    picked = top[0] if picked is None and top else picked
    st.markdown(trace_sentence(lens))
    token_strip(lens_tokens(lens, picked), key=key, picked=picked)
    st.caption(legend(lens.measure))
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption("Jump to the biggest:", width="content")
        for i in top:
            st.button(f"{i + 1}: {values[i]:.3f}", key=f"{key}-jump-{i}", on_click=jump, args=(key, i))
    if picked is not None:
        st.markdown(f"**Token {picked + 1}** of {len(values)}: what each prompt would write there")
        shares = {c: st.column_config.NumberColumn(format="%.4f") for c in ("p (privileged)", "p (unprivileged)")}
        st.dataframe(top_table(lens, picked), hide_index=True, column_config=shares, alt="Both top-k lists")
    with st.expander("Every token as a table"):
        st.dataframe(token_table(lens), hide_index=True, alt="The gap of every token, nats")


def jump(key: str, index: int) -> None:
    st.session_state[picked_key(key)] = index


def parting_tokens(pieces: Sequence[str], parts_at: int | None) -> list[StripToken]:
    """A strip that marks where a trace parts from another: what is shared is faint, the first other token is barred."""
    tokens = []
    for i, piece in enumerate(pieces):
        if parts_at is None or i < parts_at:
            classes, word = "shared", "shared"
        else:
            classes, word = ("parts", "parts here") if i == parts_at else ("", "after the parting")
        tokens.append(StripToken(piece_text(piece), classes, f"token {i + 1} '{piece_word(piece)}': {word}"))
    return tokens
