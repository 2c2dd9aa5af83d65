"""Cards, token strips, pickers and questions: what a model or a file wrote is shown, never obeyed."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from hdpo.record.folder import RunWriter, State
from hdpo.records import Outcome
from hdpo.work import jobs
from tests.fakes import fake_train_run
from workbench.components import lens, picker, request, rollouts, traces, web, written

NASTY = (
    "<script>alert(1)</script><style>*{display:none!important}</style>",
    "![x](http://example.invalid/a.png) [link](javascript:alert(1))",
    "costs $5 and then $6, so $x^2$ and :red[text] -> ***",
    "right to left \u202egnp.exe\u202c \u05e9\u05dc\u05d5\u05dd",
    "null \x00 bell \x07 escape \x1b[31m end",
    "half a pair \ud83d and a smile \U0001f600",
    "long " + "a" * 5000,
    "line\nbreak\ttab\r\n",
    "",
)
MARKDOWN = ("markdown", "caption", "info", "warning", "error", "success", "title", "header", "subheader")


def app(script: Callable[..., None], *args: Any, **query: str) -> AppTest:
    """A script that stands alone, ready to run with these arguments and query parameters."""
    at = AppTest.from_function(script, args=args, default_timeout=60)
    for name, value in query.items():
        at.query_params[name] = value
    return at


def markdown_of(at: AppTest) -> str:
    """Everything that the browser would read as Markdown."""
    return "\n".join(str(e.value) for kind in MARKDOWN for e in at.get(kind))


# --- the rollout card -----------------------------------------------------------------------------------------


def test_cards_show_hostile_text_literally() -> None:
    def script(texts: tuple[str, ...]) -> None:
        from hdpo.records import Outcome
        from workbench.components.rollouts import Card, rollout_list

        rollout_list([Card(i, t, Outcome.WRONG, t[:60], t[:60], 7, advantage=-0.25) for i, t in enumerate(texts)])

    at = app(script, NASTY).run()
    assert not at.exception
    for shown, text in zip(at.code, NASTY, strict=True):
        assert shown.value.strip() == (rollouts.printable(text).strip() or "(an empty completion)")
        assert shown.language in (None, "", "plaintext")
    for markup in at.html:
        assert not re.search("<(script|style|img|a)", markup.value)
    assert not re.search(r"script|!\[x|\$5|alert", markdown_of(at))


def test_printable_makes_unseen_characters_visible_and_keeps_all_others() -> None:
    assert rollouts.printable("a\x00\u202e\u200b\ud83d\x1b\r") == "a⟨0000⟩⟨202E⟩⟨200B⟩⟨D83D⟩⟨001B⟩⟨000D⟩"
    kept = "½ ≤ \\frac{1}{2}\n\tשלום 中 😀"
    assert rollouts.printable(kept) == kept
    "".join(rollouts.printable(t) for t in NASTY).encode("utf-8")


def test_equal_rollouts_are_one_card_and_an_edited_one_stands_apart() -> None:
    same = [rollouts.Card(i, "x", Outcome.WRONG, "2", "6", 9, advantage=0.0) for i in range(4)]
    edited = replace(same[2], edited=1.0)
    found = rollouts.grouped([same[0], same[1], edited, same[3]])
    assert [(c.index, c.also, c.edited) for c in found] == [(0, (1, 3), None), (2, (), 1.0)]


def test_a_card_names_verdict_answer_gold_tokens_and_advantage() -> None:
    card = rollouts.Card(2, "x", Outcome.NO_ANSWER, "", "26", 9, advantage=-1 / 7)
    facts = rollouts.facts_html(card)
    assert "none found" in facts and ">26</code>" in facts and "9 tokens" in facts and "−0.143" in facts
    assert "advantage" not in rollouts.facts_html(rollouts.Card(0, "x", Outcome.CORRECT, "26", "26", 9))


def test_every_outcome_has_its_own_symbol() -> None:
    assert set(rollouts.BADGES) == set(Outcome) and len({symbol for symbol, _ in rollouts.BADGES.values()}) == len(
        Outcome
    )


def test_cards_of_rows_take_the_rows_advantage_or_the_given_one() -> None:
    rows = pd.DataFrame(
        [
            {"index": 0, "text": "a", "outcome": "correct", "answer": "1", "gold": "1", "tokens": 3, "advantage": 0.5},
            {"index": 1, "text": "b", "outcome": "wrong", "answer": "", "gold": "1", "tokens": 4, "advantage": None},
        ]
    )
    assert [(c.advantage, c.answer) for c in rollouts.cards_of(rows)] == [(0.5, "1"), (None, "")]
    assert [c.advantage for c in rollouts.cards_of(rows, [1.0, -1.0])] == [1.0, -1.0]


# --- the token lens -------------------------------------------------------------------------------------------


def lens_result(pieces: list[str], jsd: list[float]) -> dict[str, Any]:
    n = len(pieces)
    tops = [[[f"t{i}", 0.6], ["\n", 0.3]] for i in range(n)]
    flat = {name: [0.5] * n for name in ("lemma1", "range_bound", "teacher_mass", "student_mass", "mismatch")}
    flat |= {"teacher_p": [0.6] * n, "student_p": [None] * n}
    return {"piece": pieces, "jsd": jsd, "kl": [4 * x for x in jsd], "teacher_top": tops, "student_top": tops, **flat}


def test_a_token_is_graded_on_a_fixed_scale() -> None:
    assert [lens.grade(x, "jsd") for x in (0.0, 0.01, 0.05, 0.2, 0.69)] == [0, 1, 2, 3, 3]
    assert [lens.grade(x, "kl") for x in (0.0, 0.02, 0.2, 1.0)] == [0, 1, 2, 3]


def test_the_lens_names_mean_sum_and_the_share_of_the_biggest() -> None:
    one = lens.Lens(lens_result(list("abcdefgh"), [0.1] * 4 + [0.0] * 4), "jsd")
    assert (
        lens.trace_sentence(one)
        == "JSD: 0.0500 nats per token over 8 tokens; 0.400 nats in all, 100 % of it in the 5 biggest."
    )
    zero = lens.Lens(lens_result(["a"], [0.0]), "jsd")
    assert lens.trace_sentence(zero).endswith("0.000 nats in all.")
    assert lens.biggest([0.1, 0.3, 0.3, 0.2], 3) == [1, 2, 3]


def test_the_table_holds_every_number_and_a_token_the_rivals_of_both_prompts() -> None:
    result = lens_result([" a", "\n"], [0.1, 0.2])
    result["student_top"] = [result["teacher_top"][0], [["x", 0.7], ["\n", 0.2]]]
    one = lens.Lens(result, "kl")
    assert list(lens.token_table(one)["token"]) == ["␣a", "↵"] and list(lens.token_table(one)["kl"]) == [0.4, 0.8]
    token = lens.lens_tokens(one, 1)[1]
    assert [(r["text"], r["p"], r["own"]) for r in token.rivals] == [
        ("x", [None, 0.7], False),
        ("t1", [0.6, None], False),
        ("↵", [0.3, 0.2], True),
    ]
    assert token.classes == "g2 parts" and token.least == (0.3, 0.2)
    assert "more than 3 × as likely (0.600 against less than 0.200)" in token.says


def test_a_parting_is_marked_at_its_token() -> None:
    classes = [t.classes for t in lens.parting_tokens(list("abcd"), 2)]
    assert classes == ["shared", "shared", "parts", ""]
    assert {t.classes for t in lens.parting_tokens(list("ab"), None)} == {"shared"}


def test_hostile_tokens_travel_as_data() -> None:
    def script(result: dict) -> None:  # type: ignore[type-arg]
        from workbench.components.lens import Lens, show_lens

        show_lens(Lens(result, "jsd"), 0, key="lens")

    pieces = [t for t in NASTY if len(t) < 200]
    at = app(script, lens_result(pieces, [0.1 * i for i in range(len(pieces))])).run()
    assert not at.exception
    (drawn,) = pictures(at, "tokens")
    assert [t["text"] for t in drawn["tokens"]] == [lens.piece_text(p) for p in pieces]
    assert drawn["start"] == len(pieces) - 1, "the biggest token is the first choice"
    assert all("JSD " in t["label"] for t in drawn["tokens"]), "numbers stand in words too"
    assert "script" not in markdown_of(at) and "$5" not in markdown_of(at)


def pictures(at: AppTest, kind: str) -> list[dict[str, Any]]:
    """What the page gave to its pictures of a kind, named by what they hold."""
    return [d for c in at.get("bidi_component") if kind in (d := json.loads(c.proto.json))]


@pytest.fixture(scope="module")
def browser_page() -> Iterator[Any]:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium on this machine: the strip's own script is not run")
    sync = pytest.importorskip("playwright.sync_api")
    with sync.sync_playwright() as p:
        browser = p.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        yield browser.new_page()
        browser.close()


def draw_picture(page: Any, name: str, data: dict[str, Any]) -> None:
    """Twice, as a page does that runs again."""
    page.set_content(f'<style>{web.style(name)}</style><div id="root"><div class="picture"></div></div>')
    page.evaluate(
        """async ([js, data]) => {
            const module = await import(URL.createObjectURL(new Blob([js], {type: "text/javascript"})))
            const draw = () => module.default({data, parentElement: document.querySelector("#root")})
            draw(); draw()
        }""",
        [web.script(name), data],
    )


def test_arrow_keys_move_through_the_tokens_and_show_their_rivals(browser_page: Any) -> None:
    one = lens.Lens(lens_result([t for t in NASTY if len(t) < 200], [0.3] * 8), "jsd")
    tokens = [vars(t) for t in lens.lens_tokens(one, 2)]
    data = {"tokens": tokens, "start": 1, "jumps": [[5, "jump"]], "bars": True, "names": lens.SIDES}
    draw_picture(browser_page, "tokens", data)
    spans = browser_page.locator(".token")
    assert spans.count() == len(tokens), "drawn twice, there once"
    texts = browser_page.locator(".token .text")
    assert texts.all_text_contents() == [t["text"] for t in tokens]
    assert browser_page.locator(".text > *").count() == 0, "no token became markup"
    assert spans.nth(1).get_attribute("aria-pressed") == "true"
    browser_page.keyboard.press("Tab")
    for key, place in (("ArrowRight", 2), ("End", len(tokens) - 1), ("ArrowLeft", len(tokens) - 2), ("Home", 0)):
        browser_page.keyboard.press(key)
        assert [spans.nth(i).get_attribute("aria-pressed") for i in range(len(tokens))].index("true") == place
        assert f"t{place}" in browser_page.locator(".chosen table").inner_text()
    browser_page.get_by_text("jump").click()
    assert spans.nth(5).get_attribute("aria-pressed") == "true"
    assert browser_page.locator(".chosen tbody tr").count() == 2, "one row a token"
    widths = browser_page.locator(".room").evaluate_all("rooms => rooms.map((r) => r.getBoundingClientRect().width)")
    assert len(set(widths)) == 1 and widths[0] > 0, "all bars on one scale"


def test_equal_rollouts_stand_once_and_their_text_is_text(browser_page: Any) -> None:
    one = {
        "outcome": "wrong",
        "answer": NASTY[0],
        "tokens": 3,
        "pieces": ["<b>", "x</b>", "\u202e"],
        "text": "<b>x</b>\u202e",
    }
    found = written.boxes([one, one, one | {"outcome": "correct"}], True, (1, 1))
    assert [(b["facts"][:3], b["shared"]) for b in found] == [("× 2", "<b>"), ("ans", None)]
    draw_picture(browser_page, "written", {"rollouts": found})
    assert browser_page.locator("pre").all_text_contents() == ["<b>▼x</b>⟨202E⟩", "<b>x</b>⟨202E⟩"]
    assert browser_page.locator(".picture script, pre b b").count() == 0
    assert browser_page.locator("section").nth(1).inner_text().count("accepted: R = 1") == 1


# --- where two traces part ------------------------------------------------------------------------------------


def trace(side: str, index: int, token_ids: list[int], outcome: Outcome = Outcome.WRONG) -> traces.TraceChoice:
    return traces.TraceChoice(side, index, {"outcome": outcome.value, "token_ids": token_ids})


def test_the_parting_is_put_in_words() -> None:
    left, right = trace("student", 0, [5, 6, 7]), trace("privileged", 0, [5, 9])
    assert "share one token (slanted) and part at token 2" in traces.parting_words(left, right, 1)
    assert "the prompts drive them apart" in traces.parting_words(left, right, 1)
    assert "different random numbers" in traces.parting_words(left, trace("privileged", 1, [5, 9]), 1)
    assert "first token" in traces.parting_words(left, trace("privileged", 0, [1]), 0)
    assert "ends after 2 tokens" in traces.parting_words(left, trace("privileged", 0, [5, 6]), 2)
    assert "the same, token by token" in traces.parting_words(left, left, None)


def test_the_first_pair_is_an_accepted_trace_and_the_one_with_the_same_draws() -> None:
    found = [
        trace("student", 0, [1]),
        trace("student", 1, [2]),
        trace("privileged", 0, [3]),
        trace("privileged", 1, [4], Outcome.CORRECT),
    ]
    by_words = {t.words: t for t in found}
    assert traces.telling_pair(by_words) == (found[1].words, found[3].words)


# --- pickers --------------------------------------------------------------------------------------------------


def pick_model() -> None:
    import streamlit as st

    from workbench.components.picker import model_picker
    from workbench.state import sentences

    with sentences():
        st.session_state["choice"] = model_picker("t")


def test_the_model_is_bundled_a_run_or_a_folder(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=2)
    fake_train_run(runs_folder, steps=2)  # without a checkpoint: not on offer
    writer = RunWriter(path, 1)
    with writer.checkpoint(2) as folder:
        (folder / "state.json").write_text(json.dumps({"step": 2}))
    checkpoint = path / "checkpoints" / "step-000002"

    at = app(pick_model).run()
    assert len(at.selectbox(key="t_model").options) == 3, "bundled, smollm2 and the run"
    assert at.session_state["choice"] == picker.ModelChoice(picker.ModelConfig())

    at = app(pick_model, t_model=path.name).run()
    choice = at.session_state["choice"]
    assert choice.checkpoint == str(checkpoint) and choice.started().adapter == str(checkpoint)
    assert choice.payload() == {
        "model": {**picker.to_json(choice.config), "adapter": ""},
        "checkpoint": str(checkpoint),
    }

    at = app(pick_model, t_model="/no/such/folder").run()
    assert at.session_state["choice"].config.model == "/no/such/folder"
    assert "Reason step by step" in at.session_state["choice"].prompts.student, "the wording for instruct models"

    at = app(pick_model, t_model="smollm2").run()
    choice = at.session_state["choice"]
    assert (choice.config.model, choice.config.dtype) == ("smollm2", "bfloat16")
    assert choice.prompts == picker.PromptConfig(), "it was raised on the bundled one's wording"


def pick_problem(path: str) -> None:
    import streamlit as st

    from workbench.components import picker
    from workbench.state import say_lost, sentences

    with sentences():
        source = picker.problem_source("t")
        pool = {p.id: p for p in picker.read_source(source).problems}
        problem = picker.problem_picker("t", pool, path, st.container())
        st.session_state["problem"] = problem
        picker.problem_text(problem)
        say_lost()


def test_a_problem_is_found_by_search_and_by_link(tmp_path: Path) -> None:
    at = app(pick_problem, "steep-val-0007").run()
    assert at.session_state["problem"].id == "steep-val-0007" and at.query_params["t_problem"] == "steep-val-0007"
    word = at.session_state["problem"].text.split()[-1]
    at.text_input(key="t_search").set_value(word).run()
    assert any(o.startswith("steep-val-0007 · ") for o in at.selectbox(key="t_problem").options)
    at = app(pick_problem, "", t_problem="steep-val-0009").run()
    assert at.session_state["problem"].id == "steep-val-0009" and not at.warning
    at = app(pick_problem, "", t_problem="![x](http://example.invalid)").run()
    assert at.session_state["problem"].id == "steep-val-0001" and "not here" in at.warning[0].value
    assert "![x]" not in at.warning[0].value, "escaped"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "There is no file"),
        ('{"text": "a", "solution": "b"}\n', "columns, for example text=problem,"),
        ('{"text": "a", "solution": "b", "answer": "1"}\n{"te', "Line 2"),
        ("", "no rows"),
    ],
)
def test_a_bad_problem_file_is_a_sentence(tmp_path: Path, content: str | None, words: str) -> None:
    file = tmp_path / "problems.jsonl"
    if content is not None:
        file.write_text(content)
    at = app(pick_problem, "", t_set=str(file)).run()
    assert not at.exception and words in at.error[0].value.replace("\\", "")


def test_hostile_problem_texts_are_literal() -> None:
    def script(texts: tuple[str, ...]) -> None:
        from hdpo.records import Problem
        from workbench.components.picker import problem_text

        for i, t in enumerate(texts):
            problem_text(Problem(f"p{i}", t, t, t[:40], t[:40], 4))

    at = app(script, NASTY).run()
    assert not at.exception
    shown = [c.value.strip() for c in at.code]
    assert shown == [rollouts.printable(t).strip() or "(empty)" for t in NASTY for _ in ("text", "solution")]
    assert not re.search(r"script|!\[x|\$5|alert", markdown_of(at))


# --- questions to the worker ----------------------------------------------------------------------------------


def test_events_fold_into_texts_phase_and_result() -> None:
    question = request.Request({}, 1, 0.0)
    for event in (
        {"event": "phase", "text": "sampling"},
        {"event": "token", "side": "student", "rollout": 0, "piece": "4"},
        {"event": "token", "side": "student", "rollout": 0, "piece": "2"},
        {"event": "token", "side": "privileged", "rollout": 1, "piece": "x"},
        {"event": "of a later version"},
    ):
        question.take(event)
    assert question.pending and question.phase == "sampling"
    assert question.texts == {("student", 0): "42", ("privileged", 1): "x"}
    question.take({"event": "done", "result": {"a": 1}})
    assert not question.pending and question.result == {"a": 1}


def ask_again() -> None:
    import streamlit as st

    from workbench.components.request import ask_once

    st.session_state["question"] = ask_once("slot", {"request": "info", "n": st.session_state["n"]})


def test_the_same_question_is_asked_once_and_another_one_drops_it(runs_folder: Path) -> None:
    at = app(ask_again)
    at.session_state["n"] = 1
    first = at.run().session_state["question"]
    assert at.run().session_state["question"].job == first.job
    at.session_state["n"] = 2
    assert at.run().session_state["question"].job != first.job
    states = [j.state for j in jobs.jobs("interactive")]
    assert states == [State.QUEUED, State.STOPPED], "newest first; the old question left the queue"


def test_a_worker_that_died_over_a_question_is_named(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = jobs.submit("interactive", {"request": "info"})
    start = jobs.me()[1]
    monkeypatch.setattr(jobs, "me", lambda: (2**22 - 1, start))  # a process that is not there
    assert jobs.claim("interactive") is not None
    monkeypatch.undo()
    monkeypatch.setenv("HDPO_RUNS", str(runs_folder))
    monkeypatch.setenv("HDPO_NO_WORKERS", "1")
    question = request.Request({}, job, 0.0)
    question.read()
    assert not question.pending and "Ask again" in question.error
