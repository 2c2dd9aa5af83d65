"""The fingerprint of a run that begins: what it measures with, on what, and what it learns from."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import hdpo
from hdpo.config import EvaluateConfig, ModelConfig, ScanConfig, TrainConfig
from hdpo.errors import BadInput
from hdpo.grading import RULES
from hdpo.grading.graders import MATH, grader_of
from hdpo.model.find import find
from hdpo.model.policy import Policy
from hdpo.record.fingerprint import Fingerprint, differences, digest, digest_of_files, spoken
from hdpo.record.folder import Run, RunWriter
from hdpo.records import Problem

Config = TrainConfig | ScanConfig | EvaluateConfig
Problems = Sequence[Problem]


def pin_fingerprint(
    writer: RunWriter, config: Config, policy: Policy, measured: Problems, training: Problems = ()
) -> None:
    """Note it in the run folder, and which forward pass computes. Raises BadInput where a resumed run would go on with
    something else."""
    now, began = fingerprint(config, policy, measured, training), Run(writer.path).fingerprint
    changed, _ = differences(began, now, tuple(asdict(now)))
    if changed:
        found = f"expected what the run began with, found that {spoken(changed)} changed since"
        raise BadInput(f"resume: {found}. Put that back, or start a new run.")
    writer.pin(fingerprint=asdict(now), forward=policy.forward)


def fingerprint(config: Config, policy: Policy, measured: Problems, training: Problems = ()) -> Fingerprint:
    """policy: freshly loaded, its adapter the one that the config begins with."""
    prompts, how, template = config.prompts, config.sampling, str(policy.tokenizer.chat_template)
    stop = f", stop at {' or '.join(map(repr, how.stops()))}" if how.stop else ""
    shown = [prompts.privileged, template, prompts.information.value, str(prompts.fraction)]
    if isinstance(config, ScanConfig):
        samples = f"n {config.rollouts}"
    else:
        samples = f"n {config.evaluation.eval_samples}, k {' '.join(map(str, config.evaluation.ks))}"
    return Fingerprint(
        model=f"{weights_of(config.model)} {config.model.dtype}",
        adapter=adapter_of(policy) if config.model.adapter else "none",
        problems=digest_of_problems(measured),
        split=config.evaluation.eval_split if isinstance(config, TrainConfig) else config.split,
        wording=digest(
            [prompts.student, template, *filter(None, [prompts.system]), *[prompts.prefix] * (prompts.prefix != "none")]
        ),
        sampling=f"T {how.temperature:g}, top-p {how.top_p:g}, at most {how.max_new_tokens} tokens{stop}",
        samples=samples,
        grader=grader_words(config.data.grader),
        semantics=str(hdpo.SEMANTICS),
        training_problems=digest_of_problems(training) if training else "none",
        privileged=digest(shown),
    )


def grader_words(spec: str) -> str:
    """A person's own by the digest of its file; all others stand on the same rules."""
    own, rules = grader_of(spec), f"rules {RULES}, math-verify {version('math-verify')}"
    if own.file:
        return f"{own.text} of {digest_of_files([Path(own.file)])}, counts from {own.value:g} on"
    if own.kind == "gym":
        rules = f"{rules}, reasoning-gym {version('reasoning-gym')}"
    return rules if spec == MATH else f"{spec}, {rules}"


def weights_of(config: ModelConfig) -> str:
    """A hub model's commit, or a digest of the weights' files."""
    place = find(config.model, config.revision)
    files = [place.folder / place.gguf] if place.gguf else sorted(place.folder.glob("*.safetensors"))
    return place.commit or digest_of_files(files)


def adapter_of(policy: Policy) -> str:
    """Of the adapter as it was read, wherever it came from."""
    found = hashlib.sha256()
    for p in policy.trainable:
        found.update(p.detach().cpu().float().numpy().tobytes())
    return found.hexdigest()[:16]


def digest_of_problems(problems: Problems) -> str:
    return digest(text for p in problems for text in (p.id, p.text, p.answer))
