"""The verdict panel: recovered and lost cliffs are those of the run folder's own tables, and luck is a redraw by another seed."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from hdpo.config import replace_knobs
from hdpo.data.problems import bundled
from hdpo.method.identity import digest_of_problems
from hdpo.organism.problems import MIXES
from hdpo.record.fingerprint import differences
from hdpo.record.folder import ASSET_RUNS as RECORDED
from hdpo.record.folder import Run, State, all_runs
from hdpo.work import jobs
from hdpo.work.execute import execute
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
    assert "not measured" in verdict.sentence([b], [])


def test_a_finished_pair_ends_with_a_verdict_and_the_way_on(runs_folder: Path) -> None:
    pair = fake_pair(runs_folder)
    at = open_page("lambda_lab", lab_run=pair.name)
    assert not at.exception
    words = "\n".join(m.value for m in at.markdown)
    assert re.search(r"λ \\= 0\\\.3 recovered \d+ of \d+ cliffs", words)
    assert any("verdict" in d.value.columns for d in at.dataframe)
    assert any("λ = 0.3" in c.value and "tokens generated" in c.value for c in at.code), "as text, to be copied"


@pytest.mark.parametrize("mix", MIXES)
def test_luck_on_the_bundled_validation_problems_comes_with_the_project(runs_folder: Path, mix: str) -> None:
    """A default training of the bundled model has luck beside it from the first one on."""
    runs = [Run(p) for p in sorted(RECORDED.glob(f"{mix}-untrained-*"))]
    assert len(runs) == 2 and {r.kind for r in runs} == {"evaluate"}
    trained = Run(RECORDED / f"{mix}-lambda-0-seed-0")
    default = replace_knobs(trained.load_config(), {"eval_split": "validation"})
    for run in runs:
        wanted = replace(
            trained.fingerprint, split="validation", problems=digest_of_problems(bundled(mix, "validation"))
        )
        assert differences(run.fingerprint, wanted) == ((), ()), "made anew with `hdpo.organism card`"
        assert run.load_config().evaluation == replace(default.evaluation, eval_every=20)
        assert len(tradeoff.counts(run, 0)) == 240


def test_where_luck_is_not_known_one_click_has_it_measured_alike(runs_folder: Path, real_train_run: Path) -> None:
    """The redraw that is started counts, by its own fingerprint, as the same measurement; nothing is offered beside one."""
    (runs_folder / real_train_run.name).symlink_to(real_train_run)
    at = open_page("lambda_lab", lab_run=real_train_run.name)
    assert "luck recovers was not measured" in "\n".join(m.value for m in at.markdown)
    at.button(key="lab_luck").click().run()
    assert not at.exception and not at.error
    made = sorted(
        (r for r in all_runs(runs_folder) if r.kind == "evaluate"), key=lambda r: r.load_config().prompts.prefix
    )
    assert [r.load_config().prompts.prefix for r in made] == ["none", "nonsense"]
    assert "redraw is queued" in "\n".join(c.value for c in at.caption) and "lab_luck" not in {b.key for b in at.button}
    while job := jobs.claim("heavy"):
        assert execute(runs_folder / job.payload["run"], resume=False).state is State.DONE
        jobs.finish(job.id, State.DONE)
    trained = Run(real_train_run).fingerprint
    assert not any(differences(made[0].fingerprint, trained))
    assert differences(made[1].fingerprint, trained) == (("wording",), ())
    said = "\n".join(m.value for m in at.run().markdown)
    assert "untrained redraw recovers" in said and "one behind as much nonsense as the peek is long" in said
    assert "lab_luck" not in {b.key for b in at.button}


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
