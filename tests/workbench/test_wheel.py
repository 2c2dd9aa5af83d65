"""What a wheel carries: all that the app and the terminal open, inside the two packages; no picture, no test."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import REPOSITORY
from workbench import __main__ as door

LISTED = """
import setuptools
from distutils.core import run_setup
command = run_setup("setup.py", stop_after="init").get_command_obj("build_py")
command.build_lib = "wheel"
command.ensure_finalized()
print("\\n".join(command.get_outputs(include_bytecode=False)))
"""


@pytest.fixture(scope="module")
def carried() -> set[str]:
    """The wheel's files, listed by setuptools without building it."""
    done = subprocess.run([sys.executable, "-c", LISTED], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return {Path(line).relative_to("wheel").as_posix() for line in done.stdout.splitlines()}


def under(folder: str, pattern: str) -> set[str]:
    return {p.relative_to(REPOSITORY / folder).as_posix() for p in (REPOSITORY / folder).glob(pattern) if p.is_file()}


def test_a_wheel_carries_every_module_page_and_setting(carried: set[str]) -> None:
    for package in ("hdpo", "workbench"):
        assert {f"{package}/{p}" for p in under(package, "**/*.py")} <= carried
    assert {f"workbench/page_scripts/{p}" for p in under("pages", "*.py")} <= carried
    assert {"workbench/.streamlit/config.toml", "hdpo/py.typed", "hdpo/__init__.pyi"} <= carried
    # A folder `pages` beside its script makes Streamlit put up a navigation of its own.
    assert not any(name.startswith("workbench/pages/") for name in carried)


def test_a_wheel_carries_every_asset_that_is_no_page_to_read(carried: set[str]) -> None:
    assets = under("assets", "**/*")
    wanted = {p for p in assets if not p.startswith("screenshots/") and not p.endswith(".md")}
    assert {"icon.png", "presets.toml", "model/model.safetensors", "problems/steep/test.jsonl"} <= wanted
    assert {name.removeprefix("workbench/assets/") for name in carried if "/assets/" in name} == wanted


def test_a_wheel_carries_nothing_else(carried: set[str]) -> None:
    assert {name.split("/")[0] for name in carried} == {"hdpo", "workbench"}
    assert not any("screenshots" in name or name.endswith(".md") for name in carried)


@pytest.mark.parametrize(
    ("port", "words"), [(70000, "expected 0 to 65535, found 70000"), (-1, "expected 0 to 65535, found -1"), (0, "")]
)
def test_a_port_out_of_range_is_a_sentence(port: int, words: str) -> None:
    assert words in door.refusal(port) and bool(words) == bool(door.refusal(port))


def test_without_the_apps_part_the_door_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "find_spec", lambda name: None if name == "plotly" else object())
    assert "expected plotly" in door.refusal(0) and "pip install 'hdpo-workbench[app]'" in door.refusal(0)
