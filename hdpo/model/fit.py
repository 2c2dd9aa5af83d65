"""Will it fit: the memory of a run by what takes it, before it starts. Torch is imported where a GPU is asked for.

Worked out from what the model says of itself, rounded up where libraries decide. What bounds the memory (keys and
values, logits, problems at once) is said here, where nothing imports torch, and kept to by those who hold it.
"""

from dataclasses import dataclass, fields

import psutil

from hdpo.config import EvaluateConfig, ImportConfig, ScanConfig, SweepConfig, TrainConfig, model_of
from hdpo.errors import BadInput
from hdpo.model.find import Facts, known

BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
LIBRARIES = 600 << 20  # Python with torch, transformers and peft, before any weight
# Above this many parameters the arithmetic outweighs the calls, and the folded copies of the weights outweigh both: the
# adapter stays beside them (hdpo/model/flat.py).
FOLDED_BELOW = 10_000_000
ACTIVATION_BYTES = (
    1 << 30
)  # what the layers of the flat pass keep for a backward pass; above it they are computed again
FOLDED_COPIES = 4  # of a smaller model: with the current and the initial adapter, and with gradients
OPTIMISER_COPIES = 4  # of the adapter in float32: itself, gradient, two moments
CACHE_BYTES = 1 << 30  # keys and values of one batch of sequences; more prompts go one batch after another
CHUNK_ELEMENTS = 1 << 24  # logits held at once (float32: 64 MB) ...
# ... with what is made of them: logits, log-probs, their gradients, teacher, student. A small model's privileged
# rollouts are drawn beside the update and hold their own.
LOGIT_COPIES = 6
VLLM_CACHE = 1 << 30  # keys and values of a vLLM beside the trainer, at the least; on a GPU it takes its share whole
PROBLEMS_AT_ONCE = 48  # in a scan or an evaluation, between two looks at the clock and the stop flag
SLOW_PROBLEMS_AT_ONCE = 10  # of a real model on a CPU, where one takes some seconds
MOST_ARMS = 4  # of a sweep, in turn in one process
PROMPT_TOKENS = 512  # allowed for a privileged prompt
# What a layer takes for its backward pass, in multiples of its widths; a narrower base adds its adapters' inputs in
# float32. Measured at four shapes (notebook): with the logits 9 to 32 % above, with layers computed again 15 % below to
# 35 % above.
KEPT_HIDDEN, KEPT_INNER = 10, 5
CAST_HIDDEN, CAST_INNER = 6, 1

MAIN = "main memory"

Config = TrainConfig | ScanConfig | ImportConfig | EvaluateConfig | SweepConfig


@dataclass(frozen=True)
class Need:
    """Bytes of one process, by what takes them."""

    libraries: int
    weights: int
    adapter: int
    cache: int
    activations: int
    logits: int
    vllm: int

    @property
    def total(self) -> int:
        return sum(getattr(self, f.name) for f in fields(self))


def need(config: Config, found: Facts | None = None, gpu: bool = False, arms: int = 0) -> Need | None:
    """What one process of this job will hold; None where the model says too little of itself, or is not there.

    gpu: of a plain model, one layer at a time takes its activations and the others their inputs (`Policy.hidden`). On a
    CPU it is the same, but the process keeps what was freed: all layers' activations are what was measured there. arms: members
    of a sweep that advance together, each with a model and an adapter of its own; 0: as many as will where they fit.
    """
    model = model_of(config)
    found = found or known(model.model, model.revision)
    if found is None or found.shape is None or isinstance(config, ImportConfig):
        return None
    inner, arms = (config.train, arms or most_arms(config)) if isinstance(config, SweepConfig) else (config, 1)
    width, shape = BYTES[model.dtype], found.shape
    weights = found.parameters * width
    folded = FOLDED_COPIES * weights if found.parameters < FOLDED_BELOW else 0
    prompts, tokens = PROBLEMS_AT_ONCE, 0
    if isinstance(inner, TrainConfig):
        step = inner.step
        prompts, rollouts, tokens = step.prompts_per_step, step.rollouts, step.micro_batch_tokens
    else:
        rollouts = inner.rollouts if isinstance(inner, ScanConfig) else inner.evaluation.eval_samples
    sequence = 2 * shape.layers * shape.kv * width * (PROMPT_TOKENS + inner.sampling.max_new_tokens)
    copies, kept = LOGIT_COPIES * (2 if folded else 1), (KEPT_HIDDEN * shape.hidden + KEPT_INNER * shape.inner) * width
    if width < BYTES["float32"]:
        kept += (CAST_HIDDEN * shape.hidden + CAST_INNER * shape.inner) * BYTES["float32"]
    kept_of_layers = shape.layers * shape.hidden * width + kept if gpu and not folded else shape.layers * kept
    return Need(
        libraries=LIBRARIES,
        weights=weights + arms * (weights + folded),  # once as they lie in the file, then as they are cast
        adapter=arms * OPTIMISER_COPIES * 4 * shape.adapter(model.rank) * bool(tokens),
        cache=min(CACHE_BYTES, prompts * rollouts * sequence),
        activations=tokens * kept_of_layers,
        logits=copies * 4 * min(CHUNK_ELEMENTS, (tokens or prompts * rollouts) * found.vocabulary),
        vllm=(LIBRARIES + weights + VLLM_CACHE) * (model.sampler == "vllm" and not model.vllm_url),
    )


def kept_a_token(layers: int, hidden: int, inner: int, width: int) -> int:
    """Bytes that the layers keep of a token for its backward pass; width: bytes a number.

    >>> kept_a_token(30, 576, 1536, 4)
    1612800
    """
    return layers * (KEPT_HIDDEN * hidden + KEPT_INNER * inner) * width


def memory_here(device: str) -> tuple[str, int]:
    """(what, bytes in all) of the memory that a process on this device uses."""
    if device in ("auto", "cuda"):
        import torch

        if torch.cuda.is_available():
            return f"memory of {torch.cuda.get_device_name()}", torch.cuda.get_device_properties().total_memory
    return MAIN, psutil.virtual_memory().total


def most_arms(config: SweepConfig) -> int:
    """How many members of one seed may advance together in one process. One where vLLM holds the memory, and of several
    processes, which must not part."""
    model = model_of(config)
    return min(len(config.sides()), MOST_ARMS) if model.sampler != "vllm" and model.processes == 1 else 1


def arms_at_once(config: SweepConfig) -> int:
    """As many as may, where they fit beside each other in the memory that there is; else one."""
    what, total = memory_here(model_of(config).device)
    found = need(config, gpu=what != MAIN)
    return most_arms(config) if found is not None and found.total <= total else 1


def check_fits(config: Config) -> None:
    """Raises BadInput where the estimate exceeds all the memory that there is: better now than in an hour."""
    what, total = memory_here(model_of(config).device)
    found = need(config, gpu=what != MAIN)
    if found is not None and found.total > total:
        room = f"expected that about {found.total / 2**30:.1f} GiB fit, found {total / 2**30:.1f} GiB of {what}"
        raise BadInput(f"memory: {room}. Lower micro-batch-tokens, take dtype bfloat16, or a smaller model.")
