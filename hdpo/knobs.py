"""How a frozen dataclass becomes flags, widgets and JSON: the machinery behind `hdpo.config`, one schema for all.

A section is a frozen dataclass of `knob` fields; a config is a dataclass of sections (and knobs of its own).
"""

import ast
import dataclasses
import inspect
import itertools
import math
import typing
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from typing import Any

from hdpo.errors import BadInput

T = typing.TypeVar("T")
hints_of = lru_cache(typing.get_type_hints)  # annotations are texts, slow to read


def knob(default: Any, *, low: float | None = None, high: float | None = None, options: tuple[Any, ...] = ()) -> Any:
    """A field with its limits, inclusive. The docstring beneath it is its help: `documented`."""
    return field(default=default, metadata={"low": low, "high": high, "options": options})


@typing.dataclass_transform(frozen_default=True)
def section(cls: type[T]) -> type[T]:
    """A frozen dataclass whose values are checked (`check`), before its own `__post_init__`."""
    own = getattr(cls, "__post_init__", lambda self: None)

    def __post_init__(self: Any) -> None:
        check(self)
        own(self)

    cls.__post_init__ = __post_init__  # type: ignore[attr-defined]
    return dataclass(frozen=True)(cls)


@lru_cache
def documented(cls: type) -> dict[str, tuple[str, str]]:
    """Field → (help, the paper's value or ""), from the docstring beneath each field: "What it is, unit. Paper: 1e-6."

    >>> from hdpo.config import StepConfig
    >>> documented(StepConfig)["warmup"]
    ('Steps over which the learning rate rises from 0.1× to 1×', '50')
    """
    source, found = ast.parse(inspect.getsource(cls)).body[0], {}
    for pair in itertools.pairwise(ast.iter_child_nodes(source)):
        match pair:
            case ast.AnnAssign(target=ast.Name(name)), ast.Expr(ast.Constant(str(told))):
                text, _, paper = told.removesuffix(".").partition(". Paper: ")
                found[name] = text, paper
    return found


@dataclass(frozen=True)
class Knob:
    """One setting as the command line and the forms see it. `path` leads through the sections to the field."""

    name: str
    path: tuple[str, ...]
    type: Any
    default: Any
    help: str
    paper: str
    low: float | None
    high: float | None
    options: tuple[Any, ...]

    @property
    def flag(self) -> str:
        return "--" + self.name.rstrip("_").replace("_", "-")

    def words(self, value: str | bool) -> list[str]:
        """How a command line says it: a tick by its flag alone."""
        return [self.flag if value else f"--no-{self.flag[2:]}"] if isinstance(value, bool) else [self.flag, value]


def knobs(config: Any, path: tuple[str, ...] = ()) -> Iterator[Knob]:
    """Every setting of a config (an instance: its values are the defaults), sections first to last.

    >>> from hdpo.config import SamplingConfig
    >>> [k.flag for k in knobs(SamplingConfig())]
    ['--temperature', '--top-p', '--max-new-tokens', '--stop']
    """
    hints = hints_of(config.__class__)
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            yield from knobs(value, (*path, f.name))
        else:
            m, hint = f.metadata, hints[f.name]
            options = tuple(hint) if isinstance(hint, type) and issubclass(hint, Enum) else m["options"]
            told = documented(config.__class__)[f.name]
            yield Knob(f.name, (*path, f.name), hint, value, *told, m["low"], m["high"], options)


def replace_knobs(config: Any, values: Mapping[str, Any]) -> Any:
    """A copy with some settings changed by name, wherever their section is. Raises BadInput for a name that is none.

    >>> from hdpo.config import TrainConfig
    >>> replace_knobs(TrainConfig(), {"lambda_": 0.1, "steps": 5}).objective.lambda_
    0.1
    """
    left = dict(values)

    def changed(data: dict[str, Any]) -> dict[str, Any]:
        return {name: changed(v) if isinstance(v, dict) else plain(left.pop(name, v)) for name, v in data.items()}

    data = changed(to_json(config))
    if unknown := ", ".join(sorted(left)):
        raise BadInput(f"settings: {unknown} is no setting of {type(config).__name__}. Remove it or mend the name.")
    return from_json(type(config), data)


def check(config: Any) -> None:
    """Type, finiteness, limits and options of a config's own fields, by their metadata. Raises BadInput."""
    hints = hints_of(config.__class__)
    for f in dataclasses.fields(config):
        value = getattr(config, f.name)
        if dataclasses.is_dataclass(value):
            continue
        name = f.name.rstrip("_").replace("_", "-")
        want = (typing.get_args(hints[f.name]) or (hints[f.name],))[0]
        low, high, options = (f.metadata[limit] for limit in ("low", "high", "options"))
        for item in value if isinstance(value, tuple) else (value,):
            if isinstance(item, bool) is not (want is bool) or not isinstance(
                item, (int, float) if want is float else want
            ):
                raise BadInput(f"{name}: expected {words(want)}, found {item!r}. Give {words(want)}.")
            if isinstance(item, float) and not math.isfinite(item):
                raise BadInput(f"{name}: expected a finite number, found {item}. Give a finite number.")
            if low is not None and item < low or high is not None and item > high:
                span = f"at least {low}" if high is None else f"{low} to {high}"
                raise BadInput(f"{name}: expected {span}, found {item}. Give a value in that range.")
            if options and item not in options:
                known = ", ".join(map(str, options))
                raise BadInput(f"{name}: expected one of {known}, found {item!r}. Choose one of them.")


def words(t: type) -> str:
    if issubclass(t, Enum):
        return "one of " + ", ".join(e.value for e in t)
    return {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}.get(t, t.__name__)


def plain(value: Any) -> Any:
    """What JSON can hold: enums as their value, tuples as lists."""
    if isinstance(value, Enum):
        return value.value
    return [plain(v) for v in value] if isinstance(value, (tuple, list)) else value


def to_json(config: Any) -> dict[str, Any]:
    """Nested dicts, one a section."""
    return dataclasses.asdict(config, dict_factory=lambda items: {name: plain(value) for name, value in items})


def from_json(cls: type, data: Any) -> Any:
    """The inverse of `to_json`; a missing field takes its default, an unknown one raises BadInput."""
    if not isinstance(data, dict):
        found = type(data).__name__
        raise BadInput(f"config: expected a {cls.__name__} object, found {found}. Use the run's config.json.")
    hints = hints_of(cls)
    if unknown := ", ".join(sorted(set(data) - {f.name for f in dataclasses.fields(cls)})):
        raise BadInput(f"config: {unknown} is no setting of {cls.__name__}. Was it written by another version?")
    return cls(**{name: parse(hints[name], value, name) for name, value in data.items()})


def parse(hint: Any, value: Any, name: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value)
    if isinstance(hint, type) and issubclass(hint, Enum):
        try:
            return hint(value)
        except ValueError:
            raise BadInput(f"{name}: expected {words(hint)}, found {value!r}. Choose one of them.") from None
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, (list, tuple)):
            raise BadInput(f"{name}: expected a list, found {value!r}. Give values with commas between.")
        return tuple(value)
    return float(value) if hint is float and isinstance(value, int) and not isinstance(value, bool) else value
