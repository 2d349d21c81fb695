"""The output schema as a regular expression, for engines that take no state machine of ours.

It accepts what generation/schema_states.py accepts behind the opening of a completion. A JSON schema could
not say it: that citations ascend, that they cite shown chunks, and that a refusal cites nothing.
This module knows neither tokens nor engines.
"""

import functools
import re

from utils.completions import MAX_ANSWER_CHARS
from utils.text import REFUSAL

# What every completion begins with; the pattern describes the rest.
OPENING = '{"answer": "'
_ESCAPE = r'\\["\\/]'
_UNQUOTED = r'"\\\x00-\x1f'
_CHAR = rf"(?:[^{_UNQUOTED}]|{_ESCAPE})"
# The spaces of str.isspace, written out: engines differ in what \s is.
_SPACES = r" \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
_CONFIDENCE = r"(?:0|1|1\.0|0\.[0-9]{1,3})"


def _but(chars: str) -> str:
    """One character of an answer, or an escape, but none of `chars`."""
    return rf"(?:[^{_UNQUOTED}{chars}]|{_ESCAPE})"


def _answer() -> str:
    """An answer of 1 to MAX_ANSWER_CHARS characters that does not begin like the refusal token."""
    # An answer that only begins like the refusal ("[I do not know]") is left out: telling the two apart at
    # every character would need a pattern of thousands of states.
    bracket = re.escape(REFUSAL[0])
    like_refusal = bracket + _but(REFUSAL[1])
    other = _but(_SPACES + bracket) + f"{_CHAR}?"
    # Nested and not {0,118}: at a counted repetition xgrammar (0.2.8) looks through the vocabulary in every
    # step (40 ms per row with 49,000 tokens); nested it takes 5 s once, and 0.01 ms per step.
    rest = ""
    for _ in range(MAX_ANSWER_CHARS - 2):
        rest = f"(?:{_CHAR}{rest})?"
    return f"(?:(?:{like_refusal}|{other}){rest}|{bracket})"


def _ascending(n_chunks: int) -> str:
    """Distinct, ascending numbers below `n_chunks`, at least one."""
    lists = []
    for first in range(n_chunks):
        later = [f"(?:, {i})?" for i in range(first + 1, n_chunks)]
        lists.append(str(first) + "".join(later))
    return "|".join(lists)


@functools.lru_cache(maxsize=64)
def completion_pattern(n_chunks: int) -> str:
    """A regular expression for the rest of a completion that may cite chunks 0 to `n_chunks` - 1."""
    refusal = rf'{re.escape(REFUSAL)}[{_SPACES}]*", "citations": \[\], "confidence": 0\.0\}}'
    citations = rf"\[(?:{_ascending(n_chunks)})?\]" if n_chunks else r"\[\]"
    answer = rf'{_answer()}", "citations": {citations}, "confidence": {_CONFIDENCE}\}}'
    return f"(?:{refusal}|{answer})"
