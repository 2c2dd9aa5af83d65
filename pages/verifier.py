"""Verifier: one verdict laid open, and the verifier held to the labels of others' rollouts."""

import streamlit as st

from workbench.components import verifier
from workbench.data.glossary import meaning
from workbench.state import link_box, next_step, sentences

st.title("Verifier", help=meaning("gold", "reward"))
with sentences():
    verifier.bench()
st.subheader("Held to labels")
with sentences():
    verifier.held_to_labels()
link_box("verifier")
st.caption(
    "The verifier is the reward: what it calls wrong is trained away. Gold and answer are read alike, by rules that are "
    "written down (assets/GRADING.md in the project's folder)."
)
next_step("see which prompts give nothing to learn from", "cliffs")
