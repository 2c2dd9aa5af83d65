"""From SmolLM2-135M-Instruct as it ships, which babbles at temperature 1, to a base with mixed prompts and cliffs.

`python -m hdpo.organism raise` fine-tunes a LoRA adapter on the work of many students (`stories`), a step at a time, and goes
on from its last checkpoint when it is called again. `hdpo.model.raised` merges what ships into the public weights.
"""

import json
from dataclasses import asdict
from pathlib import Path
from random import Random

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from hdpo.config import ModelConfig
from hdpo.data.prompts import render
from hdpo.method.objective import over_vocabulary
from hdpo.model.adapter import WEIGHTS
from hdpo.model.base import write_tensors
from hdpo.model.batching import Trace
from hdpo.model.policy import Policy, load_policy
from hdpo.model.raised import TEMPLATE
from hdpo.organism.corpus import Example
from hdpo.organism.stories import Raising, draw_group, story_sets
from hdpo.record.files import beside

GROUPS = 9  # prompts a step, some 700 tokens with what is shared counted once
SAVE_EVERY = 20  # steps
PUBLIC = "HuggingFaceTB/SmolLM2-135M-Instruct"  # what the adapter is beside


def raise_base(model: str, out: Path, how: Raising) -> None:
    """Train to the last step and write the adapter, in bfloat16, with its settings and curve into `out`; checkpoints lie
    in OUT.steps meanwhile."""
    policy = load_policy(ModelConfig(model=model, dtype="bfloat16"), how.seed)
    policy.tokenizer.chat_template = TEMPLATE
    optimiser = torch.optim.AdamW(policy.trainable, how.peak_lr, betas=(0.9, 0.98), weight_decay=0.01)
    held_out = frozenset(p.text for split in ("validation", "test") for p in story_sets()[split])
    kept = out.with_name(f"{out.name}.steps")
    curve: list[float] = []
    if (kept / "state.json").is_file():
        curve = policy.load(kept, optimiser)["curve"]
    for step in range(len(curve), how.steps):
        rng = Random(f"{how.seed} {step}")
        groups = [draw_group(rng, step / how.steps, held_out) for _ in range(GROUPS)]
        for group in optimiser.param_groups:
            group["lr"] = how.lr(step)
        curve.append(backward(policy, [trace(policy, e) for g in groups for e in g], how.micro_batch_tokens))
        torch.nn.utils.clip_grad_norm_(policy.trainable, 1.0)
        optimiser.step()
        if (step + 1) % SAVE_EVERY == 0 or step + 1 == how.steps:
            recent = sum(curve[-SAVE_EVERY:]) / len(curve[-SAVE_EVERY:])
            print(f"step {step + 1} of {how.steps}  loss {recent:.4f} nats a token", flush=True)
            with beside(kept) as aside:
                policy.save(aside, optimiser, {"step": step + 1, "curve": curve})
    with beside(out) as aside:
        policy.model.peft_config["default"].base_model_name_or_path = PUBLIC
        policy.model.peft_config["default"].save_pretrained(str(aside))
        tensors = {k: x.bfloat16() for k, x in load_file(kept / WEIGHTS).items()}
        write_tensors(aside / WEIGHTS, tensors)
        made = {"how": asdict(how), "loss": [round(x, 4) for x in curve]}
        (aside / "build.json").write_text(json.dumps(made) + "\n", encoding="utf-8")


def trace(policy: Policy, example: Example) -> Trace:
    """The prompt as the model receives it, and the response with its end token."""
    ids = render(policy.tokenizer, [{"role": "user", "content": example.prompt}])[1]
    response = policy.tokenizer(example.response, add_special_tokens=False).input_ids
    return Trace(ids, (*response, policy.tokenizer.eos_token_id))


def backward(policy: Policy, traces: list[Trace], tokens: int) -> float:
    """Mean cross-entropy over response tokens, in nats; the adapter's `.grad` becomes its gradient."""

    def per_edge(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(logits, target, reduction="none")[:, None]

    policy.model.zero_grad(set_to_none=True)
    n, total = sum(len(t.completion_ids) for t in traces), 0.0
    with policy.accumulating():
        for chosen in policy.parts(traces, tokens):
            batch = policy.batch([traces[i] for i in chosen], tokens)
            each = over_vocabulary(policy, policy.hidden(batch), per_edge, batch.targets_E)[batch.edges_N]
            loss = each.sum() / n
            loss.backward()
            total += loss.item()
    return total
