"""The terms of the app, read once from `assets/glossary.toml`: the same words in every tooltip and on the page Glossary."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass

from hdpo.assets import ASSETS


@dataclass(frozen=True)
class Term:
    """place: where the paper has it, or "ours"; page: the one that shows it."""

    name: str
    words: str
    place: str
    page: str


TERMS = {
    name: Term(name, **fields)
    for name, fields in tomllib.loads((ASSETS / "glossary.toml").read_text(encoding="utf-8")).items()
}


def meaning(*names: str) -> str:
    """Of one or several terms, for a tooltip (Markdown of our own words). Raises KeyError for a term that is not there."""
    return "\n\n".join(f"**{name}**: {TERMS[name].words}" for name in names)
