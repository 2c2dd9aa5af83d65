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
from workbench.components import session, stage  # noqa: E402

PAGES = {
    "See": (("overview", "Overview"), ("cliffs", "Cliffs"), ("side_by_side", "Side by side")),
    "Run": (("problems", "Problems"), ("lambda_lab", "λ lab"), ("runs", "Runs")),
    "Judge": (("gap", "Gap"), ("tradeoff", "Tradeoff"), ("verdict", "Verdict"), ("verifier", "Verifier")),
    "Learn": (("glossary", "Glossary"),),
}
PREFIXES = {"side_by_side": "side", "lambda_lab": "lab"}  # of a page's parameters; the others have the page's own name


def pages() -> dict[str, list[st.Page]]:
    return {
        section: [
            st.Page(state.page(name), title=title, url_path=name, default=name == "overview") for name, title in entries
        ]
        for section, entries in PAGES.items()
    }


navigation = st.navigation(pages())
name = navigation.url_path or "overview"
# A local picture: an icon by name would be fetched from the internet.
st.set_page_config(f"{navigation.title} · HDPO workbench", str(ASSETS / "icon.png"), "wide", initial_sidebar_state=216)
for foreign in [k for k in st.query_params if k != "stage" and not k.startswith(f"{PREFIXES.get(name, name)}_")]:
    del st.query_params[foreign]  # an address holds its own page's settings alone
st.html(Path(__file__).with_name("style.css"))
stage.begin(name)
with state.sentences():
    launch.ensure_workers()
with st.sidebar:
    session.sign()
lost = st.container()
try:
    with state.sentences():
        navigation.run()
finally:
    with lost:
        state.say_lost()
    stage.bar(name)
