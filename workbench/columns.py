"""Which column of a file is what: three lists filled with its columns, where they are not all known by name.

What is chosen stands in the text of the mapping (`text=…,solution=…,answer=…`), which links and the command line have as well.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import streamlit as st

from hdpo.config import NEXT_COLUMN, ProblemConfig
from hdpo.data.columns import REQUIRED, WORDS, Offer, offer
from hdpo.data.readers import file_rows
from hdpo.errors import HdpoError
from hdpo.hub import is_hub_id

WANTED = "Choose the columns of this file: which holds the problem text, and which the gold answer?"
LOOKED_AT = 100  # rows


def choose(problems: str, key: str, always: bool = False) -> bool:
    """Three lists, beside each other, of a file whose columns are not all known by name, or always; False where a needed one
    is not chosen yet. key: of the mapping's text, whose widget comes later in the script."""
    found = offered(problems)
    if found is None or not found.columns:
        return True  # the sentence on a file without rows comes with its reading
    text = st.session_state.get(key, st.query_params.get(key, ""))
    try:
        now = ProblemConfig(columns=text.strip()).mapping() or {}
    except HdpoError:
        return True  # as it was typed: the sentence on it comes with the form
    free = set(found.columns) - set(found.known.values())
    if not (now or always) and (not free or found.known.keys() >= WORDS.keys()):
        return True
    options = [c for c in found.columns if not NEXT_COLUMN.search(c)]
    chosen = now or found.known
    for column, (field, words) in zip(st.columns(len(WORDS)), ORDERED, strict=True):
        st.session_state[f"{key}-{field}"] = chosen[field] if chosen.get(field) in options else None
        column.selectbox(
            f"Column of the {words}",
            options,
            key=f"{key}-{field}",
            on_change=take,
            args=(key, chosen),
            placeholder="none" if field not in REQUIRED else "choose",
        )
    return all(field in chosen for field in REQUIRED)


ORDERED = [(field, WORDS[field]) for field in ("text", "solution", "answer")]


def take(key: str, before: dict[str, str]) -> None:
    """Callback: the three choices into the mapping's text; what else stood in it stays."""
    chosen = before | {field: st.session_state[f"{key}-{field}"] for field, _ in ORDERED}
    st.session_state[key] = ",".join(f"{field}={column}" for field, column in chosen.items() if column)


def offered(problems: str) -> Offer | None:
    """The columns of a file; None of what is no file, or cannot be read: that is told where the problems are read."""
    if problems.startswith("bundled:") or is_hub_id(problems):
        return None
    try:
        return _offered(problems, Path(problems).stat().st_mtime_ns)
    except (HdpoError, OSError):
        return None


@st.cache_data(show_spinner=False, max_entries=20)
def _offered(problems: str, at: int) -> Offer:
    return offer([row for _, row in itertools.islice(file_rows(Path(problems)), LOOKED_AT)])
