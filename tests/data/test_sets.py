"""Sets under a name: what is kept, what a name stands for, what still needs it."""

from __future__ import annotations

from pathlib import Path

import pytest

from hdpo.config import ProblemConfig, ScanConfig, replace_knobs
from hdpo.data import sets
from hdpo.data.problems import load_problems
from hdpo.errors import BadInput
from hdpo.record.folder import RunWriter

ROWS = "Frage;Ergebnis\n" + "".join(f"Was ist {i} plus {i}?;{2 * i}\n" for i in range(20))


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path / "runs"))
    return tmp_path / "runs"


@pytest.fixture
def data(tmp_path: Path) -> ProblemConfig:
    file = tmp_path / "fragen.csv"
    file.write_text(ROWS, encoding="utf-8")
    return ProblemConfig(str(file), grader="number", columns="text=Frage,answer=Ergebnis", validation_share=0.3)


def test_a_name_stands_for_the_copy_and_its_settings(data: ProblemConfig) -> None:
    before = load_problems(data, "train").problems
    sets.keep("fragen", data)
    Path(data.problems).unlink()
    opened = sets.opened({"problems": "set:fragen", "grader": "exact"})
    assert (opened["grader"], opened["columns"]) == ("exact", data.columns)
    again = replace_knobs(data, {**opened, "grader": "number"})
    assert load_problems(again, "train").problems == before  # ids too
    assert sets.called(again.problems) == "set:fragen" and sets.names() == ["fragen"]


def test_held_out_problems_and_shards_come_along(tmp_path: Path, data: ProblemConfig) -> None:
    shards = tmp_path / "shards"
    shards.mkdir()
    for i in range(2):
        (shards / f"part-{i}.jsonl").write_text(f'{{"text": "{i}?", "answer": "{i}"}}\n')
    sets.keep("both", ProblemConfig(str(shards), validation_problems=str(shards / "part-0.jsonl")))
    (shards / "part-1.jsonl").unlink()
    kept = ProblemConfig(**sets.settings_of("both"))
    assert [p.text for p in load_problems(kept, "train").problems] == ["1?"]
    sets.keep("named", ProblemConfig("bundled:gentle"))
    assert ProblemConfig(**sets.settings_of("named")) == ProblemConfig("bundled:gentle")
    (sets.root() / "named" / "set.json").write_text('{"settings": {"problem": 1}}')
    with pytest.raises(BadInput, match="--delete named"):
        sets.settings_of("named")
    sets.remove("named")
    assert sets.names() == ["both"]


@pytest.mark.parametrize("name", ["", "../x", ".hidden", "a b", "a/b", "x" * 61])
def test_a_name_that_is_none_touches_nothing(root: Path, data: ProblemConfig, name: str) -> None:
    with pytest.raises(BadInput, match="expected a name"):
        sets.keep(name, data)
    with pytest.raises(BadInput, match="expected a name"):
        sets.remove(name, sure=True)
    assert not root.exists()


def test_a_taken_name_and_a_file_that_is_too_large_are_sentences(
    data: ProblemConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    sets.keep("mine", data)
    with pytest.raises(BadInput, match="which is taken"):
        sets.keep("mine", data)
    monkeypatch.setattr(sets, "LARGEST", 10)
    with pytest.raises(BadInput, match="at most"):
        sets.keep("other", data)
    assert sets.names() == ["mine"]


def test_a_set_that_a_run_needs_is_deleted_on_a_second_word_alone(root: Path, data: ProblemConfig) -> None:
    sets.keep("mine", data)
    config = replace_knobs(ScanConfig(), sets.opened({"problems": "set:mine"}))
    RunWriter.create("scan", config, root, name="first look")
    with pytest.raises(BadInput, match="first look read"):
        sets.remove("mine")
    assert sets.names() == ["mine"]
    sets.remove("mine", sure=True)
    assert sets.names() == [] and list(sets.root().iterdir()) == []
    with pytest.raises(BadInput, match="none yet"):
        sets.opened({"problems": "set:mine"})
