"""What may be compared with what, and the comparisons themselves, on run folders with known counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from hdpo.config import TrainConfig, replace_knobs
from hdpo.evidence.stats import pass_at_k
from hdpo.method.evaluate import summarise
from hdpo.record.fingerprint import MEASURED, Fingerprint
from hdpo.record.folder import Run, RunWriter, State
from workbench.data import tradeoff as data
from workbench.data.basis import moments, spent, words

N = 16
LEVELS = (1, 2, 3, 4, 5)


def counts(correct: Sequence[int]) -> list[dict[str, Any]]:
    """Problems a, b, … of levels 1 to 5 in turn, with so many of 16 samples correct; greedy is right where half are."""
    return [
        {
            "problem_id": f"p{i:02d}",
            "level": LEVELS[i % 5],
            "source": "made",
            "kind": "mixed",
            "n": N,
            "correct": c,
            "truncated": 0,
            "no_answer": 0,
            "grader_errors": 0,
            "greedy": int(c >= 8),
            "length": 20.0,
        }
        for i, c in enumerate(correct)
    ]


def write_run(
    root: Path, correct: dict[int, Sequence[int]], *, extra: Sequence[dict[str, Any]] = (), **knobs: Any
) -> Run:
    """A finished run with an evaluation at each step of `correct`, summarised by the engine itself."""
    config = replace_knobs(TrainConfig(), knobs)
    writer = RunWriter.create("train", config, root=root)
    for step, c in correct.items():
        rows = [*counts(c), *extra]
        writer.metric("eval", step, **summarise(rows, config.evaluation, config.sampling))
        writer.table("eval", step, rows)
    writer.status(State.DONE)
    return Run(writer.path)


BASE = {0: [0, 4, 8, 16, 0], 10: [0, 8, 8, 16, 0]}
BETTER = {0: [0, 4, 8, 16, 0], 10: [8, 8, 8, 16, 2]}


@pytest.fixture
def pair(runs_folder: Path) -> list[Run]:
    return [write_run(runs_folder, BASE, lambda_=0.0), write_run(runs_folder, BETTER, lambda_=0.3)]


def test_runs_measured_otherwise_stand_in_sets_of_their_own(runs_folder: Path, pair: list[Run]) -> None:
    other_n = write_run(runs_folder, BASE, lambda_=0.3, ks=(1, 2))
    other_set = write_run(runs_folder, BASE, lambda_=0.3, problems="bundled:gentle")
    other_split = write_run(runs_folder, BASE, lambda_=0.3, eval_split="test")
    without = write_run(runs_folder, {}, lambda_=0.3)
    stopped_early = write_run(runs_folder, {0: BASE[0]}, lambda_=0.3)
    assert not data.worth_drawing(without) and not data.worth_drawing(stopped_early)
    sets = data.comparable_sets([*pair, other_n, other_set, other_split, without, stopped_early])
    assert [[r.id for r in s] for s in sets.values()] == [
        [r.id for r in pair],
        [other_n.id],
        [other_set.id],
        [other_split.id],
    ]
    assert list(sets) == [
        "bundled:steep validation · 5 problems · n 16 · T 1",
        "bundled:steep validation · 5 problems · n 16 · T 1 (2)",
        "bundled:gentle validation · 5 problems · n 16 · T 1",
        "bundled:steep test · 5 problems · n 16 · T 1",
    ]


WHOLE = Fingerprint(**{f.name: "same" for f in fields(Fingerprint)})


def with_fingerprint(run: Run, **changes: str) -> Run:
    RunWriter(run.path, 1).pin(fingerprint=asdict(replace(WHOLE, **changes)))
    return run


@pytest.mark.parametrize("name", MEASURED)
def test_runs_of_unequal_fingerprints_are_not_compared_and_the_field_is_named(runs_folder: Path, name: str) -> None:
    """Settings are equal here: it is what lay behind them (a file's contents, a grader's rules) that differs."""
    one = with_fingerprint(write_run(runs_folder, BASE, lambda_=0.0))
    other = with_fingerprint(write_run(runs_folder, BETTER, lambda_=0.3), **{name: "another"})
    sets = data.comparable_sets([one, other])
    assert [[r.id for r in members] for members in sets.values()] == [[one.id], [other.id]]
    (words,) = data.refusals(sets, next(iter(sets)))
    assert words.endswith(f": they differ in {name}")


def test_runs_of_one_fingerprint_are_compared_wherever_their_files_lie(runs_folder: Path) -> None:
    one = with_fingerprint(write_run(runs_folder, BASE, lambda_=0.0, problems="/here/mine.jsonl"))
    other = with_fingerprint(write_run(runs_folder, BETTER, lambda_=0.3, problems="/there/mine.jsonl"))
    assert [len(members) for members in data.comparable_sets([one, other]).values()] == [2]
    assert data.identity_words([one, other]).startswith("They measure the same. Code: 0.1.0+")


def test_arms_are_paired_where_they_learned_from_the_same_problems(runs_folder: Path) -> None:
    base = with_fingerprint(write_run(runs_folder, BASE, lambda_=0.0))
    same = with_fingerprint(write_run(runs_folder, BETTER, lambda_=0.3))
    others = with_fingerprint(write_run(runs_folder, BETTER, lambda_=0.3), training_problems="another")
    assert list(data.paired_runs([same], [base, same])) == [0] and not data.paired_runs([others], [base, others])


def test_what_an_arm_cost_stands_beside_what_is_left_at_equal_tokens(runs_folder: Path) -> None:
    """λ = 0.3 spends twice the tokens: at equal ones it stands at step 10, where λ = 0 stands at step 20."""
    way = {0: BASE[0], 10: BASE[0], 20: BASE[10]}
    grpo, hdpo = (write_run(runs_folder, way | more, lambda_=lam) for lam, more in ((0.0, {}), (0.3, {20: BETTER[10]})))
    for run, peeked in ((grpo, 0), (hdpo, 100)):
        for step in (10, 20):
            RunWriter(run.path, 1).metric("step", step, tokens_student=100, tokens_privileged=peeked)
    ratios, equal = data.costs([grpo, hdpo], 20)
    assert ratios == {"λ = 0.3": 2.0}
    assert equal["metric"].tolist() == ["pass@8"]
    at_ten = data.differences([grpo, hdpo], {grpo.id: 20, hdpo.id: 10}, ["pass@8"])
    assert equal["value"].tolist() == at_ten["value"].tolist() and equal["value"][0] < 0
    assert data.costs([grpo, hdpo], 0)[0] == {} and data.costs([hdpo], 20)[0] == {}


def test_an_older_run_stands_apart_and_is_said_to_be_unknown(runs_folder: Path, pair: list[Run]) -> None:
    new = with_fingerprint(write_run(runs_folder, BASE, lambda_=0.0))
    sets = data.comparable_sets([new, *pair])
    assert [[r.id for r in members] for members in sets.values()] == [[new.id], [r.id for r in pair]]
    (words,) = data.refusals(sets, next(iter(sets)))
    assert "one of them does not say its model, adapter, problems" in words
    assert "is unknown: an older run does not say its model" in data.identity_words(pair)


def test_a_run_that_goes_on_is_drawn_from_its_first_evaluation(runs_folder: Path) -> None:
    run = write_run(runs_folder, {0: BASE[0]}, lambda_=0.3)
    RunWriter(run.path, 1).status(State.RUNNING, phase="training")
    assert list(data.comparable_sets([run]).values()) == [[run]]


def test_own_runs_come_first_then_the_recorded_ones_of_the_default_mix(runs_folder: Path) -> None:
    assets = runs_folder.parent / "recorded"
    gentle = write_run(assets, BASE, lambda_=0.0, problems="bundled:gentle", eval_split="test")
    steep = write_run(assets, BASE, lambda_=0.0, eval_split="test")
    own = write_run(runs_folder, BASE, lambda_=0.0, problems="bundled:gentle")
    assert [r.recorded for r in (gentle, steep, own)] == [True, True, False]
    sets = data.comparable_sets([own, gentle, steep])
    assert [r.id for members in sets.values() for r in members] == [own.id, steep.id, gentle.id]


def test_what_is_measured_is_the_whole_evaluation() -> None:
    assert {
        "problems",
        "eval_split",
        "eval_samples",
        "eval_problems",
        "temperature",
        "max_new_tokens",
        "ks",
        "model",
    } <= set(data.MEASURE)
    assert not {"seed", "lambda_", "eval_every", "learning_rate"} & set(data.MEASURE)


def test_an_arm_names_what_differs_and_lambda_zero_ignores_what_only_distillation_reads(runs_folder: Path) -> None:
    runs = [
        write_run(runs_folder, BASE, lambda_=0.0),
        write_run(runs_folder, BASE, lambda_=0.0, seed=1, teacher="frozen"),
        write_run(runs_folder, BASE, lambda_=0.3, steps=20),
        write_run(runs_folder, BASE, lambda_=0.3, teacher="frozen"),
    ]
    assert data.describe(runs)["arm"].tolist() == ["λ = 0", "λ = 0", "λ = 0.3 · drifting", "λ = 0.3 · frozen"]
    assert data.describe(runs[:3])["arm"].tolist() == ["λ = 0", "λ = 0", "λ = 0.3"]
    faster = [*runs[:1], write_run(runs_folder, BASE, lambda_=0.0, learning_rate=0.01)]
    assert data.describe(faster)["arm"].tolist() == ["λ = 0 · learning rate 0.001", "λ = 0 · learning rate 0.01"]


def test_runs_are_compared_at_equal_cost_where_that_is_asked_for(runs_folder: Path) -> None:
    """λ = 0.3 takes twice the tokens a step: at the tokens of GRPO's end it stands at its middle."""
    runs = [write_run(runs_folder, {0: BASE[0], 10: BASE[10], 20: BASE[10]}, lambda_=lam) for lam in (0.0, 0.3)]
    for run, tokens in zip(runs, (100, 200), strict=True):
        for step in range(1, 21):
            RunWriter(run.path, 1).metric("step", step, tokens_student=100, tokens_privileged=tokens - 100, seconds=2.0)
    grpo, hdpo = (r.id for r in runs)
    assert spent(runs[1], "tokens").to_dict() == {0: 0, 10: 2000, 20: 4000}
    assert moments(runs, "tokens") == {0: {grpo: 0, hdpo: 0}, 1000: {grpo: 10, hdpo: 0}, 2000: {grpo: 20, hdpo: 10}}
    assert list(moments(runs, "seconds")) == [0, 20, 40] and list(moments(runs, "steps")) == [0, 10, 20]
    assert words(2000, {grpo: 20, hdpo: 10}, "tokens") == "2,000 sampled tokens (steps 10 to 20)"
    at_cost, at_step = (data.points(runs, at, "pass@1")["step"].tolist() for at in ({grpo: 20, hdpo: 10}, 20))
    assert at_cost == [20, 10] and at_step == [20, 20]


def test_steps_are_those_that_all_have(runs_folder: Path, pair: list[Run]) -> None:
    short = write_run(runs_folder, {0: BASE[0]}, lambda_=1.0)
    assert list(moments(pair, "steps")) == [0, 10]
    assert list(moments([*pair, short], "steps")) == [0]
    assert list(moments([*pair, write_run(runs_folder, {5: BASE[0]}, lambda_=3.0)], "steps")) == []


def test_points_are_the_evaluations_and_their_base(pair: list[Run]) -> None:
    table = data.points(pair, 10, "pass@1")
    assert table["x"].tolist() == pytest.approx([32 / 80, 42 / 80])
    assert table["base_x"].tolist() == pytest.approx([28 / 80, 28 / 80])
    hard = pass_at_k(N, 2, 8)
    middle = pass_at_k(N, 8, 8)
    assert table["y"].tolist() == pytest.approx([(2 * middle + 1) / 5, (3 * middle + 1 + hard) / 5])
    assert (table["x_low"] < table["x"]).all() and (table["y"] < table["y_high"]).all()


def test_lower_levels_are_the_lower_half_with_the_middle(pair: list[Run]) -> None:
    assert data.lower_levels(pair) == [1, 2, 3]
    table = data.points(pair, 10, data.LOWER)
    assert table["x"].tolist() == pytest.approx([16 / 48, 24 / 48])
    assert data.x_title(data.LOWER, pair) == "accuracy: pass@1 on levels 1 to 3"
    assert data.points(pair, 10, "greedy")["x"].tolist() == pytest.approx([0.6, 0.8])


def test_differences_are_paired_by_problem_and_seed(runs_folder: Path, pair: list[Run]) -> None:
    table = data.differences(pair, 10, ("pass@1", "cliff")).set_index("metric")
    assert table.loc["pass@1", "value"] == pytest.approx((8 + 2) / 16 / 5)
    assert table.loc["cliff", "value"] == pytest.approx(-0.4)
    assert table.loc["pass@1", ["n_seeds", "n_problems", "seeds"]].tolist() == [1, 5, "0"]
    second = [write_run(runs_folder, BASE, lambda_=0.0, seed=1), write_run(runs_folder, BASE, lambda_=0.3, seed=1)]
    both = data.differences([*pair, *second], 10, ("pass@1",)).iloc[0]
    assert both["value"] == pytest.approx((8 + 2) / 16 / 5 / 2) and both["seeds"] == "0, 1"
    assert both["low"] < both["value"] < both["high"]


def test_a_repetition_is_no_further_seed(runs_folder: Path, pair: list[Run]) -> None:
    again = write_run(runs_folder, BASE, lambda_=0.3)
    table = data.differences([*pair, again], 10, ("pass@1",))
    assert table["n_seeds"].tolist() == [1] and table["value"][0] == pytest.approx(0.125)


def test_an_arm_without_a_partner_is_named_and_has_no_difference(runs_folder: Path, pair: list[Run]) -> None:
    lone = write_run(runs_folder, BETTER, lambda_=1.0, seed=5)
    other_rate = write_run(runs_folder, BETTER, lambda_=3.0, learning_rate=0.01)
    runs = [*pair, lone, other_rate]
    assert [arm.split(" · ")[0] for arm in data.unpaired_arms(runs)] == ["λ = 1", "λ = 3"]
    assert set(data.differences(runs, 10, ("pass@1",))["lambda"]) == {0.3}


def test_problems_that_only_one_arm_could_grade_leave_the_comparison(runs_folder: Path) -> None:
    bad = {**counts([3])[0], "problem_id": "p99"}
    runs = [
        write_run(
            runs_folder,
            BASE,
            lambda_=0.0,
            extra=[{**bad, "kind": "gold unparsable"}, {**bad, "problem_id": "p98", "n": 9}],
        ),
        write_run(runs_folder, BETTER, lambda_=0.3, extra=[bad]),
    ]
    assert data.differences(runs, 10, ("pass@8",))["n_problems"].tolist() == [5]
    assert len(data.counts(runs[0], 10)) == 5 and len(data.counts(runs[1], 10)) == 6


def test_verdicts_say_what_one_seed_does_not_cover(pair: list[Run]) -> None:
    table = data.verdicts(data.differences(pair, 10, ("pass@1", "pass@8")))
    assert table.columns.tolist() == list(data.VERDICTS)
    assert table["interval (points)"].str.fullmatch(r"[+−][\d.]+ to [+−][\d.]+").all()
    assert all(words.endswith("one seed: training noise is not covered") for words in table["verdict"])
    assert data.verdicts(data.differences(pair[:1], 10, ("pass@1",))).empty


def test_pass_k_goes_to_half_of_the_samples_and_agrees_with_the_evaluation(pair: list[Run]) -> None:
    table = data.pass_k_table(pair, 10)
    first = table[table["run"] == pair[0].id].set_index("k")
    assert first.index.tolist() == [1, 2, 3, 4, 5, 6, 7, 8]
    assert first["value"][8] == pytest.approx(data.points(pair, 10, "pass@1")["y"][0])


def test_levels_are_long_with_their_arm(pair: list[Run]) -> None:
    table = data.level_table(pair, 10)
    row = table[(table["level"] == "1") & (table["metric"] == "pass@1") & (table["arm"] == "λ = 0.3")]
    assert row["value"].tolist() == [0.5] and row["n_problems"].tolist() == [1]


def test_best_stands_beside_final(runs_folder: Path) -> None:
    run = write_run(runs_folder, {0: [0] * 5, 10: [16] * 5, 20: [8] * 5}, lambda_=0.3)
    row = data.best_and_final([run]).set_index("metric").loc["pass@1"]
    assert row[["final", "final_step", "best", "best_step", "evaluations"]].tolist() == [0.5, 20, 1.0, 10, 3]


def test_coverage_is_the_largest_k_measured(runs_folder: Path, pair: list[Run]) -> None:
    assert data.coverage(pair) == "pass@8"
    assert data.coverage([write_run(runs_folder, BASE, ks=(1, 2))]) == "pass@2"


def test_what_can_be_detected_comes_from_the_pairs_of_the_intervals(runs_folder: Path, pair: list[Run]) -> None:
    assert "cannot be told (5 problems are too few" in data.detectable_words(pair, 10)
    assert data.detectable_words(pair[1:], 10).startswith("Without a λ = 0 run")
    many = [
        write_run(runs_folder, {10: BASE[0] * 8}, lambda_=0.0),
        write_run(runs_folder, {10: BETTER[10] * 8}, lambda_=3.0),
    ]
    words = data.detectable_words(many, 10)
    row = data.differences(many, 10, ("pass@1",)).iloc[0]
    shown = float(words.split("λ = 3: ")[1].split(" points")[0])
    assert shown > 100 * (row["high"] - row["value"]) and "One seed" in words


def test_a_run_without_tables_has_no_difference_and_no_exception(runs_folder: Path, pair: list[Run]) -> None:
    for path in (pair[0].path / "tables").glob("eval-*"):
        path.unlink()
    assert data.differences(pair, 10, ("pass@1",)).empty
    assert data.pass_k_table(pair[:1], 10).empty
    assert len(data.points(pair, 10, "pass@1")) == 2
