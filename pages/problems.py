"""Problems: what a set of yours is before anything runs, its columns and grader chosen, kept under a name."""

import streamlit as st

from workbench import columns
from workbench.components import problem_set
from workbench.data.glossary import meaning
from workbench.state import link_box, sentences

st.title("Problems", help=meaning("gold", "privileged", "cliff"))
config = None
with sentences():
    config = problem_set.choose()
    if config is None:
        st.info(columns.WANTED)
if config is not None:
    with sentences():
        problem_set.show(config)
        problem_set.keep_or_delete(config.data)
        problem_set.preview(config.data)
    link_box("problems")
    problem_set.next_steps(config.data)
st.caption(
    "A problem is a text with a gold answer, and where there is one a worked solution: that is y*, which the privileged prompt "
    "shows. Without one y* is the answer alone; a scan, an evaluation and plain GRPO need none."
)
