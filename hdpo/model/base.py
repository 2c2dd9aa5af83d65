"""From a model's folder to its tokenizer and weights, each looked at before anything runs on it.

transformers fills what a file lacks with random numbers and says so in a log; here that is a refusal. A GGUF file is
turned into a folder once, since that takes longer than all the rest of a small job.
"""

import io
import os
import shutil
from contextlib import redirect_stderr
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
from transformers.utils import logging

from hdpo.config import ModelConfig
from hdpo.errors import BadInput, first_line
from hdpo.model.find import Facts, Place, gguf_folder, refused, taken, text_of

LOCAL: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}


def load_base(config: ModelConfig) -> tuple[Path, Any, Any]:
    """(folder, tokenizer, model) of a config. Raises BadInput where they are not whole, or cannot be taken."""
    logging.disable_progress_bar()
    place, told = taken(config)
    folder = converted(place, told) if place.gguf else place.folder
    tokenizer = load_tokenizer(folder, config)
    how = {**LOCAL, "dtype": getattr(torch, config.dtype), "use_safetensors": True, "output_loading_info": True}
    try:
        loaded: Any = AutoModelForCausalLM.from_pretrained(folder, **how)
    except Exception as e:  # transformers raises a dozen classes for the ways in which a folder is no model
        what = f"a {told.architecture} that transformers can load from {config.model!r}"
        raise refused(what, f"'{first_line(e)}'", "Check the folder.") from e
    base, info = loaded
    check_weights(base, info["missing_keys"], config)
    check_tokens(base, tokenizer, config.model)
    return folder, tokenizer, base


def load_tokenizer(folder: Path, config: ModelConfig) -> Any:
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, **LOCAL)
    except Exception as e:  # as above
        found = "code of its own, which is never run here" if "trust_remote_code" in str(e) else f"'{first_line(e)}'"
        way = "Copy its tokenizer.json and tokenizer_config.json again, or take another model."
        raise refused(f"a tokenizer that transformers can read in {config.model!r}", found, way) from e
    if config.chat_template:
        tokenizer.chat_template = text_of(Path(config.chat_template).expanduser())
    if told := config.template_settings():  # in the template itself, so that fingerprints hold them
        sets = "".join(f"{{%- set {name} = {value!r} -%}}" for name, value in told.items())
        tokenizer.chat_template = f"{sets}{tokenizer.chat_template}"
    return tokenizer


def check_weights(base: Any, missing: set[str], config: ModelConfig) -> None:
    """Every tensor was in the file, and holds numbers alone; and the logits are plain ones."""
    if missing:
        raise refused(f"all weights in {config.model!r}", f"that {len(missing)} are missing ({some(missing)})")
    broken = {n for n, p in base.named_parameters() if p.numel() and not torch.stack(torch.aminmax(p)).isfinite().all()}
    if broken:
        found = f"NaN or infinity in {len(broken)} tensors of {config.model!r} read as {config.dtype} ({some(broken)})"
        raise refused("numbers as weights", found, "Copy the model again, or take another dtype.")
    for name in ("final_logit_softcapping", "logit_scale"):
        if getattr(base.config.get_text_config(), name, None):
            raise refused("plain logits", f"{name} in config.json", "This architecture is not supported yet.")


def some(names: set[str]) -> str:
    return ", ".join(sorted(names)[:3]) + ", …" * (len(names) > 3)


def check_tokens(base: Any, tokenizer: Any, model: str) -> None:
    """Every token has its row in the embedding, and one of them ends a completion."""
    rows, tokens = len(base.get_input_embeddings().weight), 1 + max(tokenizer.get_vocab().values(), default=-1)
    if tokens > rows:
        way = "Take the tokenizer that it was trained with."
        raise refused(f"a tokenizer of at most {rows} tokens, the rows of the embedding", f"{tokens} in {model!r}", way)
    if not any(0 <= i < rows for i in end_ids(base, tokenizer)):
        way = "Name it as eos_token_id in generation_config.json, or as eos_token in tokenizer_config.json."
        raise refused("a token that ends a completion", f"none in {model!r}", way)


def end_ids(base: Any, tokenizer: Any) -> frozenset[int]:
    """Tokens that end a completion: the model's and the tokenizer's own."""
    said = base.generation_config.eos_token_id
    ids = [*(said if isinstance(said, list) else [said]), tokenizer.eos_token_id]
    return frozenset(i for i in ids if i is not None)


def unpacked(file: Path) -> tuple[Any, Any]:
    """(model in float32, tokenizer) of a GGUF file, as transformers reads them."""
    how = {**LOCAL, "gguf_file": file.name}
    with redirect_stderr(io.StringIO()):  # a bar that no setting silences
        tokenizer = AutoTokenizer.from_pretrained(file.parent, **how)
        how |= {"dtype": torch.float32, "quantization_config": GgufConfig(dequantize=True)}
        return AutoModelForCausalLM.from_pretrained(file.parent, **how), tokenizer


def converted(place: Place, told: Facts) -> Path:
    """The folder made of a GGUF file: float32, as it was unpacked. Written beside and renamed."""
    folder = gguf_folder(place.folder / place.gguf)
    aside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    if folder.is_dir():
        return folder
    try:
        base, tokenizer = unpacked(place.folder / place.gguf)
        tokenizer.save_pretrained(aside)
        base.save_pretrained(aside)
        page = f"---\nlicense: {told.licence}\n---\nMade of {place.gguf}.\n"
        (aside / "README.md").write_text(page, encoding="utf-8")
        os.replace(aside, folder)
    except Exception as e:  # as above; a full disk comes as one of several classes too
        shutil.rmtree(aside, ignore_errors=True)
        if folder.is_dir():
            return folder  # another process was faster
        way = "Copy the file again, or name another place with HDPO_CACHE."
        raise refused(f"to turn {place.gguf} into a folder at {folder.parent}", f"'{first_line(e)}'", way) from e
    return folder


def choose_device(device: str) -> torch.device:
    """Raises BadInput for a device that this machine has not."""
    here = {"cpu": True, "cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        device = "cuda" if here["cuda"] else "mps" if here["mps"] else "cpu"
    if not here[device]:
        raise BadInput(f"device: expected one that this machine has, found {device!r}. Use auto or cpu.")
    return torch.device(device)


def write_tensors(file: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> None:
    """As safetensors writes them, but readable by whom the umask lets, and with the system's own errors."""
    file.write_bytes(save({k: v.contiguous() for k, v in tensors.items()}, metadata))
