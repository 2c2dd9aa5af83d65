"""The model with its LoRA adapter: who computes log-probs, with which weights, and how it is saved.

Teacher and student are the softmax of the raw logits at temperature 1. The drifting teacher is the current weights;
the frozen one is the adapter as at step 0, which is the adapter switched off when the run starts from the base: no
second model in memory. Adapter and optimiser are float32 whatever the base is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.modeling_layers import GradientCheckpointingLayer

from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.model import batching
from hdpo.model.batching import Batch, Trace
from hdpo.model.find import facts, find
from hdpo.model.flat import FlatModel, FoldedWeights

# Completions of one prompt share a row of at most this many tokens where the forward pass allows it: more would save
# little, as attention within a row grows with its square.
SHARED_ROW = 128


class Weights(str, Enum):
    """CURRENT: adapter as it is now (drifting teacher, student). INITIAL: as at step 0 (frozen teacher)."""

    CURRENT = "current"
    INITIAL = "initial"


@dataclass
class Policy:
    """model: PeftModel in eval mode (dropout off while scoring). version counts optimiser updates."""

    model: PeftModel
    tokenizer: Any
    device: torch.device
    context: int
    version: int = 0
    starts_from_adapter: bool = False
    flat: FlatModel | None = None  # the fast way through a small model, where there is one
    _folded: dict[Weights, tuple[object, FoldedWeights]] = field(default_factory=dict)
    _leaves: FoldedWeights | None = None

    @property
    def causal(self) -> Any:
        """The causal LM inside the adapter's wrapper."""
        return self.model.get_base_model()

    @property
    def vocabulary(self) -> int:
        return int(self.causal.get_output_embeddings().weight.shape[0])

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a completion."""
        ids = self.causal.generation_config.eos_token_id
        ids = [] if ids is None else ids if isinstance(ids, list) else [ids]
        own = self.tokenizer.eos_token_id
        return frozenset([*ids, *([own] if own is not None else [])])

    @property
    def pad_id(self) -> int:
        pad = self.tokenizer.pad_token_id
        return min(self.end_ids) if pad is None else int(pad)

    @property
    def trainable(self) -> list[torch.nn.Parameter]:
        return [p for n, p in self.model.named_parameters() if ".default." in n]

    def name_of(self, weights: Weights) -> str:
        """What top-k entries are stamped with: they stand for a teacher only under the same name."""
        return "initial" if weights is Weights.INITIAL else f"version-{self.version}"

    @contextmanager
    def using(self, weights: Weights) -> Iterator[None]:
        """The model itself computes with these weights inside the block; the flat pass asks for them by name."""
        if weights is Weights.CURRENT:
            yield
        elif self.starts_from_adapter:
            self.model.set_adapter("initial")
            try:
                yield
            finally:
                self.model.set_adapter("default")
        else:
            with self.model.disable_adapter():
                yield

    @contextmanager
    def _computing_again(self) -> Iterator[None]:
        """Where a gradient will be asked for, each layer of the plain model keeps its input alone, and is computed
        again in the backward pass: without it one sequence of 4,096 tokens of a 1.5 B model needs some 16 GiB beside
        the model, with it one or two (by measurements on smaller models, see the notebook). transformers looks at a layer's `training` for this, and at nothing else
        there; dropout stays as it was."""
        layers = [m for m in self.causal.modules() if isinstance(m, GradientCheckpointingLayer)]
        for layer in layers:
            layer.training = torch.is_grad_enabled()
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def folded(self, weights: Weights) -> FoldedWeights:
        """The flat model's weights with the adapter in them, without gradient; remembered until the adapter changes."""
        assert self.flat is not None
        now = tuple(p._version for p in self.trainable) if weights is Weights.CURRENT else ()
        if self._folded.get(weights, ((None,), None))[0] != now:
            with torch.no_grad():
                self._folded[weights] = now, self.flat.fold(self._adapter(weights))
        return self._folded[weights][1]

    def _adapter(self, weights: Weights) -> str | None:
        return "default" if weights is Weights.CURRENT else "initial" if self.starts_from_adapter else None

    @contextmanager
    def accumulating(self) -> Iterator[None]:
        """Around the backward passes of one step: in the flat model they add up in the folded weights, and go the way
        back into the adapter once, at the end."""
        if self.flat is None:
            yield
            return
        whole = self.flat.fold("default")
        self._leaves = whole.leaves()
        try:
            yield
            pairs = zip(whole.adapted(), self._leaves.adapted(), strict=True)
            reached = [(w, leaf.grad) for w, leaf in pairs if w.requires_grad and leaf.grad is not None]
            torch.autograd.backward([w for w, _ in reached], [g for _, g in reached])
        finally:
            self._leaves = None

    def batch(self, traces: Sequence[Trace], tokens: int = SHARED_ROW) -> Batch:
        """The traces laid out for this model; tokens: the budget that `parts` was given."""
        return batching.collate(traces, self.pad_id, self.device, min(SHARED_ROW, tokens) if self.flat else 0)

    def parts(self, traces: Sequence[Trace], tokens: int) -> list[list[int]]:
        """Indices of the traces in micro-batches of at most `tokens` padded tokens (a longer trace stands alone)."""
        return batching.parts(traces, tokens, min(SHARED_ROW, tokens) if self.flat else 0)

    def hidden(self, batch: Batch, weights: Weights = Weights.CURRENT) -> torch.Tensor:
        """(N, hidden size): the last hidden state at each position that predicts a completion token."""
        if self.flat is None:
            with self.using(weights), self._computing_again():
                out = self.causal.base_model(input_ids=batch.input_ids, use_cache=False)
            return out.last_hidden_state[batch.predicts]
        if not torch.is_grad_enabled():
            return self.flat.hidden(self.folded(weights), batch)
        collecting = self._leaves if weights is Weights.CURRENT else None
        return self.flat.hidden(collecting or self.flat.fold(self._adapter(weights)), batch)

    def logits(self, hidden: torch.Tensor) -> torch.Tensor:
        """(…, V) float32 raw logits."""
        return self.causal.get_output_embeddings()(hidden).float()

    def save_peft(self, folder: Path, weights: Weights) -> None:
        """The adapter that these weights stand for, in peft's own format (what vLLM reads)."""
        name = self._adapter(weights)
        assert name is not None
        folder.mkdir(parents=True)
        self.model.peft_config[name].save_pretrained(str(folder))
        tensors = get_peft_model_state_dict(self.model, adapter_name=name)
        save_file({k: v.contiguous() for k, v in tensors.items()}, folder / "adapter_model.safetensors")

    def save(self, folder: Path, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """Adapter and AdamW moments as safetensors, state as JSON; the caller renames the folder into place."""
        adapter = {k: v.contiguous() for k, v in get_peft_model_state_dict(self.model, adapter_name="default").items()}
        save_file(adapter, folder / "adapter.safetensors")
        moments = {
            f"{i}.{name}": (value if torch.is_tensor(value) else torch.tensor(value)).contiguous()
            for i, s in optimiser.state_dict()["state"].items()
            for name, value in s.items()
        }
        save_file(moments, folder / "optimiser.safetensors")
        (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

    def load(self, folder: Path, optimiser: torch.optim.Optimizer | None = None) -> dict[str, Any]:
        """The inverse of `save`. Raises BadInput where the checkpoint is none, or another shape's."""
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            load_adapter(self.model, folder, "default")
            if optimiser is not None:
                load_moments(optimiser, load_file(folder / "optimiser.safetensors", device=str(self.device)))
        except BadInput:
            raise
        except Exception as e:  # safetensors and JSON have a class of their own for each kind of damage
            raise BadInput(
                f"checkpoint {folder.name}: expected adapter, optimiser and state, found '{e}'. Resume from an older checkpoint."
            ) from e
        self.version = int(state["step"])
        return state


def load_adapter(model: PeftModel, folder: Path, name: str) -> None:
    """Read an adapter checkpoint into the adapter of that name. Raises BadInput for one of another shape."""
    own = get_peft_model_state_dict(model, adapter_name=name)
    file = folder / "adapter.safetensors"
    if not file.is_file():
        raise BadInput(
            f"adapter: expected adapter.safetensors in {folder}, found none. Give a checkpoint folder of a run."
        )
    tensors = load_file(file)
    if {k: v.shape for k, v in own.items()} != {k: v.shape for k, v in tensors.items()}:
        raise BadInput(
            f"adapter: expected one of this model with this rank and these targets, found another shape in {folder.name}. Use the model, rank and targets of its run."
        )
    set_peft_model_state_dict(model, tensors, adapter_name=name)


def load_moments(optimiser: torch.optim.Optimizer, moments: dict[str, torch.Tensor]) -> None:
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in moments.items():
        i, _, name = key.partition(".")
        state.setdefault(int(i), {})[name] = value
    optimiser.load_state_dict({"state": state, "param_groups": optimiser.state_dict()["param_groups"]})


def choose_device(device: str) -> torch.device:
    """Raises BadInput for a device that this machine has not."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if here["cuda"] else "mps" if here["mps"] else "cpu"
    if not here[device]:
        raise BadInput(f"device: expected one that this machine has, found {device!r}. Use auto or cpu.")
    return torch.device(device)


_ahead: dict[tuple[ModelConfig, int], Policy] = {}


def load_ahead(config: ModelConfig, seed: int) -> None:
    """Load a policy that nobody asked for yet: the first `load_policy` of the same gets it at once."""
    _ahead[config, seed] = load_policy(config, seed)


def load_policy(config: ModelConfig, seed: int = 0) -> Policy:
    """Base model, tokenizer and a fresh (or the given) LoRA adapter; the seed draws the adapter's A matrices.

    Raises BadInput for a folder that is no model, an unknown target, an adapter of another shape.
    """
    if (config, seed) in _ahead:
        return _ahead.pop((config, seed))
    place, device = find(config.model, config.revision), choose_device(config.device)
    told = facts(place)
    whole: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    if place.gguf:
        whole |= {"gguf_file": place.gguf}
    unpacked: dict[str, Any] = {"quantization_config": GgufConfig(dequantize=True)} if place.gguf else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(place.folder, **whole)
        base: Any = AutoModelForCausalLM.from_pretrained(
            place.folder, dtype=getattr(torch, config.dtype), use_safetensors=True, **whole, **unpacked
        )
    except Exception as e:  # transformers raises a dozen classes for the ways in which a folder is no model
        reason = str(e).strip().splitlines()[0][:200] if str(e).strip() else type(e).__name__
        raise BadInput(
            f"model: expected a {told.architecture} that transformers can load from {config.model!r}, found '{reason}'. Check the folder."
        ) from e
    for unsupported in ("final_logit_softcapping", "logit_scale"):
        if getattr(base.config, unsupported, None):
            raise BadInput(
                f"model: expected plain logits, found {unsupported} in config.json. This architecture is not supported yet."
            )
    policy = Policy(add_lora(base, config, seed), tokenizer, device, int(base.config.max_position_embeddings))
    if config.adapter:
        start_from_adapter(policy, config)
    policy.model.to(device).eval()
    policy.flat = FlatModel.of(policy.model)
    if policy.flat is None and policy.causal.supports_gradient_checkpointing:
        policy.causal.gradient_checkpointing_enable()
    return policy


def add_lora(base: Any, config: ModelConfig, seed: int) -> PeftModel:
    targets: Any = config.targets if config.targets == "all-linear" else [t.strip() for t in config.targets.split(",")]
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = get_peft_model(base, lora_config(config, targets))
    except ValueError as e:
        raise BadInput(
            f"targets: expected 'all-linear' or module names of this model, found {config.targets!r}. Name its linear layers."
        ) from e
    head = base.get_output_embeddings()
    if any(p.requires_grad for p in head.parameters()):
        raise BadInput("targets: expected layers before the output layer, found the output layer itself. Leave it out.")
    for p in model.parameters():
        if p.requires_grad:
            p.data = p.data.float()
    return model


def lora_config(config: ModelConfig, targets: Any) -> LoraConfig:
    return LoraConfig(
        r=config.rank, lora_alpha=config.alpha, target_modules=targets, lora_dropout=0.0, task_type="CAUSAL_LM"
    )


def trained_on(folder: Path) -> str:
    """The model of the run that this checkpoint lies in; '' where it lies in none."""
    try:
        frozen = json.loads((folder.parent.parent / "config.json").read_text(encoding="utf-8"))
        return str(frozen["config"]["model"]["model"])
    except (OSError, ValueError, KeyError, TypeError):
        return ""


def start_from_adapter(policy: Policy, config: ModelConfig) -> None:
    """A start that is not the base: the adapter is read twice, once to train and once to stay."""
    folder = Path(config.adapter).expanduser()
    base = trained_on(folder)
    if base not in ("", config.model) and Path(base).resolve() != Path(config.model).expanduser().resolve():
        raise BadInput(
            f"adapter: expected one trained on {config.model!r}, found one trained on {base!r} in {folder.name}. Give --model {base}, or another adapter."
        )
    policy.model.add_adapter("initial", policy.model.peft_config["default"])
    for name in ("initial", "default"):
        load_adapter(policy.model, folder, name)
    policy.model.set_adapter("default")
    policy.starts_from_adapter = True
