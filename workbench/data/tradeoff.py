"""What the page Tradeoff compares: which runs may stand side by side, their points, and paired differences.

Runs are compared only where the measured part of their fingerprints is one and the same (older runs have none: there the
settings must do, and the page says so); arms only where every setting but λ and seed is. The prompt is the unit of an interval, the training seed a second level (`hdpo.evidence.stats`). Rates are
fractions. No Streamlit here.

This file is long: which runs may be compared, and how, is one question.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from hdpo.config import TrainConfig, knobs
from hdpo.evidence.stats import (
    FEWEST,
    Detectable,
    Spread,
    detectable_again,
    mean_pass_at_k,
    pass_at_k,
    seeds_difference,
    spread_of,
    verdict_words,
)
from hdpo.record import fingerprint as prints
from hdpo.record.fingerprint import MEASURED, UNKNOWN, Fingerprint, comparison_words, spoken
from hdpo.record.folder import Run
from hdpo.records import GroupKind
from workbench.data import catalog
from workbench.data.basis import At, moments, spent, step_of

LOWER = "pass@1, lower levels"
VERDICTS = ("λ", "against λ = 0", "verdict", "interval (points)", "seeds", "problems")
NOT_MEASURED = {"value": float("nan")}
X_CHOICES = ("pass@1", LOWER, "greedy")

# What decides for a run without a fingerprint whether its numbers measure the same: these sections, and some of the rest.
SECTIONS = ("data", "sampling", "evaluation")
NOT_MEASURE = {"eval_every", "probe_cliffs"}
MEASURE = (
    *(k.name for k in knobs(TrainConfig()) if k.path[0] in SECTIONS and k.name not in NOT_MEASURE),
    *("model", "adapter", "dtype", "student", "prefix"),
)
# What does not change a training step, or is not part of an arm. With constant learning rate `steps` only says when to end.
NOT_ARM = {
    "lambda_",
    "seed",
    "steps",
    "device",
    "processes",
    "micro_batch_tokens",
    "checkpoint_every",
    "eval_every",
    "probe_cliffs",
    "stop_on_collapse",
}
# What only the distillation term reads: at λ = 0 these settings do nothing.
ONLY_JSD = {
    "distilled",
    "traces",
    "teacher_reads",
    "weight",
    "first_steps",
    "teacher",
    "divergence",
    "topk",
    "privileged_rollouts",
    "max_cliffs",
    "privileged",
    "information",
    "fraction",
}


def settings(run: Run) -> dict[str, Any]:
    """Every setting of a train run by name. Raises HdpoError where its config cannot be read."""
    return read_settings(str(run.path), catalog.stamp(run.path / "config.json"))


@lru_cache(maxsize=500)
def read_settings(path: str, at: catalog.Stamp) -> dict[str, Any]:
    config: TrainConfig = Run(Path(path)).load_config()
    return {k.name: k.default for k in knobs(config)}


def fingerprint(run: Run) -> Fingerprint:
    """What a run's numbers were made of; unknown in older runs."""
    return read_identity(str(run.path), catalog.stamp(run.path / "config.json"))[0]


@lru_cache(maxsize=500)
def read_identity(path: str, at: catalog.Stamp) -> tuple[Fingerprint, str]:
    """Fingerprint and version of the code."""
    run = Run(Path(path))
    return run.fingerprint, str(run.frozen().get("versions", {}).get("hdpo", "unknown"))


def measure_of(run: Run) -> tuple[Any, ...]:
    """Equal where two runs may be compared: the measured fields, and the settings where one of these is unknown."""
    known = tuple(getattr(fingerprint(run), name) for name in MEASURED)
    s = settings(run)
    return (known, tuple(s[name] for name in MEASURE) if UNKNOWN in known else None)


def refusal(run: Run, other: Run) -> str:
    """Why two runs of different sets are not compared, with the fields named."""
    apart, unknown = prints.differences(fingerprint(run), fingerprint(other))
    if unknown and not apart:
        apart = tuple(name for name in MEASURE if settings(run)[name] != settings(other)[name])
    return f"they differ in {spoken(apart)}" if apart else f"one of them does not say its {spoken(unknown)}"


def refusals(sets: dict[str, list[Run]], chosen: str) -> list[str]:
    """One part of a sentence for each other set."""
    first = sets[chosen][0]
    return [f"{label}: {refusal(first, members[0])}" for label, members in sets.items() if label != chosen]


def identity_words(runs: Sequence[Run]) -> str:
    """By what these runs count as measured alike, and the code that made them."""
    codes = dict.fromkeys(read_identity(str(r.path), catalog.stamp(r.path / "config.json"))[1] for r in runs)
    return f"{comparison_words(fingerprint(runs[0]), fingerprint(runs[-1]))} Code: {', '.join(codes)}."


def comparable_sets(runs: Sequence[Run]) -> dict[str, list[Run]]:
    """Label → train runs that are `worth_drawing` and whose `measure_of` is equal; in the order of `runs`, so that with own runs
    before recorded ones the newest own run comes first. Of the recorded sets the default problem mix comes first.

    The label names problem set, split, n and T; sets that differ in something else are numbered.
    """
    found: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        if worth_drawing(run):
            found.setdefault(measure_of(run), []).append(run)
    usual = TrainConfig().data.problems
    ordered = sorted(
        found.values(), key=lambda m: m[0].recorded + (m[0].recorded and settings(m[0])["problems"] != usual)
    )
    labelled: dict[str, list[Run]] = {}
    for members in ordered:
        words = measure_words(members[0])
        same = sum(known == words or known.startswith(f"{words} (") for known in labelled)
        labelled[f"{words} ({same + 1})" if same else words] = members
    return labelled


def worth_drawing(run: Run) -> bool:
    """Evaluated, and beyond step 0 unless it still goes on: a run that ended before would hold all others at step 0."""
    evaluated = [r["step"] for r in catalog.rows_of(run, "eval")]
    return bool(evaluated) and (max(evaluated) > 0 or not run.status().state.ended)


def measure_words(run: Run) -> str:
    """What a run was measured on."""
    row, s = catalog.rows_of(run, "eval")[0], settings(run)
    words = f"{Path(s['problems']).name} {s['eval_split']} · {row['n_problems']} problems · n {row['n_samples']}"
    model = [] if s["model"] == "bundled" else [Path(s["model"]).name]
    return " · ".join([words, f"T {s['temperature']:g}", *model])


def describe(runs: Sequence[Run]) -> pd.DataFrame:
    """One row a run: run (id), arm, lambda, seed, recorded. The arm is λ and whatever else differs among these runs."""
    all_settings = {run.id: settings(run) for run in runs}
    varied = [
        name
        for name in next(iter(all_settings.values()), {})
        if name not in NOT_ARM and len({str(s[name]) for s in relevant(all_settings, name)}) > 1
    ]
    rows = []
    for run in runs:
        s = all_settings[run.id]
        more = [word(name, s[name]) for name in varied if s["lambda_"] > 0 or name not in ONLY_JSD]
        arm = " · ".join([f"λ = {s['lambda_']:g}", *more])
        rows.append({"run": run.id, "arm": arm, "lambda": s["lambda_"], "seed": s["seed"], "recorded": run.recorded})
    return pd.DataFrame(rows, columns=["run", "arm", "lambda", "seed", "recorded"])


def relevant(all_settings: dict[str, dict[str, Any]], name: str) -> list[dict[str, Any]]:
    """The runs for which this setting does something."""
    return [s for s in all_settings.values() if s["lambda_"] > 0 or name not in ONLY_JSD]


def word(name: str, value: Any) -> str:
    text = str(getattr(value, "value", value))
    return text if name in ("teacher", "divergence", "advantage") else f"{name.replace('_', ' ')} {text}"[:40]


def lower_levels(runs: Sequence[Run]) -> list[int]:
    """The lower half of the problems' levels, the middle one with them; empty where problems have no level.

    Taken from the first run's first evaluation: comparable runs share their problems.
    """
    for run in runs:
        for step in catalog.table_steps(run, "eval"):
            levels = sorted({int(v) for v in catalog.eval_counts(run, step)["level"].dropna()})
            return levels[: (len(levels) + 1) // 2]
    return []


def coverage(runs: Sequence[Run]) -> str:
    """The metric that stands for coverage: pass@k with the largest k that these runs measured, pass@8 by default."""
    return f"pass@{max(max(settings(run)['ks']) for run in runs)}"


def x_title(x: str, runs: Sequence[Run]) -> str:
    """The name of the horizontal axis."""
    if x != LOWER:
        return f"accuracy: {x}"
    levels = lower_levels(runs)
    return f"accuracy: pass@1 on levels {levels[0]} to {levels[-1]}" if levels else "no levels here"


def short(label: str) -> str:
    """A key that lasts for one set of runs."""
    return f"{zlib.crc32(label.encode()):08x}"


def counts(run: Run, step: int, levels: Sequence[int] = ()) -> pd.DataFrame:
    """The problems that an evaluation counts, indexed by problem_id; only those of `levels` where some are given.

    As in the engine's own means: gold parsable, prompt fits, graded samples at least twice the largest k.
    """
    path = run.tables("eval").get(step)
    frame = read_counts(run, step, catalog.stamp(path) if path else (0, 0))
    return frame[frame["level"].isin(levels)] if levels else frame


@lru_cache(maxsize=400)
def read_counts(run: Run, step: int, at: catalog.Stamp) -> pd.DataFrame:
    frame = catalog.eval_counts(run, step)
    left_out = ~frame["kind"].map(lambda kind: GroupKind(kind).is_measured)
    return frame[~left_out & (frame["n"] >= 2 * max(settings(run)["ks"]))].set_index("problem_id")


def count_pairs(frame: pd.DataFrame) -> list[tuple[int, int]]:
    """(n, correct) of each problem."""
    return [(int(n), int(c)) for n, c in zip(frame["n"], frame["correct"], strict=True)]


def per_problem(run: Run, step: int, metric: str, levels: Sequence[int] = ()) -> pd.Series:
    """problem_id → value of one metric: 'pass@k', LOWER (pass@1 of `levels`), 'greedy', or 'cliff' (1 where none is correct)."""
    if metric == LOWER and not levels:
        return pd.Series(dtype=float)
    frame = counts(run, step, levels if metric == LOWER else ())
    if metric == "greedy":
        return frame["greedy"].dropna().astype(float)
    if metric == "cliff":
        return (frame["correct"] == 0).astype(float)
    k = 1 if metric == LOWER else int(metric.removeprefix("pass@"))
    values = [pass_at_k(n, c, k) for n, c in count_pairs(frame)]
    return pd.Series(values, index=frame.index, dtype=float)


def measured(run: Run, step: int, metric: str, levels: Sequence[int]) -> dict[str, float] | None:
    """value, low, high of one metric of one evaluation, None where it was not measured."""
    if metric == LOWER:
        frame = counts(run, step, levels) if levels else pd.DataFrame()
        if frame.empty:
            return None
        e = mean_pass_at_k(count_pairs(frame), 1)
        return {"value": e.value, "low": e.low, "high": e.high}
    return read_evaluations(str(run.path), catalog.stamp(run.path / "metrics.jsonl")).get(step, {}).get(metric)


@lru_cache(maxsize=100)
def read_evaluations(path: str, at: catalog.Stamp) -> dict[int, dict[str, dict[str, float]]]:
    """Step → metric → value, low, high."""
    return {int(r["step"]): dict(catalog.measured(r)) for r in catalog.rows_of(Run(Path(path)), "eval")}


def points(runs: Sequence[Run], at: At, x: str) -> pd.DataFrame:
    """One row a run with coverage (y) against accuracy (x) at this moment: describe's columns, step, x, y, their low and high,
    base_x, base_y.

    The base is the run's own evaluation at step 0. Runs without x or y at this step are left out.
    """
    return paths(runs, [at], x).drop(columns="moment", errors="ignore")


def paths(runs: Sequence[Run], moments: Sequence[At], x: str) -> pd.DataFrame:
    """`points` at each of these moments, numbered in the column `moment`."""
    levels, pair, rows = lower_levels(runs), (x, coverage(runs)), []
    for facts, run in zip(describe(runs).to_dict("records"), runs, strict=True):
        base = [(measured(run, 0, metric, levels) or NOT_MEASURED)["value"] for metric in pair]
        for number, at in enumerate(moments):
            step = step_of(run, at)
            at_x, at_y = (measured(run, step, metric, levels) for metric in pair)
            if at_x and at_y:
                ends = {"x": at_x["value"], "x_low": at_x["low"], "x_high": at_x["high"]}
                ends |= {"y": at_y["value"], "y_low": at_y["low"], "y_high": at_y["high"]}
                rows.append({**facts, "step": step, **ends, "base_x": base[0], "base_y": base[1], "moment": number})
    return pd.DataFrame(rows)


def pass_k_table(runs: Sequence[Run], at: At) -> pd.DataFrame:
    """pass@k for every k up to half of the samples, a row a run and k: describe's columns, k, value, low, high."""
    rows = []
    for facts, run in zip(describe(runs).to_dict("records"), runs, strict=True):
        step = step_of(run, at)
        pairs = count_pairs(counts(run, step))
        for k in range(1, min((n for n, _ in pairs), default=0) // 2 + 1):
            e = mean_pass_at_k(pairs, k)
            rows.append({**facts, "step": step, "k": k, "value": e.value, "low": e.low, "high": e.high})
    return pd.DataFrame(rows)


def level_table(runs: Sequence[Run], at: At) -> pd.DataFrame:
    """Every metric by level, a row a run, level and metric: describe's columns, level, metric, value, low, high, n_problems."""
    parts = []
    for facts, run in zip(describe(runs).to_dict("records"), runs, strict=True):
        slices = catalog.slices_frame(run, "level")
        some = slices[slices["step"] == step_of(run, at)].drop(columns="run").rename(columns={"slice": "level"})
        parts.append(some.assign(**facts))
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame()


def differences(runs: Sequence[Run], at: At, metrics: Sequence[str]) -> pd.DataFrame:
    """Each arm with λ > 0 against λ = 0 at this moment, paired by problem and seed: arm, lambda, metric, value, low, high, words, seeds,
    n_seeds, n_problems (those that all runs of the comparison share).

    An arm without a λ = 0 run of the same seed and settings has no row.
    """
    facts = describe(runs)
    levels = lower_levels(runs)
    rows = []
    for arm, pairs in paired_arms(runs).items():
        lam = facts.loc[facts["arm"] == arm, "lambda"].iloc[0]
        names = {"arm": arm, "lambda": lam, "seeds": ", ".join(str(s) for s in pairs)}
        for metric in metrics:
            values, problems = paired_values(list(pairs.values()), at, metric, levels)
            if not problems:
                continue
            e = seeds_difference(*values)
            row = {"metric": metric, "value": e.value, "low": e.low, "high": e.high, "words": verdict_words(e)}
            rows.append({**names, **row, "n_seeds": len(pairs), "n_problems": problems})
    return pd.DataFrame(rows)


def costs(runs: Sequence[Run], at: At) -> tuple[dict[str, float], pd.DataFrame]:
    """Arm → its sampled tokens up to this step, as a multiple of its λ = 0 partners'; and the differences in coverage where
    all have sampled as many as the most frugal run had by then. Empty before training, and where something else than the
    step is held equal."""
    pairs = paired_arms(runs)
    if not isinstance(at, int) or not at or not pairs:
        return {}, pd.DataFrame()
    by_then = {run.id: spent(run, "tokens").get(at, 0) for run in runs}
    sums = {arm: [sum(by_then[p[side].id] for p in of.values()) for side in (0, 1)] for arm, of in pairs.items()}
    equal = moments(runs, "tokens").get(min(by_then.values()))
    changed = differences(runs, equal, (coverage(runs),)) if equal is not None else pd.DataFrame()
    return {arm: ours / theirs for arm, (ours, theirs) in sums.items() if theirs}, changed


def paired_arms(runs: Sequence[Run]) -> dict[str, dict[int, tuple[Run, Run]]]:
    """Arm with λ > 0, by λ → its `paired_runs`; arms without a partner are not in it."""
    facts = describe(runs).sort_values("lambda", kind="stable")
    arms = facts[facts["lambda"] > 0].groupby("arm", sort=False)["run"].apply(set)
    found = {str(arm): paired_runs([r for r in runs if r.id in ids], runs) for arm, ids in arms.items()}
    return {arm: pairs for arm, pairs in found.items() if pairs}


def paired_values(
    pairs: Sequence[tuple[Run, Run]], at: At, metric: str, levels: Sequence[int]
) -> tuple[tuple[list[np.ndarray], list[np.ndarray]], int]:
    """Per-problem values of both arms, an array a seed each, and the number of problems, which all these runs share."""
    found = [[per_problem(run, step_of(run, at), metric, levels) for run in pair] for pair in pairs]
    common = found[0][0].index
    if not all(v.index.equals(common) for pair in found for v in pair):
        common = pd.Index(sorted(set.intersection(*(set(v.index) for pair in found for v in pair))))
        found = [[v[common] for v in pair] for pair in found]
    first, second = ([pair[side].to_numpy() for pair in found] for side in (0, 1))
    return (first, second), len(common)


def paired_runs(treated: Sequence[Run], runs: Sequence[Run]) -> dict[int, tuple[Run, Run]]:
    """seed → (run, its λ = 0 partner): same seed, same training problems as far as known, and same settings but for λ and
    what only distillation reads.

    Of several runs with one seed the first counts: a repetition is no further seed.
    """
    found: dict[int, tuple[Run, Run]] = {}
    plain = [(other, o) for other in runs if (o := settings(other))["lambda_"] == 0]
    for run in treated:
        s = settings(run)
        for other, o in plain:
            if o["seed"] != s["seed"] or s["seed"] in found:
                continue
            alike = all(o[n] == v for n, v in s.items() if n not in NOT_ARM | ONLY_JSD)
            if alike and not prints.differences(fingerprint(run), fingerprint(other), ("training_problems",))[0]:
                found[s["seed"]] = (run, other)
    return dict(sorted(found.items()))


def varied_before(runs: Sequence[Run], metric: str) -> tuple[Spread, str] | None:
    """How the metric varied over the best repeated pairs among these runs, at their last shared step, and a name for them."""
    return read_varied(tuple(runs), metric, tuple(catalog.stamp(run.path / "metrics.jsonl") for run in runs))


@lru_cache(maxsize=50)
def read_varied(runs: tuple[Run, ...], metric: str, at: tuple[catalog.Stamp, ...]) -> tuple[Spread, str] | None:
    found: list[tuple[int, int, Spread, str]] = []
    for members in comparable_sets(runs).values():
        for arm, pairs in paired_arms(members).items():
            step = list(moments([run for pair in pairs.values() for run in pair], "steps"))[-1:]
            values, problems = paired_values(list(pairs.values()), step[0], metric, ()) if step and step[0] else ((), 0)
            if problems >= FEWEST:
                words = f"{arm} against 0 at step {step[0]} ({problems} problems, seeds: {len(pairs)})"
                found.append((len(pairs), -len(found), spread_of(*values), words))
    return max(found, key=lambda f: f[:2])[2:] if found else None


def unpaired_arms(runs: Sequence[Run]) -> list[str]:
    """Arms with λ > 0 for which no λ = 0 run of the same seed and settings is among these runs."""
    facts, paired = describe(runs), paired_arms(runs)
    return [str(arm) for arm in facts.loc[facts["lambda"] > 0, "arm"].unique() if arm not in paired]


def verdicts(frame: pd.DataFrame) -> pd.DataFrame:
    """`differences` as a person reads it, columns VERDICTS; with one seed it says what is not covered."""
    if frame.empty:
        return pd.DataFrame(columns=list(VERDICTS))
    one_seed = frame["n_seeds"].map(lambda n: "" if n > 1 else ", one seed: training noise is not covered")
    seeds = [f"{n} (seed{'s' if n > 1 else ''} {s})" for n, s in zip(frame["n_seeds"], frame["seeds"], strict=True)]
    both = zip(frame["low"], frame["high"], strict=True)
    ends = [f"{100 * low:+.1f} to {100 * high:+.1f}".replace("-", "−") for low, high in both]
    table = frame.assign(verdict=frame["words"] + one_seed, seeds=seeds, **{"interval (points)": ends})
    table["arm"] = table["arm"].str.removeprefix("λ = ")
    return table.rename(columns={"arm": "λ", "metric": "against λ = 0", "n_problems": "problems"})[list(VERDICTS)]


def detectable_words(runs: Sequence[Run], at: At) -> str:
    """From which true difference on each arm's comparison shows one (80 % power), by the pairs that its intervals come from."""
    words, levels, one_seed = [], lower_levels(runs), False
    for arm, pairs in paired_arms(runs).items():
        parts = []
        for metric in dict.fromkeys(("pass@1", coverage(runs))):
            values, problems = paired_values(list(pairs.values()), at, metric, levels)
            if problems:
                found = detectable_again(*values)
                parts.append(told(found, metric))
                one_seed |= len(pairs) == 1
        words += [f"{arm}: {', '.join(parts)}"] if parts else []
    if not words:
        return "Without a λ = 0 run of the same seed, with counts, nothing can be said about what this comparison can detect."
    extra = " One seed: training noise is not in it." if one_seed else ""
    return f"The smallest true difference that would show here, 80 times in 100: {'; '.join(words)}.{extra}"


def told(found: Detectable, metric: str) -> str:
    """
    >>> told(Detectable(0.051), "pass@1"), told(Detectable(None, "5 problems are too few"), "pass@8")
    ('5.1 points of pass@1', 'pass@8 cannot be told (5 problems are too few)')
    """
    if found.value is None:
        return f"{metric} cannot be told ({found.reason})"
    return f"{100 * found.value:.1f} points of {metric}"


def best_and_final(runs: Sequence[Run]) -> pd.DataFrame:
    """Per run and metric the last value beside the best over training, which is a maximum over noisy evaluations."""
    rows = []
    for facts, run in zip(describe(runs).to_dict("records"), runs, strict=True):
        evals = catalog.evals_frame(run)
        for metric in [f"pass@{k}" for k in settings(run)["ks"]]:
            some = evals[(evals["metric"] == metric) & evals["value"].notna()].sort_values("step")
            if some.empty:
                continue
            last, best = some.iloc[-1], some.loc[some["value"].idxmax()]
            ends = {"final": last["value"], "final_step": int(last["step"])}
            ends |= {"best": best["value"], "best_step": int(best["step"]), "evaluations": len(some)}
            rows.append({**facts, "metric": metric, **ends})
    return pd.DataFrame(rows).sort_values(["lambda", "arm", "metric", "seed"]) if rows else pd.DataFrame()
