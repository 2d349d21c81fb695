"""The next token: greedy or sampled, from all tokens or from the allowed ones, with its log-probability.

Temperature, top-p and top-k are transformers' own, so that they mean what they mean elsewhere.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers.generation import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """How the next token is sampled. Temperature 0 is greedy; top_p 1 and top_k 0 keep all tokens."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def warpers(self) -> LogitsProcessorList:
        """The changes to the logits, in the order of transformers' `generate`."""
        warpers = LogitsProcessorList()
        if self.temperature > 0 and self.temperature != 1:
            warpers.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k > 0:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        return warpers


class Choice:
    """Picks tokens from the logits of one pass, (n_rows, n_positions, vocab)."""

    def __init__(self, logits: torch.Tensor, sampling: Sampling):
        self.logits = logits
        self.warpers = sampling.warpers()
        # Greedy tokens come in one transfer per pass; sampled ones are fetched one by one.
        self.best = logits.argmax(-1).tolist() if sampling.temperature == 0 else None

    def pick(
        self, row: int, position: int, allowed: torch.Tensor | None, generator: torch.Generator | None
    ) -> tuple[int, float | None]:
        """(token, its log-probability among the allowed ones, or None where `logps` computes it)."""
        if allowed is None and self.best:
            return self.best[row][position], None
        # A forced token needs no logits; most of a constrained completion is forced.
        if allowed is not None and len(allowed) == 1:
            return int(allowed[0]), 0.0
        logits = self.logits[row, position]
        if allowed is not None:
            logits = logits[allowed.to(logits.device)]
        # The reported log-probability is the model's own, before temperature, top-p and top-k.
        logps = logits.float().log_softmax(-1)
        if self.best:
            place = int(logps.argmax())
        else:
            # No warper here looks at the ids of the tokens so far.
            no_ids: Any = None
            weights = self.warpers(no_ids, logps[None]).softmax(-1)[0]
            place = int(torch.multinomial(weights, 1, generator=generator))
        token = place if allowed is None else int(allowed[place])
        return token, float(logps[place])

    def logps(self, places: list[tuple[int, int]], tokens: list[int]) -> list[float]:
        """Log-probabilities of tokens at places (row, position), among all tokens."""
        if not places:
            return []
        # One operation and one transfer for all greedy tokens of a pass.
        rows, positions = torch.tensor(places, device=self.logits.device).T
        logits = self.logits[rows, positions].float()  # (n_places, vocab)
        chosen = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
        return (chosen - logits.logsumexp(-1)).tolist()
