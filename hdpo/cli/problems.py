"""`python -m hdpo problems`: what a problem set is before anything runs; sets kept under a name, listed and deleted."""

import argparse
from typing import Any

from hdpo.cli.args import add_knobs, add_preset, command, config_from, some
from hdpo.cli.results import table
from hdpo.cli.terminal import tell
from hdpo.config import ScanConfig
from hdpo.data import sets
from hdpo.errors import BadInput, brief
from hdpo.work import prepare_libraries
from hdpo.work.preflight import UNREAD

WIDE = 300  # characters shown of a problem's text


def add_command(commands: Any, asked: str | None) -> None:
    p = command(commands, "problems", "what a problem set is before anything runs; sets kept under a name", look)
    p.usage = f"{p.prog} [FILE | HUB_ID | bundled:NAME | set:NAME] [options]"
    which = "a file, a folder of shards, a hub id, bundled:NAME or set:NAME; without it, the sets that are kept"
    p.add_argument("problems", nargs="?", metavar="FILE", type=some, default=argparse.SUPPRESS, help=which)
    keep = "keep it with these settings, as a copy that every command takes as set:NAME"
    p.add_argument("--save", metavar="NAME", type=some, help=keep)
    p.add_argument("--delete", metavar="NAME", type=some, help="delete a set that is kept")
    p.add_argument("--yes", action="store_true", help="with --delete: also where a run still needs it")
    add_preset(p)
    if asked in (None, "problems"):
        add_knobs(p, ScanConfig(), UNREAD["problems"])


def look(args: Any) -> int:
    if args.delete:
        name = args.delete.removeprefix(sets.PREFIX)
        sets.remove(name, args.yes)
        return tell(args, {"deleted": name}, f"{sets.PREFIX}{name} is deleted.")
    if not hasattr(args, "problems"):
        if args.save:
            raise BadInput(
                "save: expected a set to keep, found none. Give its file: python -m hdpo problems FILE --save NAME"
            )
        return list_sets(args)
    config: ScanConfig = config_from(args, ScanConfig())
    prepare_libraries()
    from hdpo.work.survey import survey

    found = survey(config)
    words = text_of(found)
    if args.save:
        place = sets.keep(args.save, config.data)
        found |= {"set": sets.PREFIX + args.save, "path": str(place)}
        words += f"\nKept: python -m hdpo scan --problems {sets.PREFIX}{args.save}"
    return tell(args, found, words)


def list_sets(args: Any) -> int:
    found = [{"set": sets.PREFIX + name, **sets.settings_of(name)} for name in sets.names()]
    none = "No sets yet. This keeps one: python -m hdpo problems FILE --save NAME"
    shown = ("set", "problems", "columns", "grader", "validation_share")
    return tell(args, found, table(shown, ([s[name] for name in shown] for s in found)) if found else none)


def text_of(found: dict[str, Any]) -> str:
    """The first problems, what the set is, and what to mend."""
    lines = [found["problems"], ""]
    for p in found["shown"]:
        lines += [f"  {brief(p['text'], WIDE)}", f"    gold {brief(p['answer'], WIDE)}"]
        lines += [f"    solution {brief(p['solution'], WIDE)}"] * bool(p["solution"])
    return "\n".join([*lines, "", *found["told"], *(f"Warning: {w}" for w in found["warnings"])])
