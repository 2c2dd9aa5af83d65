"""Side by side: what the model writes with and without the ground truth in its prompt, where the two part, and what training
made of it."""

import streamlit as st

from workbench.components import before_after, side_setup, sides, traces
from workbench.data.glossary import meaning
from workbench.state import LINKED, next_step

heading, which, how = st.columns([4.2, 3.6, 4.4], vertical_alignment="bottom")
heading.title("Side by side", help=meaning("privileged", "R = 1 filter", "student", "teacher", "trace"))
view = how.segmented_control(
    "Compare", side_setup.VIEWS, default=side_setup.PEEK, required=True, key="side_view", **LINKED
)
if view == side_setup.TRAINED:  # four columns are long, and which pair is the first question
    controls, figure = st.container(), st.container()
else:
    figure, controls = st.container(), st.container()
below = st.container()
folded = st.expander("Settings: problem set, model, sampling, what the privileged prompt reveals and its wording")
setup = side_setup.choose(which, folded, view == side_setup.TRAINED)
if view == side_setup.TRAINED:
    before_after.show(setup, figure, controls)
else:
    with controls:
        asked = sides.roll_out(setup)
    with figure:
        sides.show_sides(setup, asked)
    with below:
        if asked is not None and asked.result is not None:
            traces.compare(asked)
    sides.show_prompts(setup)
st.caption(
    "One prompt, twice: the problem alone, and the problem with its ground truth y\\*. The weights are the same. Privileged rollouts "
    "with a correct answer (R = 1) are what HDPO distils on a cliff; one that ends wrong although it peeked would teach the error."
)
next_step("train on such prompts, with λ = 0 beside it", "lambda_lab", **side_setup.lab_params(setup))
