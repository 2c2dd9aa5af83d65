"""What can roll out: the protocol that the method asks, and its records. transformers and vLLM answer to it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from hdpo.config import SamplingConfig
from hdpo.model.policy import Weights
from hdpo.records import TopK
from hdpo.sampling.draws import DrawKey

OnToken = Callable[[int, int, int], None]


@dataclass(frozen=True)
class Prompt:
    """What is sampled from; problem_id is part of the key of every draw."""

    problem_id: str
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Completion:
    """One sampled completion. logprobs are the sampling distribution's at its temperature, before top-p (nats)."""

    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    truncated: bool
    topk: TopK | None = None


@dataclass(frozen=True)
class Draw:
    """Which completions: n of each prompt, under the key of all their draws, by these weights. topk: how many raw
    log-probs to keep at each position (0 keeps none). greedy: the most probable token instead of a draw."""

    n: int
    key: DrawKey
    weights: Weights = Weights.CURRENT
    topk: int = 0
    greedy: bool = False


class Sampler(Protocol):
    """Whatever can roll out: transformers here, vLLM elsewhere."""

    def sample(
        self, prompts: Sequence[Prompt], how: SamplingConfig, draw: Draw, on_token: OnToken | None = None
    ) -> list[list[Completion]]:
        """draw.n completions of each prompt, in the prompts' order.

        on_token(prompt index, rollout index, token id) is called for every token as it appears.
        """

    def parity(self) -> dict[str, float]:
        """How far its log-probs are from the trained model's; empty where it is that model."""

    def release(self) -> None:
        """Nothing will be sampled for a while: memory that training needs can go."""

    def close(self) -> None:
        """Nothing will be sampled any more."""
