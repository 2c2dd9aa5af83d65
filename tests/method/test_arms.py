"""An arm swaps one of four functions of a step, and nothing else of it."""

from dataclasses import replace

import pytest
import torch

from hdpo.arms import ARMS, arm, name_of
from hdpo.config import Divergence, ObjectiveConfig, StepConfig, SweepConfig, TrainConfig, knobs, replace_knobs
from hdpo.errors import BadInput
from hdpo.method import arms
from hdpo.method.objective import Scale
from hdpo.method.step import Learner, hdpo_step
from hdpo.records import Outcome
from tests.engine import (
    HOW_SHORT,
    PROBLEMS,
    ScriptedSampler,
    collector_of,
    group_of,
    hdpo_gradient,
    log_probs,
    random_policy,
)

C, W, G = Outcome.CORRECT, Outcome.WRONG, Outcome.GRADER_ERROR


@pytest.fixture
def policy():
    return random_policy()


def objective(name: str) -> ObjectiveConfig:
    return replace_knobs(TrainConfig(), arm(name).settings).objective


def test_every_arm_is_known_by_its_settings_and_says_where_it_comes_from() -> None:
    for name, told in ARMS.items():
        settings = {k.name: k.default for k in knobs(replace_knobs(TrainConfig(), told.settings))}
        assert name_of(settings) == name
        assert told.source and told.says
    with pytest.raises(BadInput, match="placebo.*found 'plazebo'"):
        SweepConfig(arms=("plazebo",))


def test_what_is_distilled_and_at_whom_one_peeks(policy) -> None:
    cliff, mixed, doubtful = (
        group_of(policy, o, p) for o, p in zip([[W, W], [C, W], [W, W, G]], PROBLEMS, strict=False)
    )
    groups = [cliff, mixed, doubtful]
    chosen = {name: arms.distilled(groups, objective(name)) for name in ARMS}
    assert chosen["all-prompts"] == [cliff, mixed, doubtful][:2] and chosen["placebo"] == [cliff]
    assert arms.shown(groups, [cliff], objective("hdpo")) == [cliff]
    assert (
        arms.shown(groups, [cliff], objective("adaptive")) == groups
        and arms.shown(groups, [cliff], objective("on-policy")) == []
    )


def test_the_traces_and_the_context_under_which_the_teacher_reads_them(policy) -> None:
    cliff, peeked = group_of(policy, [W, W], PROBLEMS[0]), group_of(policy, [C, W, C], PROBLEMS[0])
    collector = collector_of(policy)
    collector.others = PROBLEMS
    plain, placebo, own = (
        arms.items(collector, [cliff], [peeked], objective(n)) for n in ("hdpo", "placebo", "on-policy")
    )
    assert [i.student.completion_ids for i in plain] == [r.token_ids for r in peeked.rollouts if r.reward == 1.0]
    assert [i.student for i in placebo] == [i.student for i in plain], "the same accepted traces"
    assert {i.teacher.prompt_ids for i in plain} == {peeked.prompt_ids}
    assert placebo[0].teacher.prompt_ids not in (peeked.prompt_ids, collector.privileged_ids(PROBLEMS[0]))
    assert all(i.topk is None for i in (*placebo, *own))
    assert [i.student.completion_ids for i in own] == [r.token_ids for r in cliff.rollouts]
    assert own[0].teacher.prompt_ids == collector.privileged_ids(PROBLEMS[0])
    policy.context = len(own[0].teacher.prompt_ids)  # no room for a trace behind it
    assert arms.items(collector, [cliff], [], objective("on-policy")) == []


def test_lambda_follows_the_gap_and_is_withdrawn_where_it_closes(policy) -> None:
    plain, told = group_of(policy, [C, W, W, W], PROBLEMS[0]), group_of(policy, [C, C, C, W], PROBLEMS[0])
    other = group_of(policy, [C, C, C, C], PROBLEMS[1])  # nobody peeked at it: no part of the gap
    how = objective("adaptive")
    assert arms.weight(how, [plain, other], [told]) == pytest.approx(how.lambda_ * 0.5)
    assert arms.weight(how, [told], [plain]) == 0.0 and arms.weight(objective("hdpo"), [told], [plain]) == how.lambda_


@pytest.mark.parametrize("name", ARMS)
def test_a_step_of_every_arm(policy, name: str) -> None:
    """Scripted: two prompts are cliffs that the privileged prompt solves, one is mixed. Both phases of `sequential`."""

    def answer(prompt, i: int) -> tuple[str, bool]:
        peeks = "Reference" in policy.tokenizer.decode(prompt.ids)
        right = peeks or (prompt.problem_id == "p4" and i == 0)
        return f"\\boxed{{{2 * int(prompt.problem_id[1:]) + 1 if right else 999}}}", False

    step = StepConfig(prompts_per_step=3, rollouts=4, privileged_rollouts=2, steps=30, warmup=0)
    config = replace(replace_knobs(replace(TrainConfig(), step=step), arm(name).settings), sampling=HOW_SHORT)
    collector = replace(collector_of(policy), sampler=ScriptedSampler(policy, answer), others=PROBLEMS)
    learner = Learner(config, policy, collector, torch.optim.AdamW(policy.trainable, 1e-3))
    done = hdpo_step(learner, PROBLEMS[:3], 1)
    assert done.row["updated"] and sum(len(g.rollouts) for g in done.groups) == 3 * config.step.rollouts
    peeks = {"grpo": 0, "larger-k": 0, "on-policy": 0, "adaptive": 3, "all-prompts": 3}.get(name, 2)
    assert len(done.peeked) == peeks and done.row["tokens_privileged"] == arms_tokens(done.peeked)
    distils = name not in ("grpo", "larger-k")
    assert (done.row["grad_norm_jsd"] > 0) is distils and (done.row["accepted_rollouts"] > 0) is distils
    assert (done.row["grad_norm_grpo"] > 0) is (name not in ("sequential", "distillation-alone"))
    if name == "sequential":
        later = hdpo_step(learner, PROBLEMS[:3], 21).row
        assert (later["lambda"], later["grad_norm_jsd"], later["tokens_privileged"]) == (0.0, 0.0, 0)
        assert later["grad_norm_grpo"] > 0


def arms_tokens(groups) -> int:
    return sum(len(r.token_ids) for g in groups for r in g.rollouts)


def test_off_policy_is_how_much_less_likely_the_traces_are_without_the_solution(policy) -> None:
    """Against log-probs by the plainest forward pass; unknown where they were not kept."""
    cliff, collector = group_of(policy, [W, W], PROBLEMS[0]), collector_of(policy)
    peeked = replace(group_of(policy, [C, C], PROBLEMS[0]), prompt_ids=collector.privileged_ids(PROBLEMS[0]))
    items = arms.items(collector, [cliff], [peeked], objective("forward-kl"))
    tokens = sum(len(i.student.completion_ids) for i in items)
    scale = Scale(10, tokens, 1.0, 4096)
    said = sum(
        float(log_probs(policy, i.student).gather(-1, torch.tensor(i.student.completion_ids)[:, None]).sum())
        for i in items
    )
    for kind in (Divergence.FORWARD_KL, Divergence.JSD_TOPK, Divergence.SFT):
        terms = hdpo_gradient(policy, [], items, ObjectiveConfig(divergence=kind), scale)
        assert terms.off_policy == pytest.approx(said / tokens + 1.0, abs=1e-4), "each was drawn with log-prob -1"
    unknown = [replace(i, sampled_logprobs=()) for i in items]
    assert hdpo_gradient(policy, [], unknown, ObjectiveConfig(), scale).off_policy is None
