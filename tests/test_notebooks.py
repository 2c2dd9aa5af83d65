"""The notebook does what it says: its cells run in one namespace, as a kernel runs them, and the findings that it tells are there."""

from __future__ import annotations

import ast
import json
import linecache
from pathlib import Path
from typing import Any

import pytest

from hdpo.cli.main import main
from hdpo.record.folder import Run
from tests.conftest import REPOSITORY, needs_model


def cells(name: str) -> list[str]:
    book = json.loads((REPOSITORY / "assets" / "notebooks" / name).read_text(encoding="utf-8"))
    return ["".join(c["source"]) for c in book["cells"] if c["cell_type"] == "code"]


def run_cell(source: str, number: int, space: dict[str, Any]) -> Any:
    """As IPython does: the source is known under the cell's name, and the last expression is the answer."""
    name = f"<cell {number}>"
    linecache.cache[name] = (len(source), None, source.splitlines(keepends=True), name)
    body = ast.parse(source).body
    answer = body.pop() if isinstance(body[-1], ast.Expr) else None
    exec(compile(ast.Module(body, []), name, "exec"), space)
    return eval(compile(ast.Expression(answer.value), name, "eval"), space) if answer else None


def test_the_library_notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    needs_model()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HDPO_RUNS", raising=False)
    space: dict[str, Any] = {"__name__": "__main__"}
    answers = [run_cell(source, i, space) for i, source in enumerate(cells("library.ipynb"))]
    scan, compared, figure, rollouts = answers[2], answers[4], answers[5], answers[6]
    assert scan["cliff"] >= 10 and scan["mixed"] + scan.get("solved", 0) >= 10
    assert compared.loc["cliffs", "high"] < 0 < compared.loc["pass@4", "low"]  # the peek healed cliffs, and it shows
    assert {"λ = 0, seed 0", "λ = 0.3, seed 0"} <= {trace.name for trace in figure.data}
    assert rollouts["accepted"].any()
    assert "boxed" in capsys.readouterr().out
    runs = sorted((tmp_path / "runs").glob("*/config.json"))
    assert [Run(c.parent).kind for c in runs] == ["scan", "train", "train"] and main(["runs"]) == 0


def test_the_notebook_is_kept_without_outputs() -> None:
    book = json.loads((REPOSITORY / "assets" / "notebooks" / "library.ipynb").read_text(encoding="utf-8"))
    assert not any(c.get("outputs") or c.get("execution_count") for c in book["cells"])
