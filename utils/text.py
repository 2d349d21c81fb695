"""Text as this project counts it: words, sentences, chunks, and whether a text contains an answer.

It knows no model: token ids are in `utils/tokens.py`.
"""

import functools
import html
import re
import string
import unicodedata

from utils.numerals import plain_numbers
from utils.writing_systems import FULL_STOP, is_unspaced, run_pattern, without_points, words_of

REFUSAL = "[INSUFFICIENT_EVIDENCE]"

# Accepted forms of a verdict. They are classes, so the words need not occur in the evidence. Yes/no questions
# use the same two classes.
LABEL_ALIASES = {
    "supported": ["supported", "supports", "true", "yes"],
    "refuted": ["refuted", "refutes", "false", "no"],
}
VERDICT_OF = {word: verdict for verdict, words in LABEL_ALIASES.items() for word in words}
# "Yes." and "no!" are verdicts too, as people write them; "Yes, it was" is a sentence.
_END_MARKS = ".!"

# Function words only: a content word missing here costs a little precision in matching, a wrong one costs
# recall.
STOP_WORDS = frozenset(
    "a an and are as at be been being but by can could did do does for from had has have he her him his how "
    "i in into is it its may me my of on or our she should so such than that the their them then there these "
    "they this those to was we were what when where which who whom whose why will with would you your".split()
)
_ABBREVIATIONS = frozenset(
    "mr mrs ms dr prof st mt sr jr vs no vol fig inc ltd co gen col lt sgt rev hon u.s u.k e.g i.e c ca "
    "approx".split()
)
_MAX_ABBREVIATION_CHARS = 64
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLE = re.compile(r"\b(a|an|the)\b")
# End marks, closing quotes or brackets, white space, and then what can start a sentence.
_SENTENCE_END = re.compile(rf"[.!?][\"')\]]*\s+(?=[\"'(\[]?[A-Z0-9])|{FULL_STOP}\s*(?=\S)")
_INITIALS = re.compile(r"[a-z](\.[a-z])*")
# Characters that nobody sees: a title of them alone is none.
_NO_WIDTH = dict.fromkeys((0x200B, 0x2060, 0xFEFF))
# Only with its semicolon: "Q&notes" has no sign of negation. The ampersand may be escaped several times over,
# as in `&amp;quot;`.
_ENTITY = re.compile(r"&(?:amp;)*(#?\w{1,32};)")
# A shorter alias ("US") is found in far too many texts. Two characters of a script without spaces are a name.
_MIN_ALIAS_CHARS = 3
_MIN_UNSPACED_CHARS = 2


def verdict_of(answer: str) -> str | None:
    """`supported` for yes, true and their like, `refuted` for no and false; None for any other text."""
    return VERDICT_OF.get(answer.strip().rstrip(_END_MARKS).rstrip().lower())


# Cached: scoring 1,000 samples with intervals and baselines normalizes the same few strings 400,000 times.
@functools.lru_cache(maxsize=1 << 16)
def normalize_answer(text: str) -> str:
    """SQuAD normalization: lower case, no ASCII punctuation, no articles, single spaces.

    The rule of the official script (Rajpurkar et al., 2016), so figures compare with published ones.
    """
    text = text.lower().translate(_NO_PUNCTUATION)
    return " ".join(_ARTICLE.sub(" ", text).split())


def tokenize(text: str) -> list[str]:
    """Lower-case words for matching, after NFKC. `1,047` is the one number `1047`; punctuation is dropped.

    In scripts without spaces every character is a word. Arabic and Hebrew lose their points.
    """
    return words_of(without_points(plain_numbers(text).lower()))


def without_entities(text: str) -> str:
    """The text with HTML entities as characters: `AT&amp;T` is written `AT&T` elsewhere."""
    if "&" not in text:
        return text
    return _ENTITY.sub(lambda match: html.unescape(f"&{match[1]}"), text)


def plain_title(title: str) -> str:
    """A page title in one spelling: HTML entities as characters, Unicode composed (NFC), single spaces.

    The data sets spell the titles of one Wikipedia in each of these ways.
    """
    title = without_entities(title).translate(_NO_WIDTH)
    return unicodedata.normalize("NFC", " ".join(title.split()))


def plain_question(question: str) -> str:
    """A question without regard to case, Unicode form and spaces: what is equal so has equal words.

    Not by `casefold`: "Straße" and "Strasse" have other words in `tokenize`, by which rows are grouped.
    """
    return " ".join(unicodedata.normalize("NFKC", question).lower().split())


def chunk_text(chunk: dict) -> str:
    """Title and text of a chunk, as one text to search in."""
    return f"{chunk['title']}. {chunk['text']}"


def content_words(text: str) -> list[str]:
    """The words of `tokenize` that are not function words."""
    return [token for token in tokenize(text) if token not in STOP_WORDS]


def contains_tokens(haystack: list[str], needle: list[str]) -> bool:
    """True when `needle` is a contiguous run inside `haystack`. An empty needle is contained in nothing."""
    n = len(needle)
    return n > 0 and any(haystack[i : i + n] == needle for i in range(len(haystack) - n + 1))


# Cached: many questions find the same chunks.
@functools.lru_cache(1 << 14)
def padded_words(text: str) -> str:
    """The words of a text, each with a space on both sides.

    One text's words are a contiguous run of another's exactly when its padded words are a substring of the
    other's.
    """
    return f" {' '.join(tokenize(text))} "


def holds_answer(text: str, aliases: list[str]) -> bool:
    """True when the text contains an accepted answer as a run of words, so "2" is not found in "1912"."""
    return holds_words(padded_words(text), [padded_words(alias) for alias in aliases])


def holds_words(words: str, needles: list[str]) -> bool:
    """`holds_answer` on `padded_words`. An answer without any word is found nowhere."""
    return any(needle in words for needle in needles if needle.strip())


def answer_pattern(answers: list[str]) -> re.Pattern | None:
    """A pattern that finds answers in running text as runs of words, with any punctuation between the words.

    Ignores case. Returns None when no answer has a word.
    """
    # Alternation takes the first match, so the answer with most words comes first.
    runs = sorted({tuple(words_of(answer)) for answer in answers} - {()}, key=len, reverse=True)
    alternatives = [run_pattern(run) for run in runs]
    if not alternatives:
        return None
    return re.compile("|".join(alternatives), re.IGNORECASE)


def _is_weak(answer: str) -> bool:
    """True for an alias that is found in far too many texts."""
    n_least = _MIN_UNSPACED_CHARS if is_unspaced(answer) else _MIN_ALIAS_CHARS
    return len(answer) < n_least or not content_words(answer)


def usable_aliases(answers: list[str]) -> list[str]:
    """The canonical answer first, then distinct aliases of 3 or more characters, not all function words.

    Verdict words are never too weak: "no" is not looked for in the evidence.
    """
    kept = []
    seen = set()
    is_verdict = bool(answers) and verdict_of(answers[0]) is not None
    for i, answer in enumerate(answers):
        answer = answer.strip()
        is_class = is_verdict and verdict_of(answer) is not None
        is_usable = i == 0 or is_class or not _is_weak(answer)
        if answer and answer.casefold() not in seen and is_usable:
            kept.append(answer)
            seen.add(answer.casefold())
    return kept


def split_sentences(text: str) -> list[str]:
    """Sentences of running text. A full stop after an initial or a known abbreviation does not end one."""
    sentences = []
    start = 0
    for match in _SENTENCE_END.finditer(text):
        # An abbreviation is short, and a text may have thousands of them without any sentence's end.
        words = text[max(start, match.start() - _MAX_ABBREVIATION_CHARS) : match.start()].split()
        last_word = words[-1].lower().lstrip("(\"'") if words else ""
        is_abbreviation = last_word in _ABBREVIATIONS or _INITIALS.fullmatch(last_word)
        if text[match.start()] == "." and is_abbreviation:
            continue
        sentences.append(text[start : match.end()].strip())
        start = match.end()
    tail = text[start:].strip()
    return sentences + [tail] if tail else sentences


def pack_sentences(sentences: list[str], max_words: int) -> list[list[int]]:
    """Runs of consecutive sentence indices, at most `max_words` words per run.

    A sentence of more words is a run by itself.
    """
    runs: list[list[int]] = []
    n_words = 0
    for i, sentence in enumerate(sentences):
        length = len(sentence.split())
        # An empty sentence belongs to no run, and does not end one either.
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
    """The words and word pairs of a text. Near-duplicate questions have sets of high Jaccard similarity."""
    words = tokenize(text)
    pairs = {f"{first} {second}" for first, second in zip(words, words[1:])}
    return frozenset(words) | pairs
