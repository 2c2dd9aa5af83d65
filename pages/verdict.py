"""Verdict: what the recorded runs say of HDPO's claims, by a plan that was frozen before the runs that it asks for."""

import json

import streamlit as st

from hdpo.evidence import verdict
from workbench import state
from workbench.figures import claims

MEANING = "  \n".join(f"{mark} **{word}**: {says}" for word, (mark, _, says) in claims.MARKS.items())

found = verdict.shipped()
null = verdict.null_words(found["null"])
st.title("Verdict", help="Each claim of the paper, and our own, by runs that ship with the project.")
st.markdown(f"#### {claims.headline(found)}", anchors=False)
st.caption(f"{found['trainings']} trainings stand behind it. {null}")
whose = st.segmented_control(
    "Claims",
    ["all", *claims.OF],
    default="all",
    format_func=lambda k: claims.OF.get(k, "All"),
    key="verdict_of",
    **state.LINKED,
)
shown = [c for c in found["claims"] if whose in (None, "all", c["of"])]
st.html(f"<style>{claims.CSS.read_text(encoding='utf-8')}</style>{claims.table(shown)}")
with st.expander("What the words mean, and the plan as it was frozen"):
    st.markdown(MEANING)
    for name in ("measure", "interval", "equal_tokens", "stop", "known"):
        st.markdown(f"**{name.replace('_', ' ').capitalize()}:** {state.escape(found['plan'][name])}")
    st.markdown(
        f"Frozen on {found['plan']['written']}, before the runs that it asks for (the stories: 64 problems, at most 56 tokens); SHA-256 of `assets/plan.toml`:"
    )
    st.code(found["plan"]["sha256"], language=None)
with st.expander("Every arm at its last step, means over its seeds"):
    st.dataframe(found["arms"], hide_index=True, alt="pass@1, pass@8, cliffs and sampled tokens of each arm")
with st.expander("Every number again, and what others can take along"):
    st.code("python -m hdpo verdict --counts counts.csv\npython -m workbench verdict verdict.html", language="bash")
    left, right = st.columns(2)
    left.download_button(
        "Verdict as JSON",
        lambda: json.dumps(found, indent=1, ensure_ascii=False),
        "verdict.json",
        "application/json",
        on_click="ignore",
    )
    right.download_button(
        "Verdict as one HTML file", lambda: claims.document(found, null), "verdict.html", "text/html", on_click="ignore"
    )
state.next_step("compare the recorded runs yourself", "tradeoff")
