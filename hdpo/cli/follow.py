"""What a person sees while a job runs: a bar with the time left, and above it a line for each step and evaluation."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tqdm import tqdm

from hdpo.cli.results import evaluation_line
from hdpo.record.export import members
from hdpo.record.files import read_lines
from hdpo.record.folder import Run
from hdpo.record.progress import Progress

CLIFFS = ("cliff_recovered", "cliff_lost", "cliff_skipped", "cliff_too_long", "doubtful_grader")
GROUPS = (*CLIFFS, "mixed", "solved", "no_signal", "too_long", "ungradable")
MEANS = {"loss_grpo": "L_GRPO {:.4f}", "loss_jsd": "L_JSD {:.4f}", "grad_norm": "|∇| {:.3g}", "length": "length {:.0f}"}


class Bar:
    """On standard error, with the report's own time left; another count begins another bar. run: whose rows are told as
    they are written, or its members'."""

    def __init__(self, run: Run) -> None:
        self._bar = tqdm(disable=True)
        self._count = ("", -1)
        self._run, self._left = run, ""
        self._told = {log: len(read_lines(log)) for log, _ in self._logs()}

    def show(self, p: Progress) -> None:
        self._left = "" if p.seconds_left is None else f"{tqdm.format_interval(p.seconds_left)} left"
        self._lines()
        if (p.unit, p.total) != self._count:
            self._bar.close()
            self._count = (p.unit, p.total)
            form = "{desc} |{bar:20}| {n_fmt}/{total_fmt} {unit}{postfix}"
            how = {"bar_format": form, "file": sys.stderr, "mininterval": 0.1 if sys.stderr.isatty() else 10.0}
            self._bar = tqdm(total=p.total, desc=p.phase, unit=p.unit, **how)
        self._bar.set_description_str(p.phase, refresh=False)
        self._bar.set_postfix_str(self._left, refresh=False)
        self._bar.update(p.done - self._bar.n)

    def close(self) -> None:
        self._left = ""
        self._lines()
        self._bar.close()

    def _logs(self) -> list[tuple[Path, str]]:
        """The logs whose rows are told, with what stands before a line of each."""
        several = [(m.path, f"λ = {facts['lambda']:g}, seed {facts['seed']}, ") for facts, m in members(self._run)]
        return [(path / "metrics.jsonl", who) for path, who in [(self._run.path, ""), *several]]

    def _lines(self) -> None:
        for log, who in self._logs():
            rows = read_lines(log)
            for row in rows[self._told.get(log, 0) :]:
                if row.get("kind") == "step":
                    tqdm.write(f"{who}{step_line(row)}{f', {self._left}' * bool(self._left)}", file=sys.stderr)
                elif row.get("kind") == "eval" and self._run.kind != "evaluate":
                    tqdm.write(f"{who}{evaluation_line(row)}", file=sys.stderr)
            self._told[log] = len(rows)


def step_line(row: Mapping[str, Any]) -> str:
    """What a step gave, from its row in metrics.jsonl.

    >>> step_line({"step": 3, "reward": 0.25, "groups_mixed": 6, "groups_cliff_lost": 2, "rollouts": 64, "truncated": 1})
    'step 3: reward 0.250, 2 of 8 cliffs (0 recovered), 1 of 64 cut off'
    """
    of = {name: row.get(f"groups_{name}", 0) for name in GROUPS}
    cliffs = sum(of[name] for name in CLIFFS)
    parts = [f"{cliffs} of {sum(of.values())} cliffs ({of['cliff_recovered']} recovered)"]
    parts.append(f"{row.get('truncated', 0)} of {row.get('rollouts', 0)} cut off")
    parts += [form.format(row[name]) for name, form in MEANS.items() if row.get(name) is not None]
    if seconds := row.get("seconds"):
        parts.append(f"{(row.get('tokens_student', 0) + row.get('tokens_privileged', 0)) / seconds:,.0f} tokens/s")
    if not row.get("updated", True):
        parts.append("no signal, nothing moved")
    reward = row.get("reward")
    return f"step {row['step']}: reward {'none' if reward is None else f'{reward:.3f}'}, {', '.join(parts)}"
