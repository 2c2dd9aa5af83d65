"""Is it a cliff: fresh rollouts under draws of their own, that stand on the disk batch by batch and end with a decision."""

from __future__ import annotations

from dataclasses import asdict, replace

import pytest

from hdpo.config import ScanConfig
from hdpo.errors import BadInput, Stopped
from hdpo.evidence.cliffs import BELOW
from hdpo.grading.verify import Verdict
from hdpo.method.confirm import AT_ONCE, BATCH, cliffs_of, confirm
from hdpo.method.evaluate import disputed, problem_row
from hdpo.record.folder import Run, RunWriter
from hdpo.records import Group, Outcome, Rollout
from hdpo.sampling.draws import Purpose
from tests.engine import PROBLEMS, ScriptedSampler, collector_of, group_of, random_model, random_policy

WRONG, RIGHT = Outcome.WRONG, Outcome.CORRECT


@pytest.fixture(scope="module")
def policy():
    return random_policy()


@pytest.fixture
def run(policy, tmp_path) -> Run:
    """A scan of twelve problems of which the last has a correct rollout."""
    config = ScanConfig(model=replace(ScanConfig().model, model=str(random_model())))
    writer = RunWriter.create("scan", config, tmp_path)
    writer.table("problems", 0, [asdict(p) for p in PROBLEMS])
    for p in PROBLEMS:
        row = problem_row(group_of(policy, [WRONG] * 3 + [RIGHT if p is PROBLEMS[-1] else WRONG], p))
        writer.metric("scan_group", 0, **{"group": row.pop("kind"), **row})
    return Run(writer.path)


class Heard(ScriptedSampler):
    """Answers correctly where `right` says so of a problem, and remembers its draws."""

    def __init__(self, policy, right=lambda problem_id, g: False):
        gold = {p.id: p.answer for p in PROBLEMS}
        super().__init__(
            policy, lambda p, g: (f"\\boxed{{{gold[p.problem_id] if right(p.problem_id, g) else 0}}}", False)
        )
        self.draws = []

    def sample(self, prompts, how, draw, *rest):
        self.draws += [(p.problem_id, draw.key, draw.n) for p in prompts]
        return super().sample(prompts, how, draw, *rest)


def ask(run, policy, sampler, ids, limit=512, tell=lambda cliffs: None):
    collector = collector_of(policy, sampler)
    with collector.verifier:
        confirm(run, collector, ids, limit, BELOW, tell)
    return cliffs_of(run, ids, BELOW)


def test_each_ends_with_its_decision_and_no_draw_comes_twice(run, policy) -> None:
    sampler = Heard(policy, lambda i, g: i == "p3" and g % 2 == 0)
    found = ask(run, policy, sampler, ["p2", "p3"])
    assert found["p2"].words() == "cliff: pass rate below 1/64" and found["p2"].n == 17 * BATCH
    assert found["p3"].words() == "not a cliff" and (found["p3"].n, found["p3"].correct) == (BATCH, BATCH // 2)
    assert len(set(sampler.draws)) == len(sampler.draws) == len(run.looks()) == 18
    assert {key.purpose for _, key, _ in sampler.draws} == {Purpose.CONFIRM}


def test_it_goes_on_where_it_was_and_keeps_to_the_limit(run, policy) -> None:
    first, second = Heard(policy), Heard(policy)
    assert ask(run, policy, first, ["p2"], 20)["p2"].words() == "undecided after 20"
    assert ask(run, policy, second, ["p2"], 50)["p2"].words() == "undecided after 50"
    assert [n for *_, n in first.draws + second.draws] == [16, 4, 16, 14]
    assert [key.step for _, key, _ in first.draws + second.draws] == [1, 2, 3, 4]
    assert ask(run, policy, Heard(policy), ["p2"], 50)["p2"].n == 50, "nothing is left to draw"


def test_a_grader_error_is_no_sample(run, policy, monkeypatch) -> None:
    collector = collector_of(policy, Heard(policy))
    failed = Verdict(Outcome.GRADER_ERROR, "0")
    monkeypatch.setattr(collector.verifier, "grade", lambda items, texts: [failed] * 6 + [Verdict(WRONG, "0")] * 10)
    confirm(run, collector, ["p2"], 16, BELOW, lambda cliffs: None)
    found = cliffs_of(run, ["p2"], BELOW)["p2"]
    assert (found.drawn, found.n, found.words()) == (16, 10, "undecided after 10")


def test_the_widest_posterior_is_drawn_from_first(run, policy) -> None:
    RunWriter(run.path, 1).look(1, problem_id="p4", drawn=16, n=16, correct=0)
    RunWriter(run.path, 1).look(1, problem_id="p9", drawn=16, n=16, correct=1)

    def once(cliffs) -> None:
        if sum(c.drawn for c in cliffs) > 32:
            raise Stopped("seen")

    sampler = Heard(policy)
    with pytest.raises(Stopped):
        ask(run, policy, sampler, [], tell=once)
    asked = [i for i, *_ in sampler.draws]
    assert len(asked) == AT_ONCE and asked[0] == "p9" and "p4" not in asked and PROBLEMS[-1].id not in asked
    assert len(run.looks()) == 2 + AT_ONCE, "what was drawn before the stop is kept"


def test_two_that_draw_the_same_batch_count_once_and_a_torn_line_is_passed_over(run) -> None:
    writer = RunWriter(run.path, 1)
    writer.look(1, problem_id="p2", drawn=16, n=16, correct=2)
    with run.looks_file.open("a") as f:
        f.write('{"kind": "confirm", "st')
    for _ in range(2):
        writer.look(2, problem_id="p2", drawn=16, n=15, correct=1)
    assert cliffs_of(run, ["p2"], BELOW)["p2"].n == 31
    writer.look(3, problem_id="p2", drawn=16, n=16, correct=17)
    assert cliffs_of(run, ["p2"], BELOW)["p2"].n == 31 and "confirm.jsonl: 1 line left out" in "".join(run.damage())


def test_a_scan_of_the_project_is_confirmed_beside_your_own_runs(run, policy, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("hdpo.record.folder.ASSET_RUNS", run.path.parent)
    monkeypatch.setenv("HDPO_RUNS", str(tmp_path / "mine"))
    assert ask(run, policy, Heard(policy), ["p2"], 16)["p2"].n == 16
    assert (tmp_path / "mine" / f"{run.id}.confirm.jsonl").is_file() and not (run.path / "confirm.jsonl").exists()


def test_what_cannot_be_confirmed_is_refused(run, policy) -> None:
    with pytest.raises(BadInput, match=f"no correct rollout, found {PROBLEMS[-1].id}, x. The first ones are p2"):
        ask(run, policy, Heard(policy), [PROBLEMS[-1].id, "x"])
    RunWriter(run.path, 1).pin(fingerprint={"model": "another"})
    with pytest.raises(BadInput, match="expected what was scanned, found that model changed since"):
        ask(run, policy, Heard(policy), ["p2"])
    assert run.looks() == []


def test_a_wrong_answer_in_which_the_gold_stands_is_disputed_with_both_parses(policy) -> None:
    collector = collector_of(policy)

    def group(*said: tuple[Outcome, str]) -> Group:
        rollouts = tuple(Rollout("p2", i, (1,), (0.0,), "", o, answer) for i, (o, answer) in enumerate(said))
        return Group(PROBLEMS[0], (1,), rollouts)

    with collector.verifier as verifier:
        found = disputed(group((WRONG, "15"), (WRONG, "x = 5 or x = 7")), verifier)
        assert found.startswith("x = 5 or x = 7 is parsed as ") and found.endswith("the gold 5 as 5 (by math-verify)")
        failed = disputed(group((Outcome.GRADER_ERROR, "\\text{five}")), verifier)
        assert failed == "\\text{five} is parsed as five (as written), the gold 5 as 5 (by math-verify)"
        assert disputed(group((WRONG, "15"), (Outcome.TRUNCATED, "5 apples")), verifier) == ""
        assert disputed(group((WRONG, "x = 5 or 7"), (RIGHT, "5")), verifier) == ""
