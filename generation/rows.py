"""Completions while they are generated: their guides, what a pass settles, what the next pass reads.

Nothing here runs a model or knows how its passes are laid out.
"""

from dataclasses import dataclass, field
from typing import Protocol

import torch

from generation.choice import Bias, Choice, Place
from generation.transfers import LateLogps


class Guide(Protocol):
    """The knowledge of a caller about one completion, given its tokens so far."""

    def draft(self, ids: list[int]) -> list[int]:
        """Tokens that probably come next. A wrong one costs time and never changes a token."""

    def allowed(self, ids: list[int]) -> torch.Tensor | None:
        """Ids of the tokens that may come next; None for all, no ids where the completion cannot continue.

        A single one needs no choice. `ids` may be a look ahead: later calls may take their end back.
        """

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
    bias: Bias | None = None
    done: Generated = field(default_factory=Generated)
    draft: list[int] = field(default_factory=list)

    @property
    def next_ids(self) -> list[int]:
        """What the next pass reads of it, once it has a token."""
        return [self.done.ids[-1], *self.draft]

    def bias_after(self, ids: list[int]) -> Bias | None:
        """The bias on the token after `ids`, which may be a look ahead."""
        return self.bias if self.bias is not None and tuple(ids) == self.bias.after else None


class _Walk:
    """A row on its way along its draft: what the pass settles, until the model chooses something else."""

    def __init__(self, row: Row, number: int, n_positions: int):
        self.row = row
        # Its row of the logits, and the position of those after its last token.
        self.number = number
        self.first = n_positions - 1 - len(row.draft)
        self.n_right = 0
        self.is_done = False
        self.is_finished = False

    def places(self, looks_ahead: bool) -> list[Place]:
        """Where tokens are chosen next: one place, or with `looks_ahead` all that the draft may reach."""
        ids = self.row.done.ids
        coming = self.row.draft[self.n_right :] if looks_ahead else []
        found = []
        for n in range(len(coming) + 1):
            so_far = ids + coming[:n]
            allowed = self.row.guide.allowed(so_far)
            # Nothing may come after a draft that the guide refuses, or that is complete.
            if n and allowed is not None and not len(allowed):
                break
            position = self.first + self.n_right + n
            bias = self.row.bias_after(so_far)
            found.append(Place(self.number, position, allowed, self.row.generator, bias))
        return found

    def take(self, token: int, max_new_tokens: int, eos_ids: set[int]) -> None:
        """Extend the row by a token, and see whether the walk can continue behind it."""
        ids = self.row.done.ids
        self.is_finished = token in eos_ids
        if not self.is_finished:
            ids.append(token)
            self.is_finished = len(ids) == max_new_tokens or self.row.guide.stop(ids)
        # The logits after a wrong draft follow from tokens that are not in the completion.
        is_right = self.n_right < len(self.row.draft) and token == self.row.draft[self.n_right]
        self.is_done = self.is_finished or not is_right
        if not self.is_done:
            self.n_right += 1


def settle(
    rows: list[Row], choice: Choice, max_new_tokens: int, eos_ids: set[int], late: LateLogps
) -> list[int | None]:
    """Extend each row by what its pass settles: the drafted tokens that the model chooses too, and one more.

    The logits of the choice (n_rows, n_positions, vocab) end with those after the last drafted token. Returns
    the number of drafted tokens that each row keeps, None for a finished row. Exact for sampled tokens too:
    each is drawn from the distribution after the tokens before it. Log-probabilities that are not known yet
    go to `late`.
    """
    walks = [_Walk(row, r, choice.logits.shape[1]) for r, row in enumerate(rows)]
    # Greedy tokens get their log-probabilities in one operation at the end; until then slots are empty.
    places: list[Place] = []
    tokens: list[int] = []
    slots: list[tuple[list, int]] = []
    while walking := [walk for walk in walks if not walk.is_done]:
        planned = [(walk, place) for walk in walking for place in walk.places(choice.looks_ahead)]
        picks = choice.pick([place for _, place in planned])
        unused: list[Place] = []
        for (walk, place), (token, logp) in zip(planned, picks):
            if walk.is_done:
                unused.append(place)
                continue
            logps: list = walk.row.done.logps
            if logp is None:
                places.append(place)
                tokens.append(token)
                slots.append((logps, len(logps)))
            logps.append(logp)
            walk.take(token, max_new_tokens, eos_ids)
        # The last first, so that each stream ends where its first unused draw began.
        for place in reversed(unused):
            place.take_back_draw()
    if places:
        late.add(choice.logps(places, tokens), slots, choice.logits.dtype)
    return [None if walk.is_finished else walk.n_right for walk in walks]


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
