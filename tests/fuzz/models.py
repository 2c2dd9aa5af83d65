"""Damaged model folders. Property: a sentence, or a model that draws: the whole way from a name to a graded completion."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from hdpo.config import ModelConfig, PromptConfig
from hdpo.data.prompts import render, student_messages
from hdpo.errors import BadInput
from hdpo.model.defaults import following
from hdpo.model.policy import load_policy
from hdpo.sampling.draws import DrawKey, Purpose
from hdpo.sampling.protocol import Draw, Prompt
from hdpo.sampling.transformers import TransformersSampler
from tests.engine import HOW_SHORT, PROBLEMS, random_model, random_policy

TEMPLATES = (
    "",
    "{{ messages }}",
    "{% for m in messages %}",
    "{{ messages[1]['content'] }}",
    "{{ messages[0]['content'] | no_such_filter }}",
    "{{ raise_exception('no') }}",
    "{{ strftime_now('%d') }}{{ messages[0]['content'] | upper }}",
    "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    '[{"name": "tool_use", "template": "x"}]',
)
VALUES: tuple[Any, ...] = (None, 0, -1, 7, 2**40, 0.5, "", "x", [], [7], {}, {"a": 1}, True, float("nan"))
GARBAGE = (b"", b"{", b"[1]", b"null", b"\xff" * 64, b"[" * 100_000, b'{"a": NaN}', "é".encode("latin-1"))


def one(random: Random, folder: Path) -> str:
    """One folder, damaged in up to three places; and in one of four an adapter, damaged too."""
    model = folder / "model"
    shutil.copytree(random_model(), model)
    settings: dict[str, Any] = {"model": str(model)}
    if random.random() < 0.25:
        policy = random_policy()
        policy.save(folder / "adapter", torch.optim.AdamW(policy.trainable), {"step": 1})
        random.choice((files, cut, tensors, values))(random, folder / "adapter")
        settings["adapter"] = str(folder / "adapter")
    else:
        for _ in range(random.randint(1, 3)):
            random.choice(DAMAGE)(random, model)
    try:
        chosen, _ = following(settings, {"rank", "alpha", "targets", "adapter"})
        policy = load_policy(ModelConfig(**{"rank": 4, **settings, **chosen}))
        ids = render(policy.tokenizer, student_messages(PROBLEMS[0], PromptConfig()))[1]
        key = DrawKey(0, Purpose.SCAN)
        drawn = TransformersSampler(policy).sample([Prompt("p", ids)], HOW_SHORT, Draw(2, key))[0]
        assert all(0 <= i < policy.vocabulary for c in drawn for i in c.token_ids), "tokens beyond the vocabulary"
        return "drew"
    except BadInput as e:
        said = str(e)
        assert "expected" in said and "found" in said and said.endswith((".", ")")) and "Traceback" not in said, said
        return said.split(":")[0]


def files(random: Random, folder: Path) -> None:
    """One file gone, or garbage."""
    file = random.choice(sorted(folder.iterdir()))
    if random.random() < 0.5:
        file.unlink()
    else:
        file.write_bytes(random.choice(GARBAGE))


def cut(random: Random, folder: Path) -> None:
    file = random.choice(sorted(folder.iterdir()))
    whole = file.read_bytes()
    file.write_bytes(whole[: random.randrange(len(whole) + 1)])


def values(random: Random, folder: Path) -> None:
    """One setting of one JSON file replaced, or taken away."""
    file = random.choice(sorted(folder.glob("*.json")) or [folder / "config.json"])
    try:
        said = json.loads(file.read_text())
        name = random.choice(sorted(said))
    except (OSError, ValueError, TypeError, IndexError):
        return
    if isinstance(said, dict):
        said[name] = random.choice(VALUES)
        if random.random() < 0.3:
            del said[name]
        file.write_text(json.dumps(said))


def tensors(random: Random, folder: Path) -> None:
    """One tensor gone, of another shape or type, or not a number."""
    file = next(iter(sorted(folder.glob("*model.safetensors"))), None)
    try:
        held = load_file(file) if file else {}
    except Exception:  # damaged already
        return
    if not held:
        return
    name = random.choice(sorted(held))
    kind = random.randrange(6)
    changed = [
        {},
        {name: held[name][:1].clone()},
        {name: held[name] * torch.nan},
        {name: held[name] / 0.0},
        {name: held[name].half()},
        {f"{name}.more": held[name].clone()},
    ][kind]
    rest = {k: v for k, v in held.items() if k != name or kind == 5}
    save_file(rest | changed, file, {"format": "pt"})


def template(random: Random, folder: Path) -> None:
    (folder / "chat_template.jinja").write_text(random.choice(TEMPLATES))


DAMAGE: tuple[Callable[[Random, Path], None], ...] = (files, cut, values, values, tensors, template)
