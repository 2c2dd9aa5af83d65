"""From problems to groups: prompt → rollouts → verdicts, for the student and for the one who may peek.

Also the bookkeeping of what each group is worth to learning: the signal accounting.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from hdpo.config import Information, PromptConfig, SamplingConfig
from hdpo.data.prompts import fits, pick_other, privileged_messages, reference, render, student_prompt
from hdpo.grading.verify import VerifierPool, outcome_of
from hdpo.model.policy import Policy
from hdpo.record.ranks import ALONE, Ranks
from hdpo.records import Doubt, Group, GroupKind, Problem, Rollout
from hdpo.sampling.protocol import Completion, Draw, Prompt, Sampler


@dataclass
class Collector:
    """Samples and grades, each rank its share of the problems. `others` is where a wrong reference is taken from;
    seconds add up by phase."""

    policy: Policy
    sampler: Sampler
    verifier: VerifierPool
    prompts: PromptConfig
    how: SamplingConfig
    others: Sequence[Problem] = ()
    ranks: Ranks = ALONE
    seconds: dict[str, float] = field(default_factory=lambda: {"sample": 0.0, "verify": 0.0})

    def student_ids(self, problem: Problem) -> tuple[int, ...]:
        """The student's prompt, as token ids."""
        return student_prompt(self.policy.tokenizer, problem, self.prompts)[1]

    def privileged_ids(self, problem: Problem, information: Information | None = None) -> tuple[int, ...]:
        """x ⊕ y*, as token ids, with this information or the one that the config chooses."""
        information = information or self.prompts.information
        other = pick_other(problem, self.others, seed=0) if information is Information.WRONG_OTHER else None
        shown = reference(problem, information, self.prompts.fraction, other)
        return render(self.policy.tokenizer, privileged_messages(problem, self.prompts, shown))[1]

    def collect(self, problems: Sequence[Problem], draw: Draw, *, privileged: bool = False) -> list[Group]:
        """One graded group of draw.n rollouts a problem. A prompt that does not fit the context is sampled from never."""
        problems = self.ranks.share(problems)
        started = time.perf_counter()
        ids = [self.privileged_ids(p) if privileged else self.student_ids(p) for p in problems]
        fitting = [i for i, x in enumerate(ids) if fits(len(x), self.how.max_new_tokens, self.policy.context)]
        prompts = [Prompt(problems[i].id, ids[i]) for i in fitting]
        completions = self.sampler.sample(prompts, self.how, draw)
        self.seconds["sample"] += time.perf_counter() - started
        by_problem = dict(zip(fitting, completions, strict=True))
        return self.ranks.gather(self.grade(problems, ids, by_problem))

    def grade(
        self, problems: Sequence[Problem], ids: Sequence[tuple[int, ...]], completions: dict[int, list[Completion]]
    ) -> list[Group]:
        """completions: by the place of their problem and of its prompt; a place without any did not fit."""
        started = time.perf_counter()
        flat = [(i, g, c) for i, group in completions.items() for g, c in enumerate(group)]
        ids_of = [list(c.token_ids) for *_, c in flat]
        # batch_decode takes an empty list for one empty completion
        texts = self.policy.tokenizer.batch_decode(ids_of, skip_special_tokens=True) if ids_of else []
        verdicts = self.verifier.grade(
            [(t, problems[i].answer) for (i, _, _), t in zip(flat, texts, strict=True)],
            [problems[i].text for i, _, _ in flat],
        )
        gradable = self.verifier.gold_ok([p.answer for p in problems])
        rollouts: dict[int, list[Rollout]] = {i: [] for i in completions}
        for (i, g, c), text, verdict in zip(flat, texts, verdicts, strict=True):
            outcome = outcome_of(verdict, c.truncated)
            drawn = problems[i].id, g, c.token_ids, c.logprobs
            rollouts[i].append(Rollout(*drawn, text, outcome, verdict.answer, c.topk))
        self.seconds["verify"] += time.perf_counter() - started
        return [
            Group(p, ids[i], tuple(rollouts.get(i, ())), fits=i in completions, gradable=gradable[i])
            for i, p in enumerate(problems)
        ]


def distillable(groups: Sequence[Group]) -> list[Group]:
    """The cliffs that may be distilled: all, but those doubtful through a grader error."""
    return [g for g in groups if g.kind is GroupKind.CLIFF and g.doubt is not Doubt.GRADER]


def accepted(groups: Sequence[Group]) -> list[tuple[Group, Rollout]]:
    """The R=1 filter (step 5 of Algorithm 1): a truncated rollout has reward 0 and never passes."""
    return [(g, r) for g in groups for r in g.rollouts if r.reward == 1.0]


def signal_accounting(groups: Sequence[Group], peeked: Sequence[Group]) -> dict[str, int]:
    """How many groups gave which signal; every group is counted once, `doubtful_truncation` is an of-which.

    peeked: the privileged groups, of cliffs and perhaps of others.
    """
    found = {f"groups_{kind.name.lower()}": sum(g.kind is kind for g in groups) for kind in GroupKind}
    del found["groups_cliff"]  # told apart below
    recovered = {g.problem.id for g, _ in accepted(peeked)}
    fitted = {g.problem.id: g.fits for g in peeked}
    good = [g.problem.id for g in distillable(groups)]
    return found | {
        "groups_cliff_recovered": sum(i in recovered for i in good),
        "groups_cliff_lost": sum(fitted.get(i, False) and i not in recovered for i in good),
        "groups_cliff_too_long": sum(not fitted.get(i, True) for i in good),
        "groups_cliff_skipped": sum(i not in fitted for i in good),
        "groups_doubtful_truncation": sum(g.doubt is Doubt.TRUNCATION for g in groups),
        "groups_doubtful_grader": sum(g.doubt is Doubt.GRADER for g in groups),
    }
