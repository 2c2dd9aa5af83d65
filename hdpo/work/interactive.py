"""What the resident worker answers: what a problem set is, prompts, rollouts, fresh ones of a cliff, one trace under the lens, one group's gradient, one step by hand.

The engine's own functions on one problem at a time, with JSON in and out. Payloads name their model; one is kept.
All sides of a `rollouts` request share their draws (`hdpo.sampling.draws`): two traces part where the prompts, not chance,
drive them apart.

This file is long: one short function a request, each with its checks.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch

from hdpo.config import (
    Information,
    ModelConfig,
    ObjectiveConfig,
    PromptConfig,
    SamplingConfig,
    ScanConfig,
    StepConfig,
    from_json,
)
from hdpo.data.prompts import answered, fits, privileged_messages, reference, render, student_prompt
from hdpo.errors import BadInput, Stopped
from hdpo.evidence.cliffs import BELOW, Cliff
from hdpo.grading.boxes import last_box
from hdpo.grading.explain import explain
from hdpo.grading.graders import MATH, grader_of
from hdpo.grading.verify import VerifierPool
from hdpo.method.advantages import advantages
from hdpo.method.by_hand import by_hand
from hdpo.method.confirm import cliffs_of, confirm
from hdpo.method.gap import Lens, Pair, token_gaps
from hdpo.method.groups import Collector
from hdpo.method.objective import DistillItem, Scale, group_gradient_norm, with_signal
from hdpo.method.step import count_tokens
from hdpo.model.adapter import adapter_folder, read_adapter
from hdpo.model.batching import Trace
from hdpo.model.policy import Policy, Weights, load_policy
from hdpo.record.folder import find_run
from hdpo.records import Group, Outcome, Problem, Rollout
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, OnToken, Prompt
from hdpo.sampling.transformers import TransformersSampler
from hdpo.work.survey import survey

Event = dict[str, Any]
Emit = Callable[[Event], None]
Cancelled = Callable[[], bool]

SIDES = ("student", "privileged", "wrong")
AGAINST = ("drifting", "frozen", "wrong")
LENS = ("kl", "jsd", "lemma1", "range_bound", "teacher_mass", "student_mass", "mismatch")
POOLS = 4  # graders whose children are kept
TOPS = 8  # next tokens listed for each side of the lens
SECONDS_BETWEEN_LOOKS = 0.1  # at whether anybody still waits


@dataclass
class Desk:
    """One model, a verifier for each of the last few graders, and a function for each request."""

    policy: Policy | None = None
    pools: dict[tuple[str, int], VerifierPool] = field(default_factory=dict)  # the one asked longest ago first
    _name: tuple[ModelConfig, str] | None = None

    def warm_up(self) -> None:
        """Load the bundled model before anybody asks; without it the first request says what is wrong."""
        with suppress(BadInput):
            self._load(ModelConfig(), "")

    def drop(self) -> bool:
        """Give the model's memory back. Whether there was one."""
        held, self.policy, self._name = self.policy is not None, None, None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return held

    def verifier(self, grader: str) -> VerifierPool:
        """A person's own is read again where its file has changed. Raises BadInput for a grader that is none."""
        file = grader_of(grader).file
        name = grader, Path(file).stat().st_mtime_ns if file else 0
        self.pools[name] = pool = self.pools.pop(name, None) or VerifierPool(grader=grader)
        if len(self.pools) > POOLS:
            self.pools.pop(next(iter(self.pools))).close()
        return pool

    def close(self) -> None:
        """Ends the verifiers' children."""
        for pool in self.pools.values():
            pool.close()

    def answer(self, payload: Mapping[str, Any], emit: Emit, cancelled: Cancelled) -> Any:
        """The result of one request, as JSON can hold it. Raises HdpoError, and Stopped where nobody waits any more."""
        handlers = {f.__name__[1:]: f for f in (_info, _prompt, _rollouts, _confirm, _lens, _gradient, _by_hand)}
        name = payload.get("request")
        if name == "survey":  # which needs no weights
            return _survey(payload, emit, cancelled)
        if name == "verify":
            return explain(self.verifier(payload.get("grader", MATH)), payload["gold"], payload["answer"])
        if name not in handlers:
            raise BadInput(f"request: expected one of {', '.join(handlers)}, found {name!r}. Choose one of them.")
        if cancelled():
            raise Stopped("Cancelled before it began.")
        wanted = from_json(ModelConfig, payload.get("model", {})), str(payload.get("checkpoint", ""))
        if self._name != wanted:
            emit({"event": "phase", "text": "loading the model"})
        return handlers[name](
            Ask(self._load(*wanted), self.verifier(payload.get("grader", MATH)), payload, emit, cancelled)
        )

    def _load(self, model: ModelConfig, checkpoint: str) -> Policy:
        if self.policy is None or self._name != (model, checkpoint):
            self.drop()  # before the next is loaded: never two at a time
            adapter = read_adapter(adapter_folder(checkpoint)) if checkpoint else None
            policy = load_policy(replace(model, **adapter.settings) if adapter else model)
            if adapter:
                policy.load_adapter(adapter, "default")
            self.policy, self._name = policy, (model, checkpoint)
        return self.policy


@dataclass
class Ask:
    """One request, its model, and where its events go."""

    policy: Policy
    verifier: VerifierPool
    payload: Mapping[str, Any]
    emit: Emit
    cancelled: Cancelled

    def get(self, name: str, kind: type) -> Any:
        """A field of the payload. Raises BadInput where it is missing or of another type."""
        value = self.payload.get(name)
        if not isinstance(value, kind) or isinstance(value, bool):
            wanted = f"{kind.__name__} in a {self.payload['request']} request"
            raise BadInput(f"{name}: expected {wanted}, found {value!r}. Give one.")
        return value

    @property
    def problem(self) -> Problem:
        return _problem(self.get("problem", dict))

    @property
    def sampling(self) -> SamplingConfig:
        return from_json(SamplingConfig, self.get("sampling", dict))

    def prompt(self, side: str) -> tuple[str, tuple[int, ...]]:
        """One side's prompt as text and as token ids. wrong: the other problem's solution, else a changed answer."""
        problem, prompts = self.problem, from_json(PromptConfig, self.get("prompts", dict))
        if side == "student":
            return student_prompt(self.policy.tokenizer, problem, prompts)
        given, information = self.payload.get("other"), prompts.information
        other = _problem(given) if given else None
        if side == "wrong":
            information = Information.WRONG_OTHER if other else Information.WRONG_ANSWER
            if prompts.information is Information.ANSWER:
                problem, other = answered(problem), other and answered(other)
        shown = reference(problem, information, prompts.fraction, other)
        return render(self.policy.tokenizer, privileged_messages(problem, prompts, shown))

    def token_ids(self, given: Sequence[Any]) -> tuple[int, ...]:
        """Checked, because a stale trace of another model would index beyond the vocabulary."""
        most = self.policy.vocabulary
        if not given or not all(isinstance(t, int) and 0 <= t < most for t in given):
            words = f"expected one or more ids below {most}, found others"
            raise BadInput(f"token_ids: {words}. Was the trace written by another model?")
        return tuple(given)

    def check_length(self, longest: int) -> None:
        """Raises BadInput for a prompt and trace, together `longest` tokens, that no position exists for."""
        if longest > self.policy.context:
            words = f"expected a prompt and trace of at most {self.policy.context} tokens, found {longest}"
            raise BadInput(f"{self.payload['request']}: {words}. Choose a shorter trace or prompt.")


def _problem(data: Any) -> Problem:
    try:
        return Problem(**data)
    except TypeError as e:
        words = f"expected id, text, solution, answer, source and level, found another shape ({e})"
        raise BadInput(f"problem: {words}.") from None


def _survey(payload: Mapping[str, Any], emit: Emit, cancelled: Cancelled) -> Any:
    """What a problem set is; a phase tells how far reading is."""

    def report(read: int) -> None:
        if cancelled():
            raise Stopped("Cancelled while it was reading.")
        emit({"event": "phase", "text": f"{read:,} rows read"})

    return survey(from_json(ScanConfig, payload.get("config", {})), report)


def _info(ask: Ask) -> dict[str, Any]:
    policy = ask.policy
    return {
        "model": from_json(ModelConfig, ask.payload.get("model", {})).model,
        "parameters": sum(p.numel() for n, p in policy.model.named_parameters() if "lora_" not in n),
        "device": str(policy.device),
        "dtype": str(policy.causal.dtype).removeprefix("torch."),
        "context": policy.context,
        "vocabulary": policy.vocabulary,
    }


def _prompt(ask: Ask) -> dict[str, Any]:
    """Each side's prompt exactly as the model receives it; lengths in tokens."""
    rendered = {side: ask.prompt(side) for side in SIDES if side in ask.get("sides", list)}
    return {
        **{f"{side}_text": text for side, (text, _) in rendered.items()},
        **{f"{side}_tokens": len(ids) for side, (_, ids) in rendered.items()},
        "context": ask.policy.context,
    }


def _rollouts(ask: Ask) -> dict[str, Any]:
    """K rollouts of each side in one batch, streamed as token events; a side that does not fit has none."""
    sides, k = [s for s in SIDES if s in ask.get("sides", list)], ask.get("k", int)
    if k < 1 or not sides:
        raise BadInput(f"rollouts: expected at least one rollout of one side, found k = {k}, sides {sides}. Raise k.")
    problem, sampling, greedy = ask.problem, ask.sampling, bool(ask.payload.get("greedy", False))
    texts, ids = zip(*map(ask.prompt, sides), strict=True)
    fitting = [i for i, x in enumerate(ids) if fits(len(x), sampling.max_new_tokens, ask.policy.context)]
    draw = Draw(1 if greedy else k, DrawKey(ask.get("seed", int), Purpose.INTERACTIVE), greedy=greedy)
    ask.emit({"event": "phase", "text": "sampling"})
    sampler, hear = TransformersSampler(ask.policy), _streamer(ask, [sides[i] for i in fitting])
    drawn = sampler.sample([Prompt(problem.id, ids[i]) for i in fitting], sampling, draw, on_token=hear)
    ask.emit({"event": "phase", "text": "verifying"})
    grader = Collector(ask.policy, sampler, ask.verifier, PromptConfig(), sampling)
    groups = grader.grade([problem] * len(sides), ids, dict(zip(fitting, drawn, strict=True)))
    return {
        side: {
            "prompt_text": text,
            "prompt_tokens": len(g.prompt_ids),
            "fits": g.fits,
            "gradable": g.gradable,
            "rollouts": [_shown(ask.policy.tokenizer, r) for r in g.rollouts],
        }
        for side, text, g in zip(sides, texts, groups, strict=True)
    }


def _streamer(ask: Ask, sides: Sequence[str]) -> OnToken:
    """Turns tokens into events as they are drawn, and stops where nobody waits."""
    streams = defaultdict[tuple[int, int], PieceStream](lambda: PieceStream(ask.policy.tokenizer, skip_special=True))
    looked = time.monotonic()

    def hear(side: int, rollout: int, token: int) -> None:
        nonlocal looked
        if time.monotonic() - looked > SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            if ask.cancelled():
                raise Stopped("Cancelled while it was sampling.")
        if piece := streams[side, rollout].push(token):
            ask.emit({"event": "token", "side": sides[side], "rollout": rollout, "piece": piece})

    return hear


def _shown(tokenizer: Any, r: Rollout) -> dict[str, Any]:
    return {
        "text": r.text,
        "outcome": r.outcome.value,
        "answer": r.answer,
        "tokens": len(r.token_ids),
        "token_ids": list(r.token_ids),
        "pieces": pieces(tokenizer, r.token_ids),
        "logprobs": [round(x, 5) for x in r.logprobs],
    }


def _confirm(ask: Ask) -> dict[str, Any]:
    """Fresh rollouts of one cliff of a scan until it is decided or has so many."""
    run, ids = find_run(ask.get("run", str)), [ask.get("problem_id", str)]
    config = run.load_config()

    def look(cliffs: list[Cliff]) -> None:
        if ask.cancelled():
            raise Stopped("Stopped between two batches; what was drawn is kept.")

    ask.emit({"event": "phase", "text": "drawing fresh rollouts"})
    collector = Collector(ask.policy, TransformersSampler(ask.policy), ask.verifier, config.prompts, config.sampling)
    confirm(run, collector, ids, ask.get("rollouts", int), BELOW, look)
    return asdict(cliffs_of(run, ids, BELOW)[ids[0]])


@dataclass
class PieceStream:
    """Decodes token by token. A character of several tokens appears with its last one, the others give ""."""

    tokenizer: Any
    skip_special: bool = False
    _before: list[int] = field(default_factory=list)  # the tokens of the piece that was shown last
    _new: list[int] = field(default_factory=list)

    def push(self, token: int) -> str:
        self._new.append(token)
        decode = partial(self.tokenizer.decode, skip_special_tokens=self.skip_special)
        # Decoded together with the tokens before: alone, some tokenizers drop a token's leading space.
        before, now = decode(self._before), decode(self._before + self._new)
        if now.endswith("\ufffd"):
            return ""
        self._before, self._new = self._new, []
        return str(now[len(before) :])


def pieces(tokenizer: Any, token_ids: Sequence[int]) -> list[str]:
    """One text a token, special tokens included; together they are the completion."""
    stream = PieceStream(tokenizer)
    return [stream.push(int(t)) for t in token_ids]


def _lens(ask: Ask) -> dict[str, Any]:
    """One trace under the student's prompt and the teacher's: per token in nats, and both lists of next tokens."""
    token_ids = ask.token_ids(ask.get("token_ids", list))
    against = ask.get("against", str)
    if against not in AGAINST:
        raise BadInput(f"against: expected one of {', '.join(AGAINST)}, found {against!r}. Choose one of them.")
    student = Trace(ask.prompt("student")[1], token_ids)
    teacher = Trace(ask.prompt("wrong" if against == "wrong" else "privileged")[1], token_ids)
    ask.check_length(max(len(student), len(teacher)))
    teachers = Weights.INITIAL if against == "frozen" else Weights.CURRENT
    ask.emit({"event": "phase", "text": "comparing the two prompts"})
    pair = Pair(ask.problem.id, against, student, teacher)
    (found,) = token_gaps(ask.policy, [pair], Lens(teacher=teachers, tops=TOPS))
    values = {name: found.values[name].astype(float) for name in LENS}
    if against != "frozen":
        values["mismatch"] *= 0.0  # Proposition 1 (ii): the teacher's weights are the student's own
    return {
        "piece": pieces(ask.policy.tokenizer, token_ids),
        **{name: v.tolist() for name, v in values.items()},
        **{f"{side}_top": _named(ask.policy.tokenizer, *top) for side, top in found.tops.items()},
        **{f"{side}_p": _written(token_ids, *top) for side, top in found.tops.items()},
        "means": {name: v.mean().item() for name, v in values.items()},
        "sums": {name: v.sum().item() for name, v in values.items()},
    }


def _named(tokenizer: Any, ids: np.ndarray, probs: np.ndarray) -> list[list[list[Any]]]:
    """(T, k) → for each token its list of [piece, probability]."""
    rows = zip(ids.tolist(), probs.tolist(), strict=True)
    return [[[tokenizer.decode([i]), round(p, 6)] for i, p in zip(*row, strict=True)] for row in rows]


def _written(token_ids: Sequence[int], ids: np.ndarray, probs: np.ndarray) -> list[float | None]:
    """The probability of each token of the trace itself, None where it is not among the listed."""
    found = [row[listed == token] for token, listed, row in zip(token_ids, ids, probs, strict=True)]
    return [round(float(p[0]), 6) if len(p) else None for p in found]


def _gradient(ask: Ask) -> dict[str, Any]:
    """Advantages under the given rewards, and the norm of this group's GRPO gradient: on a cliff exactly 0."""
    group, rewards, objective = _group(ask)
    scale = Scale(1, 0, ask.sampling.temperature, StepConfig().micro_batch_tokens)
    ask.emit({"event": "phase", "text": "one backward pass"})
    values, norm = group_gradient_norm(ask.policy, group, rewards, objective, scale)
    return {"advantages": list(values), "grad_norm": norm, "tokens": count_tokens([group])}


def _group(ask: Ask) -> tuple[Group, list[float | None], ObjectiveConfig]:
    """The group of a request, its (perhaps edited) rewards, and the form of advantage that was asked for."""
    problem, traces, rewards = ask.problem, ask.get("rollouts", list), ask.get("rewards", list)
    if len(traces) != len(rewards):
        words = f"expected one for each of the {len(traces)} rollouts, found {len(rewards)}"
        raise BadInput(f"rewards: {words}. Give as many.")
    rollouts = []
    for i, given in enumerate(traces):
        ids = ask.token_ids(given["token_ids"])
        # The sampler's log-probs only serve to log its mismatch, which is not asked for here.
        rollouts.append(Rollout(problem.id, i, ids, (0.0,) * len(ids), "", Outcome(given["outcome"])))
    group = Group(problem, ask.prompt("student")[1], tuple(rollouts))
    ask.check_length(len(group.prompt_ids) + max((len(r.token_ids) for r in rollouts), default=0))
    return group, rewards, from_json(ObjectiveConfig, {"advantage": ask.get("advantage", str)})


def _by_hand(ask: Ask) -> dict[str, Any]:
    """Both terms' gradients on a cliff with accepted privileged traces (and on the group of a `gradient` request beside it, if
    there is one), and the first trace's log-probs under the student's prompt before and after a step, for each λ and size."""
    beside = ask.payload.get("beside")
    groups = [_group(ask), *([_group(replace(ask, payload=beside))] if beside else [])]
    traces = [ask.token_ids(t) for t in ask.get("accepted", list)]
    if not traces:
        raise BadInput("accepted: expected a privileged trace with R = 1 or more, found none. Choose another cliff.")
    student, privileged = ask.prompt("student")[1], ask.prompt("privileged")[1]
    ask.check_length(len(privileged) + max(map(len, traces)))
    grpo = [item for g, rewards, o in groups for item in with_signal(g, advantages(rewards, o.advantage))]
    distil = [DistillItem(Trace(student, t), Trace(privileged, t)) for t in traces]
    tokens = count_tokens([g for g, *_ in groups]), sum(map(len, traces))
    scale = Scale(*tokens, ask.sampling.temperature, StepConfig().micro_batch_tokens)
    ask.emit({"event": "phase", "text": "two backward passes, and a step for each λ and size"})
    grid = ask.get("lambdas", list), ask.get("sizes", list)
    found = by_hand(ask.policy, (grpo, distil), groups[0][2], scale, distil[0].student, grid)
    shown = pieces(ask.policy.tokenizer, traces[0])
    return {**asdict(found), "pieces": shown, "answer": answer_tokens(shown)}


def answer_tokens(pieces: Sequence[str]) -> list[int]:
    r"""The positions of the tokens of which the boxed answer consists.

    >>> answer_tokens(["so ", "\\boxed", "{4", "2", "}", "."])
    [2, 3]
    """
    begin, end = last_box("".join(pieces)) or (0, 0)
    ends = list(accumulate(map(len, pieces)))
    return [i for i, (p, stop) in enumerate(zip(pieces, ends, strict=True)) if stop > begin and stop - len(p) < end]
