"""The direction of imports, and what must stay light."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = {"torch", "transformers", "peft", "vllm"}
LIGHT = ("hdpo", "hdpo.config", "hdpo.records", "hdpo.runs", "hdpo.jobs", "hdpo.problems", "hdpo.stats", "hdpo.prompts")


def imports(path: Path) -> set[str]:
    """Top-level packages that a file imports anywhere in it."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name.split(".")[0] for a in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module.split(".")[0])
    return found


def files(*folders: str) -> list[Path]:
    return [p for folder in folders for p in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("path", files("hdpo"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_engine_knows_no_app(path: Path) -> None:
    assert not imports(path) & {"streamlit", "plotly", "workbench", "pages"}


@pytest.mark.parametrize("path", files("workbench", "pages"), ids=lambda p: str(p.relative_to(ROOT)))
def test_the_app_computes_nothing_heavy(path: Path) -> None:
    assert not imports(path) & HEAVY


def test_vllm_has_one_door() -> None:
    assert [p.name for p in files("hdpo") if "vllm" in imports(p)] == ["vllm_engines.py"]


def test_what_is_light_stays_light() -> None:
    code = f"import sys, {', '.join(LIGHT)}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
