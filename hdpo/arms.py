"""The arms of a comparison by name (`assets/arms.toml`): a source, a sentence, and the settings that make it."""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from hdpo.assets import ASSETS
from hdpo.errors import BadInput


@dataclass(frozen=True)
class Arm:
    """settings: by the names of `hdpo.config`, beside which everything else stays as it is."""

    source: str
    says: str
    settings: dict[str, Any]


PLAIN = ("grpo", "hdpo")  # of which λ tells everything


def _arm(table: dict[str, Any]) -> Arm:
    return Arm(table.pop("source"), table.pop("says"), table)


ARMS = {name: _arm(t) for name, t in tomllib.loads((ASSETS / "arms.toml").read_text(encoding="utf-8")).items()}


def arm(name: str) -> Arm:
    """Raises BadInput for one that is not there.

    >>> arm("frozen").settings
    {'teacher': 'frozen'}
    """
    if name not in ARMS:
        raise BadInput(f"arms: expected some of {', '.join(ARMS)}, found {name!r}. Choose of them.")
    return ARMS[name]


def name_of(settings: Mapping[str, Any]) -> str:
    """The arm that these settings make, by the names of `hdpo.config`: of those whose own all hold, the one with most.

    >>> name_of({"lambda_": 0.3, "weight": "first", "first_steps": 20}), name_of({"lambda_": 0.0, "weight": "first"})
    ('sequential', 'grpo')
    """

    def plain(value: Any) -> Any:
        return value.value if isinstance(value, Enum) else value

    def holds(own: Mapping[str, Any]) -> bool:
        trained = settings["lambda_"] == own.get("lambda_", settings["lambda_"] or None)
        return trained and all(plain(settings.get(k)) == v for k, v in own.items())

    return max((n for n, a in ARMS.items() if holds(a.settings)), key=lambda n: len(ARMS[n].settings))
