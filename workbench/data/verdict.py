"""What came out of a finished training: which cliffs it recovered and lost, beside λ = 0 and beside luck, and what it cost.

A cliff is a prompt of which no sample was right before training; it is recovered where at least one is right at the step
compared. Cliffs heal by luck too: evaluations of the same untrained model on the same prompts with other seeds, those before a
training for one, are redraws of them, and stand beside every count. No Streamlit here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from hdpo.config import EvalConfig, EvaluateConfig, ModelConfig, PromptConfig, TrainConfig
from hdpo.record.fingerprint import MEASURED, UNKNOWN, differences
from hdpo.record.folder import Run
from workbench.data import catalog, tradeoff

REDRAWN = ("train", "evaluate")  # kinds of runs that may hold a redraw
ANOTHER = 1000  # what is added to a seed for a redraw of one's own


@dataclass(frozen=True)
class Finding:
    """One run at one step against its own evaluation before training. Problem ids; tokens and seconds up to that step."""

    label: str
    cliffs: tuple[str, ...]
    recovered: tuple[str, ...]
    lost: tuple[str, ...]
    problems: int
    tokens: int
    seconds: float


def outcome(run: Run, label: str, step: int) -> Finding | None:
    """None where one of the two evaluations is not there."""
    before, after = tradeoff.counts(run, 0), tradeoff.counts(run, step)
    both = before.index.intersection(after.index)
    if not len(both) or not step:
        return None
    was, now = before.loc[both, "correct"] > 0, after.loc[both, "correct"] > 0
    steps = catalog.steps_frame(run)
    steps = steps[steps["step"] <= step]
    return Finding(
        label,
        tuple(both[~was]),
        tuple(both[~was & now]),
        tuple(both[was & ~now]),
        len(both),
        int(steps[["tokens_student", "tokens_privileged"]].fillna(0).sum().sum()),
        float(steps["seconds"].sum()),
    )


def redraws(run: Run, cliffs: Sequence[str], runs: Sequence[Run], prefix: str = "none") -> dict[int, pd.DataFrame]:
    """Seed → counts of the evaluation before training by another seed that was measured alike (a known fingerprint, all measured
    fields equal): the same problems, drawn again by the same untrained model. prefix: what stood before each prompt; with one
    the wording is another, and nothing else."""
    found, mine = {}, tradeoff.settings(run)
    among = [name for name in MEASURED if prefix == "none" or name != "wording"]
    for other in runs:
        its = tradeoff.settings(other)
        seed, alike = its["seed"], (its["prefix"], its["student"]) == (prefix, mine["student"])
        prints = tradeoff.fingerprint(run), tradeoff.fingerprint(other)
        if seed == mine["seed"] or seed in found or not alike or any(differences(*prints, among)):
            continue
        redraw = tradeoff.counts(other, 0)
        if set(cliffs) <= set(redraw.index):
            found[seed] = redraw
    return found


def redraw_config(run: Run, prefix: str = "none") -> EvaluateConfig | None:
    """The evaluation that would be a redraw for this training, behind this prefix; None for one so old that nothing can be called
    the same as it."""
    config: TrainConfig = run.load_config()
    if UNKNOWN in (getattr(tradeoff.fingerprint(run), name) for name in MEASURED):
        return None
    model, plain, unread = config.model, ModelConfig(), EvalConfig()
    if not model.adapter:
        model = replace(model, rank=plain.rank, alpha=plain.alpha, targets=plain.targets)
    read = replace(config.evaluation, eval_every=unread.eval_every, probe_cliffs=unread.probe_cliffs)
    return EvaluateConfig(
        model=model,
        data=config.data,
        prompts=PromptConfig(student=config.prompts.student, prefix=prefix),
        sampling=config.sampling,
        evaluation=replace(read, eval_split=unread.eval_split),
        split=config.evaluation.eval_split,
        seed=config.seed + ANOTHER,
    )


def by_luck(run: Run, cliffs: Sequence[str], runs: Sequence[Run], prefix: str = "none") -> list[int]:
    """How many of these cliffs had a right sample in each redraw."""
    drawn = redraws(run, cliffs, runs, prefix).values()
    return [int((redraw.loc[list(cliffs), "correct"] > 0).sum()) for redraw in drawn]


def sentence(outcomes: Sequence[Finding], luck: Sequence[int], nonsense: Sequence[int] = ()) -> str:
    """The finding in one sentence, largest λ first; outcomes in the order of λ. nonsense: like luck, behind a prefix of it."""
    parts = [
        f"{o.label} recovered {len(o.recovered)} of {len(o.cliffs)} cliffs and lost {len(o.lost)}"
        for o in reversed(outcomes)
    ]
    drawn = f"an untrained redraw recovers {average(luck)}" if luck else "what luck recovers was not measured"
    drawn += f", one behind as much nonsense as the peek is long {average(nonsense)}" if nonsense else ""
    return f"{'; '.join(parts)}; {drawn}."


def average(counts: Sequence[int]) -> str:
    """
    >>> average([3]), average([3, 4])
    ('3', '3.5 (mean of 2)')
    """
    return f"{sum(counts) / len(counts):.1f} (mean of {len(counts)})" if len(counts) > 1 else str(counts[0])


def as_text(title: str, says: Sequence[str], outcomes: Sequence[Finding], verdicts: pd.DataFrame, facts: str) -> str:
    """The panel as text that can be pasted."""
    lines = [title, *says, ""]
    lines += [
        f"λ = {r['λ']}, {r['against λ = 0']}: {r['verdict']}, interval {r['interval (points)']}"
        for r in verdicts.to_dict("records")
    ]
    lines += [f"{o.label}: {o.tokens:,} tokens generated, {o.seconds:.0f} s of steps" for o in outcomes]
    return "\n".join([*lines, facts])
