"""Run folders with the engine's rows and made-up numbers, written by the real RunWriter: what pages are tested on.

Everything follows from (λ, seed, step), so a test can name the value it expects.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from streamlit.testing.v1 import AppTest

from hdpo.config import ScanConfig, SweepConfig, TrainConfig, replace_knobs
from hdpo.data.problems import bundled as read_bundled
from hdpo.record.files import write_aside
from hdpo.record.folder import RunWriter, State
from hdpo.records import Group, Outcome, Problem, Rollout

APP = Path(__file__).resolve().parents[1] / "workbench" / "app.py"
bundled = lru_cache(read_bundled)
LEVELS = (1, 2, 3, 4, 5)
PROMPTS, ROLLOUTS = 8, 4


def open_page(page: str, **query: str) -> AppTest:
    """A page of the app, from its entry point, run once with these query parameters."""
    at = AppTest.from_file(str(APP), default_timeout=30)
    if page != "overview":
        at = at.run().switch_page(f"../pages/{page}.py")
    for name, value in query.items():
        at.query_params[name] = value
    return at.run()


def figures(at: AppTest) -> dict[str, Any]:
    """The figures of a page, by their key, as they were sent to the browser: plotly's data and layout, a picture's data."""
    plots = {figure_key(e.proto.id): json.loads(e.proto.spec) for e in at.get("plotly_chart")}
    pictures = [
        e.proto
        for e in at.get("bidi_component")
        if e.proto.component_name not in ("hdpo_theme", "hdpo_save", "hdpo_stage")
    ]
    return plots | {figure_key(p.id): json.loads(p.json) for p in pictures}


def figure_key(element_id: str) -> str:
    """The key in a widget id, "$$ID-<hash>-<key>"."""
    return element_id.split("-", 2)[2]


def fake_train_run(
    root: Path, lam: float = 0.3, steps: int = 4, state: State = State.DONE, seed: int = 0, cliffs: int = 3
) -> Path:
    """A training run of `steps` steps of 8 × 4, evaluated at step 0, every second step and the last. Returns its folder.

    cliffs: cliffs a step; one of them stays without an accepted rollout. A state other than done leaves 10 steps asked for.
    """
    total = steps if state is State.DONE else 10
    values = {
        "lambda_": lam,
        "seed": seed,
        "steps": total,
        "prompts_per_step": PROMPTS,
        "rollouts": ROLLOUTS,
        "eval_every": 2,
    }
    config = replace_knobs(TrainConfig(), values)
    command = f"python -m hdpo train --lambda {lam:g} --steps {total}"
    writer = RunWriter.create("train", config, root=root, name=f"λ = {lam:g}, seed {seed}", command=command)
    evaluate_at(writer, 0, lam)
    for step in range(1, steps + 1):
        writer.metric("step", step, **step_row(step, lam, cliffs))
        write_step_rollouts(writer, step)
        if step % 2 == 0 or step == steps:
            evaluate_at(writer, step, lam)
    writer.status(state, phase="training", done=steps, total=total, seconds_left=2.0 * (total - steps))
    return writer.path


def fake_pair(root: Path, lam: float = 0.3, steps: int = 4, state: State = State.DONE) -> Path:
    """A sweep over (0, λ) with one seed and both members. Returns the sweep's folder."""
    config = SweepConfig(train=TrainConfig(), lambdas=(0.0, lam), seeds=(0,))
    writer = RunWriter.create("sweep", config, root=root, name="a pair", command="python -m hdpo sweep")
    folders = [fake_train_run(root, value, steps, state) for value in config.lambdas]
    entries = [{"id": f.name, "lambda": v, "seed": 0} for f, v in zip(folders, config.lambdas, strict=True)]
    write_aside(writer.path / "members.json", json.dumps(entries))
    writer.status(state, phase="λ = 0.3, seed 0: training", done=1, total=2)
    return writer.path


def fake_scan_run(root: Path, state: State = State.DONE, problems: int = 12, rollouts: int = 4) -> Path:
    """A scan in parts of 4 problems: problem i has i mod 3 of 3 thirds correct, so a third each is cliff, mixed, solved."""
    config = replace(ScanConfig(split="validation"), rollouts=rollouts)
    writer = RunWriter.create(
        "scan", config, root=root, name="a scan", command="python -m hdpo scan --split validation"
    )
    chosen = bundled("steep", "validation")[:problems]
    fields = ("id", "text", "solution", "answer", "source", "level")
    writer.table("problems", 0, [{f: getattr(p, f) for f in fields} for p in chosen])
    written = chosen if state is State.DONE else chosen[: problems // 2]
    for chunk, start in enumerate(range(0, len(written), 4)):
        groups = [fake_group(p, start + i, rollouts) for i, p in enumerate(written[start : start + 4])]
        writer.rollouts(chunk, groups, "student")
        for g in groups:
            writer.metric("scan_group", chunk, **scan_row(g))
    if state is State.DONE:
        writer.metric("scan", 0, problems=len(written))
    writer.status(state, phase="scanning", done=len(written), total=problems, seconds_left=3.0)
    return writer.path


def fake_group(problem: Problem, number: int, size: int = ROLLOUTS) -> Group:
    """Correct rollouts: none, half or all, by number mod 3; the last wrong one of a cliff is truncated."""
    right = (0, size // 2, size)[number % 3]
    rollouts = []
    for i in range(size):
        outcome = Outcome.CORRECT if i < right else Outcome.TRUNCATED if right == 0 and i == size - 1 else Outcome.WRONG
        answer = problem.answer if outcome is Outcome.CORRECT else "0"
        text = f"worked {i} \\boxed{{{answer}}}"
        rollouts.append(Rollout(problem.id, i, (5, 6, 7), (-0.1, -0.2, -0.3), text, outcome, answer))
    return Group(problem, (1, 2), tuple(rollouts))


def scan_row(g: Group) -> dict[str, Any]:
    outcomes = [r.outcome for r in g.rollouts]
    p = g.problem
    return {
        "problem_id": p.id,
        "source": p.source,
        "level": p.level,
        "group": g.kind.value,
        "doubt": g.doubt.value,
        "n": len(outcomes),
        "correct": outcomes.count(Outcome.CORRECT),
        "truncated": outcomes.count(Outcome.TRUNCATED),
        "no_answer": 0,
        "grader_errors": 0,
        "disputed": "",
    }


def write_step_rollouts(writer: RunWriter, step: int) -> None:
    problems = bundled("steep", "train")[:PROMPTS]
    groups = [fake_group(p, i) for i, p in enumerate(problems)]
    writer.rollouts(step, groups, "student", advantage=[0.0] * (PROMPTS * ROLLOUTS))
    peeked = [fake_group(p, 1) for p in problems[:1]]
    writer.rollouts(
        step, peeked, "privileged", accepted=[r.outcome is Outcome.CORRECT for g in peeked for r in g.rollouts]
    )


def step_row(step: int, lam: float, cliffs: int = 3) -> dict[str, Any]:
    tried = lam > 0 and cliffs > 0
    recovered = cliffs - 1 if tried else 0
    return {
        "lambda": lam,
        "learning_rate": 1e-3,
        "loss": 0.01 * step,
        "loss_grpo": 0.0,
        "loss_jsd": 0.2 / step if tried else 0.0,
        "grad_norm": 1.0 / step,
        "grad_norm_grpo": 0.8 / step,
        "grad_norm_jsd": lam * 0.5 / step if tried else 0.0,
        "reward": 0.4 + 0.01 * step,
        "groups_mixed": 3,
        "groups_solved": 5 - cliffs,
        "groups_cliff_recovered": recovered,
        "groups_cliff_lost": 1 if tried else 0,
        "groups_cliff_skipped": 0 if tried else cliffs,
        "groups_cliff_too_long": 0,
        "groups_doubtful_truncation": min(1, cliffs),
        "groups_doubtful_grader": 0,
        "groups_no_signal": 0,
        "groups_too_long": 0,
        "groups_ungradable": 0,
        "rollouts": PROMPTS * ROLLOUTS,
        "truncated": 2,
        "no_answer": 1,
        "grader_errors": 0,
        "tokens_student": 900,
        "tokens_privileged": 90 if tried else 0,
        "tokens_accepted": 60 if tried else 0,
        "privileged_rollouts": 4 * cliffs if tried else 0,
        "accepted_rollouts": 2 * recovered,
        "length": 28.0,
        "entropy": 0.5 / step,
        "jsd_floor": 0.001 if tried else None,
        "teacher_mass": 0.999 if tried else None,
        "student_mass": 0.998 if tried else None,
        "step_gap": 0.4 / step if tried else None,
        "off_policy": -0.5 / step if tried else None,
        "sampler_mismatch": 1e-6,
        "seconds_sample": 1.0,
        "seconds_verify": 0.1,
        "seconds_privileged": 0.2,
        "seconds_update": 0.7,
        "seconds": 2.0 if lam > 0 else 1.0,
    }


def interval(value: float, half: float = 0.05) -> dict[str, float]:
    return {"value": value, "low": max(0.0, value - half), "high": min(1.0, value + half)}


def shares(step: int, lam: float) -> dict[str, Any]:
    """Of one evaluation: pass@8 grows with λ, all grow with the step."""
    return {
        "n_problems": 40,
        "pass_at": {k: interval(0.4 + 0.01 * step + 0.1 * lam * i) for i, k in enumerate(("1", "4", "8"))},
        "greedy": interval(0.45 + 0.01 * step),
        "cliff": interval(0.4 - 0.01 * step),
        "solved": interval(0.2 + 0.01 * step),
    }


def evaluate_at(writer: RunWriter, step: int, lam: float) -> None:
    row = shares(step, lam)
    slices = {"by_level": {str(n): shares(step, lam) for n in LEVELS}, "by_source": {"sum": shares(step, lam)}}
    facts = {"n_samples": 16, "temperature": 1.0, "length": 28.0, "truncated": 0.02, "ungradable": 0, "seconds": 6.0}
    writer.metric("eval", step, **row, **slices, **facts)
    writer.table("eval", step, [count_row(i, p) for i, p in enumerate(bundled("steep", "validation")[:40])])
    for on in ("privileged", "own"):
        names = (
            "kl_drifting",
            "kl_frozen",
            "jsd_drifting",
            "mismatch",
            "lemma1",
            "range_bound",
            "teacher_mass",
            "student_mass",
        )
        values = {name: interval(0.5 / (step + 1) + 0.01 * i) for i, name in enumerate(names)}
        writer.metric("probe", step, on=on, n_traces=3, n_tokens=9, **values)
    writer.table(
        "gap",
        step,
        [gap_row(trace, at, step, on) for on in ("privileged", "own") for trace in range(3) for at in range(3)],
    )


def count_row(i: int, p: Problem) -> dict[str, Any]:
    correct = (0, 8, 16)[i % 3]
    kind = ("cliff", "mixed", "solved")[i % 3]
    return {
        "problem_id": p.id,
        "level": p.level,
        "source": p.source,
        "kind": kind,
        "doubt": "",
        "n": 16,
        "correct": correct,
        "truncated": 0,
        "no_answer": 0,
        "grader_errors": 0,
        "greedy": int(correct > 0),
        "length": 28.0,
    }


def gap_row(trace: int, at: int, step: int, on: str) -> dict[str, Any]:
    kl = 0.5 / (step + 1) + 0.01 * at
    return {
        "trace": 2 * trace + (on == "own"),  # the pairs of a probe set are numbered through
        "on": on,
        "problem_id": f"steep-val-{trace:04d}",
        "position": at,
        "token_id": 5 + at,
        "token": "x",
        "kl_drifting": kl,
        "jsd_drifting": kl / 4,
        "lemma1": 3.0 + kl,
        "range_bound": 2.0 + kl,
        "kl_frozen": kl * 1.1,
        "mismatch": 0.01 * step,
        "teacher_mass": 0.99,
        "student_mass": 0.98,
    }
