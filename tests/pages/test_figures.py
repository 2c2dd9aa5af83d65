"""Gap and Tradeoff from the entry point: empty, finished, running and damaged runs; figures against the run folder."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from hdpo.record.files import write_aside
from hdpo.record.folder import Run, RunWriter, State
from tests.fakes import fake_train_run, figures, open_page
from tests.workbench.test_tradeoff_data import BASE, BETTER, write_run
from workbench.components.figure import facts_line

MINE = ("gap", "tradeoff")
NASTY = "![x](http://example.org/a.png) <b>$x$</b> :red[y] `z`"


def fine(at: AppTest) -> AppTest:
    assert [e.message for e in at.exception] == []
    assert [e.value for e in at.error] == []
    return at


def values(data: Any) -> list[float]:
    """Numbers of a trace, packed or plain."""
    if isinstance(data, dict):
        return np.frombuffer(base64.b64decode(data["bdata"]), dtype=data["dtype"]).tolist()
    return list(data)


def trace(figure: dict[str, Any], name: str) -> dict[str, Any]:
    found = [t for t in figure["data"] if t.get("name") == name]
    assert found, f"{name!r} is not among {[t.get('name') for t in figure['data']]}"
    return found[0]


def words(at: AppTest) -> str:
    return "\n".join(str(e.value) for e in (*at.markdown, *at.caption, *at.info, *at.warning))


@pytest.mark.parametrize("page", MINE)
def test_without_a_run_the_page_says_what_to_do(runs_folder: Path, page: str) -> None:
    at = fine(open_page(page))
    if not figures(at):  # without recorded runs
        assert "λ lab" in words(at)


@pytest.mark.parametrize("page", MINE)
@pytest.mark.parametrize("state", [State.DONE, State.STOPPED, State.FAILED, State.KILLED, State.RUNNING])
def test_a_run_in_every_state(runs_folder: Path, page: str, state: State) -> None:
    fake_train_run(runs_folder, state=state)
    assert figures(fine(open_page(page)))


@pytest.mark.parametrize("page", MINE)
def test_a_run_that_has_just_begun_has_no_rows(runs_folder: Path, page: str) -> None:
    run = fake_train_run(runs_folder, state=State.RUNNING)
    (run / "metrics.jsonl").write_text("")
    fine(open_page(page))


@pytest.mark.parametrize("page", MINE)
@pytest.mark.parametrize(
    "name",
    [
        "config.json",
        "status.json",
        "metrics.jsonl",
        "tables/gap-step-000002.parquet",
        "tables/eval-step-000002.parquet",
    ],
)
def test_a_damaged_folder_takes_nothing_down(runs_folder: Path, page: str, name: str) -> None:
    whole, cut = fake_train_run(runs_folder, lam=0.0), fake_train_run(runs_folder)
    (cut / name).write_bytes((cut / name).read_bytes()[:60])
    at = open_page(page)
    assert [e.message for e in at.exception] == []
    assert whole.exists()


@pytest.mark.parametrize("page", MINE)
def test_a_name_from_outside_is_text(runs_folder: Path, page: str) -> None:
    for lam in (0.0, 0.3):
        write_aside(fake_train_run(runs_folder, lam=lam) / "name.txt", NASTY)
    at = fine(open_page(page))
    assert NASTY not in words(at)
    assert all("<b>" not in str(t.get("name")) for f in figures(at).values() for t in f.get("data", ()))


# --- Gap ----------------------------------------------------------------------------------------------------


def test_gap_draws_the_run_folder(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder))
    at = fine(open_page("gap", gap_run=run.id))
    assert {"gap-teachers", "gap-mismatch", "gap-position", "gap-bounds"}.isdisjoint(figures(at)), "folded"
    for box in ("gap-both", "gap-price", "gap-positions", "gap-bounds-box"):
        at.session_state[box] = True
    found = figures(fine(at.run()))
    rows = [r for r in run.metrics("probe") if r["on"] == "privileged"]
    over = trace(found["gap-over"], "λ = 0.3 privileged")
    assert values(over["x"]) == [r["step"] for r in rows]
    assert values(over["y"]) == pytest.approx([r["kl_drifting"]["value"] for r in rows])
    own = trace(found["gap-teachers"], "λ = 0.3 accepted")
    assert values(own["y"]) == pytest.approx([r["step_gap"] for r in run.metrics("step")])
    last = pd.DataFrame(run.table("gap", 4)).query("on == 'privileged'").groupby("position")["kl_frozen"].mean()
    assert values(trace(found["gap-position"], "after, frozen")["y"]) == pytest.approx(last.tolist())
    assert values(trace(found["gap-mismatch"], "λ = 0.3 frozen")["y"]) == pytest.approx(
        [r["mismatch"]["value"] for r in rows]
    )
    assert values(found["gap-bounds"]["data"][0]["y"]) == pytest.approx([r["lemma1"] for r in run.table("gap", 4)])


def test_gap_shows_where_on_a_trace_it_lies(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder))
    at = fine(open_page("gap", gap_run=run.id))
    trace_of = at.selectbox(key="gap_trace").value
    old, new = ([r for r in run.table("gap", step) if r["trace"] == trace_of] for step in (0, 4))
    found = figures(at)
    assert values(trace(found["gap-trace"], "before")["y"]) == pytest.approx([r["kl_drifting"] for r in old])
    assert values(trace(found["gap-trace"], "after")["y"]) == pytest.approx([r["kl_drifting"] for r in new])
    widest = max(old, key=lambda r: r["kl_drifting"])
    assert f"<b>{widest['token']!r}</b>" in {a["text"] for a in found["gap-trace"]["layout"]["annotations"]}
    assert len(found["gap-strip"]["tokens"]) == len(old)
    assert any(f"token {widest['position'] + 1}" in m.value for m in at.markdown)


def test_gap_before_and_after_follow_the_link(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder))
    at = open_page("gap", gap_run=run.id, gap_before="2", gap_after="2")
    at.session_state["gap-positions"] = True
    at = fine(at.run())
    assert [at.selectbox(key=k).value for k in ("gap_before", "gap_after")] == [2, 2]
    assert all(m.delta == "+0.000" for m in at.metric)
    fine(at.selectbox(key="gap_after").set_value(4).run())
    assert at.metric[0].value == "0.100" and at.metric[0].delta == "−0.067"  # 0.5 / 5, and 0.5 / 3 before


def test_steps_of_another_run_give_way_to_its_own(runs_folder: Path) -> None:
    long, brief = fake_train_run(runs_folder, steps=6), fake_train_run(runs_folder, lam=0.0, steps=3)
    at = fine(open_page("gap", gap_run=long.name))
    fine(at.selectbox(key="gap_after").set_value(6).run())
    fine(at.selectbox(key="gap_run").set_value(brief.name).run())
    assert at.selectbox(key="gap_after").value == 3


def test_gap_without_tables_by_token_still_shows_the_means(runs_folder: Path) -> None:
    run = fake_train_run(runs_folder)
    for table in (run / "tables").glob("gap-*"):
        table.unlink()
    at = fine(open_page("gap", gap_run=run.name))
    assert "gap-over" in figures(at) and "gap-position" not in figures(at)
    assert "no gap by token" in words(at)


def test_gap_draws_a_partner_beside(runs_folder: Path) -> None:
    first, second = fake_train_run(runs_folder, lam=0.0), fake_train_run(runs_folder)
    at = fine(open_page("gap", gap_run=second.name))
    fine(at.multiselect(key="gap_beside").set_value([first.name]).run())
    names = {t["name"] for t in figures(at)["gap-over"]["data"]}
    assert {"λ = 0 privileged", "λ = 0.3 own"} <= names


def test_a_run_of_the_real_engine_is_shown(runs_folder: Path, real_train_run: Path) -> None:
    (runs_folder / real_train_run.name).symlink_to(real_train_run)
    run = Run(real_train_run)
    found = figures(fine(open_page("gap", gap_run=run.id)))
    rows = [r for r in run.metrics("probe") if r["on"] == "own"]
    assert values(trace(found["gap-over"], "λ = 0.3 own")["y"]) == pytest.approx(
        [r["kl_drifting"]["value"] for r in rows]
    )
    fine(open_page("tradeoff"))


# --- Tradeoff -----------------------------------------------------------------------------------------------


@pytest.fixture
def pair(runs_folder: Path) -> list[Run]:
    return [write_run(runs_folder, BASE, lambda_=0.0), write_run(runs_folder, BETTER, lambda_=0.3)]


SET = "bundled:steep validation · 5 problems · n 16 · T 1"


def arm(picture: dict[str, Any], name: str) -> dict[str, Any]:
    (found,) = [a for a in picture["arms"] if a["name"] == name]
    return found


def test_tradeoff_draws_the_run_folders(pair: list[Run]) -> None:
    found = figures(fine(open_page("tradeoff", tradeoff_set=SET)))["tradeoff-points"]
    for run, name in zip(pair, ("λ = 0", "λ = 0.3"), strict=True):
        pass_at = run.metrics("eval")[-1]["pass_at"]
        (seed,) = arm(found, name)["seeds"]
        ends = [pass_at[k][end] for k in ("1", "8") for end in ("low", "high")]
        assert seed["at"][-1] == pytest.approx([pass_at["1"]["value"], pass_at["8"]["value"], *ends])
        assert arm(found, name)["mean"][0] == pytest.approx(found["base"])
    assert found["x"]["title"] == "accuracy: pass@1" and found["moments"] == ["step 0", "step 10"]


def test_tradeoff_step_and_axis_follow_the_link(pair: list[Run]) -> None:
    at = fine(open_page("tradeoff", tradeoff_set=SET, tradeoff_step="0", tradeoff_x="greedy"))
    assert at.select_slider(key="tradeoff_step").value == 0
    found = figures(at)["tradeoff-points"]
    assert found["x"]["title"] == "accuracy: greedy" and found["moments"] == ["step 0"]
    assert arm(found, "λ = 0")["seeds"][0]["at"][0][0] == pytest.approx(0.4)


def test_tradeoff_says_what_is_held_equal(pair: list[Run]) -> None:
    for run in pair:
        RunWriter(run.path, 1).metric("step", 10, tokens_student=700, tokens_privileged=0, seconds=3.0)
    at = fine(open_page("tradeoff", tradeoff_set=SET, tradeoff_basis="tokens"))
    assert at.select_slider(key="tradeoff_tokens").value == 700
    assert any("at 700 sampled tokens (step 10)" in m.value.replace("\\", "") for m in at.markdown)


def test_tradeoff_says_each_difference_in_words(pair: list[Run]) -> None:
    at = fine(open_page("tradeoff", tradeoff_set=SET))
    table = at.dataframe[-1].value
    assert table["λ"].unique().tolist() == ["0.3"]
    assert all("one seed: training noise is not covered" in w for w in table["verdict"])


@pytest.mark.parametrize("view", ["Differences to λ = 0", "pass@k", "By level", "Final and best"])
@pytest.mark.parametrize("x", ["pass@1", "pass@1, lower levels", "greedy"])
def test_every_view(pair: list[Run], view: str, x: str) -> None:
    at = fine(open_page("tradeoff", tradeoff_set=SET, tradeoff_view=view, tradeoff_x=x))
    assert figures(at) or len(at.dataframe)


def test_the_papers_layer(pair: list[Run]) -> None:
    at = fine(open_page("tradeoff", tradeoff_set=SET, tradeoff_view="Differences to λ = 0", tradeoff_paper="true"))
    found = figures(at)["tradeoff-plane"]
    assert values(trace(found, "paper: drifting λ = 0.1")["y"]) == pytest.approx([1.36, 1.36])
    assert values(trace(found, "λ = 0.3")["x"]) == pytest.approx([12.5])
    at = fine(at.toggle(key="tradeoff_paper").set_value(False).run())
    assert len(figures(at)["tradeoff-plane"]["data"]) == 1


def test_runs_can_be_left_out(pair: list[Run]) -> None:
    at = fine(open_page("tradeoff", tradeoff_set=SET))
    arms = next(g for g in at.get("button_group") if (g.key or "").startswith("tradeoff_arms"))
    fine(arms.set_value(["λ = 0.3"]).run())
    found = figures(at)["tradeoff-points"]
    assert "λ = 0" not in {a["name"] for a in found["arms"]}
    assert "Without a λ = 0 run" in words(at)


def test_other_problems_are_another_set(runs_folder: Path, pair: list[Run]) -> None:
    write_run(runs_folder, BASE, lambda_=0.3, problems="bundled:gentle")
    at = fine(open_page("tradeoff"))
    assert {"bundled:gentle validation · 5 problems · n 16 · T 1", SET} <= {
        o.split(":  ")[0].rsplit(":", 1)[0] for o in at.selectbox(key="tradeoff_set").options
    }


def test_runs_without_a_common_step_say_so(runs_folder: Path, pair: list[Run]) -> None:
    write_run(runs_folder, {5: BASE[0]}, lambda_=1.0)
    at = fine(open_page("tradeoff", tradeoff_set=SET))
    assert "No step was evaluated by all of these runs" in words(at)


def test_a_link_with_nonsense_opens_the_page(pair: list[Run]) -> None:
    fine(open_page("tradeoff", tradeoff_set="../../etc", tradeoff_step="x", tradeoff_x="<b>", tradeoff_view="?"))
    fine(open_page("gap", gap_run="../../etc/passwd", gap_before="-1", gap_after="9999", gap_when="never"))


# --- the component ------------------------------------------------------------------------------------------


def drawn() -> None:
    import pandas as pd

    from workbench.components.figure import show
    from workbench.figures import style

    frame = pd.DataFrame({"name": ["=1+1"], "value": [0.5]})
    nothing, facts = style.nothing("empty"), "model <b>![x](http://y)</b>"
    show(nothing, headline="3 of *4*", note="What this is.", facts=facts, frame=frame, key="one")
    show(nothing, headline="Two", note="And that.", facts="", frame=frame, key="two", alt="heard")


def test_a_figure_has_its_headline_above_and_the_rest_folded_and_sent_once_opened() -> None:
    at = AppTest.from_function(drawn).run()
    assert not at.exception
    assert [m.value for m in at.markdown] == ["#### 3 of \\*4\\*", "#### Two"]
    assert [c.proto.alt for c in at.get("plotly_chart")] == ["3 of *4* What this is.", "heard"]
    assert not at.dataframe and not at.text, "what is folded costs nothing"
    at.session_state["one-about"] = True
    at.run()
    assert not at.exception and at.markdown[1].value == "What this is."
    assert at.text[0].value == "model <b>![x](http://y)</b>", "as text, never as markup"
    assert at.dataframe[0].value["name"].tolist() == ["=1+1"]


def test_facts_leave_out_what_is_not_known() -> None:
    assert facts_line(n=240, K=None, T=1.0, seed=0, model="") == "n 240 · T 1.0 · seed 0"


def test_a_writer_can_be_followed_while_it_works(runs_folder: Path) -> None:
    """The page of a live run draws what the folder holds at that moment."""
    path = fake_train_run(runs_folder, state=State.RUNNING)
    at = fine(open_page("gap", gap_run=path.name))
    before = values(trace(figures(at)["gap-over"], "λ = 0.3 privileged")["x"])
    interval = {"value": 0.1, "low": 0.0, "high": 0.2}
    names = (
        "kl_drifting",
        "kl_frozen",
        "jsd_drifting",
        "mismatch",
        "lemma1",
        "range_bound",
        "teacher_mass",
        "student_mass",
    )
    for on in ("privileged", "own"):
        RunWriter(path, 1).metric("probe", 9, on=on, n_traces=3, n_tokens=9, **dict.fromkeys(names, interval))
    after = values(trace(figures(fine(at.run()))["gap-over"], "λ = 0.3 privileged")["x"])
    assert after == [*before, 9]
