"""Flags from settings: one schema (`hdpo.config`), so that the command line, the app and the run folder cannot disagree."""

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from difflib import get_close_matches
from enum import Enum
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, get_args

from hdpo.cli.terminal import say
from hdpo.config import knobs, replace_knobs
from hdpo.data.sets import opened
from hdpo.errors import BadInput
from hdpo.grading.graders import whole
from hdpo.knobs import Knob, words
from hdpo.model.defaults import following
from hdpo.presets import PRESETS, SHIPPED, settings_of
from hdpo.work.preflight import refuse_idle

SECTIONS = {"data": "problems", "step": "steps", "train": "run", "": "run"}  # headings that are not the section's name
PROG = "hdpo" if Path(sys.argv[0]).stem == "hdpo" else "python -m hdpo"  # as it was called


def command(
    commands: Any, words: str, help: str, run: Callable[[Any], int], arguments: Sequence[str] = ()
) -> argparse.ArgumentParser:
    """One command; words lead to it, help is its line in the list and the head of its own help."""
    prog = f"{PROG} {words}"
    usage, description = " ".join([prog, *map(str.upper, arguments), "[options]"]), f"{help[0].upper()}{help[1:]}."
    p: argparse.ArgumentParser = commands.add_parser(
        words.split()[-1], help=help, description=description, allow_abbrev=False, usage=usage, prog=prog
    )
    for argument in arguments:
        p.add_argument(argument, metavar=argument.upper(), type=some)
    only = "one JSON object on standard output, nothing else"
    p.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=only)
    p.set_defaults(handler=run, parser=p)
    p.error = partial(refuse, p)  # type: ignore[method-assign]
    return p


def refuse(parser: argparse.ArgumentParser, message: str) -> NoReturn:
    """What argparse cannot read, as a sentence that leads on. Raises BadInput."""
    if wrong := re.match(r"(.*invalid choice: '(.*)') \(choose from (.*)\)", message):
        choices = [c.strip("' ") for c in wrong[3].split(",")]
        advice = meant(wrong[2], choices) or f"; choose from {', '.join(choices)}"
        message = f"{wrong[1]}{advice}"
    raise BadInput(f"{message.rstrip('.')}. See {parser.prog} --help")


def unknown(parser: argparse.ArgumentParser, extras: Sequence[str]) -> NoReturn:
    """Words that a command does not take. Raises BadInput, with the flag that may have been meant."""
    flags = [f for action in parser._actions for f in action.option_strings]
    said = [f"{e}{meant(e.partition('=')[0], flags)}" for e in extras if e.startswith("-")] or extras
    refuse(parser, f"expected arguments of this command, found {', '.join(said)}")


def meant(word: str, known: Sequence[str]) -> str:
    """
    >>> meant("--lamda", ["--lambda", "--limit"]), meant("xyz", ["scan"])
    (' (did you mean --lambda?)', '')
    """
    close = get_close_matches(word, known, 1, 0.8)
    return f" (did you mean {close[0]}?)" if close else ""


def some(text: str) -> str:
    """A name, path or other text that must not be empty, as an unset shell variable is."""
    if not text.strip():
        raise argparse.ArgumentTypeError("expected a text, found an empty one (is a variable unset?)")
    return text


def add_knobs(parser: argparse.ArgumentParser, config: Any, without: tuple[str, ...] = ()) -> None:
    """A flag for every setting, grouped by section; one that is not given keeps the default shown."""
    groups: dict[str, Any] = {}
    for k in knobs(config):
        if k.name not in without:
            section = k.path[-2] if len(k.path) > 1 else ""
            section = SECTIONS.get(section, section)
            group = groups[section] = groups.get(section) or parser.add_argument_group(section)
            how = (
                {"action": argparse.BooleanOptionalAction}
                if k.type is bool
                else {"type": reader(k), "metavar": metavar(k)}
            )
            group.add_argument(k.flag, dest=k.name, default=argparse.SUPPRESS, help=help_text(k), **how)


def add_preset(parser: argparse.ArgumentParser) -> None:
    """--preset, and the list of presets below the help."""
    words = "settings that belong together, listed below; a flag beside it wins"
    parser.add_argument("--preset", metavar="NAME", type=some, help=words)
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = "\n".join(["presets:", *(f"  {name:22}{preset.help}" for name, preset in PRESETS.items())])


def help_text(k: Knob) -> str:
    """What it is, its default, the paper's value, its limits."""
    low, high = ("" if x is None else written(x) for x in (k.low, k.high))
    span = f"{low} to {high}" if low and high else f"at least {low}" if low else ""
    facts = (f"default {written(k.default)}", f"paper: {k.paper}" if k.paper else "", span)
    return f"{k.help} ({'; '.join(filter(None, facts))})".replace("%", "%%")


def metavar(k: Knob) -> str:
    if k.options:
        return "{" + ",".join(written(o) for o in k.options) + "}"
    return {int: "N", float: "X", str: "TEXT"}.get(k.type, "X,X,…")


def written(value: Any) -> str:
    """A value as a flag takes it; line breaks shown as \\n.

    >>> written((0.0, 0.3)), written(""), written(1e-9), written(2147483648), written(1e6)
    ('0,0.3', "''", '0.000000001', '2147483648', '1000000')
    """
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return ",".join(written(v) for v in value)
    if isinstance(value, float):
        return f"{Decimal(repr(value)):f}".removesuffix(".0")
    return repr(value) if isinstance(value, str) and not value.isalnum() else str(value)


def reader(k: Knob) -> Callable[[str], Any]:
    """From text to the setting's type; limits are checked by the config itself. A wrong one is a sentence."""
    inner = (get_args(k.type) or (k.type,))[0]

    def one(text: str) -> Any:
        if inner is str:
            return some(text)
        try:
            whole = inner is int and float(text) == int(float(text))  # 1e3 steps are 1000
            return int(float(text)) if whole else inner(text)
        except (ValueError, OverflowError):
            raise argparse.ArgumentTypeError(f"expected {words(inner)}, found {text!r}. Give {words(inner)}.") from None

    def several(text: str) -> tuple[Any, ...]:
        return tuple(one(t.strip()) for t in some(text).split(",") if t.strip())

    return one if inner is k.type else several


def given_settings(args: Any, config: Any) -> dict[str, Any]:
    """The settings that stand on the command line, by name."""
    return {k.name: getattr(args, k.name) for k in knobs(config) if hasattr(args, k.name)}


def config_from(args: Any, default: Any) -> Any:
    """The config of a command line. A path is frozen whole, so that the run finds it from any folder; what follows from
    model and adapter is told."""
    values = settings_of(args.preset, default) if getattr(args, "preset", None) else {}
    values = opened(values | given_settings(args, default))
    for name in ("model", "chat_template", "problems", "validation_problems"):
        path = Path(values.get(name, "")).expanduser()
        if values.get(name) and values[name] not in SHIPPED and path.exists():
            values[name] = str(path.resolve())
    if "grader" in values:
        values["grader"] = whole(values["grader"])
    further, told = following(values, {k.name for k in knobs(default)})
    for sentence in told:
        say(sentence)
    config = replace_knobs(default, values | further)
    refuse_idle(config, given_settings(args, default))
    return config
