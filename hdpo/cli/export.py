"""`python -m hdpo export`: the model that a training made as a folder for others' tools, with a model card. The run's numbers
are another matter: `runs export`."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from hdpo.cli.args import command, some
from hdpo.cli.results import measured, sentences
from hdpo.cli.terminal import tell
from hdpo.config import TrainConfig, knobs
from hdpo.data.problems import told
from hdpo.errors import BadInput
from hdpo.hub import is_hub_id
from hdpo.knobs import plain
from hdpo.model.adapter import adapter_folder
from hdpo.model.find import find, known
from hdpo.record.files import beside, writing
from hdpo.record.folder import Run
from hdpo.work import prepare_libraries

ALWAYS = ("lambda_", "steps", "learning_rate", "rollouts", "seed")  # of the settings, also where they are defaults
USE = {
    "peft": """from peft import PeftModel
from transformers import AutoModelForCausalLM

model = PeftModel.from_pretrained(AutoModelForCausalLM.from_pretrained({base}), {folder})""",
    "transformers": """from transformers import AutoModelForCausalLM, AutoTokenizer

model, tokenizer = AutoModelForCausalLM.from_pretrained({folder}), AutoTokenizer.from_pretrained({folder})""",
}


def add_commands(commands: Any) -> None:
    what = "the adapter that a training made, as a folder for peft and vLLM (its numbers: runs export)"
    p = command(commands, "export", what, export, ("run",))
    p.description = f"{p.description} RUN: its newest checkpoint, RUN@best or RUN@40."
    whole = "the adapter merged into its base instead: whole weights and tokenizer, for transformers"
    p.add_argument("--merged", action="store_true", help=whole)
    p.add_argument(
        "--to", metavar="FOLDER", type=some, help="a folder that is not there yet (default: RUN-step-40, here)"
    )


def export(args: Any) -> int:
    prepare_libraries()
    folder = hand_over(args.run, args.to, args.merged)
    what = "Merged weights and tokenizer" if args.merged else "The adapter, for peft and vLLM,"
    return tell(args, {"folder": str(folder), "merged": args.merged}, f"{what} with a model card: {folder}")


def hand_over(name: str, to: str | None = None, merged: bool = False) -> Path:
    """Write a peft folder that `PeftModel.from_pretrained` and vLLM take, or with `merged` one for
    `AutoModelForCausalLM.from_pretrained`, in the dtype of the run. name: as --adapter takes a run. Returns the folder; nothing half
    stays. Raises BadInput for what is no checkpoint of a run, and for a folder that is there."""
    checkpoint = adapter_folder(name)
    run = Run(checkpoint.parent.parent)
    if not (run.path / "config.json").is_file():
        raise BadInput(f"export: expected RUN, RUN@best or RUN@40, found {name!r}, which is a peft folder already.")
    config, step = run.load_config(), int(checkpoint.name.removeprefix("step-"))
    folder = Path(to or f"{run.id}-step-{step}{'-merged' * merged}").expanduser().resolve()
    if folder.exists():
        raise BadInput(f"to: expected a folder that is not there yet, found {folder}. Give another with --to.")
    import torch

    from hdpo.model.policy import Weights, load_policy

    # In float32 the product is rounded once, when it is written in the run's dtype.
    dtype = "float32" if merged else config.model.dtype
    policy = load_policy(replace(config.model, adapter=str(checkpoint), dtype=dtype, device="cpu"))
    with writing(folder):
        folder.parent.mkdir(parents=True, exist_ok=True)
    with beside(folder) as aside:
        aside.mkdir()
        if merged:
            whole: Any = policy.model.merge_and_unload(adapter_names=["default"])
            whole.to(getattr(torch, config.model.dtype)).save_pretrained(aside)
            policy.tokenizer.save_pretrained(aside)
        else:
            lora = policy.model.peft_config["default"]
            lora.base_model_name_or_path, lora.revision = base_of(config)
            policy.save_peft(aside, Weights.CURRENT)
        page = aside / "README.md"
        page.write_text(card(run, config, step, folder.name, merged), encoding="utf-8")
        for file in aside.iterdir():  # safetensors' own writer leaves its file to its owner alone
            file.chmod(page.stat().st_mode)
    return folder


def base_of(config: TrainConfig) -> tuple[str, str | None]:
    """Where `from_pretrained` finds the base: hub id and commit, or its folder on this machine."""
    model, place = config.model, find(config.model.model, config.model.revision)
    return (model.model, place.commit) if is_hub_id(model.model) else (str(place.folder.resolve()), None)


def card(run: Run, config: TrainConfig, step: int, folder: str, merged: bool) -> str:
    """The model card: a README.md as the hub reads it. What a person or a file named is quoted as code."""
    model, data = config.model, config.data
    hub, facts = is_hub_id(model.model), known(model.model, model.revision)
    licence, library = facts.licence if facts else "", "transformers" if merged else "peft"
    base, path = code(shown(model.model)), model.model if hub else "the base's folder"
    tags = ["hdpo", "grpo", *["lora"] * (not merged)]
    front = {"library_name": library, "pipeline_tag": "text-generation", "tags": tags}
    front |= {"base_model": model.model} if hub else {}
    front |= {"datasets": [data.problems]} if is_hub_id(data.problems) else {}
    if licence:
        named = re.fullmatch(r"[a-z0-9.-]+", licence)
        front |= {"license": licence} if named else {"license": "other", "license_name": licence}
    evaluations = [r for r in run.metrics("eval") if r["step"] <= step]
    rows = {e["step"]: measured(e) for e in evaluations[:1] + evaluations[-1:]}
    metrics = list(next(iter(rows.values()), ()))
    defaults = {k.path: k.default for k in knobs(TrainConfig())}
    chosen = [k for k in knobs(config) if k.name in ALWAYS or k.default != defaults[k.path]]
    digest = f"commit {code(model.revision)}" if hub else f"weights {code(run.fingerprint.model)}"
    few = evaluations[-1]["n_problems"] if evaluations else 0
    results = f"On {few} {config.evaluation.eval_split} problems, {code(run.fingerprint.sampling)}, "
    results += f"{code(run.fingerprint.samples)}; 95 % intervals, the problem is the unit."
    parts = [
        "---\n" + "".join(f"{name}: {json.dumps(value)}\n" for name, value in front.items()) + "---",
        f"# {base}, trained by HDPO, λ = {config.objective.lambda_:g}, step {step}",
        f"{'Merged weights' if merged else 'A LoRA adapter'} of the run {code(run.name)}: `L_GRPO + λ·L_JSD` "
        "(HDPO, [arXiv 2603.23871](https://arxiv.org/abs/2603.23871)); λ = 0 is GRPO.",
        f"```python\n{USE[library].format(base=repr(path), folder=repr(folder))}\n```",
        "## Base",
        f"{base}, {digest}. Licence: {code(licence) if licence else 'it says none'}.",
        "## Data",
        " ".join(f"{code(shown(data.problems))}: {code(told(r))}." for r in run.metrics("data") if "read" in r),
        f"What is right was said by {code(shown(data.grader))} ({code(run.fingerprint.grader)}).",
        "## Results",
        results if rows else "It was not evaluated.",
        table(["step", *metrics], [[str(at), *values.values()] for at, values in rows.items()]) if rows else "",
        *(said for said in sentences(run) if f"@best is step {step}:" in said),
        "## Settings",
        "All others are at their defaults.",
        table(["setting", "value"], [[f"`{k.flag}`", code(shown(plain(k.default)))] for k in chosen]),
        "## Made with",
        ", ".join(f"{name} {version}" for name, version in run.frozen().get("versions", {}).items()) + ".",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def shown(value: Any) -> str:
    """A setting for others to read: of a path on this machine its last part.

    >>> shown("/home/me/mine.py:right"), shown("owner/name"), shown([1, 8])
    ('mine.py:right', 'owner/name', '[1, 8]')
    """
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return Path(text).name if Path(text).is_absolute() else text


def code(text: str) -> str:
    """As it is, in Markdown, in a cell of a table too.

    >>> code("a|b`<x>")
    "`a\\\\|b'<x>`"
    """
    return "`" + " ".join(text.replace("`", "'").replace("|", "\\|").split()) + "`"


def table(columns: list[str], rows: list[list[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
