"""Whether an answer is an accepted one: exact match, shared words, and the one rule for "correct".

It sees an answer and the accepted ones. Citations and refusals are the business of `utils/scoring.py`.
"""

import functools
import re
from collections import Counter
from collections.abc import Sequence

from utils.answer_faults import fault, is_same, lists_only
from utils.answer_forms import answer_form
from utils.schema import is_label_answer, verdict_class
from utils.text import normalize_answer

# An answer with a higher token F1 may be the right one in other words ("Warsaw, Poland" for "Warsaw").
CORRECT_F1 = 0.5
# Bounded: a note is short, and without a bound an alias of spaces or digits alone would take hours.
_NUMBER_NOTE = re.compile(r"\s{0,9}\([^()\d]{0,99}\d[^()]{0,99}\)")


def token_overlap(answer: str, alias: str) -> tuple[float, float, float]:
    """(precision, recall, F1) of normalized answer tokens and one alias (SQuAD; Rajpurkar et al., 2016)."""
    return word_overlap(normalize_answer(answer).split(), normalize_answer(alias).split())


def word_overlap(found: list[str], wanted: list[str]) -> tuple[float, float, float]:
    """(precision, recall, F1) of two bags of words."""
    # Punctuation and articles alone normalize to nothing; SQuAD then compares for equality.
    if not found or not wanted:
        same = float(found == wanted)
        return same, same, same

    n_shared = sum((Counter(found) & Counter(wanted)).values())
    if n_shared == 0:
        return 0.0, 0.0, 0.0
    precision = n_shared / len(found)
    recall = n_shared / len(wanted)
    return precision, recall, 2 * precision * recall / (precision + recall)


def exact_match(answer: str, aliases: list[str]) -> float:
    """1.0 when the answer equals an alias after SQuAD normalization, else 0.0."""
    return float(any(normalize_answer(answer) == normalize_answer(alias) for alias in aliases))


def _is_label(aliases: Sequence[str]) -> bool:
    """Whether a sample asks for a verdict or for yes or no: "Yes" with "Yes (band)" is a name."""
    return all(map(is_label_answer, aliases))


def label_match(answer: str, label: str) -> float:
    """1.0 when both are words of one verdict: yes, true and supported, or no, false and refuted."""
    return float(verdict_class(normalize_answer(answer)) == verdict_class(label))


def best_match(answer: str, aliases: list[str]) -> float:
    """Exact match against the accepted answers; of a label answer, against its class."""
    if _is_label(aliases):
        return label_match(answer, aliases[0])
    return exact_match(answer, aliases)


def answer_overlap(answer: str, aliases: list[str]) -> tuple[float, float, float]:
    """(precision, recall, F1) against the alias with the best F1.

    A yes/no or label answer is a class, so it gets its exact match three times (HotpotQA's rule for yes and
    no).
    """
    if _is_label(aliases):
        return (label_match(answer, aliases[0]),) * 3
    return max((token_overlap(answer, alias) for alias in aliases), key=lambda overlap: overlap[2])


def is_correct(answer: str, aliases: list[str]) -> bool:
    """True for an accepted answer in any spelling, or one of F1 above 0.5 without a fault.

    Faults are a number, date or denial that differs, an added alternative, a replaced part and a repeated
    question (`utils/answer_faults.py`). A verdict is right when it is of the same class.
    """
    if _is_label(aliases):
        return bool(label_match(answer, aliases[0]))
    return _is_correct_text(answer, tuple(aliases))


def is_partial(answer: str, aliases: list[str]) -> bool:
    """True for an answer that is correct, but lacks words of every accepted one: it may say too little."""
    if _is_label(aliases) or not is_correct(answer, aliases) or lists_only(answer, tuple(aliases)):
        return False
    given = answer_form(answer).words
    for alias in (*aliases, *map(_without_note, aliases)):
        recall = max(token_overlap(answer, alias)[1], word_overlap(given, answer_form(alias).words)[1])
        if recall == 1 or is_same(answer, alias):
            return False
    return True


def _without_note(alias: str) -> str:
    """An accepted answer without a number in brackets, which NQ adds as a note: `Jay Cutler (5)`."""
    return _NUMBER_NOTE.sub("", alias).strip() if "(" in alias else ""


# Cached: a completion is scored for its metrics, its confidence and its strict parse.
@functools.lru_cache(1 << 16)
def _is_correct_text(answer: str, aliases: tuple[str, ...]) -> bool:
    aliases = (*aliases, *(alias for alias in map(_without_note, aliases) if alias))
    if any(is_same(answer, alias) for alias in aliases):
        return True
    for alias in aliases:
        # The same words in normal form may overlap more: "twenty-one years" and "21 years".
        given = answer_form(answer).words
        wanted = answer_form(alias).words
        # Two texts of signs or articles alone share nothing.
        as_written = token_overlap(answer, alias)[2] if normalize_answer(answer) else 0.0
        overlap = max(as_written, word_overlap(given, wanted)[2] if given else 0.0)
        if overlap > CORRECT_F1 and fault(answer, alias) is None:
            return True
    return lists_only(answer, aliases)


def is_correct_lenient(answer: str, aliases: list[str]) -> bool:
    """The rule before faults were looked for, kept for comparison: F1 of at least 0.5."""
    return answer_overlap(answer, aliases)[2] >= CORRECT_F1
