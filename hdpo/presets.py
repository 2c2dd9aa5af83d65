"""Settings that belong together, by name (`assets/presets.toml`); flags beside a preset change single ones."""

import tomllib
from dataclasses import dataclass
from typing import Any

from hdpo.assets import ASSETS
from hdpo.config import PromptConfig, knobs
from hdpo.errors import BadInput

TABLES = tomllib.loads((ASSETS / "presets.toml").read_text(encoding="utf-8"))
INSTRUCT = PromptConfig(**TABLES["wording"])


@dataclass(frozen=True)
class Preset:
    """settings: by the names of `hdpo.config`; differs: how it is not the paper's run, one sentence each."""

    help: str
    settings: dict[str, Any]
    differs: tuple[str, ...] = ()


def settings_in(name: str) -> dict[str, Any]:
    """Of one table, what it begins with included."""
    before = settings_in(TABLES[name]["as"]) if "as" in TABLES[name] else {}
    return before | {k: v for k, v in TABLES[name].items() if k not in ("as", "help", "differs")}


OWN_MODEL = settings_in("own-model")
# Models whose names are no paths; both write as their problems do, without being told how.
SHIPPED = ("bundled", "smollm2")
NEEDED = ("dtype", "max_new_tokens", "learning_rate", "warmup")
PRESETS = {
    name: Preset(t["help"], settings_in(name), tuple(t.get("differs", ()))) for name, t in TABLES.items() if "help" in t
}


def settings_of(name: str, config: Any) -> dict[str, Any]:
    """What a preset sets of the knobs that this kind of job has. Raises BadInput for an unknown one."""
    if name not in PRESETS:
        raise BadInput(f"preset: expected one of {', '.join(PRESETS)}, found {name!r}. Choose one of them.")
    known = {k.name for k in knobs(config)}
    return {key: value for key, value in PRESETS[name].settings.items() if key in known}


def brought(model: str) -> dict[str, Any]:
    """What a model sets where nobody chose: nothing the bundled one, what it needs of its preset the raised one, a wording
    and room to write any other."""
    if model not in SHIPPED:
        return OWN_MODEL
    return {k: v for k, v in PRESETS[model].settings.items() if k in NEEDED}


def wording_of(model: str) -> PromptConfig:
    return PromptConfig() if model in SHIPPED else INSTRUCT
