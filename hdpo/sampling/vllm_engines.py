"""The two vLLMs that can be reached: one beside the trainer, and a server elsewhere. What is asked, what comes back.

The only module that imports vllm. Answers hold raw log-probs (T = 1) and the top-k of each position.

This file is long: both engines answer one protocol, and are held against each other.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from hdpo.config import ModelConfig
from hdpo.errors import BadInput, HdpoError
from hdpo.model.find import find
from hdpo.sampling.vllm_guard import end_all, guard

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has room for
STALL = 300.0  # seconds without a token after which vLLM is given up
AT_ONCE = 64  # requests that a server is asked at the same time
NUMBERS = itertools.count(1)  # of adapters, in this process: vLLM keeps what it has loaded under one
# What a server would otherwise take from the model's generation_config.json.
PLAIN = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0}
TOGETHER = "Lower vllm-memory, or choose --sampler transformers."


@dataclass(frozen=True)
class Adapter:
    """One version of the weights, in peft's format, under a name and a number that were never used before."""

    name: str
    number: int
    folder: Path


@dataclass(frozen=True)
class Request:
    """One rollout to draw."""

    prompt: tuple[int, ...]
    seed: int


@dataclass(frozen=True)
class Answer:
    """token_ids (T,) with the end token, logprobs (T,) raw; topk_ids and topk_logprobs (T, k), most probable first."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    topk_ids: np.ndarray
    topk_logprobs: np.ndarray
    ended: bool


@dataclass(frozen=True)
class How:
    """temperature 0 is greedy. ends: tokens that end a completion."""

    temperature: float
    top_p: float
    max_new_tokens: int
    topk: int
    ends: tuple[int, ...]


class Engine(Protocol):
    """A vLLM that can be reached."""

    def put(self, adapter: Adapter) -> None:
        """Have it at hand for `complete`."""
        ...

    def drop(self, adapter: Adapter) -> None:
        """It is asked for no more."""
        ...

    def complete(self, requests: Sequence[Request], how: How, adapter: Adapter | None) -> list[Answer]:
        """An answer to each request, in their order; without an adapter by the base."""
        ...

    def release(self) -> None:
        """Give the GPU's memory to the training until the next call."""
        ...

    def close(self) -> None:
        """Nothing is left behind, of a server that goes on no adapter."""
        ...


class LocalEngine:
    """vLLM in a process of its own, a child of this one: it ends with it."""

    def __init__(self, config: ModelConfig, context: int, topk: int) -> None:
        place = find(config.model, config.revision)
        if place.gguf:
            raise BadInput(
                f"sampler: expected a folder of safetensors for vLLM, found the GGUF file {place.gguf}. Convert it (README, rollouts by vLLM) or choose --sampler transformers."
            )
        if config.rank > RANKS[-1]:
            raise BadInput(
                f"rank: expected at most {RANKS[-1]} for vLLM, found {config.rank}. Lower it or choose --sampler transformers."
            )
        quiet = {
            "VLLM_NO_USAGE_STATS": "1",
            "VLLM_LOGGING_LEVEL": "ERROR",
            "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
            "VLLM_CPU_KVCACHE_SPACE": "1",
        }
        for name, value in quiet.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as e:
            raise BadInput(
                f"sampler: expected vLLM 0.32, found none that imports ({e}). pip install -r requirements-gpu.txt, or choose --sampler transformers."
            ) from e
        self.cuda = torch.cuda.is_available() and config.device in ("auto", "cuda")
        self.asleep = False
        self.name = f"{os.getpid()}-{next(NUMBERS)}"
        self.guard = guard(self.name)
        try:
            self.llm = LLM(
                model=str(place.folder),
                dtype=config.dtype,
                enforce_eager=not self.cuda,
                max_model_len=context,
                enable_lora=True,
                max_loras=2,
                max_lora_rank=min(r for r in RANKS if r >= config.rank),
                max_logprobs=topk,
                logprobs_mode="raw_logprobs",
                enable_prefix_caching=True,
                skip_tokenizer_init=True,
                gpu_memory_utilization=config.vllm_memory,
                enable_sleep_mode=self.cuda,
                disable_log_stats=True,
                seed=0,
            )
        except Exception as e:  # whatever it is, a person needs one sentence
            self._end()
            raise HdpoError(
                f"vLLM: expected to start it on {place.folder.name}, found '{first_line(e)}'. {TOGETHER}"
            ) from e

    def put(self, adapter: Adapter) -> None:
        """It goes with the requests."""

    def drop(self, adapter: Adapter) -> None:
        self._wake()
        self.llm.llm_engine.remove_lora(adapter.number)

    def complete(self, requests: Sequence[Request], how: How, adapter: Adapter | None) -> list[Answer]:
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        self._wake()
        engine = self.llm.llm_engine
        lora = LoRARequest(adapter.name, adapter.number, str(adapter.folder)) if adapter else None
        answers: dict[int, Answer] = {}
        with Watchdog(lambda: end_all(self.name)) as watchdog:
            try:
                for i, r in enumerate(requests):
                    params = SamplingParams(
                        temperature=how.temperature,
                        top_p=how.top_p,
                        max_tokens=how.max_new_tokens,
                        seed=r.seed,
                        stop_token_ids=list(how.ends),
                        logprobs=how.topk,
                        flat_logprobs=True,
                        detokenize=False,
                        output_kind=RequestOutputKind.FINAL_ONLY,
                    )
                    engine.add_request(str(i), {"prompt_token_ids": list(r.prompt)}, params, lora_request=lora)
                while engine.has_unfinished_requests():
                    answers |= {int(o.request_id): told(o.outputs[0], how.topk) for o in engine.step() if o.finished}
                    watchdog.beat()
            except Exception as e:
                why = f"no token within {STALL:.0f} s" if watchdog.barked else f"'{first_line(e)}'"
                raise HdpoError(
                    f"vLLM: expected rollouts, found {why}. Resume goes on from the last checkpoint. {TOGETHER}"
                ) from e
        return [answers[i] for i in range(len(requests))]

    def _wake(self) -> None:
        if self.asleep:
            self.llm.wake_up()
            self.asleep = False

    def release(self) -> None:
        if self.cuda and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = True

    def close(self) -> None:
        with suppress(Exception):
            self.llm.llm_engine.engine_core.shutdown()
        self._end()

    def _end(self) -> None:
        """The guard ends what is left."""
        if self.guard.stdin is not None:
            self.guard.stdin.close()
        self.guard.wait()


def told(output: Any, k: int) -> Answer:
    """vLLM's flat log-probs: at each position the drawn token first, then the k most probable."""
    flat, length = output.logprobs, len(output.token_ids)
    ids = np.array(flat.token_ids, np.int32).reshape(length, -1)
    logprobs = np.array(flat.logprobs, np.float32).reshape(length, -1)
    return Answer(
        tuple(output.token_ids),
        tuple(logprobs[:, 0].tolist()),
        ids[:, 1 : k + 1],
        logprobs[:, 1 : k + 1],
        output.finish_reason == "stop",
    )


class Watchdog:
    """Ends vLLM where it gives no token for STALL seconds: the call that waits for it then returns."""

    def __init__(self, bark: Callable[[], None], patience: float = STALL) -> None:
        self.bark, self.patience, self.barked = bark, patience, False
        self._last, self._over = time.monotonic(), threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self) -> None:
        while not self._over.wait(min(1.0, self.patience / 4)):
            if time.monotonic() - self._last > self.patience:
                self.barked = True
                self.bark()
                return

    def beat(self) -> None:
        self._last = time.monotonic()

    def __enter__(self) -> Watchdog:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def first_line(e: BaseException) -> str:
    return (str(e).strip().splitlines() or [type(e).__name__])[0][:200]


class ServerEngine:
    """A `vllm serve` elsewhere that shares this file system, with runtime loading of adapters allowed."""

    def __init__(self, url: str) -> None:
        self.url = url.rstrip("/")
        models = self._ask("/v1/models")["data"]
        self.base = next((m["id"] for m in models if not m.get("parent")), "")
        self.loaded: set[Adapter] = set()

    def _ask(self, path: str, body: dict[str, Any] | None = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        asked = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(asked, timeout=STALL) as answer:
                text = answer.read().decode()
        except urllib.error.HTTPError as e:
            raise HdpoError(
                f"vllm-url: expected {self.url}{path} to answer, found {e.code}: {e.read().decode(errors='replace')[:200]}. Start the server as the README says."
            ) from e
        except (OSError, ValueError) as e:
            raise HdpoError(
                f"vllm-url: expected a vLLM server at {self.url}, found '{first_line(e)}'. Start it as the README says, or choose --sampler transformers."
            ) from e
        return json.loads(text) if text.startswith("{") else text

    def put(self, adapter: Adapter) -> None:
        self._ask("/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.folder)})
        self.loaded.add(adapter)

    def drop(self, adapter: Adapter) -> None:
        self._ask("/v1/unload_lora_adapter", {"lora_name": adapter.name})
        self.loaded.discard(adapter)

    def complete(self, requests: Sequence[Request], how: How, adapter: Adapter | None) -> list[Answer]:
        def one(r: Request) -> Answer:
            found = self._ask(
                "/v1/completions",
                {
                    "model": adapter.name if adapter else self.base,
                    "prompt": list(r.prompt),
                    "seed": r.seed,
                    "temperature": how.temperature,
                    "top_p": how.top_p,
                    **PLAIN,
                    "max_tokens": how.max_new_tokens,
                    "stop_token_ids": list(how.ends),
                    "logprobs": how.topk,
                    "return_tokens_as_token_ids": True,
                },
            )["choices"][0]
            return heard(found, how.topk)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, requests))

    def release(self) -> None:
        """The server's memory is its own."""

    def close(self) -> None:
        with suppress(HdpoError):  # a server that is gone has none
            for adapter in list(self.loaded):
                self.drop(adapter)


def heard(choice: dict[str, Any], k: int) -> Answer:
    """A completion as the server tells it, tokens as 'token_id:N'."""
    tokens = choice["logprobs"]["tokens"]
    best = [
        sorted(((int(t.partition(":")[2]), p) for t, p in place.items()), key=lambda x: -x[1])[:k]
        for place in choice["logprobs"]["top_logprobs"] or [{}] * len(tokens)
    ]
    return Answer(
        tuple(int(t.partition(":")[2]) for t in tokens),
        tuple(choice["logprobs"]["token_logprobs"]),
        np.array([[i for i, _ in b] for b in best], np.int32),
        np.array([[p for _, p in b] for b in best], np.float32),
        choice["finish_reason"] == "stop",
    )
