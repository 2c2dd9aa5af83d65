"""Overview, λ lab and Runs from the entry point: empty, with finished and with running runs, with hostile input."""

from __future__ import annotations

import base64
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from hdpo.config import SweepConfig, TrainConfig, knobs, replace_knobs
from hdpo.presets import PRESETS
from hdpo.record.files import write_aside
from hdpo.record.folder import ASSET_RUNS as RECORDED
from hdpo.record.folder import Run, RunWriter, State, Status
from hdpo.work import jobs
from tests.conftest import REPOSITORY, needs_model
from tests.fakes import fake_pair, fake_scan_run, fake_train_run, figures, open_page, shares, step_row
from workbench import forms, launch, state
from workbench.components import session
from workbench.data import catalog, exports, silence

MINE = ("overview", "problems", "lambda_lab", "runs")
NASTY = "![x](http://example.org/a.png) <b>$x$</b> :red[y] `z`"


def values(data: Any) -> list[float]:
    """Numbers of a plotly trace, packed or plain."""
    if isinstance(data, dict):
        return np.frombuffer(base64.b64decode(data["bdata"]), dtype=data["dtype"]).tolist()
    return list(data)


def fine(at: AppTest) -> None:
    assert [e.message for e in at.exception] == []


def shown(at: AppTest) -> str:
    """All words of a page but the code blocks."""
    parts = (*at.title, *at.subheader, *at.markdown, *at.caption, *at.info, *at.warning, *at.error, *at.text, *at.html)
    return "\n".join(str(p.value) for p in parts)


def command(at: AppTest, kind: str = "train") -> str:
    return next(c.value for c in at.code if c.value.startswith(f"python -m hdpo {kind}"))


def newest(root: Path) -> Run:
    return Run(max(root.glob("*/config.json"), key=lambda p: p.stat().st_mtime).parent)


@pytest.mark.parametrize("page", MINE)
def test_a_page_without_any_run(runs_folder: Path, page: str) -> None:
    at = open_page(page)
    fine(at)
    assert not at.error


@pytest.mark.parametrize("page", MINE)
def test_a_page_with_finished_and_running_runs(runs_folder: Path, page: str) -> None:
    fake_train_run(runs_folder)
    fake_pair(runs_folder)
    fake_scan_run(runs_folder)
    fake_train_run(runs_folder, state=State.RUNNING)
    at = open_page(page)
    fine(at)
    assert not at.error


@pytest.mark.parametrize("page", MINE)
def test_a_page_with_damaged_folders(runs_folder: Path, page: str) -> None:
    for name in ("config.json", "status.json", "metrics.jsonl"):
        path = fake_train_run(runs_folder, steps=2)
        (path / name).write_bytes((path / name).read_bytes()[:40])
    fine(open_page(page))


@pytest.mark.parametrize("page", MINE)
def test_names_and_links_from_outside_are_shown_as_they_are(runs_folder: Path, page: str) -> None:
    path = fake_train_run(runs_folder, state=State.FAILED)
    write_aside(path / "name.txt", NASTY)
    RunWriter(path, 1).status(State.FAILED, message=NASTY)
    at = open_page(page, lab_run=path.name, runs_run=path.name)
    fine(at)
    assert "![x](http" not in "\n".join(
        str(p.value) for p in (*at.markdown, *at.caption, *at.error, *at.info, *at.warning)
    )
    fine(
        open_page(
            page, lab_run="../../etc/passwd", runs_run=NASTY, lab_lambda="NaN", lab_steps="-4", lab_problems=NASTY
        )
    )


def test_an_error_quotes_its_input_without_obeying_it(runs_folder: Path) -> None:
    at = open_page("lambda_lab", lab_another_lambda=NASTY)
    assert len(at.error) == 1 and "![" not in at.error[0].value and "example" in at.error[0].value


# --- Overview ---------------------------------------------------------------------------------------------


def test_overview_draws_the_regimes_of_the_newest_scan(runs_folder: Path) -> None:
    fake_train_run(runs_folder)
    fake_scan_run(runs_folder, problems=12)
    at = open_page("overview")
    bars = figures(at)["overview-regimes"]["data"]
    assert {b["name"]: values(b["x"])[0] for b in bars} == {"cliff": 4, "mixed": 4, "solved": 4}
    assert "4 of 12 prompts are cliffs" in shown(at)
    at.session_state["overview-regimes-about"] = True
    assert "the scan a scan" in shown(at.run()) and "n 12 problems" in shown(at)


def test_overview_falls_back_on_a_baseline(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", runs_folder / "none")
    assert "Not measured yet" in shown(open_page("overview"))
    fake_train_run(runs_folder)
    at = open_page("overview")
    bars = figures(at)["overview-regimes"]["data"]
    assert {b["name"]: values(b["x"])[0] for b in bars} == {"cliff": 14, "mixed": 13, "solved": 13}
    at.session_state["overview-regimes-about"] = True
    assert "before its training" in shown(at.run())


def test_overview_does_not_wait_for_the_model(runs_folder: Path) -> None:
    at = open_page("overview")
    (job,) = jobs.jobs("interactive")
    assert job.payload["request"] == "info"
    facts = {
        "model": "bundled",
        "parameters": 4_000_000,
        "device": "cpu",
        "dtype": "float32",
        "context": 256,
        "vocabulary": 96,
    }
    jobs.emit(job.id, {"event": "done", "result": facts})
    at.run()
    assert "bundled\\: 4\\.00 M parameters, float32 on cpu, context 256 tokens" in at.caption[-1].value


def plainly(at: AppTest) -> str:
    return shown(at).replace("\\", "")


def touched(at: AppTest) -> list[dict[str, Any]]:
    return figures(at)["overview-gradient"]["groups"]


def gradient_questions() -> list[list[float]]:
    """The rewards that were asked about, newest first."""
    return [j.payload["rewards"] for j in jobs.jobs("interactive") if j.payload["request"] == "gradient"]


def test_overview_shows_a_cliff_beside_a_mixed_prompt_and_asks_for_both_gradients(
    runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", RECORDED)
    at = open_page("overview")
    fine(at)
    cliff, mixed = touched(at)
    assert (cliff["rewards"], mixed["rewards"], cliff["norm"]) == ("00000000", "00011011", None)
    assert cliff["table"][0] == [0.0, 0.0] and cliff["table"][1] == pytest.approx([-1 / 7, 1.0])
    assert "Cliff, 0 of 8 right: every advantage is 0. Mixed" in plainly(at) and "is being measured" in plainly(at)
    assert gradient_questions() == [[0, 0, 0, 1, 1, 0, 1, 1], [0] * 8]
    for job, norm in zip(
        jobs.jobs("interactive")[::-1], (0.0, 0.125), strict=False
    ):  # the first two questions, oldest first
        jobs.emit(job.id, {"event": "done", "result": {"advantages": [], "grad_norm": norm}})
    at.run()
    assert [g["norm"] for g in touched(at)] == [{"of": "00000000", "value": 0.0}, {"of": "00011011", "value": 0.125}]
    assert "and so is the gradient" in plainly(at) and "gradient norm 0.12" in plainly(at)


def test_overview_takes_its_rewards_from_the_link_and_keeps_them(
    runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", RECORDED)
    at = open_page("overview", overview_rewards="10000000-00011011")
    assert touched(at)[0]["rewards"] == "10000000" and "1 of 8 right by hand" in shown(at)
    assert gradient_questions()[-1] == [1] + [0] * 7
    at.switch_page("../pages/glossary.py").run().switch_page("../pages/overview.py").run()
    assert touched(at)[0]["rewards"] == "10000000"
    at.query_params["overview_rewards"] = "1-<b>"
    assert touched(at.run())[0]["rewards"] == "10000000", "what is no link's is passed over"


# --- λ by hand --------------------------------------------------------------------------------------------


def test_lambda_by_hand_measures_a_recorded_cliff_once_it_is_opened(runs_folder: Path) -> None:
    needs_model()
    from hdpo.work.interactive import Desk

    assert not asked_by_hand(open_page("lambda_lab")), "elsewhere nothing is asked"
    at = open_page("lambda_lab", lab_hand="true")
    (job,) = asked_by_hand(at)
    found = Desk().answer(job.payload, lambda _: None, lambda: False)
    assert found["grpo"] == 0.0, "the recorded prompt is a cliff"
    jobs.emit(job.id, {"event": "done", "result": found})
    at.run()
    fine(at)
    drawn = figures(at)["lab-by-hand"]
    lam, size = (drawn[name][i] for name, i in zip(("lambdas", "sizes"), drawn["at"], strict=True))
    assert (lam["value"], size) == (0.3, 100.0) and drawn["pieces"][drawn["right"]] == ";"
    after = drawn["after"][drawn["at"][0]][drawn["at"][1]][drawn["right"]]
    assert after > drawn["before"][drawn["right"]] == min(drawn["before"])
    words = f"takes it to {100 * after:.1f} %; GRPO alone moves nothing"
    assert words in plainly(at)


def asked_by_hand(at: AppTest) -> list[jobs.Job]:
    fine(at)
    return [j for j in jobs.jobs("interactive") if j.payload["request"] == "by_hand"]


# --- λ lab, set up ----------------------------------------------------------------------------------------


def test_the_form_shows_the_exact_command_and_config(runs_folder: Path) -> None:
    at = open_page("lambda_lab")
    at.select_slider(key="lab_lambda").set_value(1.0)
    at.number_input(key="lab_steps").set_value(20)
    at.selectbox(key="lab_teacher").set_value("frozen").run()
    fine(at)
    assert command(at) == "python -m hdpo train --lambda 1 --teacher frozen --steps 20"
    shown_config = json.loads(next(c.value for c in at.code if c.value.startswith("{")))
    wanted = replace_knobs(TrainConfig(), {"lambda_": 1.0, "steps": 20, "teacher": "frozen"})
    assert shown_config["objective"]["lambda_"] == 1.0 and shown_config["step"]["steps"] == 20
    at.button(key="lab_start").click().run()
    fine(at)
    run = newest(runs_folder)
    assert run.load_config() == wanted and run.name == "steep: λ = 1, seed 0"
    assert at.segmented_control(key="lab_mode").value == "Watch" and at.selectbox(key="lab_run").value == run.id


def test_a_click_starts_the_run_before_the_page_is_drawn_again(
    runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A browser that reloads right after the click ends the drawing, not what was done before it."""
    fake_train_run(runs_folder)
    at = open_page("lambda_lab")
    at.segmented_control(key="lab_mode").set_value("Watch").run()
    at.segmented_control(key="lab_mode").set_value("Set up").run()
    at.number_input(key="lab_steps").set_value(7).run()
    at.button(key="lab_quick").click().run()
    monkeypatch.setattr(launch, "running_run", st.stop)  # what the page asks for first when it is drawn
    at.button(key="lab_start").click().run()
    assert not at.metric, "nothing was drawn"
    (job,) = jobs.pending_heavy(runs_folder)
    wanted = replace_knobs(TrainConfig(), PRESETS["quick"].settings | {"steps": 7})
    assert Run(runs_folder / job.payload["run"]).load_config() == wanted


def test_a_click_that_leaves_a_field_starts_what_the_field_then_says(runs_folder: Path) -> None:
    at = open_page("lambda_lab")
    at.number_input(key="lab_steps").set_value(7)
    at.button(key="lab_start").click().run()
    fine(at)
    (path,) = runs_folder.glob("*/config.json")
    assert Run(path.parent).load_config().step.steps == 7
    assert at.selectbox(key="lab_run").value == path.parent.name


def test_a_double_click_starts_one_run(runs_folder: Path) -> None:
    at = open_page("lambda_lab")
    button = at.button(key="lab_start")
    button.click().run()
    button.click().run()
    fine(at)
    assert len(list(runs_folder.glob("*/config.json"))) == 1


def test_a_link_restores_the_form(runs_folder: Path) -> None:
    at = open_page(
        "lambda_lab", lab_lambda="3", lab_steps="7", lab_problems="bundled:gentle", lab_learning_rate="0.002"
    )
    fine(at)
    assert command(at) == "python -m hdpo train --problems bundled:gentle --lambda 3 --steps 7 --learning-rate 0.002"
    assert any("lab_lambda=3" in c.value and "lab_steps=7" in c.value for c in at.code), "the copyable link"


def test_a_pair_becomes_a_sweep_with_one_seed(runs_folder: Path) -> None:
    at = open_page("lambda_lab", lab_seed="5")
    at.button(key="lab_pair").click().run()
    fine(at)
    config = newest(runs_folder).load_config()
    assert isinstance(config, SweepConfig) and config.lambdas == (0.0, 0.3) and config.seeds == (5,)


@pytest.mark.parametrize(
    ("text", "words"),
    [("-1", "expected 0.0 to 1000.0"), ("abc", "expected a number"), ("nan", "finite"), ("inf", "finite")],
)
def test_a_lambda_that_is_none_is_a_sentence(runs_folder: Path, text: str, words: str) -> None:
    at = open_page("lambda_lab", lab_another_lambda=text)
    fine(at)
    assert len(at.error) == 1 and words.replace(".", "\\.") in at.error[0].value
    assert not list(runs_folder.glob("*/config.json"))


@pytest.mark.parametrize(
    ("query", "button", "words"),
    [({"lab_lambda": "0"}, "lab_pair", "above 0"), ({"lab_model": "/no/such/model"}, "lab_start", "model")],
)
def test_a_start_that_cannot_work_is_a_sentence(
    runs_folder: Path, query: dict[str, str], button: str, words: str
) -> None:
    at = open_page("lambda_lab", **query)
    at.button(key=button).click().run()
    fine(at)
    assert words in at.error[0].value and not list(runs_folder.glob("*/config.json"))


@pytest.mark.parametrize(
    ("name", "value"), [("lab_ks", "1,x"), ("lab_eval_samples", "2"), ("lab_top_p", "0.5"), ("lab_student", "hello")]
)
def test_a_setting_that_does_not_fit_is_a_sentence(runs_folder: Path, name: str, value: str) -> None:
    at = open_page("lambda_lab", **{name: value})
    fine(at)
    assert len(at.error) == 1 and "Traceback" not in at.error[0].value


def test_a_preset_changes_what_it_says_and_what_was_chosen_stays(runs_folder: Path) -> None:
    at = open_page("lambda_lab", lab_lambda="1", lab_steps="7")
    at.button(key="lab_quick").click().run()
    fine(at)
    assert command(at) == "python -m hdpo train --lambda 1 --steps 7 --prompts-per-step 16"
    at.button(key="lab_bundled").click().run()
    assert command(at) == "python -m hdpo train --lambda 1"


def test_another_preset_takes_back_what_the_one_before_it_set_and_nobody_changed(monkeypatch) -> None:
    kept: dict[str, object] = {f"lab_{k.name}": forms.as_shown(k.default) for k in knobs(TrainConfig())}
    kept |= {"lab_problems": "mine.jsonl", "lab_steps": 7}
    monkeypatch.setattr(forms.st, "session_state", kept)
    before = dict(kept)
    forms.use_preset("quick", "lab_")
    assert kept == {**before, "lab_prompts_per_step": 16, "lab_preset": "quick"}
    forms.use_preset("qwen-math", "lab_")
    assert kept["lab_model"] == "Qwen/Qwen2.5-Math-1.5B-Instruct" and kept["lab_prompts_per_step"] == 32
    kept["lab_warmup"] = 3
    forms.use_preset("smollm2-gsm8k", "lab_")
    assert (kept["lab_dtype"], kept["lab_warmup"], kept["lab_steps"]) == ("float32", 10, 7)
    kept["lab_warmup"] = 3
    forms.use_preset("quick", "lab_")
    assert (kept["lab_model"], kept["lab_warmup"], kept["lab_problems"]) == ("bundled", 3, "bundled:steep")


def test_before_the_start_time_and_detectable_difference_are_said(runs_folder: Path) -> None:
    fake_train_run(runs_folder)
    words = shown(open_page("lambda_lab"))
    assert "Measured in" in words and "80 times in 100" in words


# --- λ lab, watch -----------------------------------------------------------------------------------------


def test_a_finished_run_is_drawn_as_it_was_written(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder, lam=0.3, steps=4))
    drawn = figures(open_page("lambda_lab", lab_run=run.id))
    reward = drawn["lab-reward"]["data"][0]
    assert values(reward["x"]) == [1, 2, 3, 4]
    assert values(reward["y"]) == pytest.approx([r["reward"] for r in run.metrics("step")])
    mixed = next(t for t in drawn["lab-signal"]["data"] if t["name"].startswith("mixed"))
    assert values(mixed["y"]) == [3, 3, 3, 3]
    pass_8 = [r["pass_at"]["8"]["value"] for r in run.metrics("eval")]
    assert any(values(t["y"]) == pytest.approx(pass_8) for t in drawn["lab-pass"]["data"] if len(values(t["y"])) == 3)


def test_a_new_evaluation_and_one_made_again_are_drawn_at_the_next_look(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=4, state=State.RUNNING)
    at = open_page("lambda_lab", lab_run=path.name)

    def drawn() -> list[float]:
        traces = figures(at)["lab-pass"]["data"]
        return next(values(t["y"]) for t in traces if t.get("mode") == "lines+markers")

    first = drawn()
    RunWriter(path, 1).metric("eval", 6, n_samples=16, temperature=1.0, **shares(6, lam=0.3))
    fine(at.run())
    assert drawn() == pytest.approx([*first, 0.46])
    again = RunWriter(path, 2)
    again.metric("resume", 4)
    again.metric("eval", 6, n_samples=16, temperature=1.0, **shares(10, lam=0.3))
    fine(at.run())
    assert drawn() == pytest.approx([*first, 0.5])


@pytest.mark.parametrize(
    ("view", "keys"),
    [
        ("Losses", {"lab-losses", "lab-gradients", "lab-interference", "lab-off-policy", "lab-harm"}),
        ("Gap", {"lab-probe"}),
    ],
)
def test_the_other_views(runs_folder: Path, view: str, keys: set[str]) -> None:
    run = Run(fake_train_run(runs_folder))
    at = open_page("lambda_lab", lab_run=run.id, lab_panel=view)
    fine(at)
    drawn = figures(at)
    assert set(drawn) == keys
    if view == "Losses":
        jsd = [r["loss_jsd"] for r in run.metrics("step")]
        assert any(values(t["y"]) == pytest.approx(jsd) for t in drawn["lab-losses"]["data"])


def test_a_pair_is_overlaid(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    at = open_page("lambda_lab", lab_run=pair.name)
    fine(at)
    assert {t["name"] for t in figures(at)["lab-reward"]["data"]} == {"λ = 0", "λ = 0.3"}


def test_the_rollouts_of_a_step(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder, steps=2))
    at = open_page("lambda_lab", lab_run=run.id, lab_panel="Rollouts")
    fine(at)
    first = run.rollouts(step=2, role="student")[0]
    assert at.selectbox(key="lab_prompt").value == first["problem_id"], "a cliff comes first"
    codes = [c.value for c in at.code]
    assert first["problem"] in codes and first["text"] in codes
    assert "With it (privileged)" in shown(at), "this cliff was tried"
    assert "Without the solution 0 of" in shown(at), "the filter in one sentence"
    at.select_slider(key="lab_step").set_value(1).run()
    fine(at)


def test_another_run_does_not_trip_over_the_last_one_s_choices(runs_folder: Path) -> None:
    long, short = (Run(fake_train_run(runs_folder, steps=n)) for n in (6, 2))
    at = open_page("lambda_lab", lab_run=long.id, lab_panel="Rollouts")
    at.select_slider(key="lab_step").set_value(5).run()
    at.pills(key="lab_kinds").set_value(["solved"]).run()
    at.selectbox(key="lab_run").set_value(short.id).run()
    fine(at)
    assert at.select_slider(key="lab_step").value == 2 and "· solved ·" in at.selectbox(key="lab_prompt").format_func(
        at.selectbox(key="lab_prompt").value
    )


def test_a_running_run_is_found_after_a_reload(runs_folder: Path) -> None:
    fake_train_run(runs_folder, lam=1.0)
    running = fake_train_run(runs_folder, lam=0.0, state=State.RUNNING)
    running = running.rename(runs_folder / "20200101-000000-train-0000")  # not the newest of the list
    at = open_page("lambda_lab")
    assert at.segmented_control(key="lab_mode").value == "Watch" and at.selectbox(key="lab_run").value == running.name
    assert "4 of 10" in str(at.get("progress")[0].proto.text) and "left" in str(at.get("progress")[0].proto.text)
    at.button(key="lab_halt").click().run()
    fine(at)
    assert (running / "stop").exists()


def test_a_killed_run_says_so_and_can_be_resumed(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, state=State.RUNNING)
    status = json.loads((path / "status.json").read_text())
    (path / "status.json").write_text(json.dumps({**status, "pid_start": 1.0}))
    at = open_page("lambda_lab", lab_run=path.name)
    assert "ended without a word" in at.error[0].value
    at.button(key="lab_resume").click().run()
    fine(at)
    assert launch.pending_job(Run(path)) is not None and Run(path).status().state is State.QUEUED


def test_before_the_first_step_there_is_a_sentence_and_no_figure(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=0, state=State.RUNNING)
    for view in ("Learning", "Losses", "Gap"):
        at = open_page("lambda_lab", lab_run=path.name, lab_panel=view)
        fine(at)
        assert not figures(at) and "No training step yet" in shown(at)
    RunWriter(path, 1).metric("step", 1, **step_row(1, 0.3))
    fine(at.run())
    assert set(figures(at)) == {"lab-probe"}


def test_a_waiting_run_says_why(runs_folder: Path) -> None:
    first = launch.start_heavy(TrainConfig(), name="mine")
    at = open_page("lambda_lab", lab_run=first)
    assert "a trainer is starting" in at.get("progress")[0].proto.text and "HDPO\\_NO\\_WORKERS" in at.warning[0].value
    jobs.register_worker("trainer")  # this process, as the trainer that has the machine
    jobs.claim("heavy")
    second = launch.start_heavy(TrainConfig())
    assert "waits for mine" in open_page("lambda_lab", lab_run=second).get("progress")[0].proto.text


def test_a_run_whose_job_was_lost_can_be_resumed(runs_folder: Path) -> None:
    run = Run(RunWriter.create("train", TrainConfig(), root=runs_folder).path)
    at = open_page("lambda_lab", lab_run=run.id)
    assert "no job" in at.get("progress")[0].proto.text
    at.button(key="lab_resume").click().run()
    fine(at)
    assert launch.pending_job(run) is not None


def test_silence_speaks(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=6, cliffs=0)
    at = open_page("lambda_lab", lab_run=path.name)
    assert [w.value for w in at.warning] == [state.escape("6 steps without a cliff: the λ term did nothing.")]


@pytest.mark.parametrize(
    ("changes", "lam", "words"),
    [
        ({"accepted_rollouts": 0}, 0.3, "no privileged rollout was accepted"),
        ({"groups_mixed": 0}, 0.0, "without a mixed prompt"),
        ({"groups_mixed": 0, "reward": 1.0}, 0.3, "every prompt is solved"),
        ({"truncated": 20}, 0.3, "truncated"),
        ({"groups_too_long": 2}, 0.3, "too long"),
        ({"grad_norm_jsd": 9.0, "grad_norm_grpo": 0.1}, 0.3, "90 times"),
        ({"grad_norm_grpo": 0.0}, 0.3, ""),
        ({}, 0.0, ""),
        ({}, 0.3, ""),
    ],
)
def test_sentences_about_a_silence(changes: dict[str, float], lam: float, words: str) -> None:
    rows = [{"step": s, **step_row(s, lam), **changes} for s in range(1, 8)]
    found = silence.sentences(pd.DataFrame(rows))
    assert (found == []) if words == "" else any(words in f for f in found)
    assert silence.sentences(pd.DataFrame(rows)[:0]) == []


@pytest.mark.parametrize(("done", "left"), [(0, None), (2, None), (3, ", about 20 s left")])
def test_the_first_steps_do_not_say_how_long_the_others_take(done: int, left: str | None) -> None:
    status = Status(State.RUNNING, done=done, total=60, seconds_left=20.0)
    assert session.left_words(status) == (left or "")


# --- Runs -------------------------------------------------------------------------------------------------


def test_the_list_has_every_run(runs_folder: Path) -> None:
    fake_train_run(runs_folder, lam=3.0)
    scan = fake_scan_run(runs_folder)
    at = open_page("runs", runs_run=scan.name)
    fine(at)
    own = at.dataframe[0].value.query("origin == 'yours'").sort_values("kind")  # made within one second
    assert own["kind"].tolist() == ["scan", "train"] and own["lambda"].tolist() == ["", "3"]
    assert at.code[0].value == "python -m hdpo scan --split validation --rollouts 4"


def test_a_run_is_renamed(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder)
    at = open_page("runs", runs_run=path.name)
    next(t for t in at.text_input if t.label == "Name").set_value("a better name")
    at.text_area[0].set_value("the one for Tuesday\n<b>")
    next(b for b in at.button if b.label == "Keep name and note").click().run()
    fine(at)
    assert Run(path).name == "a better name" and Run(path).note == "the one for Tuesday\n<b>"
    at = open_page("runs", runs_text="TUESDAY")
    assert at.dataframe[0].value["name"].tolist() == ["a better name"] and "1 of " in shown(at)
    assert "No run passes" in shown(open_page("runs", runs_text="Wednesday"))


def test_a_run_is_deleted_with_its_members_and_taken_back(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    at = open_page("runs", runs_run=pair.name)
    at.button(key="runs_delete").click().run()
    fine(at)
    assert not list(runs_folder.glob("*/config.json")) and pair.name in "\n".join(t.value for t in at.text)
    at.button(key="runs_undo").click().run()
    fine(at)
    assert len(list(runs_folder.glob("*/config.json"))) == 3 and at.selectbox(key="runs_run").value == pair.name


def test_a_tick_stays_with_its_run_and_the_trash_has_a_way_back_in_any_session(runs_folder: Path) -> None:
    first, second, third = (fake_train_run(runs_folder, seed=s).name for s in range(3))
    at = open_page("runs", runs_run=first)
    listed = at.dataframe[0].value["name"].tolist()
    at.session_state["runs-ticked"] = [second]
    at.button(key="runs_delete").click().run()
    fine(at)
    names = at.dataframe[0].value["name"].tolist()
    assert len(names) == len(listed) - 1
    assert names[at.session_state["runs_table"]["selection"]["rows"][0]] == Run(runs_folder / second).name
    at.selectbox(key="runs_run").select(second).run()
    at.button(key="runs_delete").click().run()
    assert at.session_state["runs_table"]["selection"]["rows"] == []
    at = open_page("runs")
    assert "2 in the trash" in [e.label for e in at.expander]
    at.button(key=f"runs-back-{second}").click().run()
    fine(at)
    assert (runs_folder / second).is_dir() and at.selectbox(key="runs_run").value == second
    assert "1 in the trash" in [e.label for e in at.expander] and (runs_folder / third).is_dir()


def test_a_sweep_stands_before_its_members_and_a_scan_has_its_share_of_cliffs(runs_folder: Path) -> None:
    scan, pair = fake_scan_run(runs_folder), fake_pair(runs_folder, lam=3.0)
    frame = catalog.runs_frame()
    shown = exports.in_families(frame.sample(frac=1.0, random_state=3))
    at = shown["id"].tolist().index(pair.name)
    assert set(shown["id"][at + 1 : at + 3]) == {m["id"] for m in Run(pair).members()}
    listed = exports.listing(shown).assign(id=shown["id"]).set_index("id")
    assert listed.loc[pair.name, "lambda"] == "0, 3" and listed.loc[pair.name, "steps"] == 60
    assert listed.loc[scan.name, "cliffs"] == pytest.approx(1 / 3)


def test_a_run_at_work_is_not_deleted(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, state=State.RUNNING)
    at = open_page("runs", runs_run=path.name)
    at.button(key="runs_delete").click().run()
    assert path.exists() and any("Stop it first" in e.value for e in at.error)


def test_a_recorded_run_wears_its_badge_and_keeps_its_name(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = fake_train_run(runs_folder / "recorded")
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", runs_folder / "recorded")
    at = open_page("runs", runs_run=path.name)
    fine(at)
    assert at.dataframe[0].value["origin"].tolist() == ["recorded"]
    assert {"Keep name and note", "Delete"}.isdisjoint(b.label for b in at.button) and "recorded" in "\n".join(
        m.value for m in at.markdown
    )


def test_only_differences_are_compared(runs_folder: Path) -> None:
    ids = [fake_train_run(runs_folder, lam=lam).name for lam in (0.0, 1.0)]
    at = open_page("runs")
    at.multiselect(key="runs_compare").set_value(ids).run()
    fine(at)
    results, verdicts, table = (d.value for d in at.dataframe[1:])
    assert results["step"].tolist() == [4, 4] and verdicts["λ"].unique().tolist() == ["1"]
    assert table["setting"].tolist() == ["objective.lambda"] and table.iloc[0, 1:].tolist() == ["0", "1"]
    same = fake_train_run(runs_folder, lam=1.0).name
    at = open_page("runs")
    at.multiselect(key="runs_compare").set_value([ids[1], same]).run()
    assert "same settings" in shown(at)


def test_damage_is_told_and_the_rest_is_kept(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder)
    metrics = path / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes()[:-20])
    at = open_page("runs", runs_run=path.name)
    fine(at)
    assert any("cannot be read" in w.value for w in at.warning)
    (path / "config.json").write_text("{")
    at = open_page("runs", runs_run=path.name)
    fine(at)
    assert any("config" in w.value for w in at.warning)


# --- the frame --------------------------------------------------------------------------------------------


def test_markdown_is_escaped() -> None:
    assert state.escape(NASTY).count("\\") > 20 and "](" not in state.escape("[a](b)")
    assert "\u2060" in state.escape("see https://example.org") and "\n" not in state.escape("a\nb")


def test_the_server_never_imports_torch(real_train_run: Path, real_scan_run: Path, tmp_path: Path) -> None:
    """Every page with a real run and a real scan, in a process of its own."""
    root = tmp_path / "runs"
    root.mkdir()
    for run in (real_train_run, real_scan_run):
        (root / run.name).symlink_to(run)
    script = (
        "import sys\n"
        "from tests.fakes import open_page\n"
        f"at = [open_page(p, lab_run={real_train_run.name!r}) for p in "
        "('overview', 'cliffs', 'side_by_side', 'lambda_lab', 'gap', 'tradeoff', 'runs')]\n"
        "at.append(open_page('lambda_lab'))\n"  # its form
        "print([e.message for a in at for e in a.exception])\n"
        "print(sorted({m.split('.')[0] for m in sys.modules} & {'torch', 'transformers', 'peft'}))\n"
    )
    env = {**os.environ, "HDPO_RUNS": str(root), "HDPO_NO_WORKERS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, env=env, cwd=REPOSITORY, check=True
    )
    assert done.stdout.splitlines() == ["[]", "[]"], done.stderr[-2000:]


def test_a_taken_port_is_a_sentence() -> None:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "workbench", "--port", str(port)],
            capture_output=True,
            text=True,
            cwd=REPOSITORY,
            timeout=60,
        )
    assert done.returncode == 2 and f"found {port} taken" in done.stderr and "Traceback" not in done.stderr
