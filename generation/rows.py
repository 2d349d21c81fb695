"""Completions while they are generated: their guides, what a pass settles, what the next pass reads.

Nothing here runs a model or knows how its passes are laid out.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch

from generation.sampling import Choice, Sampling


class Guide(Protocol):
    """The knowledge of a caller about one completion, given its tokens so far."""

    def draft(self, ids: list[int]) -> list[int]:
        """Tokens that probably come next. A wrong one costs time and never changes a token."""

    def allowed(self, ids: list[int]) -> torch.Tensor | None:
        """Ids of the tokens that may come next; None for all. A single one needs no choice."""

    def stop(self, ids: list[int]) -> bool:
        """True when the completion ends with its last token."""


@dataclass
class Generated:
    """Token ids of one completion, without the EOS, and the log-probability of each, with that of the EOS.

    Where `Guide.allowed` names tokens, the probabilities are over these alone.
    """

    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


@dataclass
class Row:
    """An unfinished completion. The next pass reads its last token and `draft`."""

    guide: Guide
    # A random stream per row, so that its tokens do not depend on the batch. None: greedy.
    generator: torch.Generator | None = None
    done: Generated = field(default_factory=Generated)
    draft: list[int] = field(default_factory=list)


def settle(
    rows: list[Row], logits: torch.Tensor, sampling: Sampling, max_new_tokens: int, eos_ids: set[int]
) -> list[int | None]:
    """Extend each row by what its pass settles: the drafted tokens that the model chooses too, and one more.

    The logits (n_rows, n_positions, vocab) end with those after the last drafted token. Returns the number of
    drafted tokens that each row keeps, None for a finished row. Exact for sampled tokens too: each is drawn
    from the distribution after the tokens before it.
    """
    choice = Choice(logits, sampling)
    kept: list[int | None] = []
    # Greedy tokens get their log-probabilities in one operation at the end; until then places are empty.
    positions: list[tuple[int, int]] = []
    tokens: list[int] = []
    empty: list[tuple[list, int]] = []
    for r, row in enumerate(rows):
        ids = row.done.ids
        logps: list = row.done.logps
        first = logits.shape[1] - 1 - len(row.draft)
        n_right = 0
        while True:
            token, logp = choice.pick(r, first + n_right, row.guide.allowed(ids), row.generator)
            if logp is None:
                positions.append((r, first + n_right))
                tokens.append(token)
                empty.append((logps, len(logps)))
            logps.append(logp)
            if token in eos_ids:
                kept.append(None)
                break
            ids.append(token)
            if len(ids) == max_new_tokens or row.guide.stop(ids):
                kept.append(None)
                break
            # The logits after a wrong draft follow from tokens that are not in the completion.
            if n_right == len(row.draft) or token != row.draft[n_right]:
                kept.append(n_right)
                break
            n_right += 1
    for (logps, place), logp in zip(empty, choice.logps(positions, tokens)):
        logps[place] = logp
    return kept


def draft_next(rows: list[Row], max_new_tokens: int, n_columns_left: int) -> None:
    """Set the draft of each row. `n_columns_left`: columns until the cache reaches the sliding window."""
    n_left = [max_new_tokens - len(row.done.ids) for row in rows]
    for row, n in zip(rows, n_left):
        # The pass settles one token more than it keeps of the draft.
        row.draft = row.guide.draft(row.done.ids)[: n - 1]
    # Wrong drafts leave holes, which a window counts as positions: near its end nothing is drafted.
    if max(len(row.draft) for row in rows) + max(n_left) > n_columns_left:
        for row in rows:
            row.draft = []
