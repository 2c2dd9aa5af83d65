"""Glossary: every term as the app explains it, where the paper has it, and the page that shows it; the texts behind."""

import streamlit as st

from hdpo.assets import ASSETS
from workbench import home, state
from workbench.data.glossary import TERMS

QUESTIONS = (
    (
        "Why is there no gradient on a cliff?",
        "All rewards are the same, so every advantage is zero, and the gradient is weighted by them.",
        "cliffs",
    ),
    (
        "What is privileged?",
        "The same weights with the worked solution in the prompt; no larger teacher is needed.",
        "side_by_side",
    ),
    (
        "Why only R = 1?",
        "A rollout that peeked and still ends wrong would be taught as if it were right.",
        "side_by_side",
    ),
    (
        "What does λ cost?",
        "Tokens and seconds for the peeks, and where it is large accuracy: pass@8 rises, pass@1 falls back.",
        "tradeoff",
    ),
    (
        "Was it luck?",
        "An untrained redraw tells what luck recovers, intervals over problems and seeds what may be noise.",
        "lambda_lab",
    ),
)

st.title("Glossary")
home.formula()
st.markdown(
    "HDPO: Hybrid Distillation Policy Optimization via Privileged Self-Distillation, Ken Ding, "
    "[arXiv 2603.23871](https://arxiv.org/abs/2603.23871)"
)
for title, name, key in (
    ("The bundled model and its runs", "MODEL_CARD.md", "glossary_card"),
    ("The notebook, with what failed", "NOTEBOOK.md", "glossary_notebook"),
    ("For the lecturer: a room, 45 minutes, 90 minutes", "guides/lecturer.md", "glossary_lecturer"),
    ("For the student", "guides/student.md", "glossary_student"),
    ("For the researcher", "guides/researcher.md", "glossary_researcher"),
):
    if (text := ASSETS / name).is_file():
        with st.expander(title, key=key, on_change="rerun", bind="query-params"):
            st.markdown(text.read_text(encoding="utf-8"))
st.subheader("Five questions")
for question, answer, page in QUESTIONS:
    words, link = st.columns([9, 1.3], vertical_alignment="center")
    words.markdown(f"**{question}** {answer}")
    link.page_link(state.page(page), label="see it")
st.subheader("Terms")
for term in TERMS.values():
    words, place, link = st.columns([7, 2, 1.3], vertical_alignment="center")
    words.markdown(f"**{state.escape(term.name)}**: {state.escape(term.words)}")
    place.caption(state.escape(term.place))
    link.page_link(state.page(term.page), label="see it")
