"""Kinds of pairs: what a chosen and a rejected completion differ in, and pairs that are matched in form.

It sees parsed completions, and knows nothing about judges, scores or margins.
"""

from collections.abc import Sequence

import numpy as np
from scipy.optimize import linear_sum_assignment

from utils.completions import Parsed
from utils.text import normalize_answer

# Other answers; one answer with other citations, or with other confidence alone; and the three in which a
# side is no answer.
KINDS = (
    "other answer",
    "other citations",
    "other confidence",
    "answer over refusal",
    "refusal over answer",
    "over unparsable",
)

# Characters that the differences of two matched pairs in the length of the answer may be apart.
_MAX_GAP = 3
# With more pairs on a side, the matrix of all gaps would take gigabytes, and the assignment hours.
_MAX_SIDE = 2000


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
    if normalize_answer(chosen.answer or "") != normalize_answer(rejected.answer):
        return "other answer"
    return "other confidence" if meaning(chosen) == meaning(rejected) else "other citations"


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


def _difference(chosen: tuple[int, ...], rejected: tuple[int, ...]) -> tuple[int, ...]:
    """In what two forms differ that lengths of answers do not explain: six numbers, 0 where they are equal.

    The first is the length of what stands around the answer.
    """
    around = (chosen[0] - chosen[1]) - (rejected[0] - rejected[1])
    return (around, *(a - b for a, b in zip(chosen[2:], rejected[2:])))


def _nearest_first(first: np.ndarray, second: np.ndarray) -> tuple[list[int], list[int]]:
    """`_matched` by gap instead of by their sum: all opposites, then those that miss by 1, and so on."""
    with_size: dict[int, list[int]] = {}
    # From behind, so that the first place of a size is the last of its list, which is quickly taken.
    for i, size in reversed(list(enumerate(second))):
        with_size.setdefault(-int(size), []).append(i)
    left = list(range(len(first)))
    rows: list[int] = []
    columns: list[int] = []
    for gap in range(_MAX_GAP + 1):
        unmatched = []
        for i in left:
            nearest = with_size.get(int(first[i]) - gap) or with_size.get(int(first[i]) + gap)
            if nearest:
                rows.append(i)
                columns.append(nearest.pop())
            else:
                unmatched.append(i)
        left = unmatched
    return rows, columns


def _matched(first: np.ndarray, second: np.ndarray) -> tuple[list[int], list[int]]:
    """Numbers of two lists, (n,) and (m,), that are opposites of each other, as many of each: their places.

    The assignment with the smallest sum of gaps; beyond `_MAX_GAP` there is no match.
    """
    if max(len(first), len(second)) > _MAX_SIDE:
        return _nearest_first(first, second)
    gaps = np.abs(first[:, None] + second[None])  # (n, m)
    rows, columns = linear_sum_assignment(gaps)
    close = gaps[rows, columns] <= _MAX_GAP
    return rows[close].tolist(), columns[close].tolist()


def match_forms(forms: Sequence[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[int]:
    """Indices of the pairs, in their order, that are kept so that form does not tell which side is chosen.

    `forms`: (of the chosen, of the rejected) per pair. Each pair is kept with one whose difference in form is
    the opposite, up to a few characters of the answers. So a rule that sees form alone is right as often as
    it is wrong.
    """
    members: dict[tuple[int, ...], list[int]] = {}
    longer = np.zeros(len(forms))
    for i, (chosen, rejected) in enumerate(forms):
        difference = _difference(chosen, rejected)
        members.setdefault(difference, []).append(i)
        longer[i] = chosen[1] - rejected[1]
    kept: list[int] = []
    for difference, places in members.items():
        opposite = tuple(-size for size in difference)
        if opposite == difference:
            # Only the answers differ in length: those with the longer one are matched with the others.
            kept += [i for i in places if not longer[i]]
            sides = [[i for i in places if longer[i] > 0], [i for i in places if longer[i] < 0]]
        # Each two differences once.
        elif opposite < difference:
            sides = [places, members.get(opposite, [])]
        else:
            continue
        for side, found in zip(sides, _matched(*(longer[side] for side in sides))):
            kept += [side[k] for k in found]
    return sorted(kept)
