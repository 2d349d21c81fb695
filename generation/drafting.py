"""Guesses of what a model says next, from what it said before. Generation checks them, so that they change its speed and nothing else."""

from collections import Counter, defaultdict
from collections.abc import Callable

# Context lengths in tokens, longest first: eight reach from a confidence's digits back over its key to the citations.
_CONTEXTS = (8, 4, 2, 1)
# A drafted token costs little beside the pass that reads it: one right in five already pays.
_MIN_PROBABILITY = 0.2
_MAX_DRAFT = 32


class Drafter:
    """Counts which token followed which in the completions of one model."""

    def __init__(self, examples: list[list[int]] = ()):
        """`examples`: completions as token ids that stand for what is to be expected, until the model's own outnumber them."""
        self.counts: dict[tuple, Counter] = defaultdict(Counter)
        for ids in examples:
            self.learn(ids, weight=4)

    def learn(self, ids: list[int], weight: int = 1) -> None:
        ids = [None] * _CONTEXTS[0] + ids
        for place in range(_CONTEXTS[0], len(ids)):
            for n in _CONTEXTS:
                self.counts[tuple(ids[place - n : place])][ids[place]] += weight

    def draft(self, ids: list[int]) -> list[int]:
        """The likeliest continuation of `ids`, as far as it is right with a probability of at least 0.2."""
        ids = [None] * _CONTEXTS[0] + ids
        drafted = []
        probability = 1.0
        while len(drafted) < _MAX_DRAFT:
            known = next(
                (self.counts[context] for n in _CONTEXTS if (context := tuple(ids[-n:])) in self.counts), None
            )
            if known is None:
                break
            token, n_times = known.most_common(1)[0]
            # One more than was counted: what was seen once may be seen only once.
            probability *= n_times / (known.total() + 1)
            if probability < _MIN_PROBABILITY:
                break
            drafted.append(token)
            ids.append(token)
        return drafted


class FreeGuide:
    """Guide of a row without constraints: drafts, and a test for the end."""

    def __init__(self, drafter: Drafter, stop: Callable[[list[int]], bool]):
        self.draft = drafter.draft
        self.stop = stop

    def allowed(self, ids: list[int]) -> None:
        return None


def json_object_end(tokenizer) -> Callable[[list[int]], bool]:
    """A stop test: the text so far holds a closed `{...}` (braces inside strings do not count)."""

    def stop(ids: list[int]) -> bool:
        # Only a token with a closing brace can end the object; decoding the rest of the time would be waste.
        if "}" not in tokenizer.decode(ids[-1:]):
            return False
        depth = 0
        in_string = False
        escaped = False
        for char in tokenizer.decode(ids, skip_special_tokens=True):
            if in_string:
                escaped, in_string = (char == "\\" and not escaped), not (char == '"' and not escaped)
            elif char == '"':
                in_string = depth > 0
            elif char == "{":
                depth += 1
            elif char == "}" and depth:
                depth -= 1
                if depth == 0:
                    return True
        return False

    return stop
