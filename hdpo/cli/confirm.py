"""`python -m hdpo confirm`: is it a cliff? Fresh rollouts of a scan's cliffs, here, until each is decided or given up."""

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict
from typing import Any

from hdpo.cli.args import command, some
from hdpo.cli.results import table
from hdpo.cli.terminal import say, tell
from hdpo.errors import BadInput
from hdpo.record.folder import find_run
from hdpo.work import prepare_libraries

SECONDS_BETWEEN_WORDS = 5.0


def add_command(commands: Any) -> None:
    words = "is it a cliff? Fresh rollouts of a scan's cliffs, until each is decided or given up"
    p = command(commands, "confirm", words, run_confirm)
    scan = "the scan: an id or its end, a name, a folder, or latest"
    p.add_argument("--scan", metavar="RUN", type=some, required=True, help=scan)
    which = "which of its cliffs, by id; may be repeated; without it, all"
    p.add_argument("--problem", action="append", default=[], metavar="ID", type=some, help=which)
    most = "fresh rollouts of one prompt, earlier ones too, after which it stays undecided (default 512)"
    p.add_argument("--rollouts", metavar="N", type=int, default=512, help=most)
    p.add_argument(
        "--below", metavar="X", type=float, default=1 / 64, help="a cliff's pass rate is below it (default 1/64)"
    )


def run_confirm(args: Any) -> int:
    """Every batch stands on the disk before the next: Ctrl-C loses none, and the same command goes on."""
    run = find_run(args.scan)
    if args.rollouts < 1 or not 0.0 < args.below < 1.0:
        found = f"expected --rollouts from 1 on and --below between 0 and 1, found {args.rollouts} and {args.below:g}"
        raise BadInput(f"confirm: {found}. Give others.")
    prepare_libraries()
    from hdpo.grading.verify import VerifierPool
    from hdpo.method.confirm import cliffs_of, confirm
    from hdpo.method.evaluate import prepare

    spoke = time.monotonic()

    def progress(cliffs: list[Any]) -> None:
        nonlocal spoke
        if time.monotonic() - spoke > SECONDS_BETWEEN_WORDS:
            spoke = time.monotonic()
            say(f"{sum(c.drawn for c in cliffs):,} rollouts; {counted(cliffs)}")

    if cliffs_of(run, args.problem, args.below):
        config = run.load_config()
        with (
            VerifierPool(grader=config.data.grader) as verifier,
            closing((collector := prepare(config, (), verifier)).sampler),
        ):
            confirm(run, collector, args.problem, args.rollouts, args.below, progress)
    cliffs = cliffs_of(run, args.problem, args.below)
    facts = {"run": run.id, "below": args.below, "cliffs": {i: asdict(c) for i, c in cliffs.items()}}
    return tell(args, facts, confirm_text(cliffs, args.below))


def confirm_text(cliffs: Mapping[str, Any], below: float) -> str:
    """A line a prompt, and how many are what. Cliffs: `evidence.cliffs.Cliff` by id."""
    columns = ("problem", "scan", "fresh", "from", "to", "so")
    rows = [
        (i, f"0 of {c.scanned}", f"{c.correct} of {c.n}", f"{c.low:.4f}", f"{c.high:.4f}", c.words(below))
        for i, c in cliffs.items()
    ]
    what = "from, to: where the pass rate lies by the fresh rollouts, 95 % for each prompt, at all looks at once."
    return "\n".join([table(columns, rows), what, f"{len(rows)} prompts: {counted(cliffs.values())}."])


def counted(cliffs: Iterable[Any]) -> str:
    return ", ".join(f"{n} {word}" for word, n in Counter(c.decision.value for c in cliffs).items()) or "no cliff"
