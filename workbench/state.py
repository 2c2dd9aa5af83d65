"""What pages share: session keys, the link that restores a page, and errors shown as sentences.

A session is forgotten at a reload; what must outlive it stands in the URL (widgets bound to query parameters) or in
the run folders. Everything shown by `say` is escaped, since error sentences quote files, models and links.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlsplit

import streamlit as st

from hdpo.errors import HdpoError

# Of a widget: its value stands in the link, and outlives a change of the page.
LINKED: dict[str, Any] = {"bind": "query-params", "persist_state": "session"}
LOOPBACK = ("127.0.0.1", "localhost", "::1")
HERE = Path(__file__).resolve().parent
PAGES = next((p for p in (HERE / "page_scripts", HERE.parent / "pages") if p.is_dir()), HERE.parent / "pages")
_MARKDOWN = re.compile(r"([\\`*_{}\[\]()<>#+\-.!|~$:&=@/^'\"])")
# Arrows and bare addresses are rewritten even behind a backslash; a word joiner breaks them up.
_AUTOMATIC = re.compile(r"->|<-|--|>=|<=|~=|(?i:https?:)|(?i:www\.)|(?<=\w)@(?=\w)")


def escape(text: str) -> str:
    r"""Text for a place that reads Markdown, shown as it is, on one line.

    >>> escape("![x](y)")
    '\\!\\[x\\]\\(y\\)'
    """
    broken = _AUTOMATIC.sub(lambda m: m.group()[0] + "\u2060" + m.group()[1:], " ".join(text.split()))
    return _MARKDOWN.sub(r"\\\1", broken)


def own_machine() -> bool:
    """Whether this app is open to its own machine alone: it listens on the loopback address, and was called by it."""
    host = urlsplit(st.context.url or f"http://{LOOPBACK[0]}").hostname
    return st.get_option("server.address") in LOOPBACK and host in LOOPBACK


def page(name: str) -> Path:
    """The script of a page, for navigation and links: beside `workbench` in a checkout, inside it where it was installed."""
    return PAGES / f"{name}.py"


@contextmanager
def sentences() -> Iterator[None]:
    """The one place where errors become sentences: around a page, and around the body of a fragment or callback.

    (A fragment runs again by itself, outside of the page's own protection.)
    """
    try:
        yield
    except HdpoError as e:
        st.error(escape(str(e)))


def alone(body: Callable[[], None], every: float | None = None) -> None:
    """Draw `body` as a fragment, which runs again by itself: at a click within it, and every so many seconds.

    It has a room of its own. Where a fragment runs again before all of its page has reached the browser, Streamlit drops what
    of it still waits, its outermost element too; with a sibling behind that one, the browser counts wrongly and the whole page
    is gone ("Bad delta path index").
    """
    with st.container():
        st.fragment(run_every=every)(body)()


def at_once(words: str, act: Callable[[], None], prefix: str, key: str, **look: Any) -> bool:
    """A button whose act is done before the page is drawn again: a reload right after the click cannot lose it.

    act takes the settings as they are drawn now. Where one of this prefix has changed by the time of the click (a field
    that the click itself leaves), it is not called, and True comes back once the page has read the new ones. What act
    raises is shown by `say_refusal`.
    """
    # True is another button that was pressed for this drawing, such as a preset's; it is False again at the click.
    drawn = {k: v for k, v in st.session_state.items() if str(k).startswith(prefix) and k != key and v is not True}

    def click() -> None:  # what is gone by now was no setting of what is drawn
        st.session_state["late"] = any(k in st.session_state and st.session_state[k] != v for k, v in drawn.items())
        if not st.session_state["late"]:
            try:
                act()
            except HdpoError as e:
                st.session_state["refusal"] = str(e)

    return st.button(words, key=key, on_click=click, **look) and st.session_state["late"]


def say_refusal() -> None:
    """Why the last click of an `at_once` button started nothing, if there is a reason."""
    if words := st.session_state.pop("refusal", ""):
        st.error(escape(words))


def address() -> str:
    """The link that opens this page with its settings: bound widgets that differ from their defaults."""
    query = urlencode(st.query_params.to_dict())
    base = st.context.url or ""
    return f"{base}?{query}" if query else base


def link_box(key: str) -> None:
    """A small box with the copyable link of this page."""
    with st.popover("Link to this", key=f"{key}-link", help="Restores this page with its settings."):
        st.code(address(), language=None, wrap_lines=True)


def linked_choice(title: str, options: Mapping[str, str], key: str, first: str = "", help: str = "") -> str:
    """A selectbox over ids shown by their labels, the id (never the label, which may be renamed) in the URL.

    options: id → label, at least one. first: the id chosen where neither link nor session says otherwise. What a new link
    says (a click, a reload, Back) goes before what the session held. A link to what is not here, or a choice that is gone,
    is told by `say_lost`: another run is never shown in silence.
    """
    linked, held = st.query_params.get(key, ""), st.session_state.get(key)
    new = linked != st.session_state.get(f"{key}-linked", "")
    if new and linked in options:
        st.session_state[key] = linked
    elif held not in options:
        st.session_state[key] = first if first in options else next(iter(options))
    chosen = st.selectbox(
        title,
        list(options),
        format_func=lambda i: options.get(i, i),
        key=key,
        persist_state="session",
        help=help or None,
    )
    if gone := next((g for g in (linked if new else "", held or "") if g and g not in options), ""):
        words = f"{title}: {gone} is not here: it was deleted, or the link comes from elsewhere. Shown is {options[chosen]}."
        st.session_state.setdefault("lost", {})[key] = words
    if linked != chosen:
        st.query_params[key] = chosen
    st.session_state[f"{key}-linked"] = chosen
    return str(chosen)


def linked_choices(title: str, names: Mapping[str, str], key: str, without: str = "", **look: Any) -> list[str]:
    """As `linked_choice`, of several ids or none: in the URL they stand with commas between. without: an id that is not on
    offer here, and is dropped without a word."""
    options = {i: name for i, name in names.items() if i != without}
    linked, held = st.query_params.get(key, ""), st.session_state.get(key) or []
    new = linked != st.session_state.get(f"{key}-linked", "")
    wanted = [i for i in linked.split(",") if i] if new else list(held)
    kept = [i for i in wanted if i in options]
    if kept != held or key not in st.session_state:
        st.session_state[key] = kept
    chosen = st.multiselect(
        title, list(options), format_func=lambda i: options.get(i, i), key=key, persist_state="session", **look
    )
    if gone := [i for i in wanted if i not in names]:
        words = f"{title}: {', '.join(gone)} is not here: it was deleted, or the link comes from elsewhere."
        st.session_state.setdefault("lost", {})[key] = words
    now = ",".join(chosen)
    if linked != now:
        if now:
            st.query_params[key] = now
        else:
            st.query_params.pop(key, None)
    st.session_state[f"{key}-linked"] = now
    return chosen


def say_lost() -> None:
    """What links and the session named that is not here, since the last drawing."""
    for words in st.session_state.pop("lost", {}).values():
        st.warning(escape(words))


def next_step(words: str, name: str, **params: str) -> None:
    """The button at the bottom of a page that carries what is chosen along to the next one."""
    st.space("small")
    with st.container(border=True, key=f"next-{name}"):
        st.page_link(page(name), label=f"**Next:** {words}", icon=":material/arrow_forward:", query_params=params)
