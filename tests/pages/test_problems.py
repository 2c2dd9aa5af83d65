"""The page Problems: a set looked at, its columns mended, kept under a name, and taken by the other pages."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from hdpo.config import ProblemConfig
from hdpo.data import sets
from hdpo.work import jobs
from tests.conftest import needs_model
from tests.fakes import open_page
from tests.pages.test_explore import answer_all, errors

ODD = "Nr;Frage;Ergebnis\n" + "".join(f"{i};Was ist {i} plus {i}? <b>$x$</b>;{2 * i}\n" for i in range(60))


@pytest.fixture(scope="module")
def desk() -> Any:
    needs_model()
    from hdpo.work.interactive import Desk

    return Desk()


@pytest.fixture
def odd(tmp_path: Path, runs_folder: Path) -> str:
    (tmp_path / "odd.csv").write_text(ODD, encoding="utf-8")
    return str(tmp_path / "odd.csv")


def shown(at: AppTest) -> str:
    parts = (*at.markdown, *at.caption, *at.info, *at.warning, *at.code)
    return "\n".join(str(p.value).replace("\\", "") for p in parts)


def test_a_first_visit_shows_the_bundled_set(runs_folder: Path, desk: Any) -> None:
    at = answer_all(desk, open_page("problems"))
    assert not errors(at)
    assert "880 problems: 400 to train on, 240 held out, 240 for the test." in shown(at)
    assert "What is 3 * 4" in shown(at)


def test_odd_columns_are_chosen_by_menus_and_the_set_is_kept_scanned_and_deleted(odd: str, desk: Any) -> None:
    at = open_page("problems", problems_set=odd)
    assert not errors(at)
    assert "Choose the columns" in shown(at)
    at.selectbox("problems_columns-text").select("Frage").run()
    at.selectbox("problems_columns-answer").select("Ergebnis").run()
    answer_all(desk, at)
    assert not errors(at)
    assert "60 problems: 60" in shown(at) or "held out" in shown(at)
    assert "y* can only be the final answer alone" in shown(at) and "<b>$x$</b>" in shown(at)
    assert any("below 50" in w.value for w in at.warning)
    at.button("problems_keep").click().run()
    assert sets.names() == ["odd"]
    answer_all(desk, at)
    assert not errors(at) and at.selectbox("problems_set").value == "set:odd"
    cliffs = open_page("cliffs", cliffs_set="set:odd")
    assert not errors(cliffs)
    command = next(c.value for c in cliffs.code if c.value.startswith("python -m hdpo scan"))
    assert f"{sets.root()}/odd/problems/odd.csv" in command and "text=Frage,answer=Ergebnis" in command
    lab = open_page("lambda_lab", lab_problems="set:odd", lab_information="answer")
    assert not errors(lab)
    assert any("text=Frage" in c.value for c in lab.code if c.value.startswith("python -m hdpo sweep"))
    at.button("problems_delete").click().run()
    assert sets.names() == [] and at.selectbox("problems_set").value == "bundled:steep"


def test_a_set_without_solutions_goes_side_by_side_and_to_the_lab_with_its_grader(odd: str, desk: Any) -> None:
    sets.keep("odd", ProblemConfig(odd, columns="text=Frage,answer=Ergebnis", grader="number:0.5"))
    at = answer_all(desk, open_page("problems", problems_set="set:odd"))
    assert next(p for p in at.get("page_link") if "lambda" in p.proto.page).proto.query_string.count(
        "lab_information=answer"
    )
    at = open_page("side_by_side", side_set="set:odd", side_third="wrong-other", side_max_new_tokens="8")
    assert not errors(at) and "no worked solution" in shown(at)
    answer_all(desk, at.button("side_start").click().run())
    assert not errors(at)
    (asked,) = (j.payload for j in jobs.jobs("interactive") if j.payload["request"] == "rollouts")
    assert asked["grader"] == "number:0.5" and asked["prompts"]["information"] == "answer"
    assert "Another problem's worked solution" not in shown(at)
    assert sum("lab_information=answer" in p.proto.query_string for p in at.get("page_link")) == 1


def test_an_upload_is_shown_and_goes_on_once_it_is_kept(runs_folder: Path, desk: Any) -> None:
    at = open_page("problems")
    at.file_uploader("problems_upload").upload("../my set.csv", ODD.encode(), "text/csv").run()
    assert not errors(at) and "Choose the columns" in shown(at)
    for field, column in (("text", "Frage"), ("answer", "Ergebnis")):
        at.selectbox(f"problems_columns-{field}").select(column).run()
    assert "Keep it as a set, then" in shown(at)
    at.button("problems_keep").click().run()
    assert sets.names() == ["my_set"] and not errors(at)
    assert "Keep it as a set, then" not in shown(at)


@pytest.mark.parametrize(
    ("name", "text"),
    [("jsonl", "[]"), ("jsonl", "no header"), ("json", '{"a": '), ("csv", ""), ("csv", "text,answer\n")],
)
def test_a_file_that_is_none_is_a_sentence(runs_folder: Path, name: str, text: str) -> None:
    at = open_page("problems")
    at.file_uploader("problems_upload").upload(f"set.{name}", text.encode(), "text/plain").run()
    assert not at.exception and len(at.error) == 1


def test_a_browser_that_is_not_this_machines_names_no_path_and_no_code(
    odd: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = "text=Frage,answer=Ergebnis"
    sets.keep("odd", ProblemConfig(odd, columns=columns))
    get = st.get_option
    monkeypatch.setattr(st, "get_option", lambda name: "0.0.0.0" if name == "server.address" else get(name))
    (tmp_path / "mine.py").write_text("def right(completion, gold, problem):\n    return 1\n")
    sets.keep("coded", ProblemConfig(odd, columns=columns, grader=f"{tmp_path}/mine.py:right"))
    for page, query in (
        ("problems", {"problems_set": odd}),
        ("cliffs", {"cliffs_set": odd}),
        ("lambda_lab", {"lab_problems": odd}),
        ("lambda_lab", {"lab_model": str(tmp_path)}),
        ("lambda_lab", {"lab_adapter": str(tmp_path)}),
        ("lambda_lab", {"lab_grader": f"{tmp_path}/mine.py:right"}),
        ("side_by_side", {"side_set": "set:coded"}),
        ("problems", {"problems_grader": f"{tmp_path}/mine.py:right"}),
    ):
        assert any("open to other machines" in e for e in errors(open_page(page, **query))), (page, query)
    assert not errors(open_page("problems", problems_set="set:odd"))
