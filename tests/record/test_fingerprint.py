"""Which runs measure the same: fields that differ are named, those that a run does not say are unknown."""

from dataclasses import replace
from pathlib import Path

import pytest

from hdpo.config import ScanConfig
from hdpo.record.fingerprint import (
    MEASURED,
    TRAINING,
    UNKNOWN,
    Fingerprint,
    comparison_words,
    differences,
    digest_of_files,
)
from hdpo.record.folder import Run, RunWriter

WHOLE = Fingerprint(**{name: name for name in (*MEASURED, *TRAINING)})


@pytest.mark.parametrize("name", MEASURED)
def test_each_measured_field_forbids_the_comparison_and_is_named(name: str) -> None:
    other = replace(WHOLE, **{name: "another"})
    assert differences(WHOLE, other) == ((name,), ())
    assert comparison_words(WHOLE, other) == f"Not to be compared: they differ in {name}."


@pytest.mark.parametrize("name", TRAINING)
def test_what_a_run_learns_from_belongs_to_its_arm(name: str) -> None:
    other = replace(WHOLE, **{name: "another"})
    assert differences(WHOLE, other) == ((), ())
    assert differences(WHOLE, other, TRAINING) == ((name,), ())
    assert comparison_words(WHOLE, other) == "They measure the same."


def test_what_an_older_run_does_not_say_is_unknown_and_not_equal() -> None:
    older = replace(WHOLE, grader=UNKNOWN, semantics=UNKNOWN)
    assert differences(WHOLE, older) == differences(older, older) == ((), ("grader", "semantics"))
    words = "Whether they measure the same is unknown: an older run does not say its grader and semantics."
    assert comparison_words(WHOLE, older) == words
    assert differences(Fingerprint(), Fingerprint()) == ((), MEASURED)


@pytest.mark.parametrize("noted", [None, 7, [], {}, {"model": 7, "color": "red"}])
def test_a_damaged_fingerprint_is_an_unknown_one(tmp_path: Path, noted: object) -> None:
    writer = RunWriter.create("scan", ScanConfig(), tmp_path)
    writer.pin(fingerprint=noted)
    assert Run(writer.path).fingerprint == Fingerprint()
    writer.pin(fingerprint={"split": "test", "grader": 7})
    assert Run(writer.path).fingerprint == Fingerprint(split="test")


def test_a_digest_is_of_contents_and_their_order(tmp_path: Path) -> None:
    one, two, same = tmp_path / "a", tmp_path / "b", tmp_path / "c"
    for file, text in ((one, "x"), (two, "y"), (same, "x")):
        file.write_text(text)
    assert digest_of_files([one, two]) == digest_of_files([same, two]) != digest_of_files([two, one])
