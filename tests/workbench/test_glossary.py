"""The glossary: every term leads to a page, and what a page explains by it is there."""

from __future__ import annotations

import re

import pytest

from tests.conftest import REPOSITORY
from tests.fakes import open_page
from workbench import state
from workbench.data.glossary import TERMS, meaning


@pytest.mark.parametrize("name", TERMS)
def test_a_term_has_words_a_place_and_a_page(name: str) -> None:
    term = TERMS[name]
    assert term.words.endswith(".") and term.place and state.page(term.page).is_file()


def test_what_pages_explain_by_the_glossary_is_in_it() -> None:
    used = [
        n
        for p in (REPOSITORY / "pages").glob("*.py")
        for m in re.findall(r"meaning\((.*?)\)", p.read_text(), re.S)
        for n in re.findall(r'"(.*?)"', m)
    ]
    assert len(used) > 10 and set(used) <= set(TERMS)
    assert meaning("nat").startswith("**nat**: ")


def test_the_page_lists_every_term(runs_folder: object) -> None:
    at = open_page("glossary")
    assert not at.exception
    shown = "\n".join(m.value for m in at.markdown)
    assert all(f"**{state.escape(name)}**" in shown for name in TERMS)


def test_a_link_opens_a_text_behind_the_app(runs_folder: object) -> None:
    at = open_page("glossary", glossary_card="true")
    assert not at.exception
    assert [e.proto.expanded for e in at.expander] == [True, False, False, False, False]
