"""Is it a cliff? One prompt of a scan: what the scan says of it, and fresh rollouts at a press, until they decide."""

from __future__ import annotations

from typing import Any

import streamlit as st

from hdpo.config import ScanConfig, to_json
from hdpo.evidence.cliffs import Cliff, Decision, triage
from hdpo.record.folder import Run
from workbench.components import request
from workbench.data import explore
from workbench.state import escape

SLOT = "cliffs-confirm"
PRESS = 512  # fresh rollouts of one press, at most
HELP = (
    "Draws fresh rollouts, at most 512, and stops as soon as they say whether the pass rate is below 1/64; an impossible "
    "prompt takes 272. The scan's own chose the prompt, so they do not count. Press as often as you like: the interval "
    "holds at all looks at once."
)


def show(run: Run, config: ScanConfig, problem_id: str) -> None:
    """The cliff as it stands, redrawn while its fresh rollouts come in; one prompt at a time is drawn from."""
    asked: dict[str, Any] = st.session_state.get(SLOT, {})
    mine = (asked.get("run"), asked.get("problem_id")) == (run.id, problem_id)
    questions = [request.ask_once(SLOT, asked)] if mine else []

    def draw() -> None:
        cliff = triage(run.metrics("scan_group"), run.looks()).cliffs[problem_id]
        st.markdown(
            f"**A cliff in this scan.** {explore.cliff_sentence(cliff.scanned)} {explore.posterior_sentence(cliff)}"
        )
        if cliff.drawn:
            st.markdown(explore.confirm_sentence(cliff))
        for question in questions:
            if question.error:
                st.error(escape(question.error))
        if questions and questions[0].pending:
            st.caption(request.waiting_words(questions[0]))
            if st.button("Stop", key="cliffs_confirm_stop"):
                request.drop(SLOT)  # what was drawn is kept
                del st.session_state[SLOT]
                st.rerun()
        elif cliff.decision is Decision.OPEN:
            words = "Draw on" if cliff.drawn else "Is it a cliff?"
            if st.button(words, key="cliffs_confirm", help=HELP, icon=":material/casino:"):
                st.session_state[SLOT] = payload_of(run, config, problem_id, cliff)
                st.rerun()

    request.watch(questions, draw)


def payload_of(run: Run, config: ScanConfig, problem_id: str, cliff: Cliff) -> dict[str, Any]:
    """The request `confirm` for up to PRESS more."""
    return {
        "request": "confirm",
        "model": to_json(config.model),
        "checkpoint": "",
        "grader": config.data.grader,
        "run": run.id,
        "problem_id": problem_id,
        "rollouts": cliff.drawn + PRESS,
    }
