"""Word stems of texts, and what they tell: what is asked, said, named, denied or left unstated.

The checks see words, not meaning: a paraphrase without a shared stem passes unseen (docs/log.md has the known
cases). They decide nothing by themselves; their callers use them to remove chunks and samples.
"""

import functools
import re
import unicodedata

from utils.numerals import CARDINALS, roman_value
from utils.text import content_words, padded_words, tokenize
from utils.writing_systems import in_pairs, is_unspaced

# Numbers as words, without the teens. Roman numerals except I, V and X: those are more often an initial or a
# letter.
_NUMBERS = {word: str(value) for word, value in CARDINALS.items() if value <= 12 or value >= 20}
_NUMBERS |= {numeral: roman_value(numeral) for numeral in "ii iii iv vi vii viii ix xi xii".split()}

# Common forms that no rule about endings joins. The values are stems, not words ("writ", "mak").
_IRREGULAR = {
    **{"won": "win", "wrote": "writ", "written": "writ", "sang": "sing", "sung": "sing"},
    **{"began": "begin", "begun": "begin", "made": "mak", "led": "lead", "held": "hold"},
    **{"born": "birth", "died": "death", "dead": "death", "sold": "sell", "built": "build"},
    **{"fought": "fight", "became": "become", "known": "know", "knew": "know"},
}

_ENDINGS = ("ing", "ed", "ies", "es", "er", "or", "ly", "s", "e", "y")

# The words that a question asks with: the sentence that answers it need not contain these.
_ASKING = frozenset(
    "last latest current currently present time date year name call know many much number type kind "
    "get got go come take".split()
)


@functools.lru_cache(1 << 18)
def stem(token: str) -> str:
    """A token without accents and its most common English ending.

    Numbers written as words, and most Roman numerals, become digits.
    """
    decomposed = unicodedata.normalize("NFKD", token)
    token = "".join(char for char in decomposed if not unicodedata.combining(char))
    if token in _NUMBERS:
        return _NUMBERS[token]
    if token in _IRREGULAR:
        return _IRREGULAR[token]
    for ending in _ENDINGS:
        # At least three letters remain, so that "red" and "king" keep theirs.
        if token.endswith(ending) and len(token) - len(ending) >= 3:
            return token[: -len(ending)]
    return token


def forms_of(stem_text: str) -> set[str]:
    """Every token whose stem is `stem_text`, but for accents."""
    irregular = [
        word for words in (_NUMBERS, _IRREGULAR) for word, value in words.items() if value == stem_text
    ]
    regular = [stem_text, *(stem_text + ending for ending in _ENDINGS)]
    return {word for word in [*regular, *irregular] if stem(word) == stem_text}


# Cached because many questions find the same chunks.
@functools.lru_cache(1 << 14)
def stems(text: str) -> frozenset[str]:
    """The stems of a text's content words, and of pairs of characters in scripts without spaces."""
    words = content_words(text)
    if is_unspaced(text):
        words = in_pairs(words)
    # A lone vowel sign has no stem.
    return frozenset(stem(word) for word in dict.fromkeys(words)) - {""}


def asked_stems(question: str) -> frozenset[str]:
    """Stems of what a question is about, without the words it asks with."""
    return stems(question) - {stem(word) for word in _ASKING}


def answer_parts(aliases: list[str], question: str) -> frozenset[str]:
    """Stems that distinguish the accepted answers from the question.

    A chunk with one of them may contain an answer in another form. Empty if the question contains its answer.
    """
    parts = frozenset().union(*(stems(alias) for alias in aliases)) - stems(question)
    return frozenset(part for part in parts if len(part) > 1 or part.isdigit())


def share_said(asked: frozenset[str], said: frozenset[str]) -> float:
    """Share (0-1) of the asked stems that are said; 0 if nothing is asked."""
    return len(asked & said) / len(asked) if asked else 0.0


def says_most(asked: frozenset[str], said: frozenset[str]) -> bool:
    """True for a chunk that says so much of what is asked that it may contain an answer nobody listed."""
    return bool(asked) and len(asked - said) <= int(0.4 * (len(asked) - 1))


def agree(answers: list[str]) -> bool:
    """True if shared words connect the accepted answers: variants of one answer, not different answers."""
    sets = [stems(answer) or frozenset(tokenize(answer)) for answer in answers]
    together = sets[0]
    rest = sets[1:]
    while True:
        near = [words for words in rest if words & together]
        if not near:
            return not rest
        rest = [words for words in rest if not words & together]
        together = together.union(*near)


def bare_title(title: str) -> str:
    """A title without what tells pages of one name apart.

    `Ugly (film)` and `Cambridge, Kansas` -> `Ugly`, `Cambridge`.
    """
    # From the first space of several on alone: a megabyte of spaces has a million of such places.
    return re.sub(r"(?<!\s)\s*[(,].*$", "", title) or title


def is_named(title: str, query: str) -> bool:
    """True if the query has the bare title as a run of words.

    Stop words, numbers and letters alone name nothing: the album "2" is not named in "Toy Story 2".
    """
    bare = bare_title(title)
    has_word = any(len(part) > 1 and not part.isdigit() for part in stems(bare))
    return has_word and padded_words(bare) in padded_words(query)


_DENIALS = (
    r"not never no none zero only solely exclusively incapable unable without anything\sbut other\sthan "
    r"yet\sto rarely refus\w+ fail\w*"
)
_NEGATED = re.compile(rf"\b({'|'.join(_DENIALS.split())})\b|n't\b", re.IGNORECASE)


def denies(claim: str) -> bool:
    """True for a claim with a negation, or with a word such as "only" that excludes the rest."""
    return bool(_NEGATED.search(claim))


def begins_any(part: str, said: frozenset[str]) -> bool:
    """Whether a stem begins like one that is said: the first four letters decide (`Italy`, `Italian`)."""
    return any(have.startswith(part[:4]) for have in said)


def _is_said_number(number: str, said: frozenset[str]) -> bool:
    """A year counts as said where its decade is: `1984` in "the 1980s"."""
    is_in_decade = len(number) == 4 and f"{number[:3]}0" in said
    return is_in_decade or stem(number.lower()) in said


def _is_said_name(name: str, said: frozenset[str]) -> bool:
    return stems(name) <= said or begins_any(stem(name.lower()), said)


def unstated(claim: str, said: frozenset[str]) -> list[str]:
    """Numbers and names of a claim that its evidence does not contain."""
    # `1,470` is one number.
    words = re.findall(r"\w+", re.sub(r"(?<=\d),(?=\d{3}\b)", "", claim))
    numbers = [word for word in words if stem(word.lower())[0].isdigit()]
    # The first word of a sentence is capitalized whether it is a name or not.
    names = [word for word in words[1:] if word[0].isupper() and word not in numbers]

    missing = [number for number in numbers if not _is_said_number(number, said)]
    return missing + [name for name in names if not _is_said_name(name, said)]


def names_in(text: str) -> tuple[str, ...]:
    """Runs of capitalized words that are not all stop words, without an article in front."""
    runs = re.findall(r"[A-Z]\w*(?:[ '.-]+[A-Z]\w*)*", text)
    names = [re.sub(r"^(The|An?) ", "", run) for run in runs]
    return tuple(name for name in names if content_words(name))
