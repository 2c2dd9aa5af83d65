"""HDPO from Python: `hdpo.scan`, `train`, `evaluate`, `compare` and `load_run`, a function a command.

    run = hdpo.train(problems, grader=right, lambda_=0.3, steps=20)
    run.steps, run.evaluations, run.rollouts(role="privileged"), run.policy("best")

Settings are the flags' names with _ for - (λ is `lambda_`), `preset=` as on the command line. A run waits its turn in the
same queue, shows a bar, lies in the same folder, and is resumed by either; an interrupt stops it at its next step edge.
Tables are pandas DataFrames. What went wrong is raised: BadInput, Busy, Stopped, or their parent HdpoError.
"""

from __future__ import annotations

import os
import shlex
from argparse import Namespace
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any

from hdpo.cli.args import config_from, meant, written
from hdpo.cli.main import resumed
from hdpo.cli.results import result_text
from hdpo.cli.runs import paired
from hdpo.cli.terminal import run_here
from hdpo.config import CENSUS, KINDS, knobs, model_of
from hdpo.errors import BadInput, Busy, HdpoError, Stopped
from hdpo.given import Grader, Problems, grader_spec, problems_source
from hdpo.model.adapter import adapter_folder
from hdpo.record.export import rows
from hdpo.record.fingerprint import comparison_words, differences
from hdpo.record.folder import Run, RunWriter, State, find_run
from hdpo.work import prepare_libraries
from hdpo.work.preflight import UNREAD, check

if TYPE_CHECKING:
    from pandas import DataFrame

    from hdpo.model.policy import Policy


@dataclass(frozen=True, repr=False)
class LoadedRun:
    """A run folder, as tables and as a model; `run` is its reader. Read anew at each call: also of a run that still goes on."""

    run: Run

    def __repr__(self) -> str:
        return result_text(self.run)

    @property
    def label(self) -> str:
        """What it is called in a figure: its name, or λ and seed of a training, or its id."""
        if self.run.kind != "train" or self.run.name != self.run.id:
            return self.run.name
        config = self.run.load_config()
        return f"λ = {config.objective.lambda_:g}, seed {config.seed}"

    @property
    def steps(self) -> DataFrame:
        """A row an optimiser step: reward, groups by what became of them, L_GRPO and L_JSD (nats a token), gradient norms,
        length (tokens), seconds. Of a sweep all its members', each with run, lambda and seed."""
        return _frame([{"run": self.label, **r} for r in self._rows("step")])

    @property
    def evaluations(self) -> DataFrame:
        """A row an evaluation and metric (pass@k, greedy, cliff, solved): value, low and high, its 95 % interval with the
        prompt as unit. Of a sweep all its members'."""
        found, lam = [], self.run.load_config().objective.lambda_ if self.run.kind == "train" else None
        for r in self._rows("eval"):
            facts = {"run": self.label, "lambda": lam, **r}
            facts = {name: facts[name] for name in ("run", "lambda", "step", "n_problems")}
            measured = {f"pass@{k}": e for k, e in r["pass_at"].items()}
            measured |= {name: e for name in ("greedy", "cliff", "solved") if (e := r.get(name))}
            found += [{**facts, "metric": name, **e} for name, e in measured.items()]
        return _frame(found)

    def problems(self, step: int | None = None) -> DataFrame:
        """A row a problem. Of a scan or an import: its regime (`group`), n graded rollouts, how many were correct, and the text. Of an
        evaluation, the last or that of a training's `step`: n and correct of each problem."""
        if self.run.kind in CENSUS:
            texts = {p["id"]: {"problem": p["text"], "gold": p["answer"]} for p in self.run.table("problems", 0)}
            return _frame([{**texts.get(r["problem_id"], {}), **r} for r in self._rows("scan_group")])
        last = max(self.run.tables("eval"), default=0)
        return _frame(self.run.table("eval", last if step is None else step))

    def rollouts(self, step: int | None = None, role: str | None = None) -> DataFrame:
        """A row a rollout: problem_id, text, outcome, answer, tokens, token_ids; of one step, of one role ("student",
        "privileged"), or all."""
        return _frame(self.run.rollouts(step, role))

    def policy(self, checkpoint: str = "") -> Policy:
        """The model that a training made (`policy.model`, a PeftModel in eval mode, and `policy.tokenizer`), or that was
        scanned or evaluated. checkpoint: "best" or a step; the newest without. Raises BadInput where there is none."""
        prepare_libraries()
        from hdpo.model.policy import load_policy

        config = self.run.load_config()
        model = model_of(config)
        if self.run.kind in ("train", "sweep"):
            at = f"{self.run.path}@{checkpoint}" if checkpoint else str(self.run.path)
            model = replace(model, adapter=str(adapter_folder(at)))
        return load_policy(model)

    def _rows(self, kind: str) -> list[dict[str, Any]]:
        return [r for r in rows(self.run) if r["kind"] == kind]


AnyRun = LoadedRun | Run | str | os.PathLike[str]


def load_run(run: AnyRun) -> LoadedRun:
    """A run by id, by the end of its id, by name, by folder, or "latest". Raises BadInput that says which there are."""
    if isinstance(run, LoadedRun):
        return run
    return LoadedRun(run if isinstance(run, Run) else find_run(os.fspath(run)))


def scan(problems: Problems | None = None, grader: Grader | None = None, **settings: Any) -> LoadedRun:
    """K rollouts of every problem, no update: which are cliffs? The answer is `.problems()`.

    problems: a list of `hdpo.Problem` or of dicts with the columns that a file would have, or what --problems takes.
    grader: a function (completion, gold, problem text) → 0 or 1, or what --grader takes. Raises HdpoError.
    """
    return _run("scan", problems, grader, settings)


def train(problems: Problems | None = None, grader: Grader | None = None, **settings: Any) -> LoadedRun:
    """One HDPO run (Algorithm 1 of arXiv 2603.23871); `lambda_=0` is GRPO. problems, grader: as in `scan`.

    `validation_problems=` takes a list too; without it a share of the problems is held out. `resume=RUN` goes on with a run
    that was stopped, and with `steps=` also with one that is done. Raises HdpoError; Stopped after an interrupt, with a
    checkpoint written.
    """
    return _run("train", problems, grader, settings)


def evaluate(problems: Problems | None = None, grader: Grader | None = None, **settings: Any) -> LoadedRun:
    """pass@k, greedy accuracy and cliff share of a model, or of a run's checkpoint (`adapter="RUN@best"`), on all problems of
    a list, else on the validation problems or another `split=`. problems, grader: as in `scan`. Raises HdpoError."""
    if problems is not None and not isinstance(problems, str | os.PathLike):
        settings = {"split": "all", **settings}
    return _run("evaluate", problems, grader, settings)


def compare(a: AnyRun | Sequence[AnyRun], b: AnyRun | Sequence[AnyRun]) -> DataFrame:
    """What b does better than a at their last evaluations, a row a metric: pass@k and cliffs of both, `difference` (b less a),
    `low` and `high`, its paired 95 % interval over the problems of both, and over seeds where each is a list of runs, in
    the same order of seeds. Of one run a side training noise is not covered. Raises BadInput where they do not measure
    the same."""
    from hdpo.evidence.stats import seeds_difference

    given: list[Any] = [side if isinstance(side, list | tuple) else [side] for side in (a, b)]
    arms = [[load_run(run).run for run in side] for side in given]
    first, *others = [run for arm in arms for run in arm]
    for run in (first, *others):
        if not run.metrics("eval"):
            raise BadInput(f"compare: expected runs with an evaluation, found none in {run.id}. Evaluate it first.")
        if differences(first.fingerprint, run.fingerprint)[0]:
            raise BadInput(f"compare: {comparison_words(first.fingerprint, run.fingerprint)}")
    x, y = ([run.table("eval", run.metrics("eval")[-1]["step"]) for run in arm] for arm in arms)
    measured, found = first.metrics("eval")[-1], []
    for name, k in [*((f"pass@{k}", int(k)) for k in measured["pass_at"]), ("cliffs", int(measured["n_samples"]))]:
        sides = paired(x, y, k)
        if name == "cliffs":  # of whose samples none is right
            sides = [[[1.0 - v for v in run] for run in side] for side in sides]
        d, (mine, other) = seeds_difference(sides[1], sides[0]), (mean(chain.from_iterable(side)) for side in sides)
        found.append({"metric": name, "a": mine, "b": other, "difference": d.value, "low": d.low, "high": d.high})
    return _frame(found).set_index("metric")


def _run(kind: str, problems: Problems | None, grader: Grader | None, settings: dict[str, Any]) -> LoadedRun:
    """Make or find the run folder, execute it here, and open it. None stands for a setting that nobody chose."""
    prepare_libraries()
    default, preset, resume = KINDS[kind](), settings.pop("preset", None), settings.pop("resume", None)
    known = {k.name: k for k in knobs(default) if k.name not in UNREAD[kind]}
    given = {"problems": problems, "grader": grader, **settings}
    given = {name: value for name, value in given.items() if value is not None}
    if unknown := [f"{name}{meant(name, [*known])}" for name in given if name not in known]:
        words = f"expected settings of hdpo {kind}, found {', '.join(unknown)}"
        raise BadInput(f"settings: {words}. `hdpo {kind} --help` lists them.")
    named = {"problems": problems_source, "validation_problems": problems_source, "grader": grader_spec}
    for name, value in given.items():
        given[name] = named[name](value) if name in named else str(value) if isinstance(value, Path) else value
    args = Namespace(kind=kind, preset=preset, take_over=False, **given)
    if resume:
        args.resume = str(load_run(resume).run.path)
        run, config = resumed(args, default)
    else:
        config = config_from(args, default)
    check(config)
    if not resume:
        command = ["python", "-m", "hdpo", kind, *(["--preset", preset] if preset else [])]
        for name, value in given.items():
            command += known[name].words(value if isinstance(value, (str, bool)) else written(value))
        run = Run(RunWriter.create(kind, config, command=shlex.join(command)).path)
    ending = run_here(run, config, bool(resume), wait=True)
    if ending.state is not State.DONE:
        stopped = Stopped if ending.state is State.STOPPED else HdpoError
        raise (BadInput if ending.bad_input else Busy if ending.busy else stopped)(ending.message)
    return LoadedRun(run)


def _frame(found: Iterable[Mapping[str, Any]]) -> DataFrame:
    try:
        from pandas import DataFrame
    except ImportError as e:
        words = "expected the package, since results are its DataFrames, found none"
        raise BadInput(f"pandas: {words}. pip install 'hdpo-workbench[app]'") from e
    return DataFrame(list(found))
