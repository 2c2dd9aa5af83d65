"""`python -m hdpo.organism problems`, then `build`, then `card`: all that the bundled model is made and measured with."""

import argparse
from pathlib import Path

from hdpo.config import ScanConfig, replace_knobs
from hdpo.organism.corpus import Mix
from hdpo.organism.problems import write_problems
from hdpo.organism.stories import Raising, story_sets
from hdpo.presets import settings_of


def parser() -> argparse.ArgumentParser:
    """The commands and their options."""
    top = argparse.ArgumentParser(prog="python -m hdpo.organism", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True)
    model = commands.add_parser(
        "build", help="pretrain the bundled model (took 50 minutes on two cores, not quite quiet)"
    )
    model.add_argument("--out", type=Path, default=Path("assets/model"), help="the model folder; replaced at the end")
    model.add_argument(
        "--tokens",
        type=int,
        default=28_000_000,
        help="prompt and response tokens of the first phase, without padding; the second has a seventh of them",
    )
    model.add_argument("--seed", type=int, default=0, help="of the initial weights and of the corpus")
    model.add_argument("--steps", type=int, default=None, help="end after so many steps, to try the build")
    model.add_argument("--partial", type=Path, default=None, help="gets the unfinished model every 4 M tokens")
    raising = commands.add_parser(
        "raise", help="fine-tune the adapter that makes SmolLM2 a base; goes on when called again"
    )
    raising.add_argument("model", help="SmolLM2-135M-Instruct: a .gguf file or a folder")
    raising.add_argument("--out", type=Path, default=Path("assets/smollm2"), help="the adapter's folder")
    raising.add_argument("--steps", type=int, default=Raising.steps)
    raising.add_argument("--seed", type=int, default=Raising.seed, help="of the adapter and of the corpus")
    measured = commands.add_parser(
        "gate", help="measure what a base must show: its rollouts on the stories' test problems"
    )
    measured.add_argument("model", nargs="?", default="smollm2")
    pair = commands.add_parser(
        "pair", help="run the raised model at λ = 0 and 1, three seeds, and record it; goes on when called again"
    )
    pair.add_argument("--runs", type=Path, default=Path("runs/pair"), help="the runs; those that are done are kept")
    evidence = commands.add_parser(
        "evidence", help="make and record the runs of assets/plan.toml, some 70; goes on when called again"
    )
    evidence.add_argument("--runs", type=Path, default=Path("runs/evidence"), help="the runs; those done are kept")
    problems = commands.add_parser("problems", help="write the bundled problem sets")
    problems.add_argument("--out", type=Path, default=Path("assets/problems"), help="gets MIX/SPLIT.jsonl")
    card = commands.add_parser(
        "card",
        help="run what the card reports (its 27 runs go on from where they stand when it is called again), write its tables, record its runs",
    )
    card.add_argument("--runs", type=Path, default=Path("runs/card"), help="the runs; those that are done are kept")
    card.add_argument(
        "--card", type=Path, default=Path("assets/MODEL_CARD.md"), help="gets the tables between its marks"
    )
    card.add_argument("--tables-only", action="store_true", help="start no run")
    return top


def main(arguments: list[str] | None = None) -> None:
    """Run one command."""
    chosen = parser().parse_args(arguments)
    if chosen.command == "problems":
        for path in write_problems(chosen.out):
            print(path)
        return
    if chosen.command == "card":
        from hdpo.organism.card import configs, record, run_all, run_redraws, run_scan, write_card

        if not chosen.tables_only:
            run_all(chosen.runs.resolve(), configs())
            run_scan(chosen.runs.resolve())
            run_redraws(chosen.runs.resolve())
            record(chosen.runs.resolve())
        write_card(chosen.card, chosen.runs.resolve())
        return
    if chosen.command == "pair":
        from hdpo.organism.card import STORIES, real_pair, record, run_all

        run_all(chosen.runs.resolve(), real_pair(), "python -m hdpo.organism pair")
        record(chosen.runs.resolve(), mixes=[STORIES])
        return
    if chosen.command == "evidence":
        from hdpo.organism.evidence import make

        make(chosen.runs.resolve())
        return
    if chosen.command == "raise":
        from hdpo.organism.raising import raise_base

        raise_base(chosen.model, chosen.out, Raising(chosen.steps, chosen.seed))
        return
    if chosen.command == "gate":
        from hdpo.organism.gate import gate, table

        scan = ScanConfig()
        real = replace_knobs(scan, settings_of("smollm2", scan) | {"model": chosen.model})
        print("\n".join(table(gate(real, story_sets()["test"], 8, 4))))
        return
    from hdpo.organism.pretrain import Schedule, build

    schedule = Schedule(tokens=chosen.tokens, seed=chosen.seed, steps=chosen.steps)
    build(chosen.out, schedule, Mix(), chosen.partial)


if __name__ == "__main__":
    main()
