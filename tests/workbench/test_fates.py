"""What became of each prompt over a training: counted again here from the run folder's own tables."""

from __future__ import annotations

import pytest

from hdpo.assets import ASSETS
from hdpo.record.folder import Run
from workbench.components import cliff_map
from workbench.data import fates
from workbench.data.basis import moments


@pytest.fixture(scope="module")
def run() -> Run:
    return Run(ASSETS / "runs" / "steep-lambda-0.3-seed-0")


def rights(run: Run, step: int) -> dict[str, int]:
    return {r["problem_id"]: r["correct"] for r in run.table("eval", step)}


def test_a_run_stands_beside_its_partner_of_the_same_seed(run: Run) -> None:
    arms = fates.arms_of(run)
    assert [r.id for r in arms] == ["steep-lambda-0-seed-0", "steep-lambda-0.3-seed-0"]
    assert fates.arms_of(arms[0]) == [arms[0]], "λ = 0 alone"


def test_fates_and_headline_are_those_of_the_tables(run: Run) -> None:
    arms = fates.arms_of(run)
    told = fates.summary(fates.over_steps(arms)).set_index("arm")
    said = cliff_map.headline(arms, 60)
    for arm, r in zip(("λ = 0", "λ = 0.3"), arms, strict=True):
        before, now = rights(r, 0), rights(r, 60)
        cliffs = {i for i, c in before.items() if not c}
        recovered = {i for i in cliffs if now[i]}
        between = {i for i in cliffs for step in moments(arms, "steps") if rights(r, step)[i]}
        assert told.loc[arm, "cliffs before"] == len(cliffs) and told.loc[arm, "recovered"] == len(recovered)
        assert told.loc[arm, "relapsed"] == len(between - recovered)
        assert told.loc[arm, "newly lost"] == sum(1 for i, c in before.items() if c and not now[i])
        assert told.loc[arm, "from"] < len(recovered) / len(cliffs) < told.loc[arm, "to"]
        assert f"{arm} recovered {len(recovered)} of {len(cliffs)} cliffs" in said
    others = [Run(run.path.with_name(f"steep-lambda-0-seed-{s}")) for s in range(1, 6)]
    luck = [sum(rights(o, 0)[i] > 0 for i in cliffs) for o in others]
    assert f"an untrained redraw recovers {sum(luck) / 5:.1f} (mean of 5)" in said and said.startswith("By step 60")


def test_the_redraw_is_another_seed_before_training(run: Run) -> None:
    seed, counts = fates.redraw(run, fates.over_steps([run])) or (0, None)
    assert seed == 1 and counts.to_dict() == rights(Run(run.path.with_name("steep-lambda-0-seed-1")), 0)
