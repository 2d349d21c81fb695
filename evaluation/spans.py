"""The span of a text that a rule gives as its answer. It knows the question and the text, no gold."""

import re

from utils.text import STOP_WORDS, tokenize

# Longest answer of a rule, in words: most accepted answers are names, dates and numbers.
MAX_SPAN = 5
# Words on each side of a span in which words of the question count for it.
_CONTEXT = 6


def _has_asked_word(word: str, asked: set[str]) -> bool:
    return any(token in asked for token in tokenize(word))


def _has_content(word: str) -> bool:
    return any(token not in STOP_WORDS for token in tokenize(word))


def best_span(text: str, question: str) -> str:
    """The span of at most 5 words with the most question words within 6 words around it and none inside.

    Longer spans win ties, then earlier ones; without any usable span, the first 5 words.
    """
    words = text.split()
    asked = set(tokenize(question)) - STOP_WORDS
    hits = [_has_asked_word(word, asked) for word in words]
    # A span may contain stop words, but starts and ends with a word that says something new.
    is_edge = [not hit and _has_content(word) for hit, word in zip(hits, words)]
    best = " ".join(words[:MAX_SPAN])
    best_score = -1.0
    for start in range(len(words)):
        for end in range(start + 1, min(start + MAX_SPAN, len(words)) + 1):
            if not is_edge[start] or not is_edge[end - 1] or any(hits[start:end]):
                continue
            n_before = sum(hits[max(0, start - _CONTEXT) : start])
            n_after = sum(hits[end : end + _CONTEXT])
            # The small term prefers the longer of two spans with equally many question words around them.
            score = n_before + n_after + 0.01 * (end - start)
            if score > best_score:
                best = " ".join(words[start:end])
                best_score = score
    return re.sub(r"^\W+|\W+$", "", best) or best
