"""The verdict: by the plan alone, from counts alone, and refusing where there is nothing to compare."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from hdpo.arms import ARMS
from hdpo.cli.main import main
from hdpo.errors import BadInput
from hdpo.evidence import stats, verdict
from hdpo.evidence.measured import trainings, values_of
from hdpo.evidence.stats import Estimate
from hdpo.record.fingerprint import MEASURED
from hdpo.record.folder import Run, RunWriter
from tests.fakes import fake_train_run, open_page
from workbench.__main__ import main as workbench
from workbench.figures import claims

TEST = {"mix": "steep", "arm": "0.3", "against": "0", "metric": "pass@8", "holds": "above", "margin": 0.0}


@pytest.fixture
def runs(runs_folder: Path) -> list[Run]:
    found = [Run(fake_train_run(runs_folder, lam, seed=s)) for lam in (0.0, 0.3) for s in (0, 1)]
    for run in found:
        RunWriter(run.path, 0).pin(fingerprint=dict.fromkeys(MEASURED, "x"))
    return found


def test_a_part_is_the_paired_difference_of_the_counts(runs: list[Run]) -> None:
    of = trainings(runs)
    part = verdict.compared(of, TEST, 1)
    last = max(of["steep", "0", 0].steps)
    arms = [[values_of(of["steep", arm, s].rows(last), "pass@8") for s in (0, 1)] for arm in ("0.3", "0")]
    e = stats.seeds_difference(*arms)
    assert (part.value, part.low, part.high) == (e.value, e.low, e.high)
    assert part.seeds == (0, 1) and part.problems == e.n_prompts and part.factors == "lambda 0.3 for 0"
    assert part.best is not None
    wider = verdict.compared(of, TEST, 8)
    assert wider.high - wider.low > part.high - part.low, "one of eight intervals that hold at once"


def test_at_equal_tokens_nobody_stands_beyond_what_the_most_frugal_spent(runs: list[Run]) -> None:
    arms = list(trainings(runs).values())
    steps = verdict.standing(arms, "tokens")
    least = min(t.spent[t.steps[-1]][0] for t in arms)
    assert all(t.spent[s][0] <= least for t, s in steps.items())
    assert any(s == t.steps[-1] for t, s in steps.items()) and any(s < t.steps[-1] for t, s in steps.items())


def test_absent_is_not_zero_and_what_cannot_be_compared_is_refused(runs: list[Run]) -> None:
    of = trainings(runs)
    missing = verdict.compared(of, TEST | {"arm": "placebo"}, 1)
    assert missing.state == "open" and "not run" in missing.words and missing.value != missing.value
    with pytest.raises(BadInput, match="against itself"):
        verdict.compared(of, TEST | {"arm": "0"}, 1)
    RunWriter(runs[2].path, 0).pin(fingerprint=dict.fromkeys(MEASURED, "x") | {"split": "validation"})
    with pytest.raises(BadInput, match="differ in split"):
        verdict.compared(trainings(runs), TEST, 1)


def test_one_cliff_with_a_gradient_would_falsify(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(verdict, "EVIDENCE", tmp_path)
    said = []
    for norm in ("0.0", "1e-9"):
        (tmp_path / "gradients.csv").write_text(f"problem_id,kind,norm\na,cliff,0.0\nb,cliff,{norm}\nc,mixed,0.1\n")
        said.append(verdict.judged(verdict.gradients({}, [], {}), True, verdict.TOY))
    assert said == ["verified", "falsified"]


def test_a_toy_is_called_one_and_an_open_part_decides_nothing() -> None:
    def part(low: float, high: float) -> verdict.Part:
        e = Estimate((low + high) / 2, low, high, 9)
        return verdict.Part("", e.value, low, high, verdict.state_of(e, "above", 0.0), 9)

    good, bad, open_ = part(0.1, 0.2), part(-0.2, -0.1), part(-0.1, 0.1)
    assert (
        verdict.judged([good], False, verdict.TOY) == "toy"
        and verdict.judged([good], False, verdict.SMALL) == "verified"
    )
    assert verdict.judged([good, open_], False, verdict.TOY) == "inconclusive"
    assert verdict.judged([good, bad], False, verdict.TOY) == "falsified"


def test_the_plan_names_arms_that_there_are_and_says_what_would_overturn_each_claim() -> None:
    plan = verdict.plan()
    assert len({c["id"] for c in plan["claims"]}) == len(plan["claims"])
    for c in plan["claims"]:
        assert c["of"] in claims.OF and all(c[k] for k in ("section", "says", "overturn"))
        for p in c.get("parts", []):
            assert {p["arm"], p["against"]} <= {*ARMS, "0", "0.3", "1", "3", "redraw", "nonsense"}


def test_what_ships_is_what_the_counts_say(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """From the raw counts of a fresh clone, the same numbers to four digits; every run made under the plan as it stands."""
    assert main(["verdict", "--counts", str(tmp_path / "counts.csv")]) == 0
    said = capsys.readouterr().out
    assert "It is what ships with the project." in said, "write it again: python -m hdpo verdict --json"
    header, *rows = (tmp_path / "counts.csv").read_text().splitlines()
    assert header == "mix,arm,seed,step,tokens,problem_id,level,n,correct" and len(rows) > 80_000
    varied = [p["varies"] for c in verdict.shipped()["claims"] for p in c["parts"] if p["varies"]]
    assert varied and all(sum(v.values()) == pytest.approx(1.0, abs=1e-3) and min(v.values()) >= 0 for v in varied)
    pinned = {run.frozen().get("plan") for run in verdict.runs_in(verdict.EVIDENCE) if run.kind == "train"}
    assert pinned <= {verdict.plan()["sha256"]}, "the plan has changed since"


def test_the_page_and_the_file_say_every_claim_and_load_nothing(
    runs_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    at = open_page("verdict")
    assert not at.exception and not at.error
    page = "\n".join(h.value for h in at.html)
    assert workbench(["verdict", str(tmp_path / "verdict.html")]) == 0
    document = (tmp_path / "verdict.html").read_text()
    for claim in verdict.shipped()["claims"]:
        assert all(claim["says"].replace("'", "&#x27;") in text for text in (page, document)), claim["says"]
    assert not re.search(r"(src|href)=|url\(|@import", document)
    hostile = json.loads(json.dumps(verdict.shipped()["claims"][:1]))
    hostile[0]["says"] = "<img src=x onerror=alert(1)>"
    assert "<img" not in claims.table(hostile)
    assert workbench(["verdict", str(tmp_path / "no" / "such" / "x.html")]) == 2
