"""Text as this project counts it: tokens, sentences, chunks, and whether a text holds an answer."""

import functools
import re
import string
import unicodedata

REFUSAL = "[INSUFFICIENT_EVIDENCE]"

# Function words only: a content word missing from this list costs a little precision in matching, a wrong one costs recall.
STOP_WORDS = frozenset(
    "a an and are as at be been being but by can could did do does for from had has have he her him his how i in into is it its "
    "may me my of on or our she should so such than that the their them then there these they this those to was we were what when "
    "where which who whom whose why will with would you your".split()
)
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st mt sr jr vs no vol fig inc ltd co gen col lt sgt rev hon u.s u.k e.g i.e c ca approx".split()
)
_WORD = re.compile(r"\w+")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}\b)")


@functools.lru_cache(maxsize=1 << 16)
def normalize_answer(text: str) -> str:
    """SQuAD normalisation: lower case, no ASCII punctuation, no articles, single spaces (Rajpurkar et al., 2016)."""
    text = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def tokenize(text: str) -> list[str]:
    """Lower-case word tokens for matching: NFKC, `1,047` is one number `1047`, punctuation dropped."""
    text = unicodedata.normalize("NFKC", text).lower()
    return _WORD.findall(_THOUSANDS.sub("", text))


def content_words(text: str) -> list[str]:
    return [token for token in tokenize(text) if token not in STOP_WORDS]


def contains_tokens(haystack: list[str], needle: list[str]) -> bool:
    """True when `needle` is a contiguous run inside `haystack`. An empty needle is contained in nothing."""
    n = len(needle)
    return n > 0 and any(haystack[i : i + n] == needle for i in range(len(haystack) - n + 1))


@functools.lru_cache(1 << 14)  # chunks that many questions find
def padded_words(text: str) -> str:
    """The tokens of a text between single spaces, so that one is a token sequence of another when it is its substring."""
    return f" {' '.join(tokenize(text))} "


def holds_answer(text: str, aliases: list[str]) -> bool:
    """True when an accepted answer stands in the text as a token sequence, so "2" is not found in "1912"."""
    return holds_words(padded_words(text), [padded_words(alias) for alias in aliases])


def holds_words(words: str, needles: list[str]) -> bool:
    """`holds_answer` on `padded_words`. An answer without any token is held by nothing."""
    return any(needle in words for needle in needles if needle.strip())


def answer_pattern(answers: list[str]) -> re.Pattern | None:
    """Finds answers in running text as word sequences, whatever stands between their words, the longest first; None without any word."""
    words = sorted({tuple(re.findall(r"\w+", answer)) for answer in answers} - {()}, key=len, reverse=True)
    sequences = [r"\W+".join(map(re.escape, sequence)) for sequence in words]
    return re.compile(rf"(?<!\w)(?:{'|'.join(sequences)})(?!\w)", re.IGNORECASE) if words else None


def usable_aliases(answers: list[str]) -> list[str]:
    """The canonical answer first, then distinct aliases of at least 3 characters that are not all stop-words."""
    kept = []
    seen = set()
    for i, answer in enumerate(a.strip() for a in answers):
        too_weak = len(answer) < 3 or not content_words(answer)
        if answer and answer.casefold() not in seen and (i == 0 or not too_weak):
            kept.append(answer)
            seen.add(answer.casefold())
    return kept


def split_sentences(text: str) -> list[str]:
    """Sentences of running text. A full stop after an initial or a known abbreviation ends nothing."""
    sentences = []
    start = 0
    for match in re.finditer(r"[.!?][\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])", text):
        words = text[start : match.start()].split()
        last = words[-1].lower().lstrip("(\"'") if words else ""
        if text[match.start()] == "." and (last in _ABBREVIATIONS or re.fullmatch(r"[a-z](\.[a-z])*", last)):
            continue
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    tail = text[start:].strip()
    return sentences + [tail] if tail else sentences


def pack_sentences(sentences: list[str], max_words: int) -> list[list[int]]:
    """Runs of consecutive sentence indices with at most `max_words` words each; a longer sentence stands alone."""
    runs: list[list[int]] = []
    n_words = 0
    for i, sentence in enumerate(sentences):
        length = len(sentence.split())
        if length == 0:
            continue
        if runs and n_words + length <= max_words:
            runs[-1].append(i)
            n_words += length
        else:
            runs.append([i])
            n_words = length
    return runs


def shingles(text: str) -> frozenset[str]:
    """Word 1- and 2-grams: the set whose Jaccard similarity tells near-duplicate questions."""
    words = tokenize(text)
    return frozenset(words) | frozenset(f"{a} {b}" for a, b in zip(words, words[1:]))
