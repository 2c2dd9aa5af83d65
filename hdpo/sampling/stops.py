"""Texts that end a completion (stop strings). The token that completes one is its last, and it counts as finished."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from hdpo.sampling.protocol import Completion


class Stops:
    """Looks at the newest tokens alone: a text of n bytes lies within the last n."""

    def __init__(self, tokenizer: Any, texts: Sequence[str]) -> None:
        self.tokenizer, self.texts = tokenizer, texts
        self.window = max((len(t.encode()) for t in texts), default=0)

    def hit(self, rows: Sequence[Sequence[int]]) -> list[bool]:
        """Whether a text stands within the last tokens of each row."""
        heard = self.tokenizer.batch_decode([list(row[-self.window :]) for row in rows])
        return [any(text in said for text in self.texts) for said in heard]

    def cut(self, c: Completion) -> Completion:
        """Up to the first text, as if the sampler had stopped there: what was drawn before it does not depend on the rest."""
        if not any(text in self.tokenizer.decode(c.token_ids) for text in self.texts):
            return c
        ends = self.hit([c.token_ids[: t + 1] for t in range(len(c.token_ids))])
        if True not in ends:
            return c
        n = ends.index(True) + 1
        best: Any = c.topk
        topk = best and replace(best, ids=best.ids[:n], logprobs=best.logprobs[:n])
        return Completion(c.token_ids[:n], c.logprobs[:n], truncated=False, topk=topk)
