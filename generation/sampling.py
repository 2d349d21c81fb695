"""How tokens are sampled: settings, and the changes to the logits that they ask for.

Temperature, top-p and top-k are transformers' own, so that they mean what they mean elsewhere.
"""

from dataclasses import dataclass

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
