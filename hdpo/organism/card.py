"""The numbers of the model card: the gate, and what the model shows live, on the test problems, with intervals.

Every table is computed from run folders, and every run is an ordinary one that the command line could have started.
"""

import itertools
import json
import multiprocessing
import re
import shutil
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch

from hdpo.config import EvaluateConfig, ScanConfig, SweepConfig, TrainConfig, replace_knobs
from hdpo.data.problems import bundled
from hdpo.errors import BadInput
from hdpo.evidence import stats
from hdpo.organism.gate import gate, table
from hdpo.organism.problems import MIXES
from hdpo.presets import settings_of
from hdpo.record.files import beside, read_json, write_aside
from hdpo.record.fingerprint import comparison_words, differences
from hdpo.record.folder import ASSET_RUNS, Run, RunWriter, State, all_runs
from hdpo.work import prepare_libraries
from hdpo.work.execute import execute
from hdpo.work.execute import title as title_of

LAMBDAS = (0.0, 0.3, 3.0)
SEEDS = {"steep": (0, 1, 2, 3, 4, 5), "gentle": (0, 1, 2)}
STORIES = "stories"  # the problems of the real model, and how its pair is called
STEPS = (20, 40, 60)
REDRAWS = (1000, 1001)  # seeds that nobody's training begins with
DRAWN = (("untrained", "validation"), ("nonsense", "validation"), ("nonsense", "test"))
COMMAND = "python -m hdpo.organism card"
SIDE_BY_SIDE = 2  # runs, each on one thread: so the numbers do not depend on how many there are
MEASURES = ("pass@1", "pass@8", "cliffs")
LOWER_LEVELS = (1, 2, 3)

Values = dict[tuple[float, int, int], dict[str, list[float]]]


def runs_in(root: Path, *kinds: str) -> list[Run]:
    """The runs of these kinds that lie in `root` itself."""
    return [r for r in all_runs(root) if r.path.parent == root and r.kind in kinds]


def configs() -> list[TrainConfig]:
    """The app's defaults for each mix, seed and λ, evaluated on the test problems at every fifth step."""
    values = {"eval_split": "test", "eval_every": 5}
    arms = {mix: replace_knobs(TrainConfig(), values | {"problems": f"bundled:{mix}"}) for mix in MIXES}
    return [c for mix, arm in arms.items() for c in SweepConfig(arm, LAMBDAS, SEEDS[mix]).members()]


def real_pair() -> tuple[TrainConfig, ...]:
    """The preset `smollm2` at λ = 0 and 1, evaluated on the test problems."""
    arm = replace_knobs(
        TrainConfig(),
        settings_of("smollm2", TrainConfig()) | {"eval_split": "test", "eval_every": 15, "eval_problems": 64},
    )
    return SweepConfig(arm, (0.0, arm.objective.lambda_), (0, 1, 2)).members()


def run_all(root: Path, wanted: Sequence[TrainConfig], command: str = COMMAND, **facts: str) -> None:
    """Every one of these runs in `root`, noted as of this command and with these facts pinned. One that is done is kept and one that was broken off goes on, so that this can be
    killed at any time and called again."""
    known = {r.load_config(): r for r in runs_in(root, "train")}
    runs = [known.get(c) or Run(made(c, root, command, facts)) for c in wanted]
    waiting = [r.path for r in runs if r.status().state not in (State.DONE, State.RUNNING)]
    print(f"{len(runs) - len(waiting)} of {len(runs)} runs are done or running elsewhere", flush=True)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(SIDE_BY_SIDE, context, initializer=prepare_libraries) as pool:
        for words in pool.map(run_one, waiting):
            print(words, flush=True)


def made(config: TrainConfig, root: Path, command: str, facts: dict[str, str]) -> Path:
    writer = RunWriter.create("train", config, root, title(config), command)
    writer.pin(**facts)
    return writer.path


def run_one(path: Path) -> str:
    """From where it stands to its end, on one thread; how it ended."""
    torch.set_num_threads(1)
    ending = execute(path, resume=True)
    return f"{Run(path).name}: {ending.state.value} {ending.message}".strip()


def title(config: TrainConfig) -> str:
    return f"{mix_of(config)}: {title_of(config)}"


def mix_of(config: TrainConfig | ScanConfig | EvaluateConfig) -> str:
    return config.data.problems.removeprefix("bundled:")


def run_scan(root: Path) -> None:
    """The scan that the app shows before anybody has made one: the steep mix's validation problems, K = 8."""
    if not runs_in(root, "scan"):
        config = replace_knobs(ScanConfig(), {"split": "validation"})
        execute(RunWriter.create("scan", config, root, "steep validation, K = 8").path, resume=False)


def run_redraws(root: Path) -> None:
    """The untrained model on the validation problems of each mix, as a training of the app's defaults evaluates them, with
    other seeds, and behind a nonsense prefix: what luck recovers of its cliffs, which every verdict stands beside. On the test
    problems the other trainings' first evaluations are redraws."""
    known = {r.load_config() for r in runs_in(root, "evaluate")}
    for mix, seed, (drawn, split) in itertools.product(MIXES, REDRAWS, DRAWN):
        prefix = {"prefix": "nonsense"} if drawn == "nonsense" else {}
        config = replace_knobs(EvaluateConfig(), {"problems": f"bundled:{mix}", "split": split, "seed": seed, **prefix})
        if config not in known:
            name = f"{mix} {split}, {drawn}, seed {seed}"
            execute(RunWriter.create("evaluate", config, root, name, COMMAND).path, resume=False)


def record(root: Path, into: Path = ASSET_RUNS, mixes: Sequence[str] = tuple(MIXES)) -> None:
    """Copy the finished runs to where the app shows them to everybody, beside those of other mixes. Of the other seeds
    than 0 metrics and evaluations alone are kept, no optimiser state of any, and no adapter of the real model: so all
    stays small."""
    with beside(into) as aside:
        for shown in into.iterdir() if into.is_dir() else ():
            if shown.name.partition("-")[0] not in mixes:
                shutil.copytree(shown, aside / shown.name)
        for run in runs_in(root, "train", "scan", "evaluate"):
            if run.status().state is not State.DONE:
                continue
            config = run.load_config()
            folder = {"scan": "scan", "evaluate": run.name.removeprefix(f"{mix_of(config)} ")}.get(run.kind, "")
            folder = folder.removeprefix("validation, ").replace(", ", "-").replace(" ", "-")
            folder = folder or f"lambda-{config.objective.lambda_:g}-seed-{config.seed}"
            left_out = ["log.txt", "lock", "stop", "optimiser.safetensors", *(c.name for c in run.checkpoints()[:-1])]
            if config.seed:
                left_out += ["step-0*", "parts.jsonl", "problems-*", "probe-*", "gap-*"]
            if mix_of(config) == STORIES:
                left_out += ["checkpoints"]
            copied = aside / f"{mix_of(config)}-{folder}"
            shutil.copytree(run.path, copied, ignore=shutil.ignore_patterns(*left_out))
            for checkpoint in Run(copied).checkpoints():
                kept = {**read_json(checkpoint / "state.json"), "files": sorted(f.name for f in checkpoint.iterdir())}
                write_aside(checkpoint / "state.json", json.dumps(kept))


def per_problem(root: Path, mix: str) -> Values:
    """(λ, seed, step) → measure → one value a test problem, the problems in one order. Raises BadInput where the runs did
    not measure the same."""
    found: Values = {}
    first: Run | None = None
    for run in runs_in(root, "train"):
        config: TrainConfig = run.load_config()
        if mix_of(config) == mix and run.status().state is State.DONE:
            first = first or run
            if any(differences(first.fingerprint, run.fingerprint)):
                raise BadInput(f"{first.id} and {run.id}: {comparison_words(first.fingerprint, run.fingerprint)}")
            for step in run.tables("eval"):
                rows = sorted(run.table("eval", step), key=lambda r: r["problem_id"])
                found[config.objective.lambda_, config.seed, step] = values_of(rows)
    return found


def values_of(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    lower = [r for r in rows if r["level"] in LOWER_LEVELS]
    return {
        "pass@1": [stats.pass_at_k(r["n"], r["correct"], 1) for r in rows],
        "pass@8": [stats.pass_at_k(r["n"], r["correct"], 8) for r in rows],
        "cliffs": [float(r["correct"] == 0) for r in rows],
        "pass@1, levels 1–3": [stats.pass_at_k(r["n"], r["correct"], 1) for r in lower],
    }


def result_table(values: Values) -> list[str]:
    """Means over the seeds, and behind them each seed's own."""
    names = (*MEASURES, "pass@1, levels 1–3")
    lines = [f"| λ | step | {' | '.join(names)} |", "|---" * (2 + len(names)) + "|"]
    arms = {(lam, step) for lam, _, step in values if step in STEPS or step == lam == 0}
    for lam, step in sorted(arms, key=lambda a: (a[1], a[0])):
        seeds = [values[k] for k in sorted(values) if (k[0], k[2]) == (lam, step)]
        cells = []
        for name in names:
            means = [sum(s[name]) / len(s[name]) for s in seeds]
            cells.append(f"{sum(means) / len(means):.3f} ({' '.join(f'{m:.3f}' for m in means)})")
        lines.append(f"| {'base' if step == 0 else f'{lam:g}'} | {step} | {' | '.join(cells)} |")
    return lines


def difference_table(values: Values, pairs: Sequence[tuple[float, float, int]]) -> list[str]:
    """For each (λ, other λ, step): how much the first exceeds the second, paired by problem and seed, 95 %."""
    lines = [f"| λ against λ | step | {' | '.join(MEASURES)} |", "|---" * (2 + len(MEASURES)) + "|"]
    for a, b, step in pairs:
        seeds = sorted({s for lam, s, t in values if (lam, t) == (a, step) and (b, s, step) in values})
        if not seeds:
            continue
        cells = []
        for name in MEASURES:
            first, second = ([values[lam, s, step][name] for s in seeds] for lam in (a, b))
            e = stats.seeds_difference(first, second)
            cells.append(f"{100 * e.value:+.1f} ({100 * e.low:+.1f} to {100 * e.high:+.1f})")
        lines.append(f"| {a:g} − {b:g} | {step} | {' | '.join(cells)} |")
    return lines


def tables(root: Path) -> str:
    """The measured part of the card, as Markdown."""
    lines = ["### The gate", "", *table(gate(ScanConfig(), bundled("steep", "test"), 16, 8))]
    late = ((0.3, 0.0, 60), (3.0, 0.0, 60), (3.0, 0.3, 60))
    pairs = (*late, (0.3, 0.0, 20), *((3.0, 0.3, step) for step in (15, 20, 25, 35)))
    for mix in MIXES:
        values = per_problem(root, mix)
        seeds = len({s for _, s, _ in values})
        lines += ["", f"### The {mix} mix: 240 test problems × 16 samples, T = 1, {seeds} seeds", ""]
        lines += ["Mean over the seeds, and in brackets each seed.", "", *result_table(values)]
        lines += ["", "Differences in percentage points, paired by problem and seed, with 95 % intervals.", ""]
        lines += difference_table(values, pairs)
    return "\n".join(lines)


def write_card(card: Path, root: Path) -> None:
    """Put the tables between the card's two marks; the words around them stay."""
    text = card.read_text(encoding="utf-8")
    begin, end = "<!-- measured: begin -->", "<!-- measured: end -->"
    measured = f"{begin}\n\n{tables(root)}\n\n{end}"
    done = re.sub(f"{re.escape(begin)}.*?{re.escape(end)}", lambda _: measured, text, flags=re.S)
    card.write_text(done, encoding="utf-8")
