"""The house: who may import whom. It reads from the bottom to the top; a wing may use what stands on a lower floor.

An import that points up, a circle between modules, Streamlit in the engine or torch in the app: this fails and names it.
"""

import ast
import subprocess
import sys
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
HEAVY = {"torch", "transformers", "peft", "vllm"}
FLOORS = [
    {"hdpo"},  # what everyone may use: config, knobs, presets, records, errors
    {"hdpo.grading", "hdpo.record"},
    {"hdpo.evidence"},
    {"hdpo.data"},
    {"hdpo.model"},
    {"hdpo.sampling"},
    {"hdpo.method"},
    {"hdpo.work"},
    {"hdpo.cli", "hdpo.organism", "hdpo.given"},
    {"hdpo.api"},
]
APP_FLOORS = [
    {"workbench.workers", "workbench.state", "workbench.columns"},
    {"workbench.forms"},
    {"workbench.data", "workbench.figures"},
    {"workbench.launch"},
    {"workbench.components"},
    {"workbench.home"},
    {"workbench.app", "workbench.__main__", "pages"},
]
LIGHT = [
    "hdpo",
    "hdpo.config",
    "hdpo.records",
    "hdpo.processes",
    "hdpo.record.folder",
    "hdpo.work.jobs",
    "hdpo.data.problems",
    "hdpo.data.prompts",
]
LIGHT += ["hdpo.api", "hdpo.evidence.stats", "hdpo.model.find", "hdpo.cli.main", "hdpo.work.imports"]


def files(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


MODULES = {name_of(p): p for p in files("hdpo", "workbench", "pages")}


@lru_cache
def imports(path: Path) -> frozenset[str]:
    """The modules of this project, and the top-level packages of others, that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {m if (m := f"{node.module}.{a.name}") in MODULES else node.module for a in node.names}
    return frozenset(m if m in MODULES else m.split(".")[0] for m in found)


def floor_of(module: str, floors: list[set[str]]) -> int | None:
    """The floor of the longest of its names that stands on one."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        for number, floor in enumerate(floors):
            if ".".join(parts[:end]) in floor:
                return number
    return None


def going_up(floors: list[set[str]]) -> list[str]:
    """Imports between two wings that do not go down."""
    wings = set().union(*floors) - {"hdpo"}
    wing = {m: next((w for w in wings if f"{m}.".startswith(f"{w}.")), "hdpo") for m in MODULES}
    found = []
    for module, path in MODULES.items():
        here = floor_of(module, floors)
        for used in imports(path) & MODULES.keys():
            there = floor_of(used, floors)
            if here is not None and there is not None and wing[module] != wing[used] and there >= here:
                found.append(f"{module} → {used}")
    return sorted(found)


def test_a_wing_uses_lower_floors_alone() -> None:
    assert going_up(FLOORS) == ["hdpo.__main__ → hdpo.cli.main"]  # the door


def test_the_apps_wings_use_lower_floors_alone() -> None:
    assert going_up(APP_FLOORS) == []


def test_every_wing_has_its_floor() -> None:
    drawn = set().union(*FLOORS)
    assert {f"hdpo.{p.name}" for p in (ROOT / "hdpo").iterdir() if p.is_dir() and p.name != "__pycache__"} <= drawn
    assert len(FLOORS) <= 10


def test_no_module_imports_itself_in_a_circle() -> None:
    graph = {m: imports(p) & MODULES.keys() - {m} for m, p in MODULES.items()}
    try:
        list(TopologicalSorter(graph).static_order())
    except CycleError as e:
        pytest.fail(" → ".join(reversed(e.args[1])))


@pytest.mark.parametrize("path", files("hdpo"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_knows_no_app(path: Path) -> None:
    assert not {m.split(".")[0] for m in imports(path)} & {"streamlit", "plotly", "workbench", "pages"}


@pytest.mark.parametrize("path", files("workbench", "pages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_app_computes_nothing_heavy(path: Path) -> None:
    assert not imports(path) & HEAVY


def test_vllm_has_one_door() -> None:
    assert [p.name for p in files("hdpo") if "vllm" in imports(p)] == ["vllm_engines.py"]


def test_what_is_light_stays_light() -> None:
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", files("hdpo", "workbench", "pages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_a_long_file_says_why(path: Path) -> None:
    text = path.read_text(encoding="utf-8")
    assert text.count("\n") <= 300 or "This file is long:" in (ast.get_docstring(ast.parse(text)) or "")


def test_a_fragment_has_a_room_of_its_own() -> None:
    """`state.alone` says why; a page with a bare one is gone, now and then, on a busy machine."""
    bare = [name for name, path in MODULES.items() if "st.fragment" in path.read_text(encoding="utf-8")]
    assert bare == ["workbench.state"]
