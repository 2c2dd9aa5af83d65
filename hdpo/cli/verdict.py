"""`python -m hdpo verdict`: what the recorded runs say of HDPO's claims, computed anew from their counts."""

import json
from pathlib import Path
from typing import Any

from hdpo.cli.args import command, some
from hdpo.cli.terminal import say, tell
from hdpo.evidence import verdict
from hdpo.evidence.measured import trainings
from hdpo.record.export import as_csv
from hdpo.record.files import write_aside


def add_command(commands: Any) -> None:
    words = "each claim of the paper, and ours, by the recorded runs: verified, falsified, toy or inconclusive"
    p = command(commands, "verdict", words, show)
    p.add_argument("--counts", metavar="FILE.csv", type=some, help="write the raw counts behind it, a row a problem")


def show(args: Any) -> int:
    """Computed from the run folders, and held against the copy that ships."""
    found = verdict.as_json(verdict.verdict())
    if args.counts:
        rows = verdict.counts(trainings(verdict.recorded()))
        write_aside(Path(args.counts), as_csv(rows))
        say(f"{len(rows):,} rows of counts in {args.counts}")
    if args.json:  # perhaps into that very file
        return tell(args, found, "")
    same = json.loads(json.dumps(found)) == verdict.shipped()
    ships = (
        "It is what ships with the project." if same else "It is not what ships with the project (assets/verdict.json)."
    )
    return tell(args, found, f"{verdict.text(found)}\n{ships}")
