"""The README is part of the program: its tree, its commands and its links are held to the repository."""

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from hdpo.cli.main import make_parser
from tests.conftest import needs_model

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TREE = README.split("## The files")[1].split("```")[1]
COMMANDS = re.findall(r"^\.venv/bin/python -m hdpo (.*)$", README, re.M)


def named_in_tree() -> set[str]:
    """Paths of the tree's lines; an indented name belongs to the folder above it, `a.py, b.py` are two."""
    found, folder = set(), ""
    for line in filter(str.strip, TREE.splitlines()):
        names = re.match(r"\s*((?:[\w./]+)(?:, [\w./]+)*)", line)[1].split(", ")
        if not line.startswith(" "):
            folder = names[0]
            found.add(folder)
        else:
            found |= {folder + n for n in names}
    return found


def test_everything_in_the_tree_exists() -> None:
    missing = [p for p in named_in_tree() if not (ROOT / p).exists()]
    assert missing == []


def test_every_file_of_the_engine_stands_in_the_tree() -> None:
    files = (p.relative_to(ROOT).as_posix() for p in (ROOT / "hdpo").rglob("*.py"))
    engine = {f for f in files if not f.startswith("hdpo/organism/")}
    assert engine - named_in_tree() == set()


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_understood(line: str) -> None:
    make_parser().parse_args(shlex.split(line))


def test_the_python_example_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from tests.test_notebooks import run_cell

    needs_model()
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path))
    (example,) = re.findall(r"^```python\n(.*?)^```", README, re.M | re.S)
    space = {"__name__": "__main__"}
    run_cell(example, 0, space)
    said = capsys.readouterr().out
    assert "cliff" in said and "difference" in said and "correct" in said
    assert type(space["model"]).__name__ == "PeftModelForCausalLM"


def test_both_one_line_commands_install_and_start() -> None:
    lines = re.findall(r"^python3 -m venv .*$", README, re.M)
    assert len(lines) == 2 and "-r requirements.txt" in lines[0] and "-m workbench" in lines[0]
    assert "-r requirements-dev.txt" in lines[1] and "-m pytest" in lines[1]


def test_every_local_link_and_picture_exists() -> None:
    for file in (
        ROOT / "README.md",
        ROOT / "assets" / "MODEL_CARD.md",
        ROOT / "assets" / "GRADING.md",
        ROOT / "assets" / "NOTEBOOK.md",
    ):
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", file.read_text(encoding="utf-8")):
            assert (file.parent / target).exists(), f"{file.name}: {target}"


def test_the_repository_stays_small() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.split(b"\0")
    size = sum((ROOT / f.decode()).stat().st_size for f in files if f and (ROOT / f.decode()).is_file())
    assert size < 64e6
