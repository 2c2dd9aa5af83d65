"""What a cliff is, in one screen, with the state of the loaded model."""

import streamlit as st

from hdpo.config import ModelConfig
from workbench import home, state
from workbench.data import catalog

NEXT = (
    ("cliffs", "Find the cliffs", "Sample every problem K times and read the groups that got nothing."),
    ("side_by_side", "Watch the model peek", "One problem, with and without its solution in the prompt, side by side."),
    ("lambda_lab", "Turn λ", "Train alone or beside λ = 0, and watch the cliffs."),
    ("tradeoff", "Coverage against accuracy", "What each λ gave and cost, with intervals, beside the paper's tables."),
)

st.title("What is a cliff?")
top = st.grid(2, min_column_width=340, gap="medium")
with top.cell():
    if (found := home.regimes_of(ModelConfig())) is not None:
        home.regimes_figure(found)
    else:
        st.info("Not measured yet: scan the bundled problems for cliffs, which takes less than a minute.")
        st.page_link(state.page("cliffs"), label="Scan for cliffs")
    st.table(home.REGIMES)
with top.cell():
    st.markdown(
        "A **cliff** is a problem that a model fails in every one of its K tries. All rewards are 0, so all advantages "
        "are 0, so the gradient is 0: reinforcement learning says nothing about exactly the problems that the model "
        "cannot do."
    )
    st.latex(r"\mathcal{L} = \mathcal{L}_{\mathrm{GRPO}} + \lambda \, \mathcal{L}_{\mathrm{JSD}}")
    st.markdown(
        "**HDPO** lets the same model look at the solution. Its own answers that are then right (reward 1) are distilled "
        "into the prompt without the solution, with weight **λ**. With λ = 0 it is GRPO; a larger λ buys coverage "
        "(pass@8), and too large a λ pays for it in accuracy (pass@1)."
    )

st.subheader("What to try next")
grid = st.grid(4, min_column_width=200, border=True)
for page, title, words in NEXT:
    with grid.cell():
        st.page_link(state.page(page), label=f"**{title}**")
        st.caption(words)

st.subheader("Recent runs")
recent = catalog.runs_frame().head(5)
if recent.empty:
    st.caption("No run yet. What you start in the λ lab, or from a terminal with `python -m hdpo train`, appears here.")
PLACES = {"train": ("lambda_lab", "lab_run"), "sweep": ("lambda_lab", "lab_run"), "scan": ("cliffs", "cliffs_scan")}
for row in recent.to_dict("records"):
    with st.container(horizontal=True, vertical_alignment="center"):
        page, key = PLACES.get(row["kind"], ("runs", "runs_run"))
        st.page_link(state.page(page), label=state.escape(row["name"]), query_params={key: row["id"]})
        st.caption(state.escape(home.recent_words(row)))

home.model_card()
state.next_step("find the cliffs of this model", "cliffs")
