"""A LoRA adapter as a folder: what it says of itself, whether it belongs to a model, which one a name means. No torch.

A checkpoint is a folder in peft's format, with the optimiser and the step beside it. The header of its weights also
holds the digest of the base. Older checkpoints say nothing: for them the run speaks in which they lie, and without one
only the shapes can tell.
"""

import hashlib
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from hdpo.config import ModelConfig
from hdpo.errors import BadInput
from hdpo.model.find import BUNDLED, Place, read
from hdpo.record.export import members
from hdpo.record.folder import find_run

WEIGHTS, OLD_WEIGHTS = "adapter_model.safetensors", "adapter.safetensors"
DIGEST = "base_digest"  # in the header of the weights
SAMPLES, SAMPLE = 1024, 4096  # pieces of a weights file by which it is known again, and bytes of each
MORE = ("use_dora", "use_rslora", "rank_pattern", "alpha_pattern", "modules_to_save", "lora_bias", "target_parameters")


@dataclass(frozen=True)
class Adapter:
    """settings: rank, alpha and targets where it says them. base, digest: name and weights of its model then, or ''."""

    folder: Path
    weights: Path
    settings: dict[str, Any]
    base: str = ""
    digest: str = ""


def refused(expected: str, found: str, way: str = "Copy the folder again, or take another checkpoint.") -> BadInput:
    return BadInput(f"adapter: expected {expected}, found {found}. {way}")


def digest(folder: Path) -> str:
    """By which a model's weights are known again: a sample of each file's bytes, its header with it."""
    seen = hashlib.blake2b(digest_size=16)
    for file in sorted(folder.glob("*.safetensors")):
        size = file.stat().st_size
        with file.open("rb") as f:
            for at in range(0, size, max(SAMPLE, size // SAMPLES)):
                f.seek(at)
                seen.update(f.read(SAMPLE))
    return seen.hexdigest()


def read_adapter(folder: Path) -> Adapter:
    """Raises BadInput for a folder that is no adapter, or one of more than plain LoRA."""
    if (folder / "adapter_config.json").is_file():
        return _peft(folder)
    weights = folder / OLD_WEIGHTS
    if not weights.is_file():
        way = "Give a checkpoint of a run, as RUN, RUN@best or RUN@40, or a peft folder."
        raise refused(f"a LoRA adapter (adapter_config.json and {WEIGHTS}) in {folder}", "none", way)
    try:
        model = json.loads((folder.parent.parent / "config.json").read_text(encoding="utf-8"))["config"]["model"]
        return Adapter(folder, weights, {k: model[k] for k in ("rank", "alpha", "targets")}, str(model["model"]))
    except (OSError, ValueError, KeyError, TypeError):
        return Adapter(folder, weights, {})


def _peft(folder: Path) -> Adapter:
    said, weights = read(folder / "adapter_config.json"), folder / WEIGHTS
    rank, alpha, targets = said.get("r"), said.get("lora_alpha"), said.get("target_modules") or []
    more = [name for name in MORE if said.get(name)]
    if said.get("peft_type") != "LORA" or more or not all(isinstance(n, int) for n in (rank, alpha)):
        found = ", ".join(more) or f"{said.get('peft_type')} with r {rank} and lora_alpha {alpha}"
        way = "Merge it into its base and give that with --model."
        raise refused("plain LoRA of one rank and alpha", f"{found} in {folder.name}", way)
    if not weights.is_file():
        raise refused(f"{WEIGHTS} in {folder.name}", "none")
    try:
        with safe_open(weights, "numpy") as f:
            digest = (f.metadata() or {}).get(DIGEST, "")
    except (OSError, SafetensorError) as e:
        raise refused(f"a whole {WEIGHTS}", f"'{e}' in {folder.name}") from e
    names = targets if isinstance(targets, str) else ",".join(sorted(map(str, targets)))
    base = str(said.get("base_model_name_or_path") or "")
    return Adapter(folder, weights, {"rank": rank, "alpha": alpha, "targets": names}, base, digest)


def check_fits(adapter: Adapter, model: str, digest: str, rank: int, alpha: int) -> None:
    """Raises BadInput where it is another model's (by weights, or else by name), or of another rank or alpha."""
    where = f"in {adapter.folder.name}"
    if adapter.digest != digest if adapter.digest else adapter.base and not _same(adapter.base, model):
        other = "other weights, " if adapter.digest else ""
        way = f"Give --model {adapter.base or 'with its own base'}, or another adapter."
        raise refused(f"one trained on {model!r}", f"one trained on {other}{adapter.base!r} {where}", way)
    for name, mine in (("rank", rank), ("alpha", alpha)):
        if (theirs := adapter.settings.get(name, mine)) != mine:
            way = f"Give --{name} {theirs}, or leave it out: it comes with the adapter."
            raise refused(f"{name} {mine}", f"{name} {theirs} {where}", way)


def check_adapter(config: ModelConfig, place: Place | None) -> None:
    """Raises BadInput where a config's adapter is none, or another model's; place: its model's, if it lies here."""
    adapter = read_adapter(adapter_folder(config.adapter))
    if place is not None and not place.gguf:
        check_fits(adapter, config.model, digest(place.folder), config.rank, config.alpha)


def _same(base: str, model: str) -> bool:
    """Whether two names can mean one model: the same path, or the same last part where the one of them is not here."""
    mine, theirs = (BUNDLED if name == "bundled" else Path(name).expanduser() for name in (model, base))
    return mine.resolve() == theirs.resolve() or not theirs.exists() and mine.name == theirs.name


def adapter_folder(name: str) -> Path:
    """The folder that `--adapter` or `--checkpoint` means: itself, or RUN (its newest checkpoint), RUN@best, RUN@40.

    RUN is a run's id, name or folder. Raises BadInput that says which checkpoints there are.
    """
    path = Path(name).expanduser()
    if (path / "adapter_config.json").is_file() or (path / OLD_WEIGHTS).is_file():
        return path.resolve()
    if path.is_dir() and not (path / "checkpoints").is_dir():
        return read_adapter(path).folder  # raises, and says what was expected in it
    run_name, at, which = name.rpartition("@") if re.search(r"@(best|\d+)$", name) else (name, "", "")
    run = find_run(run_name)
    if run.kind == "sweep":
        runs = ", ".join(m.id for _, m in members(run)) or "not there yet"
        raise refused("one run", f"the sweep {run.id}", f"Name one of its members: {runs}.")
    steps = {int(p.name.removeprefix("step-")): p for p in run.checkpoints()}
    wanted = max(steps, default=None) if not at else run.best() if which == "best" else int(which)
    if wanted not in steps:
        known = ", ".join(f"{run.id}@{step}" for step in steps) or "none"
        raise refused(f"a checkpoint {which or 'of a run'}", f"no such in {run.id}", f"Its checkpoints: {known}.")
    return steps[wanted]
