"""The runs of the plan (`assets/plan.toml`), made and recorded: what the verdict stands on beside the runs of the card.

Resumable like those: one that is done is kept, one that was broken off goes on. A run is recorded as its settings, its rows
and its evaluations alone; each keeps the digest of the plan that it was made under.
"""

import itertools
import json
import shutil
from itertools import groupby
from pathlib import Path
from typing import Any

from hdpo.arms import ARMS
from hdpo.assets import ASSETS
from hdpo.config import EvaluateConfig, ObjectiveConfig, PromptConfig, StepConfig, TrainConfig, replace_knobs
from hdpo.data.problems import load_problems
from hdpo.data.prompts import student_prompt
from hdpo.errors import BadInput
from hdpo.evidence import verdict
from hdpo.evidence.measured import Training
from hdpo.evidence.verdict import EVIDENCE
from hdpo.method.objective import Scale, group_gradient_norm
from hdpo.model.policy import Policy, load_policy
from hdpo.organism.card import REDRAWS, mix_of, run_all, runs_in, title
from hdpo.record.files import beside, write_aside
from hdpo.record.folder import Run, RunWriter, State, find_run
from hdpo.records import Group, Outcome, Problem, Rollout
from hdpo.work.execute import execute

COMMAND = "python -m hdpo.organism evidence"
LEFT_OUT = (
    "log.txt",
    "lock",
    "stop",
    "checkpoints",
    "rollouts",
    "probe-*",
    "gap-*",
    "problems-*",
    "parts.jsonl",
    "step-0*",
)


def configs() -> list[TrainConfig]:
    """Every training of the plan: what a claim needs comes first, seed by seed, so that pairs are complete early."""
    found = []
    for mix, arms in verdict.plan()["runs"].items():
        for name, seeds in arms.items():
            settings = ARMS[name].settings if name in ARMS else {"lambda_": float(name)}
            common = {"problems": f"bundled:{mix}", "eval_split": "test", "eval_every": 5, "probe_cliffs": 0}
            found += [replace_knobs(TrainConfig(), {**common, **settings, "seed": s}) for s in seeds]
    return sorted(found, key=lambda c: (title(c).startswith("steep: λ"), c.seed))


def controls() -> list[EvaluateConfig]:
    """The untrained model on the test problems again, and behind a nonsense prefix."""
    plain = replace_knobs(EvaluateConfig(), {"split": "test"})
    each = itertools.product(REDRAWS, ("none", "nonsense"))
    return [replace_knobs(plain, {"seed": seed, "prefix": prefix}) for seed, prefix in each]


def make(root: Path) -> None:
    """All of them, into `root`; then the norms, and the copies that ship."""
    known = {r.load_config() for r in runs_in(root, "evaluate")}
    for config in controls():
        if config not in known:
            name = f"test, untrained, seed {config.seed}, prefix {config.prompts.prefix}"
            execute(RunWriter.create("evaluate", config, root, name, COMMAND).path, resume=False)
    run_all(root, configs(), COMMAND, plan=verdict.plan()["sha256"])
    record(root)


def record(root: Path, into: Path = EVIDENCE) -> None:
    """What the verdict reads of the finished runs, and the gradients of the recorded scan; then the verdict itself."""
    with beside(into) as aside:
        for run in runs_in(root, "train", "evaluate"):
            if run.status().state is State.DONE:
                copied, named = aside / folder_of(run), run.load_config()
                shutil.copytree(run.path, copied, ignore=shutil.ignore_patterns(*LEFT_OUT))
                if run.kind == "train":
                    check_plan(run)
                    write_aside(copied / "name.txt", title(named))
        write_norms(find_run("steep-scan"), aside / "gradients.csv")
    found = json.dumps(verdict.as_json(verdict.verdict()), ensure_ascii=False)
    write_aside(ASSETS / "verdict.json", f"{found}\n")


def check_plan(run: Run) -> None:
    """Raises BadInput for a run that was begun under another plan than the one there is."""
    if (found := run.frozen().get("plan")) != (now := verdict.plan()["sha256"]):
        raise BadInput(
            f"{run.id}: expected a run begun under plan {now[:12]}, found {found!r:.20}. Put that plan back."
        )


def folder_of(run: Run) -> str:
    """By mix, arm and seed; of an evaluation by what stood before its prompts."""
    config = run.load_config()
    if run.kind == "train":
        mix, arm, seed = Training(run).key
        return f"{mix}-{arm if arm in ARMS else f'lambda-{arm}'}-seed-{seed}"
    drawn = "untrained" if config.prompts.prefix == "none" else config.prompts.prefix
    return f"{mix_of(config)}-{config.split}-{drawn}-seed-{config.seed}"


def write_norms(scan: Run, to: Path) -> None:
    """The norm of ∇L_GRPO of each scanned prompt, by the backward pass of training, as CSV."""
    config, objective = scan.load_config(), ObjectiveConfig()
    policy = load_policy(config.model, config.seed)
    problems = {p.id: p for p in load_problems(config.data, config.split).problems}
    lines = ["problem_id,kind,norm"]
    scale = Scale(0, 0, config.sampling.temperature, StepConfig().micro_batch_tokens)
    for problem_id, rows in groupby(scan.rollouts(), key=lambda r: r["problem_id"]):
        group = group_of(problems[problem_id], list(rows), policy, config.prompts)
        norm = group_gradient_norm(policy, group, group.rewards, objective, scale)[1]
        lines.append(f"{problem_id},{group.kind.value},{norm!r}")
    write_aside(to, "\n".join(lines) + "\n")


def group_of(problem: Problem, rows: list[dict[str, Any]], policy: Policy, prompts: PromptConfig) -> Group:
    """As it was scanned; the sampler's log-probs, which a gradient does not read, are not kept."""
    rollouts = [
        Rollout(problem.id, r["index"], tuple(r["token_ids"]), (0.0,) * r["tokens"], r["text"], Outcome(r["outcome"]))
        for r in rows
    ]
    return Group(problem, student_prompt(policy.tokenizer, problem, prompts)[1], tuple(rollouts))
