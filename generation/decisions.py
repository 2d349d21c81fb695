"""The first token of an answer, where a model decides: refuse, `supported` or `refuted`, or any other word.

`encode_completion` ends the opening of a completion with a token of its own, so that the refusal and all
answers compete at one position. This module turns decisions about them into biases of tokens; it knows
neither where the numbers come from nor what a right decision is.
"""

import functools
import math
from collections.abc import Iterable
from typing import NamedTuple

from evidence.queries import claim_of
from evidence.surface_gates import gate_biases
from generation.choice import Bias
from generation.schema_pattern import OPENING
from utils.decisions import Decisions
from utils.errors import StageError
from utils.text import REFUSAL
from utils.tokens import encode_plain

# Above any difference of log-probabilities; infinity would make the verdicts equal.
_SURELY = 1000.0
_OPENS_REFUSAL = ("[", "(", "{", "<", "\\", '"', REFUSAL[1:4])


class FirstTokens(NamedTuple):
    """The ids of a completion's opening, and those that the decided answers begin with behind it."""

    opening: tuple[int, ...]
    refusal: int
    refuted: int
    supported: int


@functools.lru_cache(maxsize=16)
def first_tokens(tokenizer) -> FirstTokens:
    """The tokens of decisions. StageError for a tokenizer whose answers begin alike."""
    opening = tuple(encode_plain(tokenizer, OPENING))
    first = [encode_plain(tokenizer, text)[0] for text in (REFUSAL, "refuted", "supported")]
    if len(set(first)) < len(first):
        raise StageError(
            "the tokenizer begins a refusal and the two verdicts with the same token, so decisions cannot be "
            "fitted for it; leave out --calibrate"
        )
    return FirstTokens(opening, *first)


def decision_bias(tokenizer, refuse: float, refuted: float) -> Bias | None:
    """A bias on the first token of an answer; None where both numbers are 0."""
    tokens = first_tokens(tokenizer)
    added = [(tokens.refusal, refuse), (tokens.refuted, refuted)]
    nonzero = tuple((token, number) for token, number in added if number)
    return Bias(tokens.opening, nonzero) if nonzero else None


@functools.lru_cache(maxsize=4)
def _refusing_tokens(tokenizer) -> tuple[int, ...]:
    """The tokens that begin a refusal, also one in more brackets, which a model falls back on."""
    texts = tokenizer.batch_decode([[i] for i in range(len(tokenizer))])
    return tuple(i for i, text in enumerate(texts) if text.strip().startswith(_OPENS_REFUSAL))


def answering_bias(tokenizer, is_claim: bool) -> Bias:
    """The bias under which nothing is refused: a claim has one of the verdicts, whichever is likelier."""
    tokens = first_tokens(tokenizer)
    if is_claim:
        return Bias(tokens.opening, ((tokens.supported, _SURELY), (tokens.refuted, _SURELY)))
    return Bias(tokens.opening, tuple((token, -math.inf) for token in _refusing_tokens(tokenizer)))


def as_shown(samples: Iterable[dict], prompts: Iterable) -> list[dict]:
    """The samples with the chunks that their prompts show, in that order."""
    return [{**sample, "evidence_chunks": prompt.chunks} for sample, prompt in zip(samples, prompts)]


def decision_biases(
    tokenizer, decisions: Decisions | None, samples: Iterable[dict], prompts: Iterable
) -> list[Bias | None]:
    """One bias per sample and its prompt, for `GenerationSettings.biases`; none for plain decisions (None).

    A sample has `question` and `metadata`; a prompt has the `chunks` that gates read.
    """
    if decisions is None:
        return []
    if decisions.answers:
        return [answering_bias(tokenizer, bool(claim_of(sample))) for sample in samples]
    samples = as_shown(samples, prompts)
    added = gate_biases(decisions.gates, samples)
    biases = []
    for i, sample in enumerate(samples):
        if claim_of(sample):
            refuse = decisions.refuse_claim + float(added["refuse_claim"][i])
            refuted = decisions.refuted + float(added["refuted"][i])
            biases.append(decision_bias(tokenizer, refuse, refuted))
        else:
            refuse = decisions.refuse_question + float(added["refuse_question"][i])
            biases.append(decision_bias(tokenizer, refuse, 0.0))
    return biases


def forcing_bias(tokenizer, branch: str, is_claim: bool) -> Bias | None:
    """The bias that forces one of BRANCHES upon a greedy row.

    About a claim, "answer" is everything but refusing and `refuted`; else everything but refusing.
    """
    if branch == "refuse":
        return decision_bias(tokenizer, math.inf, 0.0)
    if branch == "refuted":
        return decision_bias(tokenizer, 0.0, math.inf)
    return decision_bias(tokenizer, -math.inf, -math.inf if is_claim else 0.0)
