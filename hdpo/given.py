"""What Python hands over, as files that a run can name: a list of problems, a grader function.

They lie in `given/` of the runs folder under a digest of their content: two runs on one list have the same settings, and a
run is resumed, shown and fingerprinted as any other.
"""

import ast
import builtins
import inspect
import json
import os
import symtable
import sys
import textwrap
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from hdpo.errors import BadInput, first_line
from hdpo.record.files import write_aside, writing
from hdpo.record.fingerprint import digest
from hdpo.record.folder import runs_root
from hdpo.records import Problem

Problems = str | os.PathLike[str] | Iterable[Problem | Mapping[str, Any]]
Grader = str | Callable[[str, str, str], float]


def problems_source(problems: Problems) -> str:
    """What --problems takes as it is; a list as a file of JSON lines. Raises BadInput for an empty one, and for what JSON
    cannot hold."""
    if isinstance(problems, str | os.PathLike):
        return os.fspath(problems)
    try:
        lines = [json.dumps(vars(p) if isinstance(p, Problem) else dict(p)) for p in problems]
    except (TypeError, ValueError) as e:
        words = f"expected a list of hdpo.Problem or of dicts of texts and numbers, found '{first_line(e)}'"
        raise BadInput(f"problems: {words}. Give text, solution and answer of each.") from e
    if not lines:
        raise BadInput("problems: expected at least one, found an empty list. Give some.")
    return str(kept("list", ".jsonl", "\n".join(lines) + "\n"))


def grader_spec(grader: Grader) -> str:
    """What --grader takes as it is; a function as FILE.py:NAME: of its own file where it stands in an imported one, else
    (in a notebook or the script that runs) of a file with its source. Raises BadInput as `alone` does."""
    if isinstance(grader, str):
        return grader
    name, module = getattr(grader, "__name__", ""), sys.modules.get(getattr(grader, "__module__", ""))
    file = getattr(module, "__file__", None) or ""
    if file.endswith(".py") and getattr(module, name, None) is grader and grader.__module__ != "__main__":
        return f"{Path(file).resolve()}:{name}"
    return f"{kept(name, '.py', alone(grader))}:{name}"


def alone(function: Callable[..., Any]) -> str:
    """The source of a function with the imports that it uses. Raises BadInput where the source cannot be had, and where it
    uses what is neither built in nor imported."""

    def refused(found: str) -> BadInput:
        words = f"expected a function written with def that needs nothing else, found {found}"
        return BadInput(f"grader: {words}. Put all of it inside, or into a file of its own: FILE.py:NAME.")

    if getattr(function, "__name__", "") == "<lambda>":
        raise refused("a lambda")
    try:
        source = textwrap.dedent(inspect.getsource(function))
        (tree,) = ast.parse(source).body
    except (OSError, TypeError, ValueError, SyntaxError) as e:
        raise refused(f"'{first_line(e)}'") from e
    if not isinstance(tree, ast.FunctionDef):
        raise refused(f"a source that begins with {source[:20]!r}")
    imports = []
    for name in sorted({*names_in(symtable.symtable(source, tree.name, "exec"))} - {tree.name, *dir(builtins)}):
        value = function.__globals__.get(name)
        if name in function.__code__.co_freevars or not (line := import_of(name, value)):
            raise refused(f"that {tree.name} uses {name}")
        imports.append(line)
    return "\n".join([*imports, "", "", source])


def names_in(table: symtable.SymbolTable) -> Iterator[str]:
    """The names that a source reads and does not make."""
    outermost = table.get_type() == "module"
    yield from (s.get_name() for s in table.get_symbols() if s.is_referenced() and (outermost or s.is_global()))
    for inner in table.get_children():
        yield from names_in(inner)


def import_of(name: str, value: object) -> str:
    """The line that gives a value this name; '' where none does.

    >>> import math
    >>> import_of("m", math), import_of("sqrt", math.sqrt), import_of("x", 3)
    ('import math as m', 'from math import sqrt as sqrt', '')
    """
    if isinstance(value, ModuleType):
        return f"import {value.__name__} as {name}"
    module, own = str(getattr(value, "__module__", "")), str(getattr(value, "__qualname__", ""))
    found = module != "__main__" and value is not None and getattr(sys.modules.get(module), own, None) is value
    return f"from {module} import {own} as {name}" if found else ""


def kept(stem: str, suffix: str, text: str) -> Path:
    """The file of this content, written where there is none yet."""
    path = runs_root() / "given" / f"{stem}-{digest([text])[:8]}{suffix}"
    if not path.is_file():
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        write_aside(path, text)
    return path
