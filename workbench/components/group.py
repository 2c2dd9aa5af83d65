"""One prompt of a scan, opened: its rollouts with verdicts and advantages, and the measured gradient of the group.

The reward editor asks "what if": advantages are worked out here from the edited rewards, and the gradient is measured
by the same backward pass as for any group. On a cliff it is exactly zero, and one edited reward makes it not.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.config import Advantage, ImportConfig, ProblemConfig, SamplingConfig, ScanConfig, to_json
from hdpo.method.advantages import advantages
from hdpo.record.folder import Run
from hdpo.records import GroupKind, Outcome, Problem
from hdpo.work.imports import VERDICTS
from workbench.components import confirm, picker, request, rollouts, scans
from workbench.data import catalog, explore
from workbench.state import LINKED, alone, escape, page, sentences

GRADIENT_HELP = (
    "The norm of the gradient of this group's GRPO loss with respect to the LoRA weights, by the same backward pass as in "
    "training. Before the gradient-norm limit; the group stands alone, so the number is no share of a step's."
)


@dataclass(frozen=True)
class OpenGroup:
    """A scanned or imported prompt with its rollouts. config: the run's; row: of the prompt table; rows: rollouts as in the run folder."""

    run: Run
    config: Any
    problem: Problem
    row: dict[str, Any]
    rows: pd.DataFrame

    @property
    def outcomes(self) -> list[Outcome]:
        return [Outcome(o) for o in self.rows["outcome"]]

    @property
    def rewards(self) -> tuple[float | None, ...]:
        """(G,) as the verifier gave them; None where it failed."""
        return tuple(o.reward for o in self.outcomes)


def open_group(run: Run, row: dict[str, Any]) -> OpenGroup | None:
    """The group behind a row of the prompt table; None where its problem or rollouts are not on the disk."""
    fields = next((p for p in catalog.table_rows(run, "problems", 0) if p["id"] == row["problem_id"]), None)
    rows = catalog.group_rows(run, int(row["step"]), row["problem_id"])
    if fields is None:
        return None
    return OpenGroup(run, run.load_config(), explore.problem_of(fields), row, rows)


def show_group(group: OpenGroup, scale: OpenGroup | None) -> None:
    """Problem, rewards, gradient, reward editor, rollouts, and the way to Side by side. scale: a mixed prompt of the same scan, if
    there is one, whose gradient says what a large one is here."""
    picker.problem_text(group.problem)
    if isinstance(group.config, ImportConfig):
        show_imported(group)
        return
    st.page_link(
        page("side_by_side"),
        label="Read it side by side with the privileged prompt",
        icon=":material/compare_arrows:",
        query_params=side_params(group.config, group.problem.id),
    )
    if group.rows.empty:
        st.info(f"This prompt has no rollouts: {group.row['kind']}.")
        return
    if group.row["kind"].startswith(GroupKind.CLIFF.value) and group.row["graded"]:
        with sentences():
            confirm.show(group.run, group.config, group.problem.id)

    def editor() -> None:
        with sentences():
            edit_rewards(group, scale)

    alone(editor)


def show_imported(group: OpenGroup) -> None:
    """Rewards by the labels, the advantages that follow, and our verdict on each rollout as far as there is one."""
    st.caption(
        "These rollouts were drawn elsewhere. A gradient, or a look at the model side by side, takes a model: scan the same "
        "problems with one."
    )
    found = catalog.table_rows(group.run, VERDICTS, int(group.row["step"]))
    ours = {v["index"]: v for v in found if v["problem_id"] == group.problem.id}
    rows, notes = group.rows, []
    if ours:  # else the outcomes are our own verdicts, or none was given yet
        rows = rows.assign(answer=[ours[i]["answer"] for i in rows["index"]])
        notes = [
            f"by its label; our verifier says: {v['verdict']} ({v['rule'] or 'no rule decided'})" for v in ours.values()
        ]
    elif not rows["answer"].any():
        rows = rows.assign(answer=None)
    rollouts.reward_squares(group.rewards)
    st.caption(explore.outcome_counts(group.outcomes))
    shared = advantages(group.rewards, Advantage.LEAVE_ONE_OUT)
    rollouts.rollout_list(rollouts.grouped(rollouts.cards_of(rows, shared, notes or None)))


def edit_rewards(group: OpenGroup, scale: OpenGroup | None) -> None:
    """Which rollouts have reward 1, the advantages that follow, the gradient that is measured, the rollouts."""
    actual = [i + 1 for i, r in enumerate(group.rewards) if r == 1.0]
    graded = [i + 1 for i, r in enumerate(group.rewards) if r is not None]
    # The key holds run and prompt: another prompt starts from its own rewards.
    chosen = st.pills(
        "Rollouts with reward 1: edit it, and ask what if",
        graded,
        default=actual,
        selection_mode="multi",
        key=f"cliffs-rewards-{group.run.id}-{group.problem.id}",
    )
    left, right = st.columns(2, vertical_alignment="bottom")
    form = right.selectbox("Advantage", [a.value for a in Advantage], key="cliffs_advantage", **LINKED)
    rewards = tuple(None if r is None else float(i + 1 in chosen) for i, r in enumerate(group.rewards))
    edited = rewards != group.rewards
    with left:
        rollouts.reward_squares(rewards)
    show_gradients(group, form, rewards if edited else None, scale)
    cards = rollouts.cards_of(group.rows, advantages(rewards, Advantage(form)))
    by_hand = [None if a == b else a for a, b in zip(rewards, group.rewards, strict=True)]
    st.caption(explore.outcome_counts(group.outcomes))
    rollouts.rollout_list(rollouts.grouped([replace(c, edited=r) for c, r in zip(cards, by_hand, strict=True)]))


def show_gradients(
    group: OpenGroup, form: str, edited: tuple[float | None, ...] | None, scale: OpenGroup | None
) -> None:
    """Measured norms: with the verifier's rewards, with the edited ones where something is edited, and a mixed prompt's."""
    asked = {"as sampled": request.ask_once("gradient", gradient_payload(group, form, group.rewards))}
    if edited is not None:
        asked["edited"] = request.ask_once("gradient-edited", gradient_payload(group, form, edited))
    if scale is not None and scale.problem.id != group.problem.id:
        words = f"mixed, {scale.row['correct']:.0f} of {scale.row['graded']:.0f}"
        asked[words] = request.ask_once("gradient-mixed", gradient_payload(scale, form, scale.rewards))

    st.markdown("Measured gradient norm of the group")

    def draw() -> None:
        for column, (title, question) in zip(st.columns(len(asked)), asked.items(), strict=True):
            with column:
                show_norm(title, question)

    request.watch(list(asked.values()), draw)


def show_norm(title: str, question: request.Request) -> None:
    if question.error:
        st.error(escape(question.error))
    elif question.result is None:
        st.metric(title, "…", help=GRADIENT_HELP, border=True)
        st.caption(request.waiting_words(question))
    else:
        norm = float(question.result["grad_norm"])
        st.metric(title, norm_words(norm), help=GRADIENT_HELP, border=True)
        if norm == 0:
            st.caption("Every reward is the same, so every advantage is zero: the backward pass gives exactly nothing.")


def norm_words(norm: float) -> str:
    """
    >>> norm_words(0.0), norm_words(0.08314)
    ('0', '0.083')
    """
    return "0" if norm == 0 else f"{norm:.2g}"


def gradient_payload(group: OpenGroup, form: str, rewards: tuple[float | None, ...]) -> dict[str, Any]:
    """The request `gradient` for this group under these rewards."""
    traces = [
        {"token_ids": [int(t) for t in ids], "outcome": outcome.value}
        for ids, outcome in zip(group.rows["token_ids"], group.outcomes, strict=True)
    ]
    return {
        "request": "gradient",
        "model": to_json(group.config.model),
        "checkpoint": "",
        "problem": asdict(group.problem),
        "prompts": to_json(group.config.prompts),
        "sampling": to_json(group.config.sampling),
        "rollouts": traces,
        "rewards": list(rewards),
        "advantage": form,
        "seed": group.config.seed,
    }


def side_params(config: ScanConfig, problem_id: str | None = None) -> dict[str, str]:
    """The query parameters with which Side by side opens a scan's problems, one of them where it is named, with its model and
    sampling; defaults stay out."""
    plain = SamplingConfig()
    # A scan of a run's checkpoint names the folder runs/<id>/checkpoints/step-N as its adapter.
    run = catalog.run_by_id(Path(config.model.adapter).parent.parent.name) if config.model.adapter else None
    params = picker.source_params("side", scans.source_of(config)) | {
        "side_problem": problem_id or "",
        "side_temperature": f"{config.sampling.temperature:g}",
        "side_max_new_tokens": str(config.sampling.max_new_tokens),
        "side_model": run.id if run else config.model.model,
    }
    # Streamlit takes each default out of the URL again, one step of the browser's history each.
    defaults = picker.source_params("side", picker.ProblemSource(ProblemConfig(), "validation")) | {
        "side_problem": "",
        "side_temperature": f"{plain.temperature:g}",
        "side_max_new_tokens": str(plain.max_new_tokens),
        "side_model": picker.BUNDLED,
    }
    return {name: value for name, value in params.items() if defaults.get(name) != value}
