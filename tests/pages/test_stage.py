"""The stage: every station shows what it says, own runs or none; it is entered from any page."""

from __future__ import annotations

from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from hdpo.record.folder import ASSET_RUNS as RECORDED
from tests.fakes import fake_train_run, figures, open_page
from workbench.components import stage


@pytest.fixture
def own_runs(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The recorded runs, and newer ones of one's own."""
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", RECORDED)
    fake_train_run(runs_folder)
    return runs_folder


@pytest.mark.parametrize("station", stage.STATIONS, ids=stage.NAMES)
def test_a_station_shows_its_own_settings_beside_own_runs(own_runs: Path, station: stage.Station) -> None:
    at = open_page("overview", stage=station.name)  # a link that names another page's station leads there
    assert not at.exception and not at.error and not at.warning
    assert at.query_params["stage"] == station.name
    assert {k: at.session_state[k] for k in station.params} == station.settings()
    assert f"{stage.NAMES.index(station.name) + 1} of {len(stage.STATIONS)} · {station.idea}" in [
        t.value for t in at.text
    ]


def test_the_tradeoff_station_shows_the_recorded_runs_beside_own_ones(own_runs: Path) -> None:
    at = open_page("tradeoff", stage="tradeoff")
    assert len(figures(at)["tradeoff-points"]["arms"]) == 3
    assert "steep test" in at.selectbox(key="tradeoff_set").value


def test_a_page_without_a_station_leads_to_the_first_one_and_one_with_a_station_stays(own_runs: Path) -> None:
    at = open_page("glossary")
    at.button(key="stage_on").click().run()
    assert at.title[0].value == "What is a cliff?" and at.query_params["stage"] == "cliff"
    at = open_page("lambda_lab", lab_run=stage.RUN, lab_panel="Rollouts")
    at.button(key="stage_on").click().run()
    assert at.query_params["stage"] == "filter" and at.query_params["lab_run"] == stage.RUN
    at.button(key="stage_off").click().run()
    assert "stage" not in at.query_params and at.button(key="stage_on")


def test_a_hall_reads_shorter_headlines_and_fewer_lines(own_runs: Path) -> None:
    hall = open_page("gap", stage="gap")
    desk = open_page("gap", gap_run=stage.RUN)
    assert first_headline(hall).startswith("What is left of the gap at step 60: ")
    assert first_headline(desk).startswith("Gap on privileged traces")
    names = [{t.get("name") for t in figures(at)["gap-over"]["data"]} for at in (hall, desk)]
    assert "λ = 0.3" in names[0] and not any("own" in str(n) for n in names[0])
    assert any("own" in str(n) for n in names[1])
    words = first_headline(open_page("lambda_lab", stage="lambda"))
    assert "pass@8" in words and "pass@1" not in words


def first_headline(at: AppTest) -> str:
    return next(m.value for m in at.markdown if m.value.startswith("####"))[5:].replace("\\", "").replace("\u2060", "")
