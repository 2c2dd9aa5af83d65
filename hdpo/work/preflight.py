"""What can be known before a run leaves a trace: settings that would do nothing, the model, the problems. The terminal,
--dry-run and the app ask here before a run folder is made; torch is imported only where a GPU is asked for by name."""

from collections.abc import Collection
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

from hdpo.config import (
    EvaluateConfig,
    ImportConfig,
    Information,
    ModelConfig,
    ScanConfig,
    SweepConfig,
    Traces,
    TrainConfig,
    Weight,
    knobs,
    replace_knobs,
)
from hdpo.errors import BadInput
from hdpo.grading.graders import grader_of
from hdpo.hub import is_hub_id
from hdpo.model.adapter import check_adapter
from hdpo.model.find import known, taken
from hdpo.model.fit import Config
from hdpo.work.track import NONE, check_tracker

_SHOWN = ("privileged", "information", "fraction")  # what only a privileged prompt reads
_VLLM = ("vllm_url", "vllm_memory")
# Settings that a command's config has and the command never reads: neither flags nor parts of a printed command.
UNREAD: dict[str, tuple[str, ...]] = {
    "train": (),
    "sweep": ("lambda_", "seed"),  # of a member; the sweep sets them
    "scan": _SHOWN,
    "import": (  # the file stands before the flags
        *("problems", "validation_problems", "sources", "split_seed", "validation_share"),
        *(k.name for k in knobs(ModelConfig())),
    ),
    "evaluate": (*_SHOWN, "eval_split", "eval_every", "probe_cliffs"),
    "rollouts": ("processes", "sampler", *_VLLM),  # one process, with transformers
    "gap": ("processes", "sampler", *_VLLM),
    "problems": (  # what samples; the set itself stands before the flags
        *("problems", "adapter", "device", "processes", "sampler", *_VLLM, "dtype", "rank", "alpha", "targets"),
        *("temperature", "top_p", "stop", "split", "rollouts", "seed"),
    ),
    "bench": ("processes", "checkpoint_every", "stop_on_collapse", "probe_cliffs", "track"),
}


def idle(config: Config) -> dict[str, str]:
    """Settings that do nothing beside the others of this config, and when they would do something."""
    from hdpo.data.problems import BUNDLED

    if isinstance(config, ImportConfig):
        return {}
    inner: Any = config.train if isinstance(config, SweepConfig) else config
    model, untrained = inner.model, isinstance(inner, ScanConfig | EvaluateConfig)
    how = None if untrained else inner.objective
    vllm, bundled = model.sampler == "vllm", inner.data.problems.startswith(BUNDLED)
    table = [
        (not vllm, "vllm_url vllm_memory", "with --sampler vllm alone"),
        (vllm and model.vllm_url, "vllm_memory", "without --vllm-url, since a server takes its own share"),
        (not is_hub_id(model.model), "revision", "for a model by hub id (owner/name) alone"),
        (inner.prompts.information is not Information.FRACTION, "fraction", "with --information fraction alone"),
        (bundled, "split_seed validation_share", "for a set that is not bundled: those have their splits"),
        (how and how.weight is not Weight.FIRST, "first_steps", "with --weight first alone"),
        (how and how.traces is Traces.OWN, "privileged_rollouts", "with privileged traces"),
        (isinstance(config, SweepConfig) and config.arms, "lambdas", "with no --arms, since these set λ"),
        (untrained and not model.adapter, "rank alpha targets", "with --adapter, or in a training"),
    ]
    return {name: why for does_nothing, names, why in table if does_nothing for name in names.split()}


def refuse_idle(config: Config, given: Collection[str]) -> None:
    """Raises BadInput for settings among those given that would do nothing."""
    for name, why in idle(config).items():
        if name in given:
            flag = name.replace("_", "-")
            raise BadInput(f"{flag}: expected --{flag} {why}, found it where it does nothing. Leave it out.")


def changed(config: Config) -> set[str]:
    """Names of the settings that are not at their defaults."""
    default = {k.name: k.default for k in knobs(type(config)())}
    return {k.name for k in knobs(config) if k.default != default[k.name]}


def check(config: Config) -> None:
    """Raises BadInput for what the run would refuse: model, device, sampler, context, problems, columns, split, and too few
    problems for a step. What lies on a hub is not asked for: the run fetches it."""
    from hdpo.data.problems import load_problems, training_problems  # the readers, which `runs` does without

    inner: Any = config.train if isinstance(config, SweepConfig) else config
    grader_of(inner.data.grader)
    if isinstance(config, ImportConfig):
        from hdpo.data.rollouts import opened

        opened(config.data)
        return
    model, new = inner.model, inner.sampling.max_new_tokens
    check_tracker(inner.track if isinstance(inner, TrainConfig) else NONE)
    place = None if is_hub_id(model.model) else taken(model)[0]
    if model.adapter:
        check_adapter(model, place)
    facts = known(model.model, model.revision)
    if facts is not None and 0 < facts.context <= new:
        words = f"room for the prompt in the {facts.context} tokens of {model.model}, found {new} new ones"
        raise BadInput(f"max-new-tokens: expected {words}. Lower --max-new-tokens to {facts.context // 2}.")
    if model.device not in ("auto", "cpu"):
        from hdpo.model.base import choose_device

        choose_device(model.device)
    if model.sampler == "vllm" and not model.vllm_url and find_spec("vllm") is None:
        words = "pip install -r requirements-gpu.txt, or leave --sampler out"
        raise BadInput(f"sampler: expected vLLM, found none. {words}.")
    if isinstance(config, SweepConfig) and config.ray and find_spec("ray") is None:
        raise BadInput("ray: expected the ray package, found none. pip install ray==2.60.0, or leave --ray out.")
    if is_hub_id(inner.data.problems) or is_hub_id(inner.data.validation_problems):
        return
    if not isinstance(inner, TrainConfig):
        load_problems(replace(inner.data, limit=1), inner.split)
        return
    wanted = inner.step.prompts_per_step  # read no further than one step needs
    few = {"limit": min(inner.data.limit or wanted, wanted), "eval_problems": 2}
    if (found := len(training_problems(replace_knobs(inner, few))[0].problems)) < wanted:
        words = f"at least {wanted} training problems, one step's worth, found {found} in {inner.data.problems}"
        raise BadInput(
            f"prompts-per-step: expected {words}. Lower --prompts-per-step to {found} or give more problems."
        )
