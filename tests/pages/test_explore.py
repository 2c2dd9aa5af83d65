"""The pages Cliffs and Side by side, from the app's entry point; the interactive worker's real desk answers in this process."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from streamlit.testing.v1 import AppTest

from hdpo.config import ModelConfig, PromptConfig, ScanConfig
from hdpo.data.problems import bundled
from hdpo.evidence.stats import rate_interval
from hdpo.record import folder
from hdpo.record.folder import Run, RunWriter, State
from hdpo.records import Group, Outcome, Problem, Rollout
from hdpo.work import jobs
from tests.engine import random_model
from tests.fakes import fake_group, fake_pair, fake_scan_run, figures, open_page, scan_row
from tests.recorded_sides import record
from tests.workbench.test_components import NASTY, markdown_of, pictures
from workbench.components import before_after, rollouts, sides
from workbench.data import catalog


@pytest.fixture(scope="module")
def desk() -> Any:
    from hdpo.work.interactive import Desk

    return Desk()


def answer_all(desk: Any, at: AppTest) -> AppTest:
    """What the resident worker does, until nothing waits; then the page looks again."""
    from hdpo.work.worker import Room, answer

    root = folder.runs_root()
    for _ in range(5):  # an answered question may lead to the next one
        claimed = False
        while (job := jobs.claim("interactive")) is not None:
            answer(desk, Room(root), job, root)
            claimed = True
        if not claimed:
            break
        at.run()
    return at


def asked(name: str) -> list[jobs.Job]:
    """The questions of one kind, newest first (Overview, which opens first, asks one of its own)."""
    return [j for j in jobs.jobs("interactive") if j.payload["request"] == name]


def errors(at: AppTest) -> list[str]:
    assert not at.exception
    return [e.value.replace("\\", "") for e in at.error]


# --- Cliffs ---------------------------------------------------------------------------------------------------


def test_without_a_scan_the_page_offers_one(runs_folder: Path) -> None:
    at = open_page("cliffs")
    assert not errors(at) and "No scan yet" in at.info[0].value
    assert "python -m hdpo scan --split validation" in [c.value for c in at.code]


def test_start_writes_the_chosen_scan_and_stop_takes_it_from_the_queue(runs_folder: Path) -> None:
    model = str(random_model())
    at = open_page(
        "cliffs",
        cliffs_model=model,
        cliffs_rollouts="4",
        cliffs_temperature="0.7",
        cliffs_limit="6",
        cliffs_set="bundled:gentle",
    )
    at.button(key="cliffs_start").click().run()
    assert not errors(at)
    run = folder.all_runs(runs_folder)[0]
    config = run.load_config()
    assert (config.model.model, config.rollouts, config.sampling.temperature, config.data.limit) == (model, 4, 0.7, 6)
    assert (config.data.problems, config.split) == ("bundled:gentle", "validation")
    assert "Reason step by step" in config.prompts.student, "a folder's model gets the wording for instruct models"
    assert at.selectbox(key="cliffs_scan").value == run.id == at.query_params["cliffs_scan"]
    assert at.progress and jobs.jobs("heavy")[0].payload["run"] == run.id
    at.button(key="cliffs_halt").click().run()
    assert run.status().state is State.STOPPED and "stopped" in at.warning[0].value


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"cliffs_model": "/no/such/folder"}, "model: expected 'bundled', a folder"),
        ({"cliffs_set": "/no/such/file.jsonl"}, "There is no file"),
        ({"cliffs_set": "bundled:flat"}, "bundled:steep and bundled:gentle"),
        ({"cliffs_set": "x.jsonl", "cliffs_columns": "text"}, "columns: expected"),
    ],
)
def test_a_bad_scan_is_a_sentence_and_starts_nothing(runs_folder: Path, query: dict[str, str], words: str) -> None:
    at = open_page("cliffs", **query)
    if not errors(at):
        at.button(key="cliffs_start").click().run()
    assert words in errors(at)[0]
    assert not folder.all_runs(runs_folder)[:1] or folder.all_runs(runs_folder)[0].recorded


def test_a_finished_scan_is_drawn_and_tabled_as_the_run_folder_says(runs_folder: Path) -> None:
    path = fake_scan_run(runs_folder)
    at = open_page("cliffs")
    rows = Run(path).metrics("scan_group")
    drawn = figures(at)["cliffs-map"]
    assert [d[:2] for d in drawn["arms"][0]["at"][0]] == [[r["correct"], r["n"]] for r in rows] and len(rows) == 12
    table = at.dataframe[0].value
    assert list(table["correct"]) == [r["correct"] for r in rows]
    assert (table["low"][0], table["high"][0]) == rate_interval(0, 4)
    counts = at.dataframe[-1].value.set_index("reason")["prompts"]
    assert counts["cut off"] == 4 and counts.sum() == 4, "the made-up cliffs each end in a truncated rollout"
    assert any("0 of 4 only says p < 0.53" in c.value for c in at.caption)
    assert not at.progress


def test_filters_stand_in_the_link_and_narrow_the_table(runs_folder: Path) -> None:
    fake_scan_run(runs_folder)
    at = open_page("cliffs", cliffs_kind="mixed")
    assert set(at.dataframe[0].value["kind"]) == {"mixed"}
    assert len(figures(at)["cliffs-map"]["faded"]) == 8, "the map shows the same prompts"
    at.text_input(key="cliffs_text").set_value("no such words").run()
    assert any("No prompt passes" in i.value for i in at.info)
    at = open_page("cliffs", cliffs_kind="doubtful", cliffs_text="val-0001")
    assert list(at.dataframe[0].value["problem_id"]) == ["steep-val-0001"]


def test_a_running_scan_shows_progress_and_can_be_stopped(runs_folder: Path) -> None:
    path = fake_scan_run(runs_folder, state=State.RUNNING)
    at = open_page("cliffs")
    assert at.progress[0].value == 50 and "6 of 12" in at.progress[0].text and "3 s left" in at.progress[0].text
    assert len(at.dataframe[0].value) == 6, "what is there is shown"
    at.button(key="cliffs_halt").click().run()
    assert folder.stop_requested(path)


def test_a_killed_scan_says_so_and_can_be_resumed(runs_folder: Path) -> None:
    path = fake_scan_run(runs_folder, state=State.RUNNING)
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**status, "pid": 2**22 - 1}))
    at = open_page("cliffs")
    assert "killed" in at.warning[0].value
    at.button(key="cliffs_resume").click().run()
    assert not errors(at) and jobs.jobs("heavy")[0].payload == {"run": path.name, "resume": True}


def test_a_recorded_scan_is_offered_after_the_own_ones(runs_folder: Path) -> None:
    recorded = fake_scan_run(folder.ASSET_RUNS)
    at = open_page("cliffs")
    assert at.selectbox(key="cliffs_scan").value == recorded.name and any("recorded" in m.value for m in at.markdown)
    own = fake_scan_run(runs_folder)
    assert open_page("cliffs").selectbox(key="cliffs_scan").value == own.name


def test_the_newest_finished_scan_opens_and_no_stopped_one(runs_folder: Path) -> None:
    done = fake_scan_run(runs_folder)
    fake_scan_run(runs_folder, state=State.STOPPED)
    RunWriter.create("scan", ScanConfig(), root=runs_folder).status(State.STOPPED)
    assert open_page("cliffs").selectbox(key="cliffs_scan").value == done.name


def test_a_training_plays_beside_its_partner_and_opens_a_prompt_by_its_counts(runs_folder: Path) -> None:
    fake_scan_run(runs_folder)
    fake_pair(runs_folder)
    run = next(r for r in folder.all_runs() if "0.3" in r.name)
    at = open_page("cliffs", cliffs_map=run.id, cliffs_prompt="steep-val-0001")
    drawn = figures(at)["cliffs-map"]
    assert not errors(at) and [a["name"] for a in drawn["arms"]] == ["λ = 0", "λ = 0.3"]
    assert drawn["moments"] == ["before training", "step 2", "step 4"] and drawn["opened"] == "steep-val-0001"
    assert at.session_state["cliffs-table"]["selection"]["rows"] == [0], "the row is marked as the dot is"
    assert list(at.dataframe[0].value["λ = 0.3"]) == ["0 of 16, cliff"] * 3
    assert any(
        "By step 4, on 40 prompts: λ = 0.3 recovered 0 of 14 cliffs" in m.value.replace("\\", "") for m in at.markdown
    )


def test_a_link_to_what_is_gone_is_said(runs_folder: Path) -> None:
    path = fake_scan_run(runs_folder)
    at = open_page("cliffs", cliffs_scan="20200101-000000-scan-dead")
    assert "not here" in at.warning[0].value and at.selectbox(key="cliffs_scan").value == path.name
    assert "not among these prompts" in open_page("cliffs", cliffs_prompt="nobody").warning[0].value


@pytest.fixture(scope="module")
def real_cliffs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A scan by the real engine: 3 problems × 3 rollouts of a random model, which solves nothing."""
    from hdpo.work.execute import execute

    config = replace(ScanConfig(model=ModelConfig(model=str(random_model())), split="validation"), rollouts=3)
    config = replace(config, data=replace(config.data, limit=3), sampling=replace(config.sampling, max_new_tokens=8))
    writer = RunWriter.create("scan", config, root=tmp_path_factory.mktemp("real"), name="a real scan")
    execute(writer.path, resume=False)
    return writer.path


def test_the_gradient_of_a_cliff_is_zero_and_one_edited_reward_makes_it_not(
    runs_folder: Path, real_cliffs: Path, desk: Any
) -> None:
    os.symlink(real_cliffs, runs_folder / real_cliffs.name)
    at = open_page("cliffs", cliffs_prompt="steep-val-0001")
    assert not errors(at) and at.metric[0].value == "…"
    assert [m.value for m in answer_all(desk, at).metric] == ["0"]
    assert "0 of 3 correct" in "".join(c.value for c in at.caption)
    editor = next(g for g in at.get("pills") if "reward 1" in g.label)
    editor.set_value([2]).run()
    answer_all(desk, at)
    assert [m.value for m in at.metric][0] == "0" and float(at.metric[1].value) > 0
    shown = "".join(h.value for h in at.html)
    assert shown.count("advantage <b>−0.500</b>") == 2
    cards = [h.value for h in at.html if "advantage" in h.value]
    assert "advantage <b>+1.000</b>" in cards[1], "the second pill is the second rollout"
    badges = [m.value for m in at.markdown if "-badge[" in m.value]
    assert sum("reward 1, edited; the verifier says" in b and ":gray-" in b for b in badges) == 1
    assert not any(":red-badge" in b and "edited" in b for b in badges)
    link = at.get("page_link")[0].proto
    assert "side_problem=steep-val-0001" in link.query_string and "side_max_new_tokens=8" in link.query_string


def test_a_press_draws_fresh_rollouts_until_they_decide(runs_folder: Path, real_cliffs: Path, desk: Any) -> None:
    shutil.copytree(real_cliffs, runs_folder / real_cliffs.name)
    at = open_page("cliffs", cliffs_prompt="steep-val-0001")
    at.button(key="cliffs_confirm").click().run()
    assert not errors(at) and asked("confirm")[0].payload["rollouts"] == 512
    assert at.button(key="cliffs_confirm_stop"), "while it draws it can be stopped"
    answer_all(desk, at)
    assert "Fresh rollouts: 0 of 272 correct" in markdown_of(at) and "cliff: pass rate below" in markdown_of(at)
    assert not [b for b in at.button if b.key in ("cliffs_confirm", "cliffs_confirm_stop")], "nothing is left to ask"
    at = open_page("cliffs", cliffs_prompt="steep-val-0001")
    assert "0 of 272 correct" in markdown_of(at), "the run folder remembers"


def test_a_stopped_press_leaves_the_queue_and_may_be_pressed_again(runs_folder: Path, real_cliffs: Path) -> None:
    shutil.copytree(real_cliffs, runs_folder / real_cliffs.name)
    at = open_page("cliffs", cliffs_prompt="steep-val-0001")
    at.button(key="cliffs_confirm").click().run()
    at.button(key="cliffs_confirm_stop").click().run()
    assert not errors(at) and asked("confirm")[0].state is State.STOPPED and at.button(key="cliffs_confirm")


def test_hostile_rollouts_and_problems_are_shown_literally(runs_folder: Path) -> None:
    texts = [t for t in NASTY if t and "\ud83d" not in t]
    problem = Problem(texts[1][:20], texts[0], texts[1], texts[2], texts[1], 4)
    group = Group(
        problem,
        (1,),
        tuple(Rollout(problem.id, i, (5,), (-0.1,), t, Outcome.WRONG, t[:50]) for i, t in enumerate(texts)),
    )
    writer = RunWriter.create("scan", replace(ScanConfig(), rollouts=len(texts)), root=runs_folder, name=texts[0])
    writer.table(
        "problems", 0, [{f: getattr(problem, f) for f in ("id", "text", "solution", "answer", "source", "level")}]
    )
    writer.rollouts(0, [group], "student")
    writer.metric("scan_group", 0, **scan_row(group))
    writer.status(State.DONE, done=1, total=1)
    at = open_page("cliffs", cliffs_prompt=problem.id)
    assert not errors(at)
    codes = [c.value.strip() for c in at.code]
    assert all(rollouts.printable(t).strip() in codes for t in texts)
    seen = markdown_of(at) + "".join(
        h.value for h in at.html if ".js-plotly-plot" not in h.value
    )  # the app's own style
    assert (
        "<script" not in seen
        and "<style>" not in seen
        and "![x](" not in markdown_of(at)
        and "$5" not in markdown_of(at)
    )


# --- Side by side ---------------------------------------------------------------------------------------------


def side(**query: str) -> AppTest:
    settings = {
        "side_model": str(random_model()),
        "side_max_new_tokens": "6",
        "side_k": "2",
        "side_problem": "steep-val-0003",
    }
    return open_page("side_by_side", **(settings | query))


def test_the_first_visit_explains_itself_and_starts_with_a_cliff(runs_folder: Path) -> None:
    writer = RunWriter.create("scan", replace(ScanConfig(), split="validation"), root=runs_folder)
    for i, problem in enumerate(bundled("steep", "validation")[:4]):
        writer.metric("scan_group", 0, **scan_row(fake_group(problem, i + 1)))  # mixed, solved, cliff, mixed
    writer.status(State.DONE, done=4, total=4)
    at = open_page("side_by_side")
    assert not errors(at) and "Roll out" in at.info[0].value and not asked("rollouts")
    assert at.selectbox(key="side_problem").value == "steep-val-0003" == at.query_params["side_problem"]


def test_a_link_restores_prompt_and_settings(runs_folder: Path) -> None:
    at = side(
        side_temperature="0.7",
        side_seed="5",
        side_greedy="true",
        side_third="wrong-other",
        side_information="fraction",
        side_fraction="0.25",
    )
    assert at.selectbox(key="side_problem").value == "steep-val-0003"
    at.button(key="side_start").click().run()
    question = asked("rollouts")[0].payload
    assert question["problem"]["id"] == "steep-val-0003" and question["checkpoint"] == ""
    assert (question["k"], question["seed"], question["greedy"], question["sampling"]["temperature"]) == (
        2,
        5,
        True,
        0.7,
    )
    assert question["sides"] == ["student", "privileged", "wrong"] and question["other"]["id"] != "steep-val-0003"
    assert (question["prompts"]["information"], question["prompts"]["fraction"]) == ("fraction", 0.25)


def test_rollouts_stream_then_stand_with_verdicts_filter_parting_and_lens(runs_folder: Path, desk: Any) -> None:
    at = side(side_third="wrong-answer")
    at.button(key="side_start").click().run()
    job = asked("rollouts")[0]
    jobs.emit(job.id, {"event": "phase", "text": "sampling"})
    jobs.emit(job.id, {"event": "token", "side": "student", "rollout": 1, "piece": "<b>half</b> written"})
    at.run()
    assert "<b>half</b> written▌" in [c.value for c in at.code] and any("Sampling" in c.value for c in at.caption)

    answer_all(desk, at)
    assert not errors(at)
    result = at.session_state["requests"]["rollouts"].result
    for name, drawn in zip(("student", "privileged", "wrong"), pictures(at, "rollouts"), strict=True):
        texts = dict.fromkeys(r["text"] for r in result[name]["rollouts"])
        shown = [(box["shared"] or "") + box["text"] for box in drawn["rollouts"]]
        assert shown == [rollouts.printable(t) or "(an empty completion)" for t in texts], "equal rollouts stand once"
        noted = [box["note"][:14] for box in drawn["rollouts"] if box["note"]]
        assert bool(noted) == (name == "privileged"), "the filter speaks of the privileged side alone"
    assert any("Why it may pass all the same" in c.value for c in at.caption)
    assert any("A cliff in this sample" in c.value for c in at.caption)
    assert any("Without the solution 0 of 2 rollouts are right, with it 0 of 2" in m.value for m in at.markdown)

    lens_strip, left, right = pictures(at, "tokens")
    ids = [result[s]["rollouts"][0]["token_ids"] for s in ("student", "privileged")]
    assert [len(left["tokens"]), len(right["tokens"])] == [len(i) for i in ids]
    at_token = next((i for i, (a, b) in enumerate(zip(*ids, strict=False)) if a != b), None)
    if at_token is not None:
        assert left["tokens"][at_token]["classes"] == right["tokens"][at_token]["classes"] == "parts"
    assert len(lens_strip["tokens"]) == len(ids[1]) and lens_strip["bars"]
    assert [t["label"].endswith("they part here") for t in lens_strip["tokens"]] == [
        i == at_token for i in range(len(ids[1]))
    ]
    assert [o for o in at.selectbox(key="side_against").options if "frozen" in o] == [], (
        "an untrained model has no other start"
    )
    lens = at.session_state["requests"]["lens"]
    assert lens.payload["token_ids"] == ids[1] and lens.payload["against"] == "drifting"
    assert f"{sum(lens.result['jsd']):.3f} nats in all" in "".join(c.value for c in at.caption)
    at.selectbox(key="side_against").select("wrong").run()
    answer_all(desk, at)
    assert at.session_state["requests"]["lens"].payload["against"] == "wrong" and not errors(at)


def test_a_first_visit_shows_the_recorded_rollouts_until_something_else_is_asked(runs_folder: Path, desk: Any) -> None:
    kept = sides.recorded()
    at = open_page("side_by_side", side_problem=kept.payload["problem"]["id"])
    assert not errors(at) and not asked("rollouts")
    assert any("Without the solution 0 of 4 rollouts are right, with it 3 of 4" in m.value for m in at.markdown)
    assert any("recorded" in m.value for m in at.markdown), "and says that it is recorded"
    answer_all(desk, at)
    assert at.session_state["requests"]["lens"].result, "its lens is measured now"
    again = record(desk)
    assert again["payload"] == kept.payload
    for name in ("student", "privileged"):
        texts = [[r["text"] for r in result[name]["rollouts"]] for result in (again["result"], kept.result)]
        assert texts[0] == texts[1], "recorded is what the model writes"
    at.number_input(key="side_seed").set_value(1).run()
    assert "Roll out" in at.info[0].value and not any("recorded" in m.value for m in at.markdown)


def test_rolling_out_again_says_that_it_did_and_with_which_seed(runs_folder: Path, desk: Any) -> None:
    at = open_page("side_by_side", side_problem=sides.recorded().payload["problem"]["id"])
    at.button(key="side_start").click().run()
    answer_all(desk, at)
    assert any("seed 0: the recorded ones again" in m.value for m in at.markdown)
    at.button(key="side_again").click().run()
    answer_all(desk, at)
    assert not errors(at) and sorted(j.payload["seed"] for j in asked("rollouts")) == [0, 1]
    assert at.number_input(key="side_seed").value == 1 and at.query_params["side_seed"] == "1"
    assert any("written here" in m.value and "seed 1" in m.value and "again" not in m.value for m in at.markdown)


def test_another_problem_takes_the_rollouts_of_the_last_one_away(runs_folder: Path, desk: Any) -> None:
    at = side()
    at.button(key="side_start").click().run()
    answer_all(desk, at)
    assert any("steep" in c.value and "cliff" in c.value for c in at.caption), "they name their problem"
    at.selectbox(key="side_problem").select_index(0).run()
    assert not errors(at) and "Roll out" in at.info[0].value and not pictures(at, "rollouts")


def test_before_and_after_draws_the_same_prompt_with_every_stage_of_the_pair(runs_folder: Path, desk: Any) -> None:
    recorded = Path(__file__).resolve().parents[2] / "assets" / "runs"
    for name in ("steep-lambda-0-seed-0", "steep-lambda-3-seed-0"):
        os.symlink(recorded / name, runs_folder / name)
    params = before_after.params(Run(runs_folder / "steep-lambda-3-seed-0"))
    at = open_page("side_by_side", side_split="test", side_problem="steep-test-0003", side_k="2", **params)
    assert not errors(at) and not asked("rollouts")

    def counts_at(of: tuple[int, int]) -> Any:
        return catalog.eval_counts(Run(runs_folder / f"steep-lambda-{of[0]}-seed-0"), of[1])

    counts = [counts_at((i, 60)).iloc[2] for i in (0, 3)]
    said = "; ".join(f"λ = {i}: {row['correct']} of 16 right" for i, row in zip((0, 3), counts, strict=True))
    assert any(said in m.value.replace("\\", "") for m in at.markdown), "the evaluations' counts stand there at once"
    at.button(key="side_before").click().run()
    answer_all(desk, at)
    assert not errors(at) and len(pictures(at, "rollouts")) == 4
    found = {Path(j.payload["checkpoint"]).parts[-3:-2]: j.payload for j in asked("rollouts")}
    assert set(found) == {(), ("steep-lambda-0-seed-0",), ("steep-lambda-3-seed-0",)}
    assert found[()]["sides"] == ["student", "privileged"] and {len(q["sides"]) for q in found.values()} == {1, 2}
    assert len({(q["seed"], q["k"], q["problem"]["id"]) for q in found.values()}) == 1
    assert any("of the rollouts below" in m.value for m in at.markdown)
    at.button(key="side_next").click().run()
    now, before = (
        at.selectbox(key="side_problem").value,
        [set(c.loc[c["correct"] > 0, "problem_id"]) for c in map(counts_at, [(0, 60), (3, 0), (3, 60)])],
    )
    assert now in before[2] and now not in before[0] | before[1], "a cliff that this λ alone recovered"
    assert not errors(at) and not pictures(at, "rollouts"), "another problem, none of the last one's rollouts"


def test_changed_settings_do_not_pass_for_those_of_the_rollouts(runs_folder: Path, desk: Any) -> None:
    at = side(side_greedy="true")
    at.button(key="side_start").click().run()
    answer_all(desk, at)
    assert [len(s["rollouts"]) for s in at.session_state["requests"]["rollouts"].result.values()] == [1, 1]
    assert not any("have changed since" in c.value for c in at.caption)
    at.number_input(key="side_seed").set_value(3).run()
    assert any("have changed since" in c.value for c in at.caption) and len(asked("rollouts")) == 1


def test_the_prompts_are_shown_as_the_model_receives_them(runs_folder: Path, desk: Any) -> None:
    at = open_page("side_by_side", side_model=str(random_model()), side_privileged="LOOK {reference} THEN {problem}")
    at.session_state["side-prompts"] = True
    at.run()
    answer_all(desk, at)
    problem = bundled("steep", "validation")[0]
    assert f"<|im_start|>LOOK {problem.solution} THEN {problem.text}<|im_end|>" in [c.value for c in at.code]
    assert any(" of 512 tokens" in c.value for c in at.caption)


def test_an_edited_wording_keeps_its_lines_and_has_a_way_back(runs_folder: Path) -> None:
    at = open_page("side_by_side")
    wording = at.text_area(key="side_privileged")
    assert wording.value == PromptConfig().privileged and "\n" in wording.value
    wording.set_value(wording.value + " ").run()
    at.button(key="side_start").click().run()
    (job,) = asked("rollouts")
    assert job.payload["prompts"]["privileged"] == PromptConfig().privileged + " "
    at.button(key="side_wording").click().run()
    assert at.text_area(key="side_privileged").value == PromptConfig().privileged
    assert "side_wording" not in [b.key for b in at.button] and "side_privileged" not in at.query_params


def test_a_prompt_that_does_not_fit_is_an_outcome_of_its_own(runs_folder: Path, desk: Any) -> None:
    at = side(side_max_new_tokens="600")
    at.button(key="side_start").click().run()
    answer_all(desk, at)
    assert not errors(at) and sum("never cut" in w.value for w in at.warning) == 2
    assert any("nothing to compare" in c.value for c in at.caption)


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ({"side_model": "/no/such/folder"}, "model: expected 'bundled', a folder"),
        ({"side_set": "/no/such/file.jsonl"}, "There is no file"),
        ({"side_privileged": "no placeholders"}, "must contain {problem} and {reference}"),
        (
            {"side_information": "wrong-other", "side_third": "wrong-answer"},
            "Third column: expected wrong-other or none",
        ),
    ],
)
def test_bad_input_is_a_sentence(runs_folder: Path, desk: Any, query: dict[str, str], words: str) -> None:
    at = side(**query)
    if not errors(at):
        at.button(key="side_start").click().run()
        answer_all(desk, at)
    assert words in errors(at)[0]


def test_stop_writing_forgets_the_question(runs_folder: Path) -> None:
    at = side()
    at.button(key="side_start").click().run()
    at.button(key="side_halt").click().run()
    assert not errors(at) and "Roll out" in at.info[0].value
    assert asked("rollouts")[0].state is State.STOPPED
