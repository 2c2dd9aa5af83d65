"""Named problem sets: `set:NAME` stands for a copy of a file and the settings that it is read with.

They lie in `sets/` of the runs folder, a folder each: the files under their own names, of which problem ids are made, and
set.json. A name is resolved where settings are read, so that a run pins the copy's path and every setting.
"""

import json
import os
import re
import shutil
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from hdpo.config import ProblemConfig
from hdpo.errors import BadInput, brief
from hdpo.gym import PREFIX as GYM
from hdpo.hub import is_hub_id
from hdpo.record.files import beside, read_json, writing
from hdpo.record.folder import Run, all_runs, runs_root

PREFIX = "set:"
LARGEST = 2 * 10**9  # bytes that are copied
FILES = ("problems", "validation_problems")
_NAME = re.compile(r"\w[\w.-]{0,59}")


def root() -> Path:
    return runs_root() / "sets"


def names() -> list[str]:
    return sorted(p.parent.name for p in root().glob("*/set.json") if _NAME.fullmatch(p.parent.name))


def keep(name: str, data: ProblemConfig) -> Path:
    """Copy the files of `data` and note its settings under a name. Raises BadInput for a name that is none or is taken, and
    for more than LARGEST bytes; HdpoError where nothing can be written."""
    place = _place(name)
    if place.exists():
        way = f"Choose another, or delete that one: python -m hdpo problems --delete {name}"
        raise BadInput(f"set: expected a new name, found {name}, which is taken. {way}")
    values = dict(vars(data))
    files = {f: Path(values[f]).expanduser() for f in FILES if values[f] and not is_named(values[f])}
    size = sum(p.stat().st_size for path in files.values() for p in (path, *path.rglob("*")) if p.is_file())
    if size > LARGEST:
        found = f"at most {LARGEST / 1e9:g} GB, since a set is a copy, found {size / 1e9:.1f}"
        raise BadInput(f"set: expected {found}. Name the file itself with --problems.")
    with writing(place):
        root().mkdir(parents=True, exist_ok=True)
    with beside(place) as aside:
        for field, path in files.items():
            values[field] = path.name
            (aside / field).mkdir(parents=True)
            (shutil.copytree if path.is_dir() else shutil.copyfile)(path, aside / field / path.name)
        aside.mkdir(exist_ok=True)
        (aside / "set.json").write_text(json.dumps({"settings": values, "copied": list(files)}), encoding="utf-8")
    return place


def opened(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings in which a set's name stands for what it keeps, and problems of reasoning-gym bring their scorer; a setting
    beside them wins. Raises BadInput for a name that is none."""
    found = dict(settings)
    for field in FILES:
        if str(found.get(field, "")).startswith(PREFIX):
            kept = settings_of(found[field].removeprefix(PREFIX))
            found = (kept if field == "problems" else {}) | found | {field: kept["problems"]}
    own = found.get("problems", "")
    return {"grader": own, **found} if own.startswith(GYM) else found


def settings_of(name: str) -> dict[str, Any]:
    """What a set keeps, its files as whole paths. Raises BadInput where there is none of that name, or a damaged one."""
    place = _kept(name)
    kept = read_json(place / "set.json")
    try:
        found = kept["settings"] | {f: str(place / f / kept["settings"][f]) for f in kept["copied"]}
        return vars(ProblemConfig(**found))
    except (TypeError, KeyError) as e:
        way = f"Delete it and keep the file again: python -m hdpo problems --delete {name}"
        raise BadInput(f"set: expected settings in set.json of {name}, found something else ({brief(e)}). {way}") from e


def remove(name: str, sure: bool = False) -> None:
    """Delete a set. Raises BadInput where a run still needs it, unless that is meant."""
    place = _kept(name)
    if not sure and (needed := users(name)):
        runs = ", ".join(r.name for r in needed[:5]) + f" and {len(needed) - 5} more" * (len(needed) > 5)
        kept = "They stay readable; none of them can be resumed or evaluated without it"
        raise BadInput(
            f"set: expected one that no run needs, found {name}, which {runs} read. {kept}. Add --yes to delete it."
        )
    with writing(place):
        gone = place.with_name(f".{name}.{os.getpid()}.tmp")
        os.replace(place, gone)
        shutil.rmtree(gone)


def users(name: str) -> list[Run]:
    """The runs that read a set."""
    found = []
    for run in all_runs():
        with suppress(BadInput):
            config = run.load_config()
            data = getattr(config, "train", config).data
            found += [run] * any(called(getattr(data, f)) == PREFIX + name for f in FILES)
    return found


def called(problems: str) -> str:
    """A set's name for the path of its copy; everything else as it is."""
    with suppress(ValueError):
        parts = Path(problems).relative_to(root()).parts
        return PREFIX + parts[0] if len(parts) == 3 and _NAME.fullmatch(parts[0]) else problems
    return problems


def is_named(problems: str) -> bool:
    """Whether it is no path: a bundled set, a kept one, one that is made, or a hub id.

    >>> [is_named(p) for p in ("bundled:steep", "set:mine", "reasoning-gym:chain_sum", "openai/gsm8k", "data/mine.csv")]
    [True, True, True, True, False]
    """
    return problems.startswith(("bundled:", PREFIX, GYM)) or is_hub_id(problems)


def _kept(name: str) -> Path:
    if not (_place(name) / "set.json").is_file():
        known = ", ".join(PREFIX + n for n in names()) or "none yet"
        way = "Keep a file as one: python -m hdpo problems FILE --save NAME"
        raise BadInput(f"set: expected one of {known}, found {name!r}. {way}")
    return _place(name)


def _place(name: str) -> Path:
    if not _NAME.fullmatch(name):
        raise BadInput(
            f"set: expected a name of up to 60 letters, digits, '.', '_' and '-', found {name!r}. Choose another."
        )
    return root() / name
