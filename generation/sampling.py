"""The next token: greedy or drawn, of all tokens or of the allowed ones, with its log-probability."""

from dataclasses import dataclass

import torch
from transformers.generation import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy; top_p 1 and top_k 0 leave all tokens in."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def warpers(self) -> LogitsProcessorList:
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
        # One transfer for the whole pass; drawn tokens are few and fetched one by one.
        self.best = logits.argmax(-1).tolist() if sampling.temperature == 0 else None

    def pick(
        self, row: int, position: int, allowed: torch.Tensor | None, generator: torch.Generator | None
    ) -> tuple[int, float | None]:
        """(token, its log-probability among the allowed ones; None when it is left to `logps`)."""
        if allowed is None and self.best:
            return self.best[row][position], None
        if allowed is not None and len(allowed) == 1:
            return int(allowed[0]), 0.0
        logits = (
            self.logits[row, position]
            if allowed is None
            else self.logits[row, position, allowed.to(self.logits.device)]
        )
        logps = logits.float().log_softmax(-1)
        if self.best:
            place = int(logps.argmax())
        else:
            place = int(
                torch.multinomial(self.warpers(None, logps[None]).softmax(-1)[0], 1, generator=generator)
            )
        return place if allowed is None else int(allowed[place]), float(logps[place])

    def logps(self, places: list[tuple[int, int]], tokens: list[int]) -> list[float]:
        """Log-probabilities of tokens at (row, position), among all tokens."""
        if not places:
            return []
        rows, positions = torch.tensor(places, device=self.logits.device).T
        logits = self.logits[rows, positions].float()  # (n_places, vocab)
        chosen = logits.gather(1, torch.tensor(tokens, device=logits.device)[:, None])[:, 0]
        return (chosen - logits.logsumexp(-1)).tolist()
