"""What a cliff is and why it gives no gradient, in one screen to be touched; then the state of the loaded model."""

import streamlit as st

from hdpo.config import CENSUS, ModelConfig
from workbench import home, state
from workbench.components import gradient
from workbench.data import catalog, exports
from workbench.data.glossary import meaning

NEXT = (
    ("cliffs", "Find the cliffs", "Sample every problem K times and read the groups that got nothing."),
    ("side_by_side", "Watch the model peek", "One problem, with and without its solution in the prompt, side by side."),
    ("lambda_lab", "Turn λ", "Train alone or beside λ = 0, and watch the cliffs."),
    ("tradeoff", "Coverage against accuracy", "What each λ gave and cost, with intervals, beside the paper's tables."),
)

st.title("What is a cliff?", help=meaning("cliff", "mixed", "solved", "reward", "advantage"))
st.markdown(
    "A problem that a model fails in every one of its K tries: GRPO learns nothing from it. **HDPO** lets the same model look "
    "at the solution, and distils what it then gets right, with weight λ:"
)
with st.container(horizontal=True, vertical_alignment="center", horizontal_alignment="distribute"):
    home.formula()
    with st.container(horizontal=True, vertical_alignment="center", width="content"):
        home.texts()
gradient.show()

if (found := home.regimes_of(ModelConfig())) is not None:
    home.regimes_figure(found)
else:
    st.info("Not measured yet: scan the bundled problems for cliffs, which takes less than a minute.")
    st.page_link(state.page("cliffs"), label="Scan for cliffs")

st.subheader("What to try next")
grid = st.grid(4, min_column_width=200, border=True)
for page, title, words in NEXT:
    with grid.cell():
        st.page_link(state.page(page), label=f"**{title}**")
        st.caption(words)

st.subheader("Recent runs")
recent = exports.in_families(catalog.runs_frame()).head(5)
if recent.empty:
    st.caption("No run yet. What you start in the λ lab, or from a terminal with `python -m hdpo train`, appears here.")
PLACES = dict.fromkeys(("train", "sweep"), ("lambda_lab", "lab_run"))
PLACES |= dict.fromkeys(CENSUS, ("cliffs", "cliffs_scan"))
for row in recent.to_dict("records"):
    with st.container(horizontal=True, vertical_alignment="center"):
        page, key = PLACES.get(row["kind"], ("runs", "runs_run"))
        st.page_link(state.page(page), label=state.escape(row["name"]), query_params={key: row["id"]})
        st.caption(state.escape(home.recent_words(row)))

state.next_step("find the cliffs of this model", "cliffs")
home.model_card()
