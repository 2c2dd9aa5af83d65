"""Which model a name means, and whether it can be taken: known before a weight is read. No torch here.

A name is `bundled`, a folder in transformers' format, a `.gguf` file, or a hub id `owner/name`. A hub model lies in
huggingface_hub's cache and is pinned to a commit; without a network the cache answers alone.
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from hdpo.assets import ASSETS
from hdpo.errors import BadInput
from hdpo.hub import hub_errors, is_hub_id

BUNDLED = ASSETS / "model"
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md"]


@dataclass(frozen=True)
class Place:
    """folder: config, tokenizer and weights. gguf: the one file in it that holds them all, or ''. commit: a hub model's."""

    folder: Path
    gguf: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Shape:
    """What memory depends on besides the parameters. heads, kv: widths of all queries and of all keys of a layer."""

    layers: int
    hidden: int
    inner: int
    heads: int
    kv: int

    def adapter(self, rank: int) -> int:
        """Parameters of a LoRA adapter on every linear layer.

        >>> Shape(28, 1536, 8960, 1536, 256).adapter(16)
        18464768
        """
        attention = 2 * (self.hidden + self.heads) + 2 * (self.hidden + self.kv)
        return rank * self.layers * (attention + 3 * (self.hidden + self.inner))


@dataclass(frozen=True)
class Facts:
    """What a model says of itself. licence is '' and shape None where it does not say; context in tokens."""

    architecture: str
    parameters: int
    vocabulary: int
    context: int
    licence: str
    shape: Shape | None = None


# What the models of the presets say of themselves, so that a plan can be made before anything is fetched.
KNOWN = {
    "HuggingFaceTB/SmolLM2-135M-Instruct": Facts(
        "LlamaForCausalLM", 134_515_008, 49_152, 8192, "apache-2.0", Shape(30, 576, 1536, 576, 192)
    ),
    "Qwen/Qwen2.5-0.5B-Instruct": Facts(
        "Qwen2ForCausalLM", 494_032_768, 151_936, 32_768, "apache-2.0", Shape(24, 896, 4864, 896, 128)
    ),
    "Qwen/Qwen2.5-Math-1.5B-Instruct": Facts(
        "Qwen2ForCausalLM", 1_543_714_304, 151_936, 4096, "apache-2.0", Shape(28, 1536, 8960, 1536, 256)
    ),
}


def find(model: str, revision: str = "") -> Place:
    """Where a model lies; a hub model is fetched into the cache. Raises BadInput where there is none."""
    path = Path(model).expanduser()
    if model == "bundled":
        return Place(BUNDLED)
    if path.suffix == ".gguf" and path.is_file():
        return Place(path.parent, path.name)
    if (path / "config.json").is_file():
        return Place(path)
    if is_hub_id(model):
        folder = fetched(model, revision)
        return Place(folder, "", folder.name)
    raise BadInput(
        f"model: expected 'bundled', a folder with config.json, weights and tokenizer, a .gguf file or a hub id owner/name, found {model!r}. Check the path."
    )


def known(model: str, revision: str = "") -> Facts | None:
    """What is known of a model without asking anybody outside: from its folder, from the cache, or by its name. None
    where that is nothing, or where it is damaged (loading it will say how)."""
    try:
        return facts(find(model, revision) if not is_hub_id(model) else Place(cached(model, revision)))
    except BadInput:
        return KNOWN.get(model)


def cached(model: str, revision: str) -> Path:
    """The snapshot of a hub model that lies in the cache. Raises BadInput where there is none."""
    from huggingface_hub import snapshot_download

    with hub_errors(f"model {model}", "give the folder of a copy with --model"):
        return Path(snapshot_download(model, revision=revision or None, local_files_only=True))


def fetched(model: str, revision: str) -> Path:
    """The snapshot of a hub model in the cache: its folder is named by the commit."""
    from huggingface_hub import snapshot_download

    with hub_errors(f"model {model}", "give the folder of a copy with --model"):
        return Path(snapshot_download(model, revision=revision or None, allow_patterns=HUB_FILES))


def facts(place: Place) -> Facts:
    """Architecture, size and licence, and whether this project can take the model. Raises BadInput where it cannot."""
    if not place.gguf:
        return folder_facts(place.folder)
    now = (place.folder / place.gguf).stat()
    return gguf_facts(place, (now.st_size, now.st_mtime_ns))


def folder_facts(folder: Path) -> Facts:
    name = folder.name
    config = read(folder / "config.json")
    if "auto_map" in config:
        raise BadInput(
            f"model: expected an architecture that transformers knows, found that {name} brings code of its own, which is never run here. Take another model."
        )
    architecture = str((config.get("architectures") or [config.get("model_type", "unknown")])[0])
    if not architecture.endswith("ForCausalLM"):
        raise BadInput(
            f"model: expected a causal language model (…ForCausalLM), found {architecture} in {name}. Take a model that writes text."
        )
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise BadInput(
            f"model: expected weights as safetensors, found none in {name}. Take the model in that format; pickled weights are never loaded."
        )
    if not has_chat_template(folder):
        raise BadInput(
            f"model: expected a chat template, found none in {name}: a base model does not know a user's turn from its own. Take its instruct version."
        )
    return Facts(
        architecture,
        sum(parameters_of(f) for f in files),
        int(config.get("vocab_size", 0)),
        int(config.get("max_position_embeddings", 0)),
        licence_of(folder) or ("apache-2.0" if folder == BUNDLED else ""),
        shape_of(config),
    )


def shape_of(config: dict[str, Any]) -> Shape | None:
    """From the names that Qwen2, Llama, Mistral and their kin use; None for others."""
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        width = int(config.get("head_dim") or hidden // heads)
        kv = int(config.get("num_key_value_heads") or heads)
        return Shape(
            int(config["num_hidden_layers"]), hidden, int(config["intermediate_size"]), heads * width, kv * width
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def has_chat_template(folder: Path) -> bool:
    if (folder / "chat_template.jinja").is_file() or (folder / "chat_template.json").is_file():
        return True
    file = folder / "tokenizer_config.json"
    return file.is_file() and bool(read(file).get("chat_template"))


@lru_cache(maxsize=8)
def gguf_facts(place: Place, stamp: tuple[int, int]) -> Facts:
    """Reading them takes seconds, and pages ask at every rerun; stamp: size and time of change."""
    from gguf import GGUFReader

    try:
        reader = GGUFReader(place.folder / place.gguf)
        said: dict[str, Any] = {name: field.contents() for name, field in reader.fields.items()}
        family = str(said["general.architecture"])
        tokens, context = len(said["tokenizer.ggml.tokens"]), int(said[f"{family}.context_length"])
        hidden, heads = int(said[f"{family}.embedding_length"]), int(said[f"{family}.attention.head_count"])
        kv = hidden // heads * int(said.get(f"{family}.attention.head_count_kv", heads))
        shape = Shape(
            int(said[f"{family}.block_count"]), hidden, int(said[f"{family}.feed_forward_length"]), hidden, kv
        )
    except (OSError, ValueError, KeyError, IndexError) as e:
        raise BadInput(
            f"model: expected a whole GGUF file of a language model, found '{e}' in {place.gguf}. Copy it again."
        ) from e
    if not said.get("tokenizer.chat_template"):
        raise BadInput(f"model: expected a chat template, found none in {place.gguf}. Take an instruct model.")
    parameters = sum(int(t.n_elements) for t in reader.tensors)
    return Facts(f"{family} (GGUF)", parameters, tokens, context, str(said.get("general.license", "")), shape)


def read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as e:
        raise BadInput(f"model: expected a whole {file.name}, found '{e}'. Copy the model again.") from e
    if not isinstance(found, dict):
        raise BadInput(f"model: expected settings in {file.name}, found something else. Copy the model again.")
    return found


def parameters_of(file: Path) -> int:
    """Numbers in one safetensors file: its header is JSON, preceded by its own length in eight bytes."""
    try:
        with file.open("rb") as f:
            length = int.from_bytes(f.read(8), "little")
            if length > 100_000_000:
                raise ValueError("no header")
            header = json.loads(f.read(length))
        return sum(math.prod(t["shape"]) for name, t in header.items() if name != "__metadata__")
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
        raise BadInput(f"model: expected safetensors, found '{e}' in {file.name}. Copy the model again.") from e


def licence_of(folder: Path) -> str:
    """What the model's page says (the front matter of README.md), or the first line of a licence file, or ''."""
    page = folder / "README.md"
    if page.is_file():
        said = re.search(r"^license:\s*(\S+)\s*$", page.read_text(encoding="utf-8", errors="replace")[:4000], re.M)
        if said:
            return said[1]
    for file in sorted(folder.glob("LICENSE*")):
        lines = [
            line.strip() for line in file.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()
        ]
        return lines[0][:60] if lines else ""
    return ""
