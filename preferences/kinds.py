"""Kinds of pairs: what a chosen and a rejected completion differ in, and pairs that are matched in form.

It sees parsed completions, and knows nothing about judges, scores or margins.
"""

from collections.abc import Sequence

from utils.completions import Parsed
from utils.text import normalize_answer

# Other answers; one answer with other citations; and the three in which a side is no answer.
KINDS = (
    "other answer",
    "other citations",
    "answer over refusal",
    "refusal over answer",
    "over unparsable",
)


def meaning(parsed: Parsed) -> tuple | None:
    """What a completion says: its answer, normalized, and its citations; None for an unparsable one.

    Two refusals say the same, whatever they cite.
    """
    if parsed.answer is None:
        return None
    if parsed.is_refusal:
        return ("refusal",)
    return (normalize_answer(parsed.answer), frozenset(parsed.citations))


def pair_kind(chosen: Parsed, rejected: Parsed) -> str:
    """The kind of a pair; one of KINDS."""
    if rejected.answer is None:
        return "over unparsable"
    if chosen.is_refusal:
        return "refusal over answer"
    if rejected.is_refusal:
        return "answer over refusal"
    is_same = normalize_answer(chosen.answer or "") == normalize_answer(rejected.answer)
    return "other citations" if is_same else "other answer"


def form(text: str, parsed: Parsed) -> tuple[int, ...]:
    """The form of a completion, without its content, in whole numbers.

    Characters, characters of the answer, citations, confidence in hundredths, refusal, validity.
    """
    return (
        len(text),
        len(parsed.answer or ""),
        len(parsed.citations),
        round(100 * (parsed.confidence or 0.0)),
        int(parsed.is_refusal),
        int(parsed.is_valid),
    )


def _classes(chosen: tuple[int, ...], rejected: tuple[int, ...]) -> tuple[int, ...]:
    """The difference of two forms, each number as -2..2: equal, a little more or less, much more or less."""
    # Lengths differ a little up to 8 characters, a citation and a step of confidence count as much.
    little = (8, 8, 1, 20, 0, 0)
    classes = []
    for a, b, limit in zip(chosen, rejected, little):
        size = 0 if a == b else 1 if abs(a - b) <= limit else 2
        classes.append(size if a > b else -size)
    return tuple(classes)


def match_forms(forms: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[int]:
    """Indices of the pairs, in their order, that are kept so that form does not tell which side is chosen.

    `forms`: (of the chosen, of the rejected) per pair. For each difference in form, as many pairs are kept
    as there are pairs with the opposite difference; pairs of the same form are all kept. So a rule that sees
    form alone is right as often as it is wrong.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    for i, (chosen, rejected) in enumerate(forms):
        members.setdefault(_classes(chosen, rejected), []).append(i)
    kept: list[int] = []
    for difference, places in members.items():
        opposite = tuple(-size for size in difference)
        n_kept = len(members.get(opposite, []))
        kept += places[:n_kept]
    return sorted(kept)
