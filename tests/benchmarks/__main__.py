"""`python -m tests.benchmarks`: every row, and the table in assets/BENCHMARKS.md. On a quiet machine, about ten minutes.

`--only WORD` runs the parts whose name holds it and prints them, without touching the table.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from statistics import median

THREADS = "2"
os.environ["OMP_NUM_THREADS"] = THREADS
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

from hdpo.record.files import write_aside  # noqa: E402 - the threads first
from tests.benchmarks import generation, memory, pages, steps  # noqa: E402
from tests.benchmarks.harness import REPEATS, Row  # noqa: E402

TABLE = Path(__file__).resolve().parents[2] / "assets" / "BENCHMARKS.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PARTS: dict[str, Callable[[], list[Row]]] = {
    "rollouts": lambda: [generation.rollouts()],
    "evaluation": lambda: [generation.evaluation()],
    "grpo": lambda: [steps.grpo_against_trl()],
    "real rollouts": generation.real_rollouts,
    "real grpo": lambda: [steps.real_grpo_against_trl()],
    "hdpo": lambda: [steps.hdpo_against_grpo()],
    "memory": memory.step,
    "pages": pages.reruns,
}
COLUMNS = "what | against | ours | theirs | figure | neighbouring repeats | minimum | goal | reached | floor"
HEAD = f"| {COLUMNS} |\n|{'---|' * 10}"


def line(row: Row) -> str:
    """One row of the table."""
    alone = row.unit == "ms"
    ours, theirs = (number(median(x), row.unit) for x in (row.ours, row.theirs))
    low, high = row.spread
    sign, unit = ("≤ ", "×") if row.at_most else ("≥ ", "×")
    figures = (f"{x:.0f} ms" if alone else f"{x:.2f}{unit}" for x in (row.figure, low, high, row.minimum, row.goal))
    figure, low_, high_, least, goal = figures
    note = f" ({row.note})" if row.note else ""
    floor = f"{row.floor:.3f} s, ours {median(row.ours) / row.floor:.1f}×" if row.floor else "–"
    cells = [
        f"{row.what}{note}",
        row.against,
        ours,
        "–" if alone else theirs,
        f"**{figure}**",
        f"{low_} to {high_}",
        f"{sign}{least}",
        f"{sign}{goal}",
        row.verdict,
        floor,
    ]
    return f"| {' | '.join(cells)} |"


def number(x: float, unit: str) -> str:
    return f"{x / 1e6:.0f} MB" if unit == "bytes" else f"{x:.0f} ms" if unit == "ms" else f"{x:.3f} s"


def machine() -> str:
    """What the numbers depend on."""
    model = next((x.split(":")[1].strip() for x in _cpu_lines() if x.startswith("model name")), platform.processor())
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in ("torch", "transformers", "peft", "trl", "streamlit"))
    return f"{model}, {os.cpu_count()} cores, {THREADS} threads; Python {platform.python_version()}, {versions}. Median of {REPEATS} (memory: 3), the two sides in turns."


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="the parts whose name holds this word")
    only = parser.parse_args().only
    lines = []
    for name, part in PARTS.items():
        if only in name:
            lines += [line(row) for row in part()]
            print("\n".join(lines[-10:]) if only else f"{name}: done", flush=True)
    if not only:
        before, _, rest = TABLE.read_text(encoding="utf-8").partition(BEGIN)
        after = rest.partition(END)[2]
        write_aside(TABLE, "\n".join([f"{before}{BEGIN}", machine(), "", HEAD, *lines, f"{END}{after}"]))
        print(TABLE.read_text(encoding="utf-8"))


if __name__ == "__main__":
    main()
