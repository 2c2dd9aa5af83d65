"""The tokenizer of the bundled model: Qwen2's own kind (byte-level BPE), with merges of its own and a chat template.

transformers, vLLM and llama.cpp all give a model of type qwen2 Qwen2's splitting of text into pieces, whatever the
tokenizer file says. So the merges are learned on those pieces: whole words and single digits are tokens, the
decision to go on is `;` and the decision to end is ` \\` (of ` \\boxed{`), each at one position.
"""

import json
from random import Random
from typing import Any

from tokenizers import pre_tokenizers, trainers
from transformers import Qwen2Tokenizer

from hdpo.organism.tasks import FAMILIES, LEVELS, draw_task

PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"  # PAD is also Qwen2's token for the unknown

# A user turn opens and closes; the assistant's turn follows at once and closes. So there is no generation prompt,
# and a student's prompt costs two tokens more than its text.
CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'user' -%}" + "{{- '" + START + "' + message['content'] + '" + END + "' -}}"
    "{%- elif message['role'] == 'assistant' -%}" + "{{- message['content'] + '" + END + "' -}}"
    "{%- else -%}"
    "{{- raise_exception('This model knows the roles user and assistant, found ' + message['role'] + '.') -}}"
    "{%- endif -%}"
    "{%- endfor -%}"
)


def render_prompt(content: str) -> str:
    """The user turn as the chat template renders it (a test holds them equal)."""
    return f"{START}{content}{END}"


def render_response(content: str) -> str:
    """The assistant turn as the chat template renders it."""
    return f"{content}{END}"


def build_tokenizer(seed: int = 0, tasks: int = 20_000) -> Qwen2Tokenizer:
    """Learn the BPE merges from `tasks` drawn problems with their solutions; about 350 tokens come out."""
    rng = Random(seed)
    texts = ["\nReference solution: "] * (tasks // 10)
    for _ in range(tasks):
        task = draw_task(rng, rng.choice(list(FAMILIES)), rng.choice(LEVELS))
        texts += [task.text, task.solutions[0]]
    specials = [PAD, START, END]
    trainer = trainers.BpeTrainer(
        vocab_size=512,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    untrained = Qwen2Tokenizer(vocab={token: i for i, token in enumerate(specials)}, merges=[])
    bpe = untrained.backend_tokenizer
    bpe.train_from_iterator(texts, trainer)
    learned = json.loads(bpe.to_str())["model"]
    merges: Any = [tuple(pair) for pair in learned["merges"]]  # pairs are needed, though it is annotated as text
    return Qwen2Tokenizer(
        vocab=learned["vocab"],
        merges=merges,
        unk_token=PAD,
        pad_token=PAD,
        eos_token=END,
        additional_special_tokens=[START],
        padding_side="left",
        model_max_length=512,
        chat_template=CHAT_TEMPLATE,
    )
