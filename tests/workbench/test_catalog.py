"""Runs as tables: the numbers that were written, nothing that was superseded, and no exception from a damaged folder."""

from __future__ import annotations

import io
import json
import math
import shutil
from pathlib import Path

import pandas as pd
import pytest

from hdpo.config import ModelConfig, TrainConfig
from hdpo.record.files import write_aside
from hdpo.record.folder import Run, RunWriter, State
from tests.fakes import PROMPTS, ROLLOUTS, fake_pair, fake_scan_run, fake_train_run, step_row
from workbench.data import catalog, exports


def frames(run: Run) -> list:
    return [
        catalog.steps_frame(run),
        catalog.evals_frame(run),
        catalog.slices_frame(run),
        catalog.probe_frame(run),
        catalog.scan_frame(run),
        catalog.gap_frame(run, 0),
        catalog.eval_counts(run, 0),
        catalog.step_rollouts(run, 1),
    ]


def test_an_empty_folder_still_has_columns(runs_folder: Path) -> None:
    assert list(catalog.runs_frame().columns) == catalog.RUN_COLUMNS
    assert catalog.runs_frame().empty or catalog.runs_frame()["recorded"].all()
    run = Run(RunWriter.create("train", TrainConfig(), root=runs_folder).path)
    wanted = (
        catalog.STEP_COLUMNS,
        catalog.EVAL_COLUMNS,
        catalog.SLICE_COLUMNS,
        catalog.PROBE_COLUMNS,
        catalog.SCAN_COLUMNS,
        catalog.GAP_COLUMNS,
        catalog.COUNT_COLUMNS,
        catalog.GROUP_COLUMNS,
    )
    for frame, columns in zip(frames(run), wanted, strict=True):
        assert list(frame.columns) == columns and frame.empty


def test_steps_are_the_rows_that_were_written(runs_folder: Path) -> None:
    frame = catalog.steps_frame(Run(fake_train_run(runs_folder, lam=0.3, steps=4)))
    assert frame["step"].tolist() == [1, 2, 3, 4]
    assert frame["loss_jsd"].tolist() == pytest.approx([0.2, 0.1, 0.2 / 3, 0.05])
    assert (frame["lambda"] == 0.3).all() and frame["groups_cliff_recovered"].tolist() == [2] * 4


def test_nulls_are_nan_in_number_columns(runs_folder: Path) -> None:
    frame = catalog.steps_frame(Run(fake_train_run(runs_folder, lam=0.0)))
    assert frame["teacher_mass"].isna().all() and frame["teacher_mass"].dtype.kind == "f"


def test_evaluations_are_long_with_their_intervals(runs_folder: Path) -> None:
    frame = catalog.evals_frame(Run(fake_train_run(runs_folder, lam=1.0, steps=2)))
    row = frame[(frame["metric"] == "pass@8") & (frame["step"] == 2)].iloc[0]
    assert (row["value"], row["low"], row["high"]) == pytest.approx((0.62, 0.57, 0.67))
    assert row["n_problems"] == 40 and row["n_samples"] == 16
    assert set(frame["metric"]) == {"pass@1", "pass@4", "pass@8", "greedy", "cliff", "solved"}


def test_slices_and_probes_are_long(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder, steps=2))
    assert set(catalog.slices_frame(run)["slice"]) == {"1", "2", "3", "4", "5"}
    assert set(catalog.slices_frame(run, "source")["slice"]) == {"sum"}
    probe = catalog.probe_frame(run)
    some = probe[(probe["on"] == "own") & (probe["metric"] == "kl_drifting")]
    assert some["value"].tolist() == pytest.approx([0.5, 0.5 / 3]) and (some["n_tokens"] == 9).all()


def test_rows_that_a_resume_superseded_are_gone(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=4)
    writer = RunWriter.resume(path, 2)
    writer.metric("step", 3, **{"lambda": 9.0})
    frame = catalog.steps_frame(Run(path))
    assert frame["step"].tolist() == [1, 2, 3] and frame["lambda"].tolist() == [0.3, 0.3, 9.0]


def test_a_cached_reading_ends_when_the_file_grows(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=2)
    assert len(catalog.steps_frame(Run(path))) == 2
    RunWriter(path, 1).metric("step", 3, reward=0.5)
    assert len(catalog.steps_frame(Run(path))) == 3


def test_a_scan_has_texts_regimes_and_its_rollouts(runs_folder: Path) -> None:
    run = Run(fake_scan_run(runs_folder, problems=12, rollouts=4))
    frame = catalog.scan_frame(run)
    assert frame["group"].tolist() == ["cliff", "mixed", "solved"] * 4
    assert (frame["problem"].str.len() > 0).all() and (frame["gold"].str.len() > 0).all()
    row = frame.iloc[5]
    group = catalog.group_rows(run, int(row["step"]), row["problem_id"])
    assert (
        len(group) == 4 and (group["outcome"] == "correct").all() and (group["problem_id"] == row["problem_id"]).all()
    )


def test_rollouts_of_a_step_have_the_student_first(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder, steps=2))
    frame = catalog.step_rollouts(run, 1)
    assert frame["role"].tolist() == ["student"] * (PROMPTS * ROLLOUTS) + ["privileged"] * ROLLOUTS
    assert catalog.rollout_steps(run) == [1, 2]


def test_the_list_names_state_settings_and_last_scores(runs_folder: Path) -> None:
    fake_train_run(runs_folder, lam=3.0, steps=4)
    fake_train_run(runs_folder, lam=0.0, steps=2, state=State.RUNNING)
    frame = catalog.runs_frame()
    own = frame[~frame["recorded"]].set_index("name")
    done, running = own.loc["λ = 3, seed 0"], own.loc["λ = 0, seed 0"]
    assert (done["state"], running["state"]) == ("done", "running")
    assert done["lambda"] == 3.0 and done["pass@8"] == pytest.approx(0.4 + 0.04 + 0.6)
    assert running["seconds_left"] == 16.0 and running["done"] == 2


def test_members_name_their_sweep(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    frame = catalog.runs_frame().set_index("id")
    ids = [m["id"] for m in catalog.members(Run(pair))]
    assert len(ids) == 2 and (frame.loc[ids, "sweep"] == pair.name).all()


def test_equal_names_are_told_apart(runs_folder: Path) -> None:
    first, second = Run(fake_train_run(runs_folder)), Run(fake_train_run(runs_folder))
    assert catalog.label(first) == catalog.label(second)
    assert len(set(catalog.labels([first, second]).values())) == 2


def test_a_run_of_another_model_names_it_once(runs_folder: Path) -> None:
    def called(name: str, **model: str) -> str:
        config = TrainConfig(model=ModelConfig(**model))
        return catalog.label(Run(RunWriter.create("train", config, root=runs_folder, name=name).path))

    assert called("stories: λ = 1") == "stories: λ = 1"
    assert called("stories: λ = 1", model="smollm2") == "smollm2, stories: λ = 1"
    assert called("my smollm2", model="smollm2") == "my smollm2"
    assert called("own", model="/models/qwen") == "qwen, own"


def test_a_run_is_found_by_its_id_and_never_by_a_path(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder)
    assert catalog.run_by_id(path.name) == Run(path)
    assert catalog.run_by_id(str(path)) is None and catalog.run_by_id("../" + path.name) is None


@pytest.mark.parametrize("name", ["config.json", "status.json", "metrics.jsonl", "rollouts/parts.jsonl"])
def test_a_folder_cut_off_at_any_byte_is_listed_and_read(runs_folder: Path, name: str) -> None:
    path = fake_train_run(runs_folder, steps=2)
    whole = (path / name).read_bytes()
    for cut in {0, 1, 2, len(whole) // 3, len(whole) // 2, len(whole) - 2, len(whole) - 1}:
        (path / name).write_bytes(whole[:cut])
        listed = catalog.runs_frame().set_index("id").loc[path.name]
        assert listed["kind"] == ("damaged" if name == "config.json" else "train")
        for frame in frames(Run(path)):
            assert frame is not None
        between_lines = name.endswith("jsonl") and (cut == 0 or whole[:cut].endswith(b"\n"))
        assert between_lines or exports.damage(Run(path)), f"{name} cut at {cut} of {len(whole)} bytes was not told"


def test_a_damaged_table_gives_no_rows_and_a_sentence(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=2)
    table = Run(path).tables("gap")[0]
    table.write_bytes(table.read_bytes()[:100])
    assert catalog.gap_frame(Run(path), 0).empty and not catalog.gap_frame(Run(path), 2).empty
    assert any("gap" in sentence for sentence in exports.damage(Run(path)))


def test_a_sweep_book_that_is_none_names_no_member(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    for text in ("", "{", '{"id": 1}', "[1, 2]", "null"):
        write_aside(pair / "members.json", text)
        assert catalog.members(Run(pair)) == []


def test_a_vanished_folder_reads_as_empty(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=2)
    shutil.rmtree(path)
    assert catalog.steps_frame(Run(path)).empty


def test_differences_are_only_what_differs(runs_folder: Path) -> None:
    several = [Run(fake_train_run(runs_folder, lam=0.3, seed=0)), Run(fake_train_run(runs_folder, lam=1.0, seed=2))]
    frame = exports.differences(several).set_index("setting")
    assert frame.loc["objective.lambda"].tolist() == ["0.3", "1"] and frame.loc["seed"].tolist() == ["0", "2"]
    assert set(frame.index) == {"objective.lambda", "seed"}
    assert exports.differences(several[:1]).empty


def test_exports_hold_what_stands(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder, steps=2))
    rows = [json.loads(line) for line in exports.all_rows(run).splitlines()]
    assert rows == run.metrics()
    assert json.loads(exports.config_json(run)) == run.frozen()
    steps, evaluations = (exports.as_csv(read, run) for read in (catalog.steps_frame, catalog.evals_frame))
    assert steps.splitlines()[0].startswith("run,step,lambda")
    assert len(steps.splitlines()) == 3 and len(evaluations.splitlines()) == 13


def test_a_pair_is_exported_as_its_members(runs_folder: Path) -> None:
    pair = Run(fake_pair(runs_folder, steps=4))
    ids = [m["id"] for m in catalog.members(pair)]
    files = {e.words: e.text(pair) for e in exports.exports("sweep")}
    always = {"Config (JSON)", "All rows (JSONL)", "Everything (JSON)"}
    assert set(files) == {"Steps (CSV)", "Evaluations (CSV)", *always}
    whole = json.loads(files["Everything (JSON)"])
    assert [m["metrics"] for m in whole["members"]] == [Run(runs_folder / i).metrics() for i in ids]
    assert whole["config"]["lambdas"] == [0.0, 0.3]
    steps = pd.read_csv(io.StringIO(files["Steps (CSV)"]))
    assert steps.columns[:4].tolist() == ["run", "lambda", "seed", "step"]
    assert steps["run"].tolist() == [i for i in ids for _ in range(4)]
    assert steps["lambda"].tolist() == [0.0] * 4 + [0.3] * 4 and steps["step"].tolist() == [1, 2, 3, 4] * 2
    evaluations = pd.read_csv(io.StringIO(files["Evaluations (CSV)"]))
    assert set(evaluations["run"]) == set(ids) and set(evaluations["lambda"]) == {0.0, 0.3}
    rows = [json.loads(line) for line in files["All rows (JSONL)"].splitlines()]
    assert {(r["run"], r["lambda"], r["seed"]) for r in rows} == {(ids[0], 0.0, 0), (ids[1], 0.3, 0)}


def test_a_real_run_reads_like_the_made_up_ones(real_train_run: Path) -> None:
    run = Run(real_train_run)
    steps = catalog.steps_frame(run)
    assert steps["step"].tolist() == [1, 2, 3]
    missing = [
        c
        for c in catalog.STEP_COLUMNS
        if c not in ("run", "step", "lambda")
        and c not in run.metrics("step")[0]
        and not c.startswith("parity_")  # vLLM's alone: tests/test_vllm.py
    ]
    assert missing == [], "the engine writes no such column"
    groups = [c for c in steps if c.startswith("groups_") and c != "groups_doubtful_truncation"]
    assert (steps[groups].sum(axis=1) == 6).all(), "every prompt of a step is accounted for once"
    evals = catalog.evals_frame(run)
    assert set(evals["step"]) == {0, 3} and evals["value"].between(0, 1).all()
    counts = catalog.eval_counts(run, 0)
    share = (counts["correct"] / counts["n"]).mean()
    assert math.isclose(share, evals[(evals["step"] == 0) & (evals["metric"] == "pass@1")]["value"].iloc[0])
    assert len(catalog.step_rollouts(run, 1)) >= 24


def test_a_real_scan_reads_like_the_made_up_one(real_scan_run: Path) -> None:
    run = Run(real_scan_run)
    frame = catalog.scan_frame(run)
    assert len(frame) == 10 and (frame["problem"].str.len() > 0).all() and (frame["n"] == 4).all()
    row = frame.iloc[0]
    group = catalog.group_rows(run, int(row["step"]), row["problem_id"])
    assert (group["outcome"] == "correct").sum() == row["correct"]


def test_the_frame_of_a_growing_run_is_the_one_that_is_read_at_once(runs_folder: Path) -> None:
    path = fake_train_run(runs_folder, steps=3, state=State.RUNNING)
    writer, run = RunWriter(path, 1), Run(path)
    assert len(catalog.steps_frame(run)) == 3
    for step in (4, 5):
        writer.metric("step", step, **step_row(step, 0.3))
        grown = catalog.steps_frame(run)
    catalog._steps.clear()
    catalog.read_steps.clear()
    pd.testing.assert_frame_equal(grown, catalog.steps_frame(run))
    RunWriter.resume(path, 2)  # rows 3 to 5 are superseded
    RunWriter(path, 2).metric("step", 3, **{**step_row(3, 0.3), "reward": 0.77})
    assert catalog.steps_frame(run)["step"].tolist() == [1, 2, 3]
    assert catalog.steps_frame(run)["reward"].tolist()[-1] == 0.77


def test_what_stands_still_is_not_read_again(runs_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        fake_train_run(runs_folder)
    newest = Run(fake_train_run(runs_folder))
    before = catalog.runs_frame()
    read: list[Path] = []
    monkeypatch.setattr(catalog, "run_row", lambda run, real=catalog.run_row: read.append(run.path) or real(run))
    assert catalog.runs_frame() is before and read == []
    newest.write_note("seen")
    assert catalog.runs_frame().set_index("id").loc[newest.id, "note"] == "seen" and read == [newest.path]
    (newest.path / "config.json").write_text("{")  # in place, by hand: the folder's own time stays
    assert catalog.runs_frame().set_index("id").loc[newest.id, "kind"] == "damaged"
    assert read == [newest.path] * 2
