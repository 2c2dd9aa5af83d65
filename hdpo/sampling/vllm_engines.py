"""The two vLLMs that can be reached: one beside the trainer, and a server elsewhere. What is asked, what comes back.

The only module that imports vllm. Both engines answer to the same five calls. Completions hold raw log-probs (T = 1)
and the top-k of each position, most probable first.
"""

import itertools
import json
import os
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any, Self

import numpy as np
import torch

from hdpo.config import ModelConfig
from hdpo.errors import BadInput, HdpoError, Stopped, first_line
from hdpo.model.find import find
from hdpo.records import TopK
from hdpo.sampling.protocol import Completion
from hdpo.sampling.vllm_guard import end_all, guard

RANKS = (8, 16, 32, 64, 128, 256, 320, 512)  # those that vLLM has room for
STALL = 300.0  # seconds without a token after which vLLM is given up
AT_ONCE = 64  # requests that a server is asked at the same time
NUMBERS = itertools.count(1)  # of adapters, in this process: vLLM keeps what it has loaded under one
ENVIRONMENT = {"VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR", "VLLM_CPU_KVCACHE_SPACE": "1"}
ENVIRONMENT["VLLM_WORKER_MULTIPROC_METHOD"] = "spawn"
# What a server would otherwise take from the model's generation_config.json; and tokens by their ids.
PLAIN: dict[str, Any] = {"top_k": 0, "min_p": 0.0, "repetition_penalty": 1.0, "min_tokens": 0}
PLAIN["return_tokens_as_token_ids"] = True
Between = Callable[[int], None]  # as `Policy.between`
WITHOUT = "choose --sampler transformers."
TOGETHER = f"Lower vllm-memory, or {WITHOUT}"


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
class How:
    """settings: by the names that both vLLMs have; logprobs is the k of the top-k, weights its stamp."""

    settings: dict[str, Any]
    weights: str

    @property
    def topk(self) -> int:
        return int(self.settings["logprobs"])

    def kept(self, ids: Any, logprobs: Any) -> TopK | None:
        """The top-k of (T, topk) ids and raw log-probs, where it was asked for."""
        return TopK(np.array(ids, np.int32), np.array(logprobs, np.float32), self.weights) if self.topk else None


class LocalEngine:
    """vLLM in a process of its own, a child of this one: it ends with it."""

    def __init__(self, config: ModelConfig, context: int, topk: int) -> None:
        place = find(config.model, config.revision)
        if place.gguf:
            found = f"the GGUF file {place.gguf}. Convert it (README, rollouts by vLLM) or {WITHOUT}"
            raise BadInput(f"sampler: expected a folder of safetensors for vLLM, found {found}")
        if config.rank > RANKS[-1]:
            raise BadInput(f"rank: expected at most {RANKS[-1]} for vLLM, found {config.rank}. Lower it or {WITHOUT}")
        for name, value in ENVIRONMENT.items():
            os.environ.setdefault(name, value)
        try:
            from vllm import LLM
        except ImportError as e:
            way = f"pip install -r requirements-gpu.txt, or {WITHOUT}"
            raise BadInput(f"sampler: expected vLLM 0.32, found none that imports ({e}). {way}") from e
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
            self.guard.communicate()
            found = f"'{first_line(e)}'. {TOGETHER}"
            raise HdpoError(f"vLLM: expected to start it on {place.folder.name}, found {found}") from e

    def put(self, adapter: Adapter) -> None:
        """Have it at hand for `complete`: here it goes with the requests."""

    def drop(self, adapter: Adapter) -> None:
        """It is asked for no more."""
        self._wake()
        self.llm.llm_engine.remove_lora(adapter.number)

    def complete(
        self, requests: Sequence[Request], how: How, adapter: Adapter | None, between: Between
    ) -> list[Completion]:
        """A completion of each request, in their order; without an adapter by the base."""
        from vllm import SamplingParams
        from vllm.lora.request import LoRARequest
        from vllm.sampling_params import RequestOutputKind

        self._wake()
        engine = self.llm.llm_engine
        form = {"flat_logprobs": True, "detokenize": False, "output_kind": RequestOutputKind.FINAL_ONLY}
        lora = LoRARequest(adapter.name, adapter.number, str(adapter.folder)) if adapter else None
        done: dict[int, Completion] = {}
        with Watchdog(lambda: end_all(self.name)) as watchdog:
            try:
                for i, r in enumerate(requests):
                    params = SamplingParams(**how.settings, **form, seed=r.seed)
                    engine.add_request(str(i), {"prompt_token_ids": list(r.prompt)}, params, lora_request=lora)
                while engine.has_unfinished_requests():
                    ended = {int(o.request_id): told(o.outputs[0], how) for o in engine.step() if o.finished}
                    watchdog.beat()
                    between(sum(len(c.token_ids) for c in ended.values()))
                    done |= ended
            except Stopped:
                engine.abort_request([str(i) for i in range(len(requests)) if i not in done])
                raise
            except Exception as e:
                why = f"no token within {STALL:.0f} s" if watchdog.barked else f"'{first_line(e)}'"
                way = f"Resume goes on from the last checkpoint. {TOGETHER}"
                raise HdpoError(f"vLLM: expected rollouts, found {why}. {way}") from e
        return [done[i] for i in range(len(requests))]

    def _wake(self) -> None:
        if self.asleep:
            self.llm.wake_up()
            self.asleep = False

    def release(self) -> None:
        """Give the GPU's memory to the training until the next call."""
        if self.cuda and not self.asleep:
            self.llm.sleep(level=1)
            self.asleep = True

    def close(self) -> None:
        """Nothing is left behind: the guard, whose pipe is closed, ends what is left."""
        with suppress(Exception):
            self.llm.llm_engine.engine_core.shutdown()
        self.guard.communicate()


def told(output: Any, how: How) -> Completion:
    """vLLM's flat log-probs: at each position the drawn token first, then the k most probable."""
    flat, length = output.logprobs, len(output.token_ids)
    ids = np.array(flat.token_ids, np.int32).reshape(length, -1)
    logprobs = np.array(flat.logprobs, np.float32).reshape(length, -1)
    best = slice(1, how.topk + 1)
    drawn = tuple(output.token_ids), tuple(logprobs[:, 0].tolist())
    return Completion(*drawn, output.finish_reason != "stop", how.kept(ids[:, best], logprobs[:, best]))


class Watchdog:
    """Ends vLLM where it gives no token for STALL seconds: the call that waits for it then returns."""

    def __init__(self, bark: Callable[[], None], patience: float = STALL) -> None:
        self.barked = False
        self._goes_on: SimpleQueue[bool] = SimpleQueue()

        def watch() -> None:
            try:
                while self._goes_on.get(timeout=patience):
                    pass
            except Empty:
                self.barked = True
                bark()

        self._thread = threading.Thread(target=watch, daemon=True)

    def beat(self) -> None:
        self._goes_on.put(True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._goes_on.put(False)
        self._thread.join()


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
            found = f"{self.url}{path} to answer, found {e.code}: {e.read().decode(errors='replace')[:200]}"
            raise HdpoError(f"vllm-url: expected {found}. Start the server as the README says.") from e
        except (OSError, ValueError) as e:
            found = f"a vLLM server at {self.url}, found '{first_line(e)}'"
            raise HdpoError(f"vllm-url: expected {found}. Start it as the README says, or {WITHOUT}") from e
        return json.loads(text) if text.startswith("{") else text

    def put(self, adapter: Adapter) -> None:
        self._ask("/v1/load_lora_adapter", {"lora_name": adapter.name, "lora_path": str(adapter.folder)})
        self.loaded.add(adapter)

    def drop(self, adapter: Adapter) -> None:
        self._ask("/v1/unload_lora_adapter", {"lora_name": adapter.name})
        self.loaded.discard(adapter)

    def complete(
        self, requests: Sequence[Request], how: How, adapter: Adapter | None, between: Between
    ) -> list[Completion]:
        asked = {**PLAIN, **how.settings, "model": adapter.name if adapter else self.base}

        def one(r: Request) -> Completion:
            found = self._ask("/v1/completions", asked | {"prompt": list(r.prompt), "seed": r.seed})
            completion = heard(found["choices"][0], how)
            between(len(completion.token_ids))
            return completion

        with ThreadPoolExecutor(AT_ONCE) as pool:
            return list(pool.map(one, requests))

    def release(self) -> None:
        """The server's memory is its own."""

    def close(self) -> None:
        """The server goes on, without our adapters."""
        with suppress(HdpoError):  # a server that is gone has none
            for adapter in list(self.loaded):
                self.drop(adapter)


def heard(choice: dict[str, Any], how: How) -> Completion:
    """A completion as the server tells it, tokens as 'token_id:N'."""
    said = choice["logprobs"]
    best = [sorted(place.items(), key=lambda x: -x[1])[: how.topk] for place in said["top_logprobs"] or ()]
    ids, logprobs = [[id_of(t) for t, _ in b] for b in best], [[p for _, p in b] for b in best]
    drawn = tuple(map(id_of, said["tokens"])), tuple(said["token_logprobs"])
    return Completion(*drawn, choice["finish_reason"] != "stop", how.kept(ids, logprobs))


def id_of(token: str) -> int:
    return int(token.partition(":")[2])
