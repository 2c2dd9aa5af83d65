"""`python -m hdpo problems`: what a set is, kept under a name, taken by every command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hdpo.cli.args import config_from
from hdpo.cli.main import main, make_parser
from hdpo.config import TrainConfig
from tests.conftest import needs_model

ODD = "Nr;Frage;Ergebnis\n" + "".join(f"{i};Was ist {i} plus {i}?;{2 * i}\n" for i in range(30))
COLUMNS = "text=Frage,answer=Ergebnis"


@pytest.fixture(autouse=True)
def odd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path / "runs"))
    (tmp_path / "odd.csv").write_text(ODD, encoding="utf-8")
    return str(tmp_path / "odd.csv")


def test_odd_columns_are_named_with_a_mapping_that_works(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs_model()
    assert main(["problems", odd]) == 2
    assert f"for example {COLUMNS}" in capsys.readouterr().err
    assert main(["problems", odd, "--columns", COLUMNS]) == 0
    said = capsys.readouterr().out
    assert "Was ist 0 plus 0?" in said and "30 rows: 30 problems" in said and "Warning: " in said


def test_a_kept_set_is_taken_with_its_settings_listed_and_deleted(odd: str, capsys: pytest.CaptureFixture[str]) -> None:
    needs_model()
    how = ["--columns", COLUMNS, "--grader", "number", "--validation-share", "0.4", "--save", "odd", "--json"]
    assert main(["problems", odd, *how]) == 0
    assert json.loads(capsys.readouterr().out)["set"] == "set:odd"
    args, _ = make_parser("train").parse_known_args(["train", "--problems", "set:odd", "--validation-share", "0.2"])
    data = config_from(args, TrainConfig()).data
    assert (data.grader, data.columns, data.validation_share) == ("number", COLUMNS, 0.2)
    assert Path(data.problems).is_file()
    assert main(["problems"]) == 0 and "set:odd" in capsys.readouterr().out
    assert main(["problems", "set:odd", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["problems"] == "set:odd"
    assert main(["problems", "--delete", "odd"]) == 0
    assert main(["scan", "--problems", "set:odd", "--dry-run"]) == 2
    assert "set: expected" in capsys.readouterr().err
