"""What the Overview shows: the regimes of the loaded model on the bundled problems, and the model itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.config import ModelConfig
from hdpo.errors import HdpoError
from hdpo.record.folder import Run, State
from workbench import launch, state
from workbench.components import figure, request
from workbench.data import catalog
from workbench.data.glossary import meaning
from workbench.figures import cliffs, headlines

# The formula's terms: colour of Streamlit's text, the term, what it leads to, and the words of the glossary.
TERMS = (
    ("blue", r"\mathcal{L}_{\mathrm{GRPO}}", "lambda_lab", "L_GRPO"),
    ("violet", r"\lambda", "tradeoff", "λ"),
    ("green", r"\mathcal{L}_{\mathrm{JSD}}", "gap", "L_JSD"),
)
BETWEEN = (r"\mathcal{L} =", "+", r"\cdot")


def formula() -> None:
    """The loss, each term a link to the page whose figure shows it."""
    with st.container(horizontal=True, vertical_alignment="center", width="content", key="formula"):
        for before, (colour, term, page, name) in zip(BETWEEN, TERMS, strict=True):
            st.markdown(f"${before}$", width="content")
            st.page_link(state.page(page), label=f":{colour}[${term}$]", help=meaning(name))


def texts() -> None:
    """The texts behind the app."""
    st.markdown("[Paper](https://arxiv.org/abs/2603.23871)", width="content")
    for title, key in (("Model card", "glossary_card"), ("Notebook", "glossary_notebook")):
        st.page_link(state.page("glossary"), label=title, query_params={key: "true"})


@dataclass(frozen=True)
class Regimes:
    """kinds: one regime a prompt; facts: n, K and the like; source: where they come from."""

    kinds: pd.Series
    facts: dict[str, Any]
    source: str


def regimes_of(model: ModelConfig) -> Regimes | None:
    """On bundled problems: the newest finished scan of these weights, or else the newest baseline (step 0); own runs first."""
    for read in (from_scan, from_baseline):
        for run in catalog.runs_of("scan" if read is from_scan else "train"):
            try:
                found = read(run, model)
            except HdpoError:
                continue
            if found is not None:
                return found
    return None


def from_scan(run: Run, model: ModelConfig) -> Regimes | None:
    config = run.load_config()
    if config.model != model or not config.data.problems.startswith("bundled:") or run.status().state is not State.DONE:
        return None
    frame = catalog.scan_frame(run)
    facts = {"n": f"{len(frame)} problems", "K": config.rollouts, "T": config.sampling.temperature, "seed": config.seed}
    facts["problems"] = f"{config.data.problems} ({config.split})"
    return Regimes(frame["group"], facts, f"the scan {run.name}")


def from_baseline(run: Run, model: ModelConfig) -> Regimes | None:
    config = run.load_config()
    if config.model.model != model.model or config.model.adapter or not config.data.problems.startswith("bundled:"):
        return None
    frame = catalog.eval_counts(run, 0)
    if frame.empty:
        return None
    facts = {
        "n": f"{len(frame)} problems",
        "K": config.evaluation.eval_samples,
        "T": config.sampling.temperature,
        "seed": config.seed,
        "problems": f"{config.data.problems} ({config.evaluation.eval_split})",
    }
    return Regimes(frame["kind"], facts, f"the baseline of {run.name}, before its training")


def regimes_figure(found: Regimes) -> None:
    counts = cliffs.count_regimes(found.kinds)
    figure.show(
        cliffs.regimes(counts),
        headline=headlines.regimes(counts),
        note="What this is: the problems by what K tries of the model give. What is normal: with a larger K fewer are "
        "cliffs, since 0 of 8 only says that the pass rate is below 0.31.",
        facts=figure.facts_line(**found.facts, source=found.source),
        frame=counts,
        key="overview-regimes",
    )


def model_card() -> None:
    """Device and model, asked of the interactive worker without waiting for it."""
    asked = request.ask_once("info", {"request": "info", **launch.model_payload()})

    def draw() -> None:
        with state.sentences():
            if asked.error:
                st.error(state.escape(asked.error))
            elif asked.result is None:
                st.caption(state.escape(request.waiting_words(asked)))
            else:
                facts(asked.result)

    request.watch([asked], draw)


def facts(info: dict[str, Any]) -> None:
    """A footer: what answers here."""
    words = f"Model {info['model']}: {info['parameters'] / 1e6:.2f} M parameters, {info['dtype']} on {info['device']}, context {info['context']} tokens."
    st.caption(state.escape(words))


def recent_words(row: Mapping[str, Any]) -> str:
    """What stands beside a run's name: kind, state, when it was started."""
    created = row["created"]
    parts = [
        row["kind"],
        row["state"],
        "" if pd.isna(created) else f"{created:%Y-%m-%d %H:%M}",
        "recorded" if row["recorded"] else "",
    ]
    return ", ".join(p for p in parts if p)
