"""Links and places: a dead link is told, an address holds its own page's settings alone, a choice outlives a change of page."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fakes import fake_scan_run, fake_train_run, open_page


@pytest.mark.parametrize(
    ("page", "key"),
    [
        ("cliffs", "cliffs_scan"),
        ("cliffs", "cliffs_prompt"),
        ("side_by_side", "side_problem"),
        ("lambda_lab", "lab_run"),
        ("gap", "gap_run"),
        ("tradeoff", "tradeoff_set"),
        ("runs", "runs_run"),
    ],
)
def test_a_dead_link_is_told_and_what_is_shown_instead(runs_folder: Path, page: str, key: str) -> None:
    fake_train_run(runs_folder)
    fake_scan_run(runs_folder)
    at = open_page(page, **{key: "no-such-thing"})
    assert not at.exception
    assert any("no\\-such\\-thing is not" in w.value for w in at.warning), [w.value for w in at.warning]
    assert not any("no\\-such" in w.value for w in at.run().warning) or key == "cliffs_prompt"


def test_a_run_that_is_deleted_while_it_is_shown_is_told(runs_folder: Path) -> None:
    first, second = fake_train_run(runs_folder), fake_train_run(runs_folder)
    at = open_page("gap", gap_run=first.name)
    assert at.selectbox(key="gap_run").value == first.name and not at.warning
    first.rename(runs_folder.parent / "gone")
    at.run()
    assert at.selectbox(key="gap_run").value == second.name
    assert "is not here" in at.warning[0].value


def test_a_new_link_goes_before_what_the_session_held_and_a_choice_before_the_old_link(runs_folder: Path) -> None:
    first, second = fake_train_run(runs_folder), fake_train_run(runs_folder)
    at = open_page("gap", gap_run=first.name)
    at.selectbox(key="gap_run").set_value(second.name).run()
    assert at.selectbox(key="gap_run").value == second.name == at.query_params["gap_run"]
    at.query_params["gap_run"] = first.name  # Back
    at.run()
    assert at.selectbox(key="gap_run").value == first.name


def test_an_address_holds_its_own_pages_settings_alone(runs_folder: Path) -> None:
    at = open_page("gap", side_problem="steep-val-0001", cliffs_scan="x", gap_when="before")
    assert not [key for key in at.query_params if not key.startswith("gap_")]
