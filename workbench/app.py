"""The entry point: page settings, navigation, workers, and the one place where errors become sentences."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:  # Streamlit puts workbench/ there, the pages need what it lies in
    sys.path.insert(0, str(ROOT))

import streamlit as st  # noqa: E402

from hdpo.assets import ASSETS  # noqa: E402
from workbench import launch, state  # noqa: E402

# A local picture: an icon by name would be fetched from the internet.
st.set_page_config(
    page_title="HDPO workbench", page_icon=str(ASSETS / "icon.png"), layout="wide", initial_sidebar_state=216
)

PAGES = {
    "Explore": (("overview", "Overview"), ("cliffs", "Cliffs"), ("side_by_side", "Side by side")),
    "Train": (("lambda_lab", "λ lab"), ("gap", "Gap"), ("tradeoff", "Tradeoff")),
    "Keep": (("runs", "Runs"),),
}


def pages() -> dict[str, list[st.Page]]:
    return {
        section: [
            st.Page(state.page(name), title=title, url_path=name, default=name == "overview") for name, title in entries
        ]
        for section, entries in PAGES.items()
    }


navigation = st.navigation(pages())
st.html(Path(__file__).with_name("style.css"))
with state.sentences():
    launch.ensure_workers()
with state.sentences():
    navigation.run()
