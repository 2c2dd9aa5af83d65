"""What a person sees while a job runs: a bar with the time left, and above it a line for each step and evaluation."""

import sys
from pathlib import Path

from tqdm.auto import tqdm
from tqdm.notebook import tqdm_notebook

from hdpo.cli.results import evaluation_line, step_line
from hdpo.record.export import members
from hdpo.record.files import read_lines
from hdpo.record.folder import Run
from hdpo.record.progress import Progress


class Bar:
    """On standard error, with the report's own time left; another count begins another bar. run: whose rows are told as
    they are written, or its members'."""

    def __init__(self, run: Run) -> None:
        self._bar = tqdm(disable=True)
        self._count = ("", -1)
        self._run = run
        self._told = {log: len(read_lines(log)) for log, _ in self._logs()}

    def show(self, p: Progress) -> None:
        left = "" if p.seconds_left is None else f"{tqdm.format_interval(p.seconds_left)} left"
        self._lines(left)
        if (p.unit, p.total) != self._count:
            self._bar.close()
            self._count = (p.unit, p.total)
            bar = "{bar}" if issubclass(tqdm, tqdm_notebook) else "{bar:20}"  # a notebook puts a widget in its place
            form = f"{{desc}} |{bar}| {{n_fmt}}/{{total_fmt}} {{unit}}{{postfix}}"
            how = {"bar_format": form, "file": sys.stderr, "mininterval": 0.1 if sys.stderr.isatty() else 10.0}
            self._bar = tqdm(total=p.total, desc=p.phase, unit=p.unit, **how)
        self._bar.set_description_str(p.phase, refresh=False)
        self._bar.set_postfix_str(left, refresh=False)
        self._bar.update(p.done - self._bar.n)

    def close(self) -> None:
        self._lines("")
        self._bar.close()

    def _logs(self) -> list[tuple[Path, str]]:
        """The logs whose rows are told, with what stands before a line of each."""
        several = [(m.path, f"λ = {facts['lambda']:g}, seed {facts['seed']}, ") for facts, m in members(self._run)]
        return [(path / "metrics.jsonl", who) for path, who in [(self._run.path, ""), *several]]

    def _lines(self, left: str) -> None:
        for log, who in self._logs():
            rows = read_lines(log)
            for row in rows[self._told.get(log, 0) :]:
                if row.get("kind") == "step":
                    tqdm.write(f"{who}{step_line(row)}{f', {left}' * bool(left)}", file=sys.stderr)
                elif row.get("kind") == "eval" and self._run.kind != "evaluate":
                    tqdm.write(f"{who}{evaluation_line(row)}", file=sys.stderr)
            self._told[log] = len(rows)
