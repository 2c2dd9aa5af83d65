"""The verdict panel: recovered and lost cliffs are those of the run folder's own tables, and luck is a redraw by another seed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hdpo.record.folder import Run
from tests.fakes import fake_pair, fake_train_run, open_page
from workbench.data import tradeoff, verdict
from workbench.data.basis import moments


def counts_of(run: Run, step: int) -> dict[str, int]:
    return {r["problem_id"]: r["correct"] for r in run.table("eval", step)}


def test_recovered_and_lost_are_those_of_the_tables(runs_folder: Path) -> None:
    run = Run(fake_train_run(runs_folder))
    step = list(moments([run], "steps"))[-1]
    before, after = counts_of(run, 0), counts_of(run, step)
    found = verdict.outcome(run, "λ = 0.3", step)
    assert found is not None
    assert set(found.cliffs) == {i for i, c in before.items() if c == 0}
    assert set(found.recovered) == {i for i, c in before.items() if c == 0 and after[i] > 0}
    assert set(found.lost) == {i for i, c in before.items() if c > 0 and after[i] == 0}
    rows = [r for r in run.metrics("step") if r["step"] <= step]
    assert found.tokens == sum(r["tokens_student"] + r["tokens_privileged"] for r in rows)
    assert verdict.outcome(run, "λ = 0.3", 0) is None, "before training there is nothing to tell"


def test_luck_is_not_told_of_runs_without_a_fingerprint_and_counted_of_other_seeds(
    runs_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [Run(fake_train_run(runs_folder, seed=s)) for s in (0, 1, 1, 2)]
    cliffs = [i for i, c in counts_of(runs[0], 0).items() if c == 0]
    assert verdict.by_luck(runs[0], cliffs, runs) == []
    known = tradeoff.Fingerprint(**dict.fromkeys(tradeoff.MEASURED, "x"))
    monkeypatch.setattr(tradeoff, "fingerprint", lambda run: known)
    luck = verdict.by_luck(runs[0], cliffs, runs)
    assert luck == [sum(counts_of(r, 0)[i] > 0 for i in cliffs) for r in (runs[1], runs[3])], "a seed counts once"


def test_the_sentence_names_each_arm_and_luck() -> None:
    a = verdict.Finding("λ = 0", ("p", "q"), (), ("r",), 9, 10, 1.0)
    b = verdict.Finding("λ = 0.3", ("p", "q"), ("p",), (), 9, 10, 1.0)
    said = verdict.sentence([a, b], [1, 0])
    assert (
        said
        == "λ = 0.3 recovered 1 of 2 cliffs and lost 0; λ = 0 recovered 0 of 2 cliffs and lost 1; an untrained redraw recovers 0.5 (mean of 2)."
    )
    assert "not known" in verdict.sentence([b], [])


def test_a_finished_pair_ends_with_a_verdict_and_the_way_on(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    at = open_page("lambda_lab", lab_run=pair.name)
    assert not at.exception
    words = "\n".join(m.value for m in at.markdown)
    assert re.search(r"λ \\= 0\\\.3 recovered \d+ of \d+ cliffs", words)
    assert any("verdict" in d.value.columns for d in at.dataframe)
    assert any("λ = 0.3" in c.value and "tokens generated" in c.value for c in at.code), "as text, to be copied"


def test_each_cliff_of_a_verdict_opens_before_and_after_of_its_pair(runs_folder: Path) -> None:
    for lam in (0, 3):
        name = f"steep-lambda-{lam}-seed-0"
        (runs_folder / name).symlink_to(Path(__file__).resolve().parents[2] / "assets" / "runs" / name)
    run = Run(runs_folder / "steep-lambda-3-seed-0")
    found = verdict.outcome(run, "λ = 3", 60)
    assert found is not None and found.recovered
    at = open_page("lambda_lab", lab_run=run.id)
    at.session_state["lab-cliffs"] = True
    at.run()
    assert not at.exception
    links = [link.proto.query_string for link in at.get("page_link")]
    there = [q for q in links if "side_view=before+and+after" in q and f"side_pair={run.id}" in q]
    assert len(there) == min(40, len(found.recovered)) + min(40, len(found.lost))
    assert f"side_problem={found.recovered[0]}" in there[0] and "side_split=test" in there[0]
