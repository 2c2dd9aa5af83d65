"""Why a cliff gives no gradient, to be touched: a cliff and a mixed prompt of the recorded scan with their rewards.

A click flips a reward; the advantages are the engine's for that many right rollouts, and the gradient is measured by the same
request as on the page Cliffs.
"""

from __future__ import annotations

import re
from typing import Any

import pandas as pd
import streamlit as st

from hdpo.config import Advantage
from hdpo.method.advantages import advantages
from workbench.components import figure, group, request, rollouts
from workbench.components.group import OpenGroup
from workbench.components.web import Picture
from workbench.data import catalog, explore
from workbench.figures import headlines, style

SCAN = "steep-scan"  # recorded, comes with the project
PROMPTS = {
    "Cliff": "steep-val-0005",
    "Mixed": "steep-val-0026",
}  # with unlike answers: all alike, one flip moves little
KEY = "overview_rewards"
FORM = Advantage.LEAVE_ONE_OUT
LOOKS = {"right": style.RECOVERED.colour, "wrong": style.CLIFF.colour, "gradient": style.MIXED.colour}
NOTE = (
    "What this is: each square is a rollout's reward, the bar under it its advantage, leave-one-out: its reward less the mean of "
    f"the others. {group.GRADIENT_HELP} What is normal: none where all rewards are equal, however they are; and one right rollout "
    "among wrong ones is heard."
)


def show() -> None:
    """The picture; nothing where the recorded scan is not there."""
    if groups := two_groups():
        draw(groups, rewards_of(groups))


def two_groups() -> dict[str, OpenGroup]:
    """The two prompts by their names; none without the scan."""
    if (run := catalog.run_by_id(SCAN)) is None:
        return {}
    table = explore.prompt_table(catalog.scan_frame(run)).set_index("problem_id", drop=False)
    opened = {name: group.open_group(run, table.loc[i].to_dict()) for name, i in PROMPTS.items() if i in table.index}
    return {name: found for name, found in opened.items() if found is not None}


def rewards_of(groups: dict[str, OpenGroup]) -> list[str]:
    """One string of 0 and 1 a prompt: as the link says, else as the session held, else as sampled; kept in both."""
    plain = [as_sampled(g) for g in groups.values()]
    shape = "-".join(f"[01]{{{len(p)}}}" for p in plain)
    asked = (st.query_params.get(KEY, ""), st.session_state.get(KEY, ""))
    words = next((w for w in asked if re.fullmatch(shape, w)), "-".join(plain))
    st.session_state[KEY] = words
    if words != "-".join(plain):
        st.query_params[KEY] = words
    else:
        st.query_params.pop(KEY, None)
    return words.split("-")


def flipped() -> None:
    """Callback: the picture's rewards are the page's."""
    st.session_state[KEY] = st.query_params[KEY] = str(st.session_state["overview-gradient"].picked)


def as_sampled(opened: OpenGroup) -> str:
    return "".join(str(int(r == 1.0)) for r in opened.rewards)


def draw(groups: dict[str, OpenGroup], rewards: list[str]) -> None:
    """Ask for both gradients, and draw with what is known of them."""
    asked = [
        request.ask_once(f"gradient-{name}", group.gradient_payload(g, FORM.value, tuple(map(float, r))))
        for (name, g), r in zip(groups.items(), rewards, strict=True)
    ]
    config = next(iter(groups.values())).config

    def picture() -> None:
        if st.session_state[KEY] != "-".join(rewards):  # a click in a fragment draws that alone
            st.rerun()
        frame = frame_of(groups, rewards, asked)
        data = picture_of(groups, rewards, asked)
        facts = figure.facts_line(
            n=f"{len(groups)} prompts",
            K=config.rollouts,
            T=config.sampling.temperature,
            seed=config.seed,
            model=config.model.model,
            problems=f"{config.data.problems} ({config.split})",
        )
        says = headlines.gradient(frame)
        show_at = {"note": NOTE, "facts": facts, "frame": frame, "key": "overview-gradient", "on_picked": flipped}
        figure.show(Picture("gradient", data), headline=says, **show_at)

    request.watch(asked, picture)


def norm_of(question: request.Request) -> float | None:
    return None if question.result is None else float(question.result["grad_norm"])


def frame_of(groups: dict[str, OpenGroup], rewards: list[str], asked: list[request.Request]) -> pd.DataFrame:
    """One row a rollout: prompt, rollout, answer, sampled, reward, advantage, and grad_norm of its group (NaN: not yet measured)."""
    rows = []
    for (name, opened), marks, question in zip(groups.items(), rewards, asked, strict=True):
        norm = norm_of(question)
        for i, a in enumerate(advantages(tuple(map(float, marks)), FORM)):
            row = {"prompt": name, "rollout": i + 1, "answer": opened.rows["answer"][i], "sampled": opened.rewards[i]}
            rows.append(row | {"reward": float(marks[i]), "advantage": a, "grad_norm": norm})
    return pd.DataFrame(rows).astype({"grad_norm": float})


def picture_of(groups: dict[str, OpenGroup], rewards: list[str], asked: list[request.Request]) -> dict[str, Any]:
    """What the script draws."""
    each = zip(groups.items(), rewards, asked, strict=True)
    return {"looks": LOOKS, "groups": [one(name, opened, marks, question) for (name, opened), marks, question in each]}


def one(name: str, opened: OpenGroup, rewards: str, question: request.Request) -> dict[str, Any]:
    norm = norm_of(question)
    return {
        "name": name,
        "problem": rollouts.printable(opened.problem.text),
        "answers": [rollouts.printable(a) for a in opened.rows["answer"]],
        "sampled": as_sampled(opened),
        "rewards": rewards,
        "table": [pair_at(right, len(rewards)) for right in range(len(rewards) + 1)],
        "norm": None if norm is None else {"of": rewards, "value": norm},
        "waiting": question.error or "measuring …",
    }


def pair_at(right: int, k: int) -> tuple[float, float]:
    """The advantages of a wrong and of a right rollout where `right` of k are right.

    >>> pair_at(0, 4), pair_at(1, 4)
    ((0.0, 0.0), (-0.3333333333333333, 1.0))
    """
    found = advantages((0.0,) * (k - right) + (1.0,) * right, FORM)
    return found[0] if right < k else 0.0, found[-1] if right else 0.0
