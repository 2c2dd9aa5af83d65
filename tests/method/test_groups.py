"""What becomes of a rollout and of its group: scripted completions through the real grader."""

from dataclasses import replace

import pytest

from hdpo.config import Information, PromptConfig, SamplingConfig
from hdpo.grading.verify import VerifierPool
from hdpo.method.groups import Collector, accepted, distillable, signal_accounting
from hdpo.records import Doubt, GroupKind, Outcome, Problem
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import PROBLEMS, ScriptedSampler, collector_of, group_of, random_policy

KEY = DrawKey(0, Purpose.STUDENT, 1)
C, W, N, T, G = Outcome.CORRECT, Outcome.WRONG, Outcome.NO_ANSWER, Outcome.TRUNCATED, Outcome.GRADER_ERROR


@pytest.fixture(scope="module")
def policy():
    return random_policy()


def collect(policy, said, problems=PROBLEMS[:1], n=None):
    """One group a problem; said is a list of (text, truncated), one a rollout."""
    collector = collector_of(policy, ScriptedSampler(policy, lambda p, g: said[g]))
    return collector.collect(problems, Draw(n or len(said), KEY))


def test_outcomes_of_scripted_rollouts(policy) -> None:
    right = PROBLEMS[0].answer
    (group,) = collect(
        policy,
        [
            (f"2+3={right} \\boxed{{{right}}}", False),
            ("2+3=6 \\boxed{6}", False),
            (f"2+3={right}", False),
            (f"2+3={right} \\boxed{{{right}}}", True),
        ],
    )
    assert [r.outcome for r in group.rollouts] == [C, W, N, T], "a box does not save a truncated rollout"
    assert group.rewards == (1.0, 0.0, 0.0, 0.0) and group.kind is GroupKind.MIXED
    assert [r.answer for r in group.rollouts][:2] == ["5", "6"]


@pytest.mark.parametrize(
    ("outcomes", "kind", "doubt"),
    [
        ([W, N, W], GroupKind.CLIFF, Doubt.NONE),
        ([W, T, W], GroupKind.CLIFF, Doubt.TRUNCATION),
        ([W, W, G], GroupKind.CLIFF, Doubt.GRADER),
        ([T, W, G], GroupKind.CLIFF, Doubt.GRADER),
        ([C, W, G], GroupKind.MIXED, Doubt.NONE),
        ([C, C, G], GroupKind.SOLVED, Doubt.NONE),
        ([C, G, G], GroupKind.NO_SIGNAL, Doubt.NONE),
        ([G, G, G], GroupKind.NO_SIGNAL, Doubt.NONE),
    ],
)
def test_regimes_and_doubts(policy, outcomes, kind, doubt) -> None:
    group = group_of(policy, outcomes)
    assert (group.kind, group.doubt) == (kind, doubt)


def test_a_doubtful_cliff_is_distilled_only_if_the_grader_was_sure(policy) -> None:
    groups = [group_of(policy, o, p) for o, p in zip([[W, W], [W, T], [W, W, G]], PROBLEMS, strict=False)]
    assert [g.problem.id for g in distillable(groups)] == ["p2", "p3"]


def test_a_truncated_rollout_never_passes_the_filter(policy) -> None:
    assert [r.index for _, r in accepted([group_of(policy, [T, C, W, G])])] == [1]


def test_a_prompt_that_does_not_fit_is_counted_and_never_cut(policy) -> None:
    long = Problem("long", "What is " + " + ".join(["1"] * 300) + "?", "s", "300", "sum", 1)
    fits, too_long = collector_of(policy).collect([PROBLEMS[0], long], Draw(2, KEY))
    assert fits.kind is not GroupKind.TOO_LONG and too_long.kind is GroupKind.TOO_LONG and too_long.rollouts == ()
    assert len(too_long.prompt_ids) > 512


def test_gold_that_cannot_be_parsed_leaves_every_count(policy) -> None:
    bad = Problem("bad", "What is love?", "baby", "\\frac{", "song", 1)
    with VerifierPool() as verifier:
        sampler = ScriptedSampler(policy, lambda p, g: ("\\boxed{3}", False))
        collector = Collector(policy, sampler, verifier, PromptConfig(), SamplingConfig(max_new_tokens=8))
        (group,) = collector.collect([bad], Draw(2, KEY))
    assert group.kind is GroupKind.UNGRADABLE
    assert distillable([group]) == []
    assert signal_accounting([group], [])["groups_ungradable"] == 1


def test_every_group_is_counted_exactly_once(policy) -> None:
    kinds = [[C, W], [C, C], [W, W], [W, T], [W, N], [W, W, G], [C, G]]
    groups = [group_of(policy, o, p) for o, p in zip(kinds, PROBLEMS, strict=False)]
    cliffs = [g for g in groups if g.kind is GroupKind.CLIFF and g.doubt is not Doubt.GRADER][:2]
    tried = [group_of(policy, o, g.problem) for o, g in zip([[W, W], [W, C]], cliffs, strict=True)]
    counts = signal_accounting(groups, tried)
    assert counts == {
        "groups_mixed": 1,
        "groups_solved": 1,
        "groups_no_signal": 1,
        "groups_too_long": 0,
        "groups_ungradable": 0,
        "groups_cliff_recovered": 1,
        "groups_cliff_lost": 1,
        "groups_cliff_too_long": 0,
        "groups_cliff_skipped": 1,
        "groups_doubtful_truncation": 1,
        "groups_doubtful_grader": 1,
    }
    assert sum(counts.values()) - counts["groups_doubtful_truncation"] == len(groups)
    long = [replace(tried[0], fits=False, rollouts=()), tried[1]]  # the privileged prompt does not fit the context
    counts = signal_accounting(groups, long)
    assert (counts["groups_cliff_too_long"], counts["groups_cliff_lost"], counts["groups_cliff_skipped"]) == (1, 0, 1)


@pytest.mark.parametrize("information", list(Information))
def test_the_privileged_prompt_shows_what_was_chosen_in_the_user_turn(policy, information) -> None:
    collector = Collector(
        policy,
        TransformersSampler(policy),
        VerifierPool(),
        PromptConfig(information=information),
        SamplingConfig(),
        PROBLEMS,
    )
    p = PROBLEMS[3]
    text = policy.tokenizer.decode(collector.privileged_ids(p))
    assert p.text in text and text.endswith("<|im_end|>")
    shows_answer = f"\\boxed{{{p.answer}}}" in text
    assert shows_answer == (information in (Information.ANSWER, Information.SOLUTION))
