"""Links and places: a dead link is told, an address holds its own page's settings alone, a choice outlives a change of page."""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from hdpo.data.split import place_of
from hdpo.record.folder import ASSET_RUNS as RECORDED
from hdpo.record.folder import Run, State, all_runs
from tests.fakes import fake_pair, fake_scan_run, fake_train_run, open_page


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


# --- a file of one's own ----------------------------------------------------------------------------------------------

ODD = "Nr,Aufgabe,Rechenweg,Ergebnis\n" + "".join(
    f"{i},What is {i} + {i + 1}?,{i}+{i + 1}={2 * i + 1} so {2 * i + 1},{2 * i + 1}\n" for i in range(60)
)
COLUMNS = "text=Aufgabe,solution=Rechenweg,answer=Ergebnis"


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    """A table whose columns nobody knows by name."""
    file = tmp_path / "class 7b.csv"
    file.write_text(ODD)
    return file


def links(at: AppTest, words: str) -> list[dict[str, str]]:
    """The query of each link with these words."""
    found = [e.proto for e in at.get("page_link") if words in e.proto.label]
    return [{k: v[0] for k, v in parse_qs(link.query_string).items()} for link in found]


def test_columns_are_chosen_of_those_the_file_has_and_its_size_is_told_before_the_start(
    runs_folder: Path, odd: Path
) -> None:
    at = open_page("lambda_lab", lab_problems=str(odd))
    assert not at.exception and not at.error and "Choose the columns" in at.info[0].value
    for field, column in (p.split("=") for p in COLUMNS.split(",")):
        picker = at.selectbox(key=f"lab_columns-{field}")
        assert picker.options == ["Nr", "Aufgabe", "Rechenweg", "Ergebnis"] and picker.value is None
        picker.select(column).run()
    assert not at.exception and not at.error and not at.info
    assert at.text_input(key="lab_columns").value == COLUMNS
    held = sum(place_of(f"What is {i} + {i + 1}?", 42) < 0.05 for i in range(60))
    assert 0 < held < 8, "or this file cannot show what few are"
    (told,) = (w.value for w in at.warning)
    assert (
        f"{60 - held} to train on, {held} held out" in told
        and "too few" in told
        and "validation share of 0\\.35" in told
    )
    again = open_page("lambda_lab", lab_problems=str(odd), lab_columns=COLUMNS, lab_validation_share="0.35")
    assert not again.warning and again.selectbox(key="lab_columns-text").value == "Aufgabe"
    again.button(key="lab_pair").click().run()
    assert not again.error
    (made,) = (r for r in all_runs(runs_folder) if r.kind == "sweep")
    assert made.load_config().train.data.columns == COLUMNS


def test_a_file_whose_columns_are_known_is_not_asked_about(runs_folder: Path, tmp_path: Path) -> None:
    file = tmp_path / "mine.csv"
    file.write_text(ODD.replace("Aufgabe,Rechenweg,Ergebnis", "question,solution,answer"))
    at = open_page("lambda_lab", lab_problems=str(file))
    assert not at.exception and not at.info and not [s for s in at.selectbox if s.label.startswith("Column of")]


def test_the_chain_keeps_a_file_and_its_columns(runs_folder: Path, odd: Path) -> None:
    scan = fake_scan_run(runs_folder)
    kept = json.loads((scan / "config.json").read_text())
    kept["config"]["data"] |= {"problems": str(odd), "columns": COLUMNS}
    (scan / "config.json").write_text(json.dumps(kept))
    (there,) = links(open_page("cliffs", cliffs_scan=scan.name), "watch the model peek")
    assert (there["side_set"], there["side_columns"]) == (str(odd), COLUMNS)
    at = open_page("side_by_side", **there)
    assert not at.exception and not at.error
    (on,) = links(at, "train on such prompts")
    assert on == {"lab_problems": str(odd), "lab_columns": COLUMNS}
    at = open_page("lambda_lab", **on)
    assert not at.error and at.selectbox(key="lab_problems").value == str(odd)


# --- several runs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "key"), [("runs", "runs_compare"), ("gap", "gap_beside"), ("lambda_lab", "lab_beside")]
)
def test_a_link_to_several_runs_outlives_a_new_name_and_tells_of_one_that_is_gone(
    runs_folder: Path, page: str, key: str
) -> None:
    several = [fake_train_run(runs_folder, lam=lam) for lam in (0.0, 0.3, 3.0)]
    at = open_page(page, lab_run=several[2].name, gap_run=several[2].name)
    at.multiselect(key=key).set_value([p.name for p in several[:2]]).run()
    assert at.query_params[key] == ",".join(p.name for p in several[:2])
    Run(several[0]).rename("another name")
    link = {key: f"{several[0].name},{several[1].name},no-such-run"}
    at = open_page(page, lab_run=several[2].name, gap_run=several[2].name, **link)
    assert at.multiselect(key=key).value == [p.name for p in several[:2]]
    assert any("no\\-such\\-run is not here" in w.value for w in at.warning)
    assert not at.run().warning
    at.multiselect(key=key).set_value([]).run()
    assert key not in at.query_params and not at.warning


def test_a_pair_goes_to_its_gap_with_its_lambda_0(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    grpo, hdpo = (m["id"] for m in Run(pair).members())
    (there,) = links(open_page("lambda_lab", lab_run=pair.name), "what it did to the gap")
    assert there == {"gap_run": hdpo, "gap_beside": grpo}
    at = open_page("gap", **there)
    assert at.multiselect(key="gap_beside").value == [grpo]
    at = open_page("lambda_lab", lab_mode="Watch", lab_run=pair.name, lab_panel="Rollouts")
    assert at.selectbox(key="lab_member").value == hdpo, "the one that peeks"
    at = open_page("gap")
    assert at.selectbox(key="gap_run").value == hdpo


def test_a_sweep_beside_a_run_is_no_obstacle(runs_folder: Path) -> None:
    run, pair = fake_train_run(runs_folder), fake_pair(runs_folder, lam=3.0)
    at = open_page("lambda_lab", lab_run=run.name, lab_beside=pair.name)
    assert not at.exception and not at.error
    members = [m["id"] for m in Run(pair).members()]
    (there,) = links(at, "what it did to the gap")
    assert there["gap_run"] == members[1] and set(there["gap_beside"].split(",")) == {members[0], run.name}


def test_the_chain_goes_on_before_and_while_a_training_runs(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", RECORDED)
    there = {"gap_run": "steep-lambda-0.3-seed-0", "gap_beside": "steep-lambda-0-seed-0"}
    assert links(open_page("lambda_lab"), "Next:") == [there]
    begun = fake_train_run(runs_folder, state=State.RUNNING)
    assert links(open_page("lambda_lab", lab_run=begun.name), "Next:") == [there]
