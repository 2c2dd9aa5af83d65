"""The figures of a training as it is watched: what each says, how it is drawn, what is normal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pandas as pd
import plotly.graph_objects as go

from workbench.figures import headlines, live


@dataclass(frozen=True)
class Panel:
    """One figure of a view: what it says and how it is drawn, from a frame (and the steps that are planned), and its words."""

    key: str
    says: Callable[[pd.DataFrame], str]
    draw: Callable[[pd.DataFrame, int], go.Figure]
    note: str


SIGNAL = Panel(
    "signal",
    headlines.signal,
    live.signal_accounting,
    "What this is: the prompts of each step, by where their gradient comes from. What is normal: mixed prompts teach "
    "through GRPO, recovered cliffs through λ·L_JSD, solved ones not at all; cliffs become fewer where λ > 0. At λ = 0 "
    "cliffs are counted and not tried. The step that ends a round of the problems has those that are left.",
)
REWARD = Panel(
    "reward",
    headlines.reward,
    live.reward,
    "What this is: the share of the step's student rollouts that is correct. What is normal: noisy, since each step has "
    "other prompts, and rising; it says nothing about coverage.",
)
LOSSES = Panel(
    "losses",
    headlines.losses,
    live.loss_terms,
    "What this is: both terms of the objective, L_JSD before the factor λ. What is normal: L_GRPO stays near 0, because the "
    "advantages of a group sum to 0 (unequal lengths leave the rest) and the policy ratio is 1; its gradient is what "
    "teaches. L_JSD is 0 in a step without an accepted rollout, and never below the floor that a truncated top-k leaves.",
)
GRADIENTS = Panel(
    "gradients",
    headlines.gradients,
    live.grad_norms,
    "What this is: the gradient norm of each term and of their sum, before it is scaled down to the limit. What is normal: "
    "both of one size; where that of λ·L_JSD is many times the other, λ takes over the update.",
)
INTERFERENCE = Panel(
    "interference",
    headlines.interference,
    live.interference,
    "What this is: how the two gradients meet in a step, from the three norms that are logged: the ratio of their norms (κ), "
    "their cosine, and the λ at which they would weigh the same (M3, arXiv 2609.34849). What is normal: a cosine near 0, since "
    "they come from different prompts; below 0 one undoes the other, and a ratio far from 1 says that one leads alone.",
)
OFF_POLICY = Panel(
    "off-policy",
    headlines.off_policy,
    live.off_policy,
    "What this is: how much less likely the accepted traces are without the solution than they were with it, when they were "
    "drawn, in nats per token; a student that learns what its teacher writes comes near 0. What is normal: it rises to 0 where "
    "λ > 0; far below 0 one token in the trace is almost impossible for the student, and JSD moves slowly there.",
)
HARM = Panel(
    "harm",
    headlines.harm,
    live.length_entropy,
    "What this is: the harm meters, mean completion length (tokens) and entropy of the student (nats). What is normal: "
    "slow drift; a collapse of entropy, or a length that runs to the limit, is a reason to stop.",
)
PASS_NOTE = (
    "What this is: held-out problems, n samples each; pass@1 is accuracy, pass@8 is coverage, a cliff has none of its n right; the band is a 95 % interval "
    "with the problem as unit. What is normal: overlapping bands mean no visible difference, and one seed says nothing "
    "about training noise."
)
PROBE_NOTE = (
    "What this is: the realizability gap, KL between privileged and plain prompt in nats per token, on traces fixed at "
    "step 0, for every λ. What is normal: it shrinks on privileged traces where λ > 0. Drifting compares with the "
    "current weights, frozen with those of step 0; the dash-dotted line (accepted) is another quantity, the gap on each step's own accepted traces."
)
