"""Which token comes next at many places of one pass: greedy or sampled, from all tokens or the allowed ones.

All rows choose together, in a few operations and one transfer. Nothing here knows how far a row will get, or
what a bias is for.
"""

import functools
from dataclasses import dataclass
from typing import Any

import torch

from generation.draws import draw, random_number
from generation.sampling import Sampling
from generation.transfers import check_logps, fetch, is_remote, on_device
from utils.batched import batched

# The most logits that one operation turns into float32: 64 MB. A pass with many drafts and a large
# vocabulary has more.
_MAX_LOGITS = 1 << 24


@dataclass(frozen=True)
class Bias:
    """Numbers added to the logits of some tokens, where a completion so far is exactly `after`.

    They change what is chosen, and no reported log-probability. -inf bans a token; +inf, for greedy rows
    alone, forces it.
    """

    after: tuple[int, ...]
    # (token id, number) pairs.
    added: tuple[tuple[int, float], ...]


@dataclass
class Place:
    """A position of one row where a token is chosen."""

    row: int
    position: int
    # Ids of the tokens that may come, on the device of the logits, a single one in main memory. None: all.
    allowed: torch.Tensor | None
    # The random stream of the row (None: greedy), and its state before the draw of this place.
    generator: torch.Generator | None
    bias: Bias | None = None
    state: torch.Tensor | None = None

    @property
    def is_forced(self) -> bool:
        """True where only one token may come; such a place needs no logits and no draw."""
        return self.allowed is not None and len(self.allowed) == 1

    def take_back_draw(self) -> None:
        """Set the random stream back, because the row did not get as far as this place."""
        if self.generator is not None and self.state is not None:
            self.generator.set_state(self.state)


def token_logps(logits: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (n,) of tokens from the logits that predict them, (n, vocab), in float32."""
    # Less the normalizer: the log-probabilities of the other tokens of the vocabulary are not written out.
    logits = logits.float()
    return logits.gather(1, ids[:, None])[:, 0] - logits.logsumexp(-1)


def _add(bias: Bias, logps: torch.Tensor, allowed: torch.Tensor | None) -> torch.Tensor:
    """Log-probabilities (n_places, n_choices) plus the bias; `allowed` has the tokens of the choices."""
    tokens = torch.tensor([token for token, _ in bias.added], device=logps.device)
    numbers = torch.tensor([number for _, number in bias.added], dtype=logps.dtype, device=logps.device)
    if allowed is None:
        return logps.index_add(1, tokens, numbers.expand(len(logps), -1))
    return logps + torch.where(allowed[:, None] == tokens, numbers, 0.0).sum(1)


class Choice:
    """Picks tokens from the logits of one pass, (n_rows, n_positions, vocab)."""

    def __init__(self, logits: torch.Tensor, sampling: Sampling):
        self.logits = logits
        self.warpers = sampling.warpers()
        self.is_greedy = sampling.temperature == 0
        # Where Python can wait, one transfer settles the whole draft. Elsewhere looking ahead would only
        # compute what a wrong draft makes useless.
        self.looks_ahead = is_remote(logits.device)

    @functools.cached_property
    def _best(self) -> list[list[int]]:
        """The best of all tokens, at every position."""
        return self.logits.argmax(-1).tolist()

    def pick(self, places: list[Place]) -> list[tuple[int, float | None]]:
        """(token, its log-probability among the allowed ones, or None where `logps` computes it) per place.

        The places of a row come in the order of its text, which is the order of its draws.
        """
        picks: list = [None] * len(places)
        # Rows in the same state of a schema share the tensor of what may come.
        groups: dict[tuple[int, Bias | None], list[int]] = {}
        random_numbers: dict[int, torch.Tensor] = {}
        for i, place in enumerate(places):
            if place.allowed is not None and place.is_forced:
                picks[i] = (int(place.allowed[0]), 0.0)
            elif self._is_late(place) and place.bias is None:
                picks[i] = (self._best[place.row][place.position], None)
            else:
                groups.setdefault((id(place.allowed), place.bias), []).append(i)
                if not self.is_greedy:
                    random_numbers[i] = self._next_number(place)

        parts: list[list[int]] = []
        found: list[torch.Tensor] = []
        for group in groups.values():
            for part in self._split(group, self._width(places[group[0]])):
                parts.append(part)
                of_part = [random_numbers[i] for i in part if random_numbers]
                found += self._pick_together([places[i] for i in part], of_part)
        numbers = iter(fetch(found) if found else [])
        for part in parts:
            tokens = next(numbers)
            logps = next(numbers)
            check_logps(logps, self.logits.dtype)
            for i, token, logp in zip(part, tokens, logps):
                picks[i] = (int(token), None if self._is_late(places[i]) else logp)
        return picks

    def _is_late(self, place: Place) -> bool:
        """True where `logps` computes the log-probability, with those of all other such places."""
        return self.is_greedy and place.allowed is None

    def _width(self, place: Place) -> int:
        """The number of tokens to choose from."""
        return self.logits.shape[-1] if place.allowed is None else len(place.allowed)

    def _split(self, items: list, width: int) -> list[list]:
        n_items = max(1, _MAX_LOGITS // width)
        return list(batched(items, n_items))

    def _next_number(self, place: Place) -> torch.Tensor:
        """The random number of a place, (1,), from the row's own stream."""
        assert place.generator is not None
        if self.looks_ahead:
            place.state = place.generator.get_state()
        return random_number(place.generator, self.logits.device)

    def _pick_together(
        self, places: list[Place], numbers: list[torch.Tensor]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Tokens and log-probabilities, (n_places,) each; all places allow the same tokens, with one bias.

        `numbers`: a random number per place, (1,) each; none for greedy rows.
        """
        logits = self.logits[self._index(places)]  # (n_places, vocab)
        allowed = places[0].allowed
        if allowed is not None:
            # A guide may keep its ids in main memory.
            allowed = allowed.to(logits.device)
            logits = logits[:, allowed]  # (n_places, n_allowed)
        # The reported log-probability is the model's own, before bias, temperature, top-p and top-k.
        logps = logits.float().log_softmax(-1)
        scores = logps if places[0].bias is None else _add(places[0].bias, logps, allowed)
        if self.is_greedy:
            chosen = scores.argmax(-1)
        else:
            # No warper here looks at the ids of the tokens so far.
            no_ids: Any = None
            weights = self.warpers(no_ids, scores).softmax(-1)
            chosen = draw(weights, torch.cat(numbers))
        tokens = chosen if allowed is None else allowed[chosen]
        return tokens, logps.gather(1, chosen[:, None])[:, 0]

    def _index(self, places: list[Place]) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows and the positions of places, (n_places,) each."""
        numbers = [[place.row for place in places], [place.position for place in places]]
        rows, positions = on_device(numbers, self.logits.device)
        return rows, positions

    def logps(self, places: list[Place], tokens: list[int]) -> torch.Tensor:
        """Log-probabilities (n_places,) of tokens among all tokens."""
        found = []
        chosen = on_device(tokens, self.logits.device)
        start = 0
        for part in self._split(places, self.logits.shape[-1]):
            logits = self.logits[self._index(part)]  # (n_places, vocab)
            found.append(token_logps(logits, chosen[start : start + len(part)]))
            start += len(part)
        return torch.cat(found)
