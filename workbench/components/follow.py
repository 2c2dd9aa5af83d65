"""Draw again while a run is active: a timer that goes away with the last of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import streamlit as st

from hdpo.record.folder import Run
from workbench import state

EVERY = 2.0  # seconds; evaluations come far slower than steps


def follow(runs: Sequence[Run], draw: Callable[[], None]) -> None:
    """Call `draw` now and, while one of these runs is active, every two seconds; one full rerun at the end."""
    active = any(not run.status().state.ended for run in runs)

    def tick() -> None:
        with state.sentences():
            draw()
            if active and all(run.status().state.ended for run in runs):
                st.rerun()

    state.alone(tick, EVERY if active else None)


def badges(runs: Sequence[Run]) -> None:
    """Where the numbers come from: recorded with the project, made here, still moving."""
    recorded = sum(run.recorded for run in runs)
    active = sum(not run.status().state.ended for run in runs)
    with st.container(horizontal=True, gap="small"):
        if recorded:
            st.badge(f"● {recorded} recorded, come{'s' if recorded == 1 else ''} with the project", color="gray")
        if len(runs) - recorded:
            st.badge(f"◆ {len(runs) - recorded} made here", color="blue")
        if active:
            st.badge(f"▶ {active} live", color="green")
