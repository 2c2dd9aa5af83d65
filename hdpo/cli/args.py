"""Flags from settings: one schema (`hdpo.config`), so that the command line, the app and the run folder cannot disagree."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Callable
from enum import Enum
from pathlib import Path
from typing import Any

from hdpo.cli.terminal import say
from hdpo.config import INSTRUCT, knobs, replace_knobs
from hdpo.knobs import Knob, words
from hdpo.presets import settings_of

SECTIONS = {
    "model": "model",
    "data": "problems",
    "prompts": "prompts",
    "sampling": "sampling",
    "objective": "objective",
    "step": "steps",
    "evaluation": "evaluation",
    "train": "run",
    "": "run",
}


def command(commands: Any, name: str, help: str, run: Callable[[Any], int]) -> argparse.ArgumentParser:
    """One command; help is its line in the list and the head of its own help."""
    p: argparse.ArgumentParser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        allow_abbrev=False,
        usage=f"python -m hdpo {name} [options]",
    )
    p.add_argument("--json", action="store_true", help="one JSON object on standard output, nothing else")
    p.set_defaults(handler=run)
    return p


def add_knobs(parser: argparse.ArgumentParser, config: Any, without: tuple[str, ...] = ()) -> None:
    """A flag for every setting, grouped by section; one that is not given keeps the default shown."""
    groups: dict[str, Any] = {}
    for k in knobs(config):
        if k.name in without:
            continue
        section = SECTIONS[k.path[-2] if len(k.path) > 1 else ""]
        group = groups.setdefault(section, None) or parser.add_argument_group(section)
        groups[section] = group
        group.add_argument(
            k.flag, dest=k.name, type=reader(k), default=argparse.SUPPRESS, metavar=metavar(k), help=help_text(k)
        )


def help_text(k: Knob) -> str:
    """What it is, its default, the paper's value, its limits."""
    low, high = ("" if x is None else f"{x:g}" for x in (k.low, k.high))
    facts = [f"default {written(k.default)}", f"paper: {k.paper}" if k.paper else ""]
    facts.append(f"{low} to {high}" if low and high else f"at least {low}" if low else "")
    return f"{k.help} ({'; '.join(f for f in facts if f)})".replace("%", "%%")


def metavar(k: Knob) -> str:
    if k.options:
        return "{" + ",".join(written(o) for o in k.options) + "}"
    return {int: "N", float: "X", str: "TEXT"}.get(k.type, "X,X,…")


def written(value: Any) -> str:
    """A value as a flag takes it; line breaks shown as \\n.

    >>> written((0.0, 0.3)), written("")
    ('0,0.3', "''")
    """
    if isinstance(value, Enum):
        return str(value.value)
    if isinstance(value, tuple):
        return ",".join(written(v) for v in value)
    return (
        f"{value:g}"
        if isinstance(value, float)
        else repr(value)
        if isinstance(value, str) and not value.isalnum()
        else str(value)
    )


def reader(k: Knob) -> Callable[[str], Any]:
    """From text to the setting's type; limits are checked by the config itself. A wrong one is a sentence."""
    inner = k.type.__args__[0] if hasattr(k.type, "__args__") else k.type

    def one(text: str) -> Any:
        try:
            return inner(text)
        except ValueError:
            wanted = words(inner)
            raise argparse.ArgumentTypeError(f"expected {wanted}, found {text!r}. Give {wanted}.") from None

    def several(text: str) -> tuple[Any, ...]:
        return tuple(one(t.strip()) for t in text.split(",") if t.strip())

    return several if hasattr(k.type, "__args__") else one


def given_settings(args: Any, config: Any) -> dict[str, Any]:
    """The settings that stand on the command line, by name."""
    return {k.name: getattr(args, k.name) for k in knobs(config) if hasattr(args, k.name)}


def config_from(args: Any, default: Any) -> Any:
    """The config of a command line. A path is frozen whole, so that the run finds it from any folder; another model
    than the bundled one is asked in words it knows."""
    values = settings_of(args.preset, default) if getattr(args, "preset", "") else {}
    values |= given_settings(args, default)
    for name in ("model", "adapter", "problems", "validation_problems"):
        path = Path(values.get(name, "")).expanduser()
        if values.get(name, "bundled") != "bundled" and path.exists():
            values[name] = str(path.resolve())
    if values.get("model", "bundled") != "bundled" and not {"student", "privileged"} & values.keys():
        values |= dataclasses.asdict(INSTRUCT)
        say(
            "Wording: that of instruct models, since the model is not the bundled one; --student and --privileged change it."
        )
    return replace_knobs(default, values)
