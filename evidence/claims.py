"""Claims and the sentences of their page: which can be judged from a text, and which a sentence may decide.

Both checks look at the claim and the text alone. A check that knew the verdict would leave only claims whose
verdict can be told from the words that they share with the evidence, which is a shortcut (docs/data.md).
"""

import functools
import re

from evidence.chunks import Chunk, cut_all
from evidence.paraphrase import asked_stems, bare_title, begins_any, denies, names_in, share_said, stem, stems
from evidence.records import Record
from utils.text import tokenize

# Chunk sizes of a claim's sample, as parts of the build's own; then every sentence is a chunk by itself.
_SIZES = (1, 2, 4)

# Share of a claim's words that its annotated evidence must contain. FEVER's annotators had seen the page
# around the sentence; a reader of the chunk has not.
_SAID_OF_CLAIM = 0.34

# From this share of the predicate's words on, a sentence may decide the claim in other words.
_SAID_OF_PREDICATE = 1 / 3

# Words that a predicate without a name or a number needs, so that it says something particular.
_MIN_PREDICATE = 3

# Words of one relation each: a claim and a sentence that both have one of a line speak of the same thing, and
# the sentence may decide the claim without sharing a word with it ("native of Denmark" for "born in Sweden").
_RELATIONS = (
    "born birth birthday native age old raised grew youngest oldest",
    "died death dead killed murdered deceased alive living survived buried",
    "married wife husband spouse divorced wed engaged dating relationship partner couple",
    "father mother son daughter child parent brother sister sibling family",
    "directed director directing directorial",
    "starred stars starring cast role character played plays portrayed actor actress acted acting appeared",
    "written wrote writer author authored screenplay novelist script book novel story published",
    "produced producer production studio",
    "album song single sang singer recorded record track composed composer band music chart hit vocals",
    "released release premiered premiere debut launched aired broadcast published issued opened",
    "award awards won win winner nominated nomination prize oscar emmy grammy honor medal champion title",
    "located located location situated city country state region province capital continent island coast "
    "border bordered bordering neighboring neighbouring",
    "lived lives resided resident home moved based headquartered headquarters",
    "founded founder established created creator formed began started origin originated invented",
    "grossed gross earned budget sold sales revenue profit million billion box",
    "population inhabitants people populous largest smallest",
    "school university college educated graduated studied student degree",
    "league team club player coach season played",
    "president minister politician elected party senator governor king queen emperor office reign ruled",
    "film movie television series show sitcom episode drama comedy genre",
    "religion religious christian muslim jewish catholic hindu buddhist",
    "war battle army military soldier fought",
)
_COPULA = re.compile(r"\b(?:is|are|was|were|be|been|being|became|becomes?)\b\s*(?P<next>\w*)", re.IGNORECASE)
# "was directed", "is located", "was born": a verb in the passive says more than what a thing is.
_PARTICIPLE = re.compile(r"\w+(?:ed|en|wn|rn|ught|old|eld|et)$")
# Nationalities, and the words of an origin or a place: "Latvian" is refuted by "born in Sydney". Some names
# end like a nationality; a sentence with one is left out for nothing.
_ORIGIN = re.compile(
    r"\b(?:[A-Z]\w+(?:an|ish|ese|tch|nch)|Greek|Swiss|Thai|Iraqi|Israeli|Pakistani|"
    r"[Bb]orn|[Nn]ative|[Ff]rom|[Bb]ased|[Rr]aised|(?:is|are|was|were) (?:in|at|near|on|part of))\b"
)
# These limit a claim, so that any other fact about its subject may refute it.
_LIMIT = re.compile(
    r"\b(?:all|always|any|every|everything|first|last|least|most|more|less|than|but|except|nothing|sole)\b",
    re.IGNORECASE,
)


@functools.cache
def _relations() -> dict[str, frozenset[int]]:
    """Stem -> numbers of the lines of _RELATIONS that have a word with that stem."""
    lines_of: dict[str, set[int]] = {}
    for number, words in enumerate(_RELATIONS):
        for word in words.split():
            lines_of.setdefault(stem(word), set()).add(number)
    return {word: frozenset(numbers) for word, numbers in lines_of.items()}


def _relations_in(words: frozenset[str], text: str) -> set[int]:
    """Numbers of the relations that a text speaks of; -1 for where something or someone is from."""
    found = {number for word in words for number in _relations().get(word, ())}
    return found | {-1} if _ORIGIN.search(text) else found


def _specific(claim: str) -> frozenset[str]:
    """Stems of a claim's names and numbers, its first word included if it begins a longer name."""
    named = frozenset().union(*(stems(name) for name in names_in(claim)))
    return named | {stem(token) for token in tokenize(claim) if stem(token).isdigit()}


def _says_what_it_is(claim: str) -> bool:
    """True for "X is a singer": "is" or "was" without a participle behind it."""
    match = _COPULA.search(claim)
    return match is not None and not _PARTICIPLE.match(match["next"].lower())


def is_judgeable(claim: str, said: frozenset[str]) -> bool:
    """Whether a claim can be judged from annotated evidence with these stems, whatever the verdict."""
    asked = asked_stems(claim)
    if share_said(asked, said) < _SAID_OF_CLAIM:
        return False
    # "born" and "died" have these stems: the evidence is about a person. A sentence that calls her a
    # politician neither states nor refutes that she is an author.
    is_about_person = bool(said & {"birth", "death"})
    if not is_about_person or not _says_what_it_is(claim):
        return True
    # The "s" of "Bowen's" is a word here, and says nothing.
    return all(begins_any(part, said) for part in asked - _specific(claim) if len(part) > 1)


def is_undecided(record: Record, chunk: Chunk) -> bool:
    """True for a chunk of the claim's page that is in no gold set and does not decide the claim either."""
    gold = {pair for pairs in record.gold_sets for pair in pairs}
    if any((chunk.page, line) in gold for line in chunk.lines):
        return False
    names = tuple(bare_title(title) for title in record.page_titles)
    return not may_decide(record.query, names, chunk.text)


def claim_words(record: Record, candidates: list[Chunk], max_words: int) -> int:
    """Most words per chunk in a claim's sample: the largest size at which its page has two undecided chunks.

    A page may be a single chunk of the build's size, whose other sentences could not be shown without the
    support. All chunks of the sample have this size, so that a chunk's length says nothing. One undecided
    chunk is better than none. Without any it is the smallest size that keeps the page's longest chunk whole.
    """
    sizes = [*(max_words // part for part in _SIZES), 1]
    n_undecided = {}
    for size in sizes:
        pieces = cut_all(candidates, size)
        n_undecided[size] = sum(is_undecided(record, piece) for piece in pieces)
    for n_needed in (2, 1):
        for size in sizes:
            if n_undecided[size] >= n_needed:
                return size
    n_words = max(len(chunk.text.split()) for chunk in candidates)
    return min((size for size in sizes if size >= n_words), default=max_words)


def may_decide(claim: str, names: tuple[str, ...], text: str) -> bool:
    """Whether a sentence of the claim's page, annotated as no evidence for it, may decide it all the same.

    `names`: the names of the page, which every sentence of it is about. Strict: what passes says nothing
    about the claim's relation, none of its other names and numbers, and little of the rest.
    """
    # Any other fact about the subject may refute "only a film" or "never a film".
    if denies(claim) or _LIMIT.search(claim):
        return True

    subject = frozenset().union(*(stems(name) for name in names))
    predicate = asked_stems(claim) - subject
    specific = _specific(claim) & predicate
    rest = predicate - specific
    # "She worked", "He writes scripts": nearly every sentence about the subject implies it.
    if not specific and len(rest) < _MIN_PREDICATE:
        return True
    # "X is a retailer" needs nothing but X itself, unless the class is one whose words we know.
    if _says_what_it_is(claim) and not (specific and rest <= _relations().keys()):
        return True

    said = stems(text) - subject
    if share_said(predicate, said) >= _SAID_OF_PREDICATE:
        return True
    if _relations_in(predicate, claim) & _relations_in(said, text):
        return True
    return any(begins_any(part, said) or _is_decade_said(part, said) for part in specific)


def _is_decade_said(number: str, said: frozenset[str]) -> bool:
    """Whether a year of a claim's decade is said: 1984 of "the 1980s"."""
    is_decade = re.fullmatch(r"[12]\d\d0", number) is not None
    return is_decade and any(re.fullmatch(rf"{number[:3]}\d", word) for word in said)
