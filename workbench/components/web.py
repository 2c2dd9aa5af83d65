"""Pictures that are touched or played: one script each in `web/`, drawn by Streamlit's component API in a page, and by
the same script in a document that opens from disk, without a server.

A script exports one default function, `draw`, of {data, parentElement, setStateValue, setTriggerValue}: it draws what `data`
(JSON) says into parentElement's `.picture` and may return a function that cleans up. `player.js` stands in front of each,
the one player of what has steps. Model text becomes textContent there, never markup.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st


@dataclass(frozen=True)
class Picture:
    """One picture with what it draws."""

    name: str
    data: dict[str, Any]


WEB = Path(__file__).with_name("web")
ROOM = '<div class="picture"></div>'
COLOURS = (WEB / "colours.css").read_text(encoding="utf-8")


def script(name: str) -> str:
    """The picture's script with the player in front of it."""
    return "\n".join((WEB / f"{file}.js").read_text(encoding="utf-8") for file in ("player", name))


@cache
def component(name: str) -> Callable[..., Any]:
    """The picture as a component of a page: `component("map")(data=…, key=…, on_picked_change=…)`."""
    return st.components.v2.component(f"hdpo_{name}", html=ROOM, css=style(name), js=script(name))


def style(name: str) -> str:
    return "\n".join((WEB / f"{file}.css").read_text(encoding="utf-8") for file in ("player", name))


def document(name: str, data: dict[str, Any], title: str) -> str:
    """The picture as one HTML file that asks nobody for anything; a value that it sets stays within it.

    Raises FileNotFoundError for a picture that is not here.
    """
    given = json.dumps(data, ensure_ascii=False).replace("<", "\\u003c")
    start = "draw({ data, parentElement: document.body, setStateValue() {}, setTriggerValue() {} })"
    module = script(name).replace("export default ", "", 1)
    head = f"<!doctype html><html lang=en><meta charset=utf-8><title>{title}</title>"
    return f"{head}<style>{COLOURS}{style(name)}</style>{ROOM}<script type=module>const data = {given}\n{module}\n{start}</script></html>"
