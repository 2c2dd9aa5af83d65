"""Glossary: every term as the app explains it, where the paper has it, and the page that shows it; the texts behind."""

import streamlit as st

from hdpo.assets import ASSETS
from workbench import home, state
from workbench.data.glossary import TERMS

st.title("Glossary")
home.formula()
st.markdown(
    "HDPO: Hybrid Distillation Policy Optimization via Privileged Self-Distillation, Ken Ding, "
    "[arXiv 2603.23871](https://arxiv.org/abs/2603.23871)"
)
for title, name, key in (
    ("The bundled model and its runs", "MODEL_CARD.md", "glossary_card"),
    ("The notebook, with what failed", "NOTEBOOK.md", "glossary_notebook"),
):
    if (text := ASSETS / name).is_file():
        with st.expander(title, key=key, on_change="rerun", bind="query-params"):
            st.markdown(text.read_text(encoding="utf-8"))
for term in TERMS.values():
    words, place, link = st.columns([7, 2, 1.3], vertical_alignment="center")
    words.markdown(f"**{state.escape(term.name)}**: {state.escape(term.words)}")
    place.caption(state.escape(term.place))
    link.page_link(state.page(term.page), label="see it")
