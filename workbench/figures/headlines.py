"""The sentence above each figure: the number that it shows, from the very frame that it draws, and how sure it is.

Pure functions of frames. Each names its basis (which steps, which problems); where the data cannot carry a statement, it says
so. Shares are told in per cent, differences in percentage points.

This file is long: one sentence a figure, in one voice.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from hdpo.records import Outcome
from workbench.figures.gap import bound_facts, position_means, pull_of
from workbench.figures.live import SIGNAL, met
from workbench.figures.style import by_run

WINDOW = 10  # steps that a statement about training batches rests on: each has other prompts


def per_cent(share: float) -> str:
    """
    >>> per_cent(0.386), per_cent(0.004), per_cent(0.0)
    ('39 %', '0.4 %', '0 %')
    """
    value = 100 * share
    return f"{value:.1f} %" if 0 < value < 1 or 99 < value < 100 else f"{value:.0f} %"


def span(first: float, last: float) -> str:
    """
    >>> span(31, 40), span(3, 3)
    ('steps 31 to 40', 'step 3')
    """
    return f"steps {first:.0f} to {last:.0f}" if last > first else f"step {first:.0f}"


def joined(parts: Sequence[str]) -> str:
    """
    >>> joined(["a", "b", "c"])
    'a, b and c'
    """
    return f"{', '.join(parts[:-1])} and {parts[-1]}" if len(parts) > 1 else "".join(parts)


def with_label(words: str, label: str) -> str:
    return f"{words} with {label}" if label else words


# --- training ---------------------------------------------------------------------------------------------------------


def signal(steps: pd.DataFrame) -> str:
    """From how many prompts of the last steps a gradient came."""
    if steps.empty:
        return "No training step yet."
    parts = []
    for label, rows in by_run(steps):
        late = rows.sort_values("step").tail(WINDOW)
        counts = {name: float(late[list(columns)].sum().sum()) for name, columns, _ in SIGNAL}
        total = sum(counts.values())
        taught = counts["mixed: GRPO signal"] + counts["cliff, recovered: JSD signal"]
        parts.append(with_label(per_cent(taught / total) if total else "none", label))
    return f"Prompts that gave a gradient in {window_words(steps)}: {joined(parts)}."


def window_words(steps: pd.DataFrame) -> str:
    """The last steps of the runs, or of the slowest where they stand apart."""
    late = [rows["step"].sort_values().tail(WINDOW) for _, rows in by_run(steps)]
    lasts = {int(s.iloc[-1]) for s in late}
    return span(late[0].iloc[0], late[0].iloc[-1]) if len(lasts) == 1 else f"each run's last {WINDOW} steps"


def first_to_last(steps: pd.DataFrame, column: str, form: str = "{:.3g}") -> list[tuple[str, str, str]]:
    """(label, mean of the first steps, mean of the last ones) of a column, runs without a value left out."""
    found = []
    for label, rows in by_run(steps):
        known = rows.sort_values("step")[column].dropna()
        if len(known):
            found.append((label, form.format(known.head(WINDOW).mean()), form.format(known.tail(WINDOW).mean())))
    return found


def moved(steps: pd.DataFrame, column: str, what: str, form: str = "{:.3g}") -> str:
    """From the first to the last steps, of each run. what: the quantity with its unit."""
    if steps.empty:
        return "No training step yet."
    parts = first_to_last(steps, column, form)
    if not parts:
        return f"{what}: not measured."
    if steps["step"].max() < 2 * WINDOW:
        now = [with_label(last, label) for label, _, last in parts]
        return f"{what}: {joined(now)} ({window_words(steps)}; too early to say that it moves)."
    both = [with_label(f"{first} → {last}", label) for label, first, last in parts]
    return f"{what}: {joined(both)} (mean of the first and of the last {WINDOW} steps)."


def reward(steps: pd.DataFrame) -> str:
    return moved(steps, "reward", "Mean reward on training prompts", "{:.2f}")


def losses(steps: pd.DataFrame) -> str:
    if steps.empty:
        return "No training step yet."
    if not (steps["loss_jsd"].fillna(0.0) > 0).any():
        return "L_JSD has been 0 in every step: nothing was distilled."
    return moved(steps, "loss_jsd", "L_JSD in nats per token, before the factor λ")


def gradients(steps: pd.DataFrame) -> str:
    """Which of the two terms leads the update."""
    if steps.empty:
        return "No training step yet."
    parts = []
    for label, rows in by_run(steps):
        late = rows.sort_values("step").tail(WINDOW)
        ratio = (late["grad_norm_jsd"] / late["grad_norm_grpo"].where(late["grad_norm_grpo"] > 0)).median()
        if pd.notna(ratio) and ratio > 0:
            parts.append(with_label(f"{ratio:.2g}", label))
    if not parts:
        return f"In {window_words(steps)} all of the gradient came from L_GRPO."
    return f"Gradient norm of λ·L_JSD over that of L_GRPO, median of {window_words(steps)}: {joined(parts)}."


def interference(steps: pd.DataFrame) -> str:
    """Whether the two gradients pull together, and at which λ they would weigh the same. steps: `live.met`'s columns."""
    parts = []
    for label, rows in by_run(met(steps)) if not steps.empty else ():
        late = rows.sort_values("step").tail(WINDOW)[["cosine", "even"]].median()
        if late.notna().all():
            parts.append(with_label(f"{late['cosine']:.2f}, and λ = {late['even']:.2g}", label))
    if not parts:
        return "No step had a gradient of both terms."
    return f"Cosine of the two gradients, and the λ at which they would weigh the same, median of {window_words(steps)}: {joined(parts)}."


def off_policy(steps: pd.DataFrame) -> str:
    return moved(
        steps,
        "off_policy",
        "Log-prob of the accepted traces without the solution, less that with it, in nats a token",
        "{:.2f}",
    )


def harm(steps: pd.DataFrame) -> str:
    """Length and entropy, in one sentence."""
    if steps.empty:
        return "No training step yet."
    return (
        f"{moved(steps, 'length', 'Length in tokens', '{:.0f}')} {moved(steps, 'entropy', 'Entropy in nats', '{:.2f}')}"
    )


def filtered(kind: str, student: tuple[int, int], peeks: Sequence[Outcome]) -> str:
    """What the R = 1 filter made of one prompt of a step. student: (correct, graded).

    >>> filtered("cliff", (0, 8), [Outcome.CORRECT] * 3 + [Outcome.WRONG])
    'Without the solution 0 of 8 are right; with it 3 of 4: these are kept and distilled, 1 is thrown away.'
    >>> filtered("mixed", (3, 8), [])
    'Without the solution 3 of 8 are right: mixed, so GRPO learns from it, and nothing is distilled.'
    """
    own = f"Without the solution {student[0]} of {student[1]} are right"
    if not peeks:
        why = {"mixed": "so GRPO learns from it", "solved": "so GRPO learns nothing more"}.get(kind, "not tried")
        return f"{own}: {kind}, {why}, and nothing is distilled."
    kept = sum(o.is_correct for o in peeks)
    if not kept:
        return f"{own}; with it none of {len(peeks)}: all are thrown away, and nothing is distilled."
    lost = len(peeks) - kept
    gone = f", {lost} {'is' if lost == 1 else 'are'} thrown away" if lost else ""
    return f"{own}; with it {kept} of {len(peeks)}: {'this is' if kept == 1 else 'these are'} kept and distilled{gone}."


# --- evaluations ------------------------------------------------------------------------------------------------------


def evaluations(evals: pd.DataFrame, differences: pd.DataFrame, when: str) -> str:
    """What the runs' evaluations say: against λ = 0 where there is a pair, else from the base to now.

    evals: long, as `catalog.evals_frame` gives it; differences: `tradeoff.differences` at a moment
    that both arms measured, called `when` (`basis.words`).
    """
    if evals.empty:
        return "No evaluation yet."
    if not differences.empty:
        return " ".join(against_grpo(arm, rows, when) for arm, rows in differences.groupby("arm", sort=False))
    return " ".join(from_base(label, rows) for label, rows in by_run(evals))


def against_grpo(arm: str, rows: pd.DataFrame, when: str) -> str:
    """One arm against its λ = 0 partners, in points, coverage first."""
    by, order = rows.set_index("metric"), sorted(rows["metric"], key=coverage_first)
    said = [f"{'cliffs' if m == 'cliff' else m} {points_of(by.loc[m])}" for m in order]
    first = by.iloc[0]
    seeds = f"{first['n_seeds']:.0f} seeds" if first["n_seeds"] > 1 else "one seed: without training noise"
    return f"{arm} against λ = 0 at {when}, in points: {joined(said)} ({first['n_problems']:.0f} problems, {seeds})."


def one_change(differences: pd.DataFrame, when: str) -> str:
    """One difference an arm, to be read from the last row; "" without any."""
    said = [f"{row['metric']} {points_of(row)} points with {row['arm']}" for row in differences.to_dict("records")]
    return f"Against λ = 0 at {when}: {joined(said)}." if said else ""


def coverage_first(metric: str) -> tuple[int, int]:
    """
    >>> sorted(["cliff", "pass@1", "greedy", "pass@8"], key=coverage_first)
    ['pass@8', 'pass@1', 'greedy', 'cliff']
    """
    kind = 2 if metric == "cliff" else 0 if metric.startswith("pass@") else 1
    k = metric.removeprefix("pass@").partition(",")[0]
    return kind, -int(k) if k.isdigit() else 0


def points_of(row: pd.Series | dict[str, Any]) -> str:
    """A difference with its interval; the minus sign is one.

    >>> points_of(pd.Series({"value": -0.02, "low": -0.031, "high": -0.009}))
    '−2.0 (−3.1 to −0.9)'
    >>> points_of(pd.Series({"value": 0.02, "low": -0.01, "high": 0.05}))
    'no visible difference (−1.0 to +5.0)'
    """
    value, low, high = (f"{100 * row[c]:+.1f}".replace("-", "−") for c in ("value", "low", "high"))
    shown = "no visible difference" if row["low"] <= 0.0 <= row["high"] else value
    return f"{shown} ({low} to {high})"


def from_base(label: str, rows: pd.DataFrame) -> str:
    """One run: coverage and cliffs before and now."""
    last, parts = int(rows["step"].max()), []
    passes = sorted({m for m in rows["metric"] if m.startswith("pass@")}, key=lambda m: int(m[5:]))
    for metric in [*passes[-1:], *passes[:1], "cliff"]:
        some = rows[rows["metric"] == metric].set_index("step")
        if last not in some.index or pd.isna(some.loc[last, "value"]):
            continue
        name, now = "cliffs" if metric == "cliff" else metric, some.loc[last]
        before = (
            f"{per_cent(some.loc[0, 'value'])} → "
            if last and 0 in some.index and pd.notna(some.loc[0, "value"])
            else ""
        )
        interval = f" ({100 * now['low']:.0f} to {100 * now['high']:.0f})" if pd.notna(now["low"]) else ""
        parts.append(f"{name} {before}{per_cent(now['value'])}{interval}")
    start = f"{label}, step {last}" if label else f"Step {last}"
    return f"{start}: {joined(list(dict.fromkeys(parts)))}." if parts else f"{start}: not measured."


# --- regimes ----------------------------------------------------------------------------------------------------------


def regimes(counts: pd.DataFrame) -> str:
    """counts: `figures.cliffs.count_regimes`."""
    total = int(counts["prompts"].sum()) if len(counts) else 0
    if not total:
        return "No prompt has been scanned yet."
    row = counts.set_index("kind").loc["cliff"]
    if not row["prompts"]:
        return f"None of {total} prompts is a cliff: GRPO has something to learn from, or nothing left to learn."
    return (
        f"{row['prompts']:.0f} of {total} prompts are cliffs ({per_cent(row['share'])}, {100 * row['low']:.0f} to "
        f"{100 * row['high']:.0f}): from them GRPO learns nothing."
    )


def gradient(rollouts: pd.DataFrame) -> str:
    """What each prompt's rewards come to. rollouts: `components.gradient.frame_of`."""
    parts = []
    for name, rows in rollouts.groupby("prompt", sort=False):
        norm, right = rows["grad_norm"].iloc[0], rows["reward"].sum()
        by_hand = " by hand" if (rows["reward"] != rows["sampled"]).any() else ""
        if not rows["advantage"].any():
            says = f"every advantage is 0{' and so is the gradient' if norm == 0 else ''}"
        else:
            says = "its gradient is being measured" if pd.isna(norm) else f"gradient norm {norm:.2g}"
        parts.append(f"{name}, {right:.0f} of {len(rows)} right{by_hand}: {says}.")
    return " ".join(parts)


def by_hand(steps: pd.DataFrame, lam: float, size: float) -> str:
    """What one step at this λ does, beside GRPO's own. steps: `components.by_hand.frame_of`."""
    at = steps[steps["size"] == size].set_index("lambda")
    before, alone, both = (
        f"{100 * p:.1f} %" for p in (at["token_before"][lam], at["token_after"][0.0], at["token_after"][lam])
    )
    grpo = "GRPO alone moves nothing" if at["norm_grpo"][lam] == 0 else f"GRPO alone takes it to {alone}"
    was, now = (f"{at[f'mean_logp_{when}'][lam]:.2f}".replace("-", "−") for when in ("before", "after"))
    moves = "goes" if at["mean_logp_after"][lam] >= at["mean_logp_before"][lam] else "falls, by too long a step,"
    trace = f"The whole trace {moves} from {was} to {now} nats a token."
    return f"Right token {before}: a step of α = {size:g} at λ = {lam:g} takes it to {both}; {grpo}. {trace}"


# --- the gap ----------------------------------------------------------------------------------------------------------


def gap(probe: pd.DataFrame) -> str:
    """How far the gap on privileged traces moved, drifting teacher."""
    rows = probe[(probe["on"] == "privileged") & (probe["metric"] == "kl_drifting")] if len(probe) else probe
    if rows.empty:
        return "No privileged trace was measured, so nothing can be said of the gap there."
    parts = []
    for label, some in by_run(rows.sort_values("step")):
        first, last = some.iloc[0], some.iloc[-1]
        now = (
            f"{last['value']:.2f} ({last['low']:.2f} to {last['high']:.2f})"
            if pd.notna(last["low"])
            else f"{last['value']:.2f}"
        )
        moved_by = f"{first['value']:.2f} → {now}" if last["step"] > first["step"] else now
        parts.append(with_label(moved_by, label))
    until = int(rows["step"].max())
    when = f"step 0 to {until}" if until else "before training"
    return f"Gap on privileged traces in nats per token, {when}: {joined(parts)}."


def gap_left(probe: pd.DataFrame) -> str:
    """The same for a lecture hall: which share of the gap before training is left."""
    rows = probe[(probe["on"] == "privileged") & (probe["metric"] == "kl_drifting")] if len(probe) else probe
    parts, until = [], 0
    for label, some in by_run(rows.sort_values("step")) if len(rows) else ():
        first, last = some.iloc[0], some.iloc[-1]
        until = max(until, int(last["step"]))
        if last["step"] > first["step"] and first["value"] > 0:
            parts.append(with_label(per_cent(last["value"] / first["value"]), label))
    return f"What is left of the gap at step {until}: {joined(parts)}." if parts else ""


def trace(tokens: pd.DataFrame, before: int, after: int) -> str:
    """Where on one trace the gap lies, and what became of it. tokens: `workbench.data.gap.of_trace`; before, after: steps."""
    total = tokens["before"].sum() if len(tokens) else 0.0
    if not total > 0:
        return "This trace has no gap."
    widest = tokens.loc[tokens["before"].idxmax()]
    few = int((tokens["before"].sort_values(ascending=False).cumsum() < 0.5 * total).sum()) + 1
    half = f"Half of the gap of this {widest['on']} trace lies on {few} of {len(tokens)} tokens"
    then = f"{widest['before']:.2f} nats at step {before} and {widest['after']:.2f} at step {after}"
    return f"{half}; it is widest at token {widest['position'] + 1}, {widest['token']!r}: {then}."


def positions(before: pd.DataFrame, after: pd.DataFrame) -> str:
    """How few tokens carry the gap before training."""
    means = position_means(before, after)
    some = means[(means["on"] == "privileged") & (means["when"] == "before") & (means["metric"] == "kl_drifting")]
    if some.empty or not some["value"].sum():
        return "No privileged trace has a gap by token."
    weights = (some["value"] * some["n_traces"]).sort_values(ascending=False)
    few = int((weights.cumsum() < 0.5 * weights.sum()).sum()) + 1
    peak = int(some.loc[some["value"].idxmax(), "position"])
    return (
        f"Half of the gap before training lies on {few} of {len(some)} token positions; it is highest at token {peak}."
    )


def pull(tokens: pd.DataFrame) -> str:
    """At the token that the student least expects, how hard each divergence pulls. tokens: as `figures.gap.pull` takes them."""
    known = tokens.dropna(subset="q")
    if known.empty:
        return "The student's probability of these tokens is too small to be listed."
    least = known.loc[known["q"].idxmin()]
    jsd, forward = pull_of(float(least["q"])).values()
    return (
        f"At {least['token']!r}, which the student gives {least['q']:.2g}, JSD pulls with {jsd:.2g} and forward KL with {forward:.2g}: "
        f"{forward / jsd:.0f} times as hard."
    )


def bounds(tokens: pd.DataFrame, vocabulary: int | None) -> str:
    if tokens.empty:
        return "This run has no gap measured by token."
    facts = bound_facts(tokens, vocabulary).to_dict("records")
    broken = sum(f["broken"] for f in facts)
    holds = (
        "Both bounds hold on every"
        if not broken
        else f"A bound is broken on {broken} of {len(tokens)} tokens: both should hold on every"
    )
    if not vocabulary:
        return f"{holds} one of {len(tokens)} tokens."
    empty = [f"{per_cent(f['vacuous'] / f['tokens'])} ({f['bound'].partition(':')[0]})" for f in facts]
    return f"{holds} one of {len(tokens)} tokens, and say nothing (above ln V) on {joined(empty)} of them."


def mismatch(probe: pd.DataFrame) -> str:
    rows = probe[(probe["metric"] == "mismatch") & (probe["on"] == "privileged")] if len(probe) else probe
    if rows.empty:
        return "The frozen teacher was not measured."
    last = {label: some.sort_values("step").iloc[-1]["value"] for label, some in by_run(rows)}
    parts = [with_label(f"{value:.1f}", label) for label, value in last.items()]
    return f"Logits between the frozen teacher and the student's own weights at step {int(rows['step'].max())}: {joined(parts)}."


# --- the tradeoff -----------------------------------------------------------------------------------------------------


def changes(differences: pd.DataFrame, when: str) -> str:
    """What each arm changed against λ = 0, coverage first. differences: `tradeoff.differences`."""
    if differences.empty:
        return "No pair here: it takes a run with λ = 0 and one with λ > 0, same seed and settings."
    return " ".join(against_grpo(arm, rows, when) for arm, rows in differences.groupby("arm", sort=False))


def arms(points: pd.DataFrame, differences: pd.DataFrame, when: str, x: str, y: str) -> str:
    """Which arm's mean covers most and which is most accurate, and what the former gains on λ = 0, with its interval. Whether
    two arms above 0 differ is not told: nothing here tests it."""
    if points.empty:
        return "No run here was evaluated at this moment."
    means = points.groupby("arm", sort=False)[["x", "y"]].mean()
    if len(means) == 1:
        arm, at = means.index[0], means.iloc[0]
        return f"{arm} at {when}: {x} {per_cent(at['x'])}, {y} {per_cent(at['y'])}; another λ beside it would make a comparison."
    wide, sharp = leading(means["y"]), leading(means["x"])
    most, finest = f"{y} {per_cent(means['y'].max())}", f"{x} {per_cent(means['x'].max())}"
    if len(wide) == len(sharp) == len(means):
        return f"The same means at {when} for {joined(wide)}: {most}, {finest}."
    rows = (
        differences[differences["arm"].isin(wide) & (differences["metric"] == y)] if len(differences) else differences
    )
    gain = f"; {points_of(rows.iloc[0])} points against λ = 0" if len(rows) and len(wide) == 1 else ""
    return f"Highest means at {when}: coverage {together(wide)} ({most}{gain}), accuracy {together(sharp)} ({finest})."


def cost(ratios: Mapping[str, float], equal: pd.DataFrame) -> str:
    """What each arm's λ cost in tokens, and what it gains where they are held equal. Both of `tradeoff.costs`.

    >>> cost({"λ = 0.3": 1.42}, pd.DataFrame())
    'The cost by then, in tokens of λ = 0: 1.4 × with λ = 0.3.'
    """
    if not ratios:
        return ""
    times = [f"{ratio:.1f} × with {arm}" for arm, ratio in ratios.items()]
    gains = [f"{points_of(row)} with {row['arm']}" for _, row in equal.iterrows()]
    left = f" At equal tokens {equal['metric'].iloc[0]}, in points: {joined(gains)}." if gains else ""
    return f"The cost by then, in tokens of λ = 0: {joined(times)}.{left}"


def leading(means: pd.Series) -> list[str]:
    """Whose mean is highest, all of them where several share it.

    >>> leading(pd.Series({"λ = 0": 0.5, "λ = 0.3": 0.5, "λ = 3": 0.1}))
    ['λ = 0', 'λ = 0.3']
    """
    return [str(name) for name in means.index[means >= means.max() - 1e-9]]


def together(names: Sequence[str]) -> str:
    """
    >>> together(["λ = 0"]), together(["λ = 0", "λ = 3"])
    ('λ = 0', 'λ = 0 and λ = 3 alike')
    """
    return f"{joined(names)} alike" if len(names) > 1 else names[0]


def curves(table: pd.DataFrame) -> str:
    """Which arm leads at which k. table: `tradeoff.pass_k_table`."""
    if table.empty:
        return "No counts by problem at this step."
    means = table.pivot_table(index="k", columns="arm", values="value", sort=False)
    if means.shape[1] < 2:
        return f"{means.columns[0]}: pass@1 {per_cent(means.iloc[0, 0])}, pass@{means.index[-1]} {per_cent(means.iloc[-1, 0])}."
    leaders = means.apply(lambda row: together(leading(row)), axis=1)
    if (means.max(axis=1) - means.min(axis=1)).max() < 1e-9:
        return f"{joined(list(means.columns))} have the same mean at every k."
    runs = leaders.ne(leaders.shift()).cumsum()
    parts = []
    for _, part in leaders.groupby(runs):
        low, high = part.index[0], part.index[-1]
        parts.append(f"{part.iloc[0]} at k = {low}" if low == high else f"{part.iloc[0]} from k = {low} to {high}")
    return f"The highest mean has {joined(parts)}; whether a lead is more than noise stands under Differences."


def levels(table: pd.DataFrame, metric: str) -> str:
    """Where the largest λ > 0 gain in coverage over λ = 0 lies. table: `tradeoff.level_table`."""
    some = table[table["metric"] == metric] if len(table) else table
    if some.empty:
        return "These problems have no levels."
    means = some.pivot_table(index="level", columns="lambda", values="value", sort=True)
    if 0.0 not in means.columns or means.shape[1] < 2:
        best, worst = means.iloc[:, 0].idxmax(), means.iloc[:, 0].idxmin()
        return f"{metric} is highest at level {best} ({per_cent(means.iloc[:, 0].max())}) and lowest at level {worst} ({per_cent(means.iloc[:, 0].min())})."
    gains = means.drop(columns=0.0).sub(means[0.0], axis=0).stack()
    level, lam = gains.idxmax()
    if gains.max() < 5e-3:
        return f"No λ gains {metric} over λ = 0 at any level (means; no interval)."
    return f"The largest gain in {metric} over λ = 0 lies at level {level}: {100 * gains.max():+.0f} points with λ = {lam:g} (means; no interval)."
