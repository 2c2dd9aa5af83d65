"""Rollouts by vLLM, the second `Sampler`: beside the trainer, or on a server elsewhere.

Draws are vLLM's own, with a seed for each rollout from the same key as ours, so they are reproducible but not the
same tokens. The adapter goes over as files, under a new name for every version of the weights; without one the base
samples. What comes back are raw log-probs (T = 1), so that the top-k may stand for the teacher. After every change of
weights some completions are read again by the model that trains: where both disagree, nothing is distilled from noise.
"""

import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from hdpo.config import ModelConfig, SamplingConfig
from hdpo.errors import BadInput, HdpoError
from hdpo.model.batching import Trace
from hdpo.model.fit import CHUNK_ELEMENTS
from hdpo.model.policy import Policy, Weights
from hdpo.sampling.draws import generator
from hdpo.sampling.protocol import Completion, Draw, OnToken, Prompt
from hdpo.sampling.stops import Stops
from hdpo.sampling.vllm_engines import NUMBERS, Adapter, How, LocalEngine, Request, ServerEngine

CHECKED = 8  # completions that are read again after a change of weights
# Mean |Δ log p| a token that both may differ by (nats). The same adapter gives 1e-5 in float32 and 0.04 in bfloat16 (see
# the notebook), another one some nats; float16 was not measured.
BOUND = {"float32": 0.001, "bfloat16": 0.1, "float16": 0.05}


class VllmSampler:
    """See `Sampler`. Completion.logprobs are NaN where T is not 1: vLLM tells raw ones, and those are others."""

    def __init__(self, policy: Policy, engine: LocalEngine | ServerEngine, dtype: str) -> None:
        self.policy, self.engine, self.bound = policy, engine, BOUND[dtype]
        self._adapters = tempfile.TemporaryDirectory(prefix="hdpo-adapters-")
        self._sent: dict[Weights, tuple[str, Adapter | None]] = {}
        self._parity: dict[str, float] = {}

    def sample(
        self, prompts: Sequence[Prompt], how: SamplingConfig, draw: Draw, on_token: OnToken | None = None
    ) -> list[list[Completion]]:
        """See `Sampler.sample`. Raises HdpoError where vLLM does not answer, or not what the trained model says."""
        if not prompts:
            return []
        if how.temperature > 2.0:
            most = f"at most 2 for vLLM, found {how.temperature:g}"
            raise BadInput(f"temperature: expected {most}. Lower it, or choose --sampler transformers.")
        fresh, adapter = self._at_hand(draw.weights)
        each = [(p, generator(draw.key, p.problem_id, g)) for p in prompts for g in range(draw.n)]
        requests = [Request(p.ids, int(chance.integers(2**63))) for p, chance in each]
        settings = {
            "temperature": 0.0 if draw.greedy else how.temperature,
            "top_p": how.top_p,
            "max_tokens": how.max_new_tokens,
            "logprobs": min(draw.topk, self.policy.vocabulary),
            "stop_token_ids": sorted(self.policy.end_ids),
        }
        found = self.engine.complete(
            requests, How(settings, self.policy.name_of(draw.weights)), adapter, self.policy.between
        )
        if fresh:
            some = slice(None, None, max(1, len(requests) // CHECKED))
            self._check(requests[some], found[some], draw.weights)
        stops = Stops(self.policy.tokenizer, how.stops())  # the engines here know tokens alone
        found = [stops.cut(c) for c in found]
        if on_token is not None:
            for i, c in enumerate(found):
                for token in c.token_ids:
                    on_token(i // draw.n, i % draw.n, token)
        if how.temperature != 1.0 and not draw.greedy:
            found = [replace(c, logprobs=(float("nan"),) * len(c.token_ids)) for c in found]
        return [found[i : i + draw.n] for i in range(0, len(found), draw.n)]

    def _at_hand(self, weights: Weights) -> tuple[bool, Adapter | None]:
        """Whether these weights have just been sent, and the adapter that stands for them (None: the base)."""
        name = self.policy.name_of(weights)
        before = self._sent.get(weights)
        if before is not None and before[0] == name:
            return False, before[1]
        if before is not None and before[1] is not None:
            self.engine.drop(before[1])
            shutil.rmtree(before[1].folder, ignore_errors=True)
        adapter = None
        if weights is Weights.CURRENT or self.policy.starts_from_adapter:
            number, root = next(NUMBERS), Path(self._adapters.name)
            adapter = Adapter(f"{root.name}-{number}", number, root / str(number))
            self.policy.save_peft(adapter.folder, weights)
            self.engine.put(adapter)
        self._sent[weights] = name, adapter
        return True, adapter

    def _check(self, requests: Sequence[Request], found: Sequence[Completion], weights: Weights) -> None:
        """The parity check: log-probs of the same tokens by vLLM and by the trained model, a chunk of logits at a time."""
        size, read = max(1, CHUNK_ELEMENTS // self.policy.vocabulary), []
        for r, c in zip(requests, found, strict=True):
            with torch.no_grad():
                batch = self.policy.batch([Trace(r.prompt, c.token_ids)])
                hidden = self.policy.hidden(batch, weights)
                for h, target in zip(hidden.split(size), batch.targets_E.split(size), strict=True):
                    read += self.policy.logits(h).log_softmax(-1).gather(-1, target[:, None])[:, 0].tolist()
        theirs, ours = np.array([x for c in found for x in c.logprobs]), np.array(read)
        self._parity = parity(theirs, ours)
        apart = self._parity["parity_mean"]
        if not apart <= self.bound:
            near = f"log-probs within {self.bound:g} nats a token of the trained model's"
            far = f"{apart:.3g} (mean over {len(ours)} tokens). Its adapter or its dtype is another one"
            raise HdpoError(f"vLLM: expected {near}, found {far}; choose --sampler transformers.")

    def parity(self) -> dict[str, float]:
        """Of the last check: mean and largest |Δ log p| (nats a token), KL(vLLM ‖ trained model) a token, tokens."""
        return dict(self._parity)

    def release(self) -> None:
        self.engine.release()

    def close(self) -> None:
        self.engine.close()
        self._adapters.cleanup()


def parity(theirs: np.ndarray, ours: np.ndarray) -> dict[str, float]:
    """Two log-probs of each of (N,) tokens that the first drew, compared. The KL is estimated without bias and never
    negative a token: E[r − 1 − ln r], r = ours / theirs (Schulman's k3).

    >>> parity(np.log([0.5, 0.5]), np.log([0.5, 0.5]))
    {'parity_mean': 0.0, 'parity_max': 0.0, 'parity_kl': 0.0, 'parity_tokens': 2}
    """
    d = ours - theirs
    apart, kl = np.abs(d), float(np.mean(np.expm1(d) - d))
    found = {"parity_mean": float(apart.mean()), "parity_max": float(apart.max()), "parity_kl": kl}
    return found | {"parity_tokens": len(d)}


def make(policy: Policy, config: ModelConfig, topk: int) -> VllmSampler:
    """As the settings say: on a server, or beside this process."""
    url = config.vllm_url
    engine = ServerEngine(url) if url else LocalEngine(config, policy.context, max(topk, 1))
    return VllmSampler(policy, engine, config.dtype)
