"""Whole sentences of a chunk, and what each says about the subject of its page.

"Harry (born 1970) is an actor." on the page `Harry (actor)` says "is an actor" of `Harry`. Knows no relation.
"""

import functools
import html
import re
from dataclasses import dataclass

from evidence.questions.spans import NAME_RE
from utils.text import split_sentences, tokenize

_MIN_WORDS = 5
_MAX_WORDS = 45

# A sentence that begins so speaks about the subject of its page, if nothing else was named before it.
_THINGS = (
    "film movie documentary sitcom series show episode album song single novel book play opera musical "
    "poem game band group duo company team club city town village district county province stadium "
    "museum building tower school university college airport station magazine newspaper bridge castle"
)
THINGS = frozenset(_THINGS.split())
_INDIRECT = re.compile(rf"(?:He|She|It|They|The (?:{'|'.join(_THINGS.split())}))(?= )")
_BRACKETS = re.compile(r"\s*\([^()]*\)|\s*\[[^\[\]]*\]")
_ASIDE = re.compile(r"\(([^()]*)\)")
_LAST_BRACKETS = re.compile(r"\s*\([^()]*\)$")
# Some sources put spaces around punctuation.
_SPACED = (
    (re.compile(r"<[^>]*>"), " "),
    (re.compile(r"\s+([,.;:)])"), r"\1"),
    (re.compile(r"\(\s+"), "("),
    (re.compile(r"\s+(?='s\b)"), ""),
    (re.compile(r'(?<!\S)" ([^"]*?) "(?!\w)'), r'"\1"'),
    (re.compile(r"\s+"), " "),
)
_BEFORE_STOP = re.compile(r"\s+([,.;])")
_LAST_STOP = re.compile(r"[.!?][\"']?$")
_VERB = re.compile(
    r"(?!his\b|its\b|as\b|this\b)(?:is|was|are|were|has|had|have|will|can|[a-z]+ed|[a-z]+s|began|won|"
    r"wrote|sang|became|came|made|took|left|led|grew|ran|held|met|sold|built|gave|got|lost|fought|stood|rose|"
    r"fell|went)\b"
)
# ", also known as Project Y," between a subject and its verb.
_BETWEEN = re.compile(r"(?:,[^,]{1,60},)? ")
_AFTER_NAME = re.compile(r"[,.]?\"?(?=[ ,])")
_HEAD = re.compile(r"([^;:]{2,70}?),? (?=(?:is|was|are|were|played|won|has|had) )")
_KNOWN_AS = re.compile(
    r"[^;:]{2,80}? known (?:professionally |mononymously |simply )?as ([^,;:]{2,40}?),? (?=is |was )"
)


@dataclass(frozen=True)
class PageSentence:
    """`text` has no brackets; `aside` is what was in the first ones.

    `subject` and `predicate` are "" where the sentence is about something else. `is_indirect`: it says "He"
    or "The film" for its subject.
    """

    title: str
    text: str
    aside: str
    subject: str
    predicate: str
    is_indirect: bool


@functools.lru_cache(1 << 14)
def page_name(title: str) -> str:
    """A title without its brackets: `Ugly (film)` -> `Ugly`."""
    title = html.unescape(title)
    return _LAST_BRACKETS.sub("", title).strip() or title


def clean_text(text: str) -> str:
    """Running text without tags, and with spaces as in print."""
    text = html.unescape(text)
    for pattern, replacement in _SPACED:
        text = pattern.sub(replacement, text)
    return text.strip()


def _without_repeated_title(text: str, title: str) -> str:
    """`... Ugly (film) Ugly is a film` -> `Ugly is a film`: some passages have their page's title inside."""
    start = text.find(f"{title} ")
    rest = text[start + len(title) :].lstrip()
    begins = tuple(f"{mark}{page_name(title)}" for mark in ("", '"', "The ", "A ", "An "))
    return rest if start >= 0 and rest.startswith(begins) else text


def _is_name_of(head: str, name: str) -> bool:
    """Whether a run of capitalized words names the page: its title, a longer form of it, or its last name."""
    words = tokenize(head)
    wanted = tokenize(name)
    if not words or not wanted or not NAME_RE.fullmatch(re.sub(r"[\",]", "", head).strip()):
        return False
    if len(words) == 1 < len(wanted):
        return words == wanted[-1:]
    rest = iter(words)
    return all(word in rest for word in wanted) and len(words) <= len(wanted) + 4


def _after_name(text: str, name: str) -> str:
    """What follows the page's name at the start of a sentence; "" if it starts otherwise."""
    lower = text.lower()
    for mark in ("", '"', "the ", 'the "'):
        if lower.startswith(mark + name.lower()):
            rest = text[len(mark) + len(name) :]
            found = _AFTER_NAME.match(rest)
            return rest[found.end() :] if found else ""
    return ""


def _subject_and_predicate(text: str, title: str, is_open: bool) -> tuple[str, str, bool]:
    """(subject, predicate, is_indirect) of a sentence. `is_open`: nothing else was named yet."""
    name = page_name(title)
    rest = _after_name(text, name)
    found = _BETWEEN.match(rest)
    if found and _VERB.match(rest, found.end()):
        return name, rest[found.end() :], False
    indirect = _INDIRECT.match(text)
    # A page whose name is one word is rarely a person's, so somebody else is meant.
    is_other = bool(indirect and indirect[0] in ("He", "She") and len(name.split()) == 1)
    if indirect and is_open and not is_other:
        rest = text[indirect.end() + 1 :]
        return (name, rest, True) if _VERB.match(rest) else ("", "", False)
    head = _HEAD.match(text)
    if head and _is_name_of(head[1].split(", ")[0], name):
        return name, text[head.end() :], False
    known = _KNOWN_AS.match(text)
    if known and tokenize(known[1]) == tokenize(name):
        return name, text[known.end() :], False
    return "", "", False


def _is_whole(sentence: str, plain: str) -> bool:
    """Whether a sentence is neither cut nor a heading. `plain`: the sentence without brackets."""
    starts = sentence[:1].isupper() or sentence[:1].isdigit() or sentence[:1] in "\"'"
    return starts and bool(_LAST_STOP.search(plain)) and "(" not in plain and "==" not in plain


@functools.lru_cache(1 << 14)
def page_sentences(title: str, text: str) -> tuple[PageSentence, ...]:
    """The whole sentences of a chunk. Cut ones, headings and lists are left out."""
    found = []
    is_open = True
    for sentence in split_sentences(_without_repeated_title(clean_text(text), title)):
        aside = _ASIDE.search(sentence)
        plain = _BEFORE_STOP.sub(r"\1", _BRACKETS.sub("", sentence).strip())
        if not _is_whole(sentence, plain):
            is_open = False
            continue
        subject, predicate, is_indirect = _subject_and_predicate(plain, title, is_open)
        is_open = bool(subject)
        if _MIN_WORDS <= len(sentence.split()) <= _MAX_WORDS:
            predicate = _LAST_STOP.sub("", predicate)
            found.append(
                PageSentence(title, plain, aside[1] if aside else "", subject, predicate, is_indirect)
            )
    return tuple(found)
