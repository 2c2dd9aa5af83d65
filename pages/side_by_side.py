"""Side by side: what the model writes with and without the ground truth in its prompt, and where the two part."""

import streamlit as st

from workbench.components import sides, traces
from workbench.data.glossary import meaning
from workbench.state import next_step

st.title("Side by side", help=meaning("privileged", "R = 1 filter", "student", "teacher", "trace"))
st.markdown(
    "One prompt, twice: the problem alone, and the problem with its ground truth y\\*. The weights are the same. Privileged rollouts "
    "with a correct answer (R = 1) are what HDPO distils on a cliff."
)

setup = sides.choose()
sides.show_prompts(setup)
asked = sides.roll_out(setup)
if asked is not None:
    sides.show_sides(asked)
    if asked.result is not None:
        traces.compare(asked)
next_step("train on such prompts, with λ = 0 beside it", "lambda_lab")
