"""Drafts: guesses of the next tokens of a completion, from the completions before it.

Generation checks every guess, so drafts change its speed and nothing else. This module counts tokens and
knows one thing about their text: where the object with the answer ends.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

from utils.json_search import holds_answer_object, opens_draft
from utils.tokens import decode

# Context lengths in tokens, longest first: eight reach from the digits of a confidence back to the citations.
_CONTEXTS = (8, 4, 2, 1)
# A drafted token costs little compared with the pass that reads it: one right guess in five already pays.
_MIN_PROBABILITY = 0.2
_MAX_DRAFT = 32
# Examples count as several completions, so that a first odd completion does not outvote them.
_EXAMPLE_WEIGHT = 4
# Tokens at the end of a prompt that tell whether it has opened a draft of the model's thoughts.
_PROMPT_END = 16


class Drafter:
    """Counts which token followed which context in the completions of one model."""

    def __init__(self, examples: Sequence[list[int]] = ()):
        """`examples`: expected completions as token ids; the model's own outnumber them soon."""
        self.counts: dict[tuple, Counter] = defaultdict(Counter)
        for ids in examples:
            self.learn(ids, _EXAMPLE_WEIGHT)

    def learn(self, ids: list[int], weight: int = 1) -> None:
        """Count a completion (token ids) `weight` times."""
        padded = _padded(ids)
        for place in range(_CONTEXTS[0], len(padded)):
            for n in _CONTEXTS:
                context = tuple(padded[place - n : place])
                self.counts[context][padded[place]] += weight

    def draft(self, ids: list[int]) -> list[int]:
        """The likeliest continuation of a completion, as far as it is right with probability 0.2 or more."""
        padded = _padded(ids)
        drafted: list[int] = []
        probability = 1.0
        while len(drafted) < _MAX_DRAFT:
            known = self._after(padded)
            if known is None:
                break
            token, n_times = known.most_common(1)[0]
            # One more than was counted: what was seen once may be seen only once.
            probability *= n_times / (known.total() + 1)
            if probability < _MIN_PROBABILITY:
                break
            drafted.append(token)
            padded.append(token)
        return drafted

    def _after(self, padded: list[int | None]) -> Counter | None:
        """Counts of what followed the longest known context."""
        for n in _CONTEXTS:
            context = tuple(padded[-n:])
            # `in` first: a look-up in a defaultdict would add the context.
            if context in self.counts:
                return self.counts[context]
        return None


def _padded(ids: list[int]) -> list[int | None]:
    """The ids behind enough padding that their first tokens have contexts too."""
    return [None] * _CONTEXTS[0] + list(ids)


class FreeGuide:
    """The guide of a row without constraints: drafts, and a stop test."""

    def __init__(self, drafter: Drafter, stop: Callable[[list[int]], bool]):
        self.draft = drafter.draft
        self.stop = stop

    def allowed(self, ids: list[int]) -> None:
        """All tokens may come next."""
        return None


def json_object_end(tokenizer, prompt: Sequence[int] = ()) -> Callable[[list[int]], bool]:
    """A stop test: true when the text contains a whole object with an answer, behind any draft.

    `prompt`: the ids in front of the text, which may have opened a draft.
    """
    # The mark of a draft may be a control token.
    opening = tokenizer.decode(list(prompt[-_PROMPT_END:])).rstrip()
    opened = opening if opens_draft(opening) else ""

    def stop(ids: list[int]) -> bool:
        # Only a token with a closing brace can end the object; decoding all ids after every token would be
        # waste.
        if "}" not in tokenizer.decode(ids[-1:]):
            return False
        return holds_answer_object(opened + decode(tokenizer, ids))

    return stop
