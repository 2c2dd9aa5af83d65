"""What a page costs the server on a long run: 5,000 steps, 200,000 rollouts."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from hdpo.config import TrainConfig, replace_knobs
from hdpo.record.folder import Run, RunWriter, State
from tests import fakes
from tests.benchmarks.harness import REPEATS, Row, seconds

STEPS, EVAL_EVERY = 5_000, 100
PAGES = {
    "λ lab, Learning": ("lambda_lab", {"lab_panel": "Learning"}),
    "λ lab, Losses": ("lambda_lab", {"lab_panel": "Losses"}),
    "λ lab, Gap": ("lambda_lab", {"lab_panel": "Gap"}),
    "λ lab, Rollouts": ("lambda_lab", {"lab_panel": "Rollouts"}),
    "Gap": ("gap", {}),
    "Tradeoff": ("tradeoff", {}),
    "Runs": ("runs", {}),
    "Overview": ("overview", {}),
}


def long_run(root: Path) -> RunWriter:
    """A running training of STEPS steps of 10 × 4 rollouts, one part a step, as the engine writes them."""
    values = {"lambda_": 0.3, "steps": 2 * STEPS, "prompts_per_step": 10, "rollouts": 4, "eval_every": EVAL_EVERY}
    config = replace_knobs(TrainConfig(), values)
    writer = RunWriter.create("train", config, root=root, name="a long run", command="python -m hdpo train")
    problems = fakes.bundled("steep", "train")[:10]
    groups = [fakes.fake_group(p, i) for i, p in enumerate(problems)]
    fakes.evaluate_at(writer, 0, 0.3)
    for step in range(1, STEPS + 1):
        writer.metric("step", step, **fakes.step_row(step, 0.3))
        writer.rollouts(step, groups, "student", advantage=[0.0] * 40)
        if step % EVAL_EVERY == 0:
            fakes.evaluate_at(writer, step, 0.3)
    writer.status(State.RUNNING, phase="training", done=STEPS, total=2 * STEPS, seconds_left=1000.0)
    return writer


def reruns() -> list[Row]:
    """Each page run again on the run, and a live tick of the λ lab after one more step. Milliseconds."""
    root = Path(tempfile.mkdtemp())
    os.environ |= {"HDPO_RUNS": str(root), "HDPO_NO_WORKERS": "1"}
    writer = long_run(root)
    run_id = Run(writer.path).id
    rows, steps = [], itertools.count(STEPS + 1)
    for name, (page, query) in PAGES.items():
        at = fakes.open_page(page, lab_run=run_id, **query)
        assert not at.exception, at.exception
        took = []
        for _ in range(REPEATS):  # each after one more step, as it is while a run runs
            writer.metric("step", next(steps), **fakes.step_row(1, 0.3))
            took.append(1000 * seconds(at.run))
        rows.append(Row(f"page rerun, {name}", "–", "ms", tuple(took), (), 300))
    return [*rows, tick(writer, run_id, steps)]


def tick(writer: RunWriter, run_id: str, steps: Iterator[int]) -> Row:
    """The body of the λ lab's live fragment, with a new step in the run each time."""
    import streamlit as st

    took: list[float] = []
    whole = st.fragment

    def timed(run_every: Any = None) -> Callable[..., Any]:
        def around(body: Callable[[], None]) -> Any:
            def measured() -> None:
                began = time.perf_counter()
                body()
                took.append(1000 * (time.perf_counter() - began))

            return whole(measured, run_every=run_every)

        return around

    st.fragment = timed  # type: ignore[assignment]
    try:
        at = fakes.open_page("lambda_lab", lab_run=run_id, lab_panel="Learning")
        for _ in range(REPEATS + 1):
            writer.metric("step", next(steps), **fakes.step_row(1, 0.3))
            at.run()
    finally:
        st.fragment = whole
    return Row("live tick of the λ lab", "–", "ms", tuple(took[-REPEATS:]), (), 100)
