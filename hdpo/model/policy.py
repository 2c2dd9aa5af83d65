"""The model with its LoRA adapter: who computes log-probs, with which weights, and how it is saved.

Teacher and student are the softmax of the raw logits at temperature 1. The drifting teacher is the current weights;
the frozen one is the adapter as at step 0, which is the adapter switched off when the run starts from the base: no
second model in memory. Adapter and optimiser are float32 whatever the base is.
"""

import json
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers.modeling_layers import GradientCheckpointingLayer

from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.model.adapter import DIGEST, WEIGHTS, Adapter, adapter_folder, check_fits, digest, read_adapter, refused
from hdpo.model.base import choose_device, end_ids, load_base, write_tensors
from hdpo.model.batching import Batch, Trace, collate, parts
from hdpo.model.fit import ACTIVATION_BYTES
from hdpo.model.flat import FlatModel, FlatWeights


class Weights(str, Enum):
    """CURRENT: adapter as it is now (drifting teacher, student). INITIAL: as at step 0 (frozen teacher)."""

    CURRENT = "current"
    INITIAL = "initial"


@dataclass
class Policy:
    """model: PeftModel in eval mode (dropout off while scoring). name and digest: of its base, by which an adapter is
    known to belong to it. version counts optimiser updates. between: called within long work, from any thread, with the
    tokens that were sampled since; may raise Stopped."""

    model: PeftModel
    tokenizer: Any
    device: torch.device
    context: int
    name: str
    digest: str
    version: int = 0
    starts_from_adapter: bool = False
    flat: FlatModel | None = None  # the fast way through the model, where there is one
    plain: str = ""  # why there is none
    between: Callable[[int], None] = lambda tokens: None
    _folded: dict[Weights, tuple[object, FlatWeights]] = field(default_factory=dict)
    _leaves: FlatWeights | None = None

    @property
    def causal(self) -> Any:
        return self.model.get_base_model()

    @property
    def small(self) -> bool:
        """Whether calls, not arithmetic, take its time: two things at once, a core each, are then the quickest."""
        return self.flat is not None and self.flat.folds

    @property
    def forward(self) -> str:
        """Whose forward pass computes, and why where it is not the flat one."""
        return f"transformers' own ({self.plain})" if self.plain else "flat"

    @property
    def vocabulary(self) -> int:
        return int(self.causal.get_output_embeddings().weight.shape[0])

    @property
    def end_ids(self) -> frozenset[int]:
        return end_ids(self.causal, self.tokenizer)

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
        elif not self.starts_from_adapter:
            with self.model.disable_adapter():
                yield
        else:
            self.model.set_adapter("initial")
            try:
                yield
            finally:
                self.model.set_adapter("default")

    @contextmanager
    def _computing_again(self) -> Iterator[None]:
        """Where a gradient will be asked for, each layer of the plain model keeps its input alone, and is computed
        again in the backward pass: without it one sequence of 4,096 tokens of a 1.5 B model needs some 16 GiB beside
        the model, with it one or two (notebook). transformers looks at a layer's `training` for this, and at nothing
        else there; dropout stays as it was."""
        layers = [m for m in self.causal.modules() if isinstance(m, GradientCheckpointingLayer)]
        for layer in layers:
            layer.training = torch.is_grad_enabled()
        try:
            yield
        finally:
            for layer in layers:
                layer.training = False

    def folded(self, weights: Weights) -> FlatWeights:
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
            both = zip(whole.adapted(), self._leaves.adapted(), strict=True)
            reached = [(w, leaf.grad) for w, leaf in both if w.requires_grad and leaf.grad is not None]
            torch.autograd.backward([w for w, _ in reached], [g for _, g in reached])
        finally:
            self._leaves = None

    def batch(self, traces: Sequence[Trace], tokens: int = sys.maxsize) -> Batch:
        """Laid out for this model; tokens: the budget that `parts` was given."""
        return collate(traces, self.pad_id, self.device, self._room(tokens)[1])

    def parts(self, traces: Sequence[Trace], tokens: int) -> list[list[int]]:
        """Indices of the traces in micro-batches of at most `tokens` padded tokens (a longer trace stands alone)."""
        return parts(traces, *self._room(tokens))

    def _room(self, tokens: int) -> tuple[int, int]:
        """Tokens of a micro-batch and of a shared row. No more than the flat pass keeps for a backward pass: computing its
        layers again took a fifth more of an update (SmolLM2, 12 prompts × 8)."""
        if self.flat is None:
            return tokens, 0
        tokens = min(tokens, max(1, ACTIVATION_BYTES // self.flat.kept))
        return tokens, min(self.flat.row, tokens)

    def hidden(self, batch: Batch, weights: Weights = Weights.CURRENT) -> torch.Tensor:
        """(E, hidden size): the last hidden state at each position that predicts an edge."""
        self.between(0)
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

    def _tensors(self, name: str) -> dict[str, torch.Tensor]:
        """One adapter by peft's names. The embedding is never in it: peft would ask the hub whether it was resized."""
        return dict(get_peft_model_state_dict(self.model, adapter_name=name, save_embedding_layers=False))

    def save_peft(self, folder: Path, weights: Weights) -> None:
        """The adapter that these weights stand for, in peft's own format (what vLLM reads)."""
        name = self._adapter(weights)
        assert name is not None
        self.model.peft_config[name].save_pretrained(str(folder))
        # One entry alone: safetensors writes several in an order that differs from time to time, and so do the bytes.
        write_tensors(folder / WEIGHTS, self._tensors(name), {DIGEST: self.digest})

    def save(self, folder: Path, optimiser: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        """The adapter as a peft folder, AdamW's moments as safetensors, state as JSON; the caller puts it in place."""
        state_of = optimiser.state_dict()["state"]
        moments = {f"{i}.{name}": torch.as_tensor(x) for i, s in state_of.items() for name, x in s.items()}
        self.save_peft(folder, Weights.CURRENT)
        write_tensors(folder / "optimiser.safetensors", moments)
        (folder / "state.json").write_text(json.dumps(state), encoding="utf-8")

    def load(self, folder: Path, optimiser: torch.optim.Optimizer) -> dict[str, Any]:
        """The inverse of `save`. Raises BadInput where the checkpoint is none, or another model's."""
        self.load_adapter(read_adapter(folder), "default")
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            moments: dict[int, dict[str, torch.Tensor]] = defaultdict(dict)
            for key, x in load_file(folder / "optimiser.safetensors", device=str(self.device)).items():
                i, _, name = key.partition(".")
                moments[int(i)][name] = x
            optimiser.load_state_dict(optimiser.state_dict() | {"state": dict(moments)})
            self.version = int(state["step"])
        except Exception as e:  # safetensors and JSON have a class of their own for each kind of damage
            found = f"expected adapter, optimiser and state, found '{e}'"
            raise BadInput(f"checkpoint {folder.name}: {found}. Resume from an older checkpoint.") from e
        return dict(state)

    def load_adapter(self, adapter: Adapter, name: str) -> None:
        """Read an adapter into the one of that name. Raises BadInput where it is damaged, or belongs to another model."""
        config: Any = self.model.peft_config[name]
        check_fits(adapter, self.name, self.digest, config.r, config.lora_alpha)
        where = f"in {adapter.folder.name}"
        try:
            tensors = load_file(adapter.weights)
        except Exception as e:  # as above
            raise refused(f"a whole {adapter.weights.name}", f"'{e}' {where}") from e
        mine, theirs = ({k: tuple(v.shape) for k, v in t.items()} for t in (self._tensors(name), tensors))
        if mine != theirs:
            k = min(k for k in mine.keys() | theirs.keys() if mine.get(k) != theirs.get(k))
            found = f"another shape {where}: {k} is {theirs.get(k, 'missing')}, not {mine.get(k, 'there')}"
            way = "Use the model, rank and targets of its run."
            raise refused(f"one of this model with rank {config.r} and these targets", found, way)
        if not all(t.isfinite().all() for t in tensors.values()):
            raise refused("numbers", f"NaN or infinity {where}")
        set_peft_model_state_dict(self.model, tensors, adapter_name=name)


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
    device = choose_device(config.device)
    folder, tokenizer, base = load_base(config)
    context = int(base.config.get_text_config().max_position_embeddings)
    model = add_lora(base, config, seed)
    policy = Policy(model, tokenizer, device, context, config.model, digest(folder))
    if config.adapter:  # a start that is not the base: read twice, once to train and once to stay
        adapter = read_adapter(adapter_folder(config.adapter))
        model.add_adapter("initial", model.peft_config["default"])
        for name in ("initial", "default"):
            policy.load_adapter(adapter, name)
        model.set_adapter("default")
        policy.starts_from_adapter = True
    model.to(device).eval()
    policy.flat, policy.plain = FlatModel.of(model)
    if policy.flat is None and policy.causal.supports_gradient_checkpointing:
        policy.causal.gradient_checkpointing_enable()
    return policy


def add_lora(base: Any, config: ModelConfig, seed: int) -> PeftModel:
    """Of a model that also sees or hears, in the layers that write alone. Raises BadInput for an unknown target."""
    targets: Any = config.targets if config.targets == "all-linear" else [t.strip() for t in config.targets.split(",")]
    writes = next((n for n, m in base.named_modules() if m is base.get_decoder()), "")
    also_sees = base.config.get_text_config() is not base.config
    lora = LoraConfig(
        r=config.rank,
        lora_alpha=config.alpha,
        target_modules=targets,
        exclude_modules=rf"(?!{re.escape(writes)}\.).*" if also_sees else None,
        task_type="CAUSAL_LM",
    )
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            model = get_peft_model(base, lora)  # in float32, whatever the base is
    except ValueError as e:
        found = f"'all-linear' or module names of this model, found {config.targets!r}"
        raise BadInput(f"targets: expected {found}. Name its linear layers.") from e
    model.peft_config["default"].base_model_name_or_path = config.model
    if any(p.requires_grad for p in base.get_output_embeddings().parameters()):
        raise BadInput("targets: expected layers before the output layer, found the output layer itself. Leave it out.")
    return model
