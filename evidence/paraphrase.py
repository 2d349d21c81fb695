"""Does a chunk answer a question in other words? Cautious checks on stems that only ever take chunks or samples away."""

import functools
import re
import unicodedata

from utils.text import content_words, tokenize

_NUMBERS = {
    word: str(i)
    for i, word in enumerate("zero one two three four five six seven eight nine ten eleven twelve".split())
}
_NUMBERS |= {
    "ii": "2",
    "iii": "3",
    "iv": "4",
    "vi": "6",
    "vii": "7",
    "viii": "8",
    "ix": "9",
    "xi": "11",
    "xii": "12",
}
_NUMBERS |= dict(
    zip("twenty thirty forty fifty sixty seventy eighty ninety".split(), map(str, range(20, 100, 10)))
)
_IRREGULAR = {
    "won": "win",
    "wrote": "writ",
    "written": "writ",
    "sang": "sing",
    "sung": "sing",
    "began": "begin",
    "begun": "begin",
    "made": "mak",
}
_IRREGULAR |= {
    "led": "lead",
    "held": "hold",
    "born": "birth",
    "died": "death",
    "dead": "death",
    "sold": "sell",
    "built": "build",
    "fought": "fight",
}
_IRREGULAR |= {"became": "become", "known": "know", "knew": "know"}
# What a question asks with: the sentence that answers it need not hold these.
_ASKING = frozenset(
    "last latest current currently present time date year name call know many much number type kind get got go come take".split()
)


@functools.lru_cache(1 << 18)
def stem(token: str) -> str:
    """A token without accents and its commonest English endings; numbers written as words, or as Roman numerals above I, become digits."""
    token = "".join(char for char in unicodedata.normalize("NFKD", token) if not unicodedata.combining(char))
    if token in _NUMBERS or token in _IRREGULAR:
        return _NUMBERS.get(token) or _IRREGULAR[token]
    for ending in ("ing", "ed", "ies", "es", "er", "or", "ly", "s", "e", "y"):
        if token.endswith(ending) and len(token) - len(ending) >= 3:
            return token[: -len(ending)]
    return token


@functools.lru_cache(1 << 14)  # chunks that many questions find
def stems(text: str) -> frozenset[str]:
    return frozenset(stem(token) for token in dict.fromkeys(content_words(text)))


def asked_stems(question: str) -> frozenset[str]:
    """Stems of what a question is about, without the words it asks with."""
    return stems(question) - {stem(word) for word in _ASKING}


def answer_parts(aliases: list[str], question: str) -> frozenset[str]:
    """Stems that tell the accepted answers from the question: a chunk with one of them may hold an answer in another form."""
    parts = frozenset().union(*(stems(alias) for alias in aliases)) - stems(question)
    return frozenset(part for part in parts if len(part) > 1 or part.isdigit())


def share_said(asked: frozenset[str], said: frozenset[str]) -> float:
    return len(asked & said) / len(asked) if asked else 0.0


def says_most(asked: frozenset[str], said: frozenset[str]) -> bool:
    """The chunk says so much of what is asked that it may well hold an answer that is not among the accepted ones."""
    return bool(asked) and len(asked - said) <= int(0.4 * (len(asked) - 1))


def agree(answers: list[str]) -> bool:
    """The accepted answers hang together by shared content words: forms of one answer rather than different answers."""
    sets = [stems(answer) or frozenset(tokenize(answer)) for answer in answers]
    together = sets[0]
    rest = sets[1:]
    while near := [words for words in rest if words & together]:
        together, rest = together.union(*near), [words for words in rest if not words & together]
    return not rest


def bare_title(title: str) -> str:
    """A title without what tells pages of one name apart: `Ugly (film)` and `Cambridge, Kansas` -> `Ugly`, `Cambridge`."""
    return re.sub(r"\s*[(,].*$", "", title) or title


_DENIALS = "not never no none zero only solely exclusively incapable unable without anything\\sbut other\\sthan yet\\sto rarely refus\\w+ fail\\w*"
_NEGATED = re.compile(rf"\b({'|'.join(_DENIALS.split())})\b|n't\b", re.IGNORECASE)
_COPULAR = re.compile(r"\b(is|are|was|were|been|be)\b", re.IGNORECASE)


def unstated(claim: str, said: frozenset[str]) -> list[str]:
    """Numbers and names of a claim that its evidence does not hold. A year counts as held where the decade is."""
    words = re.findall(r"\w+", re.sub(r"(?<=\d),(?=\d{3}\b)", "", claim))
    numbers = [w for w in words if stem(w.lower())[0].isdigit()]
    names = [w for i, w in enumerate(words) if i and w[0].isupper() and w not in numbers]
    missing = [
        w for w in numbers if stem(w.lower()) not in said and not (len(w) == 4 and f"{w[:3]}0" in said)
    ]
    return missing + [w for w in names if not stems(w) <= said and not _begins_any(stem(w.lower()), said)]


def _begins_any(part: str, said: frozenset[str]) -> bool:
    """The first four letters are enough: `Italy` and `Italian`."""
    return any(have.startswith(part[:4]) for have in said)


def may_refute(claim: str, said: frozenset[str]) -> bool:
    """The evidence holds most of the claim and one of its names, and the claim says something else: it denies, or has a number or a name
    that the evidence does not hold, or, after "is" or "was", another word.

    Of a person such a word refutes nothing: a politician may be an author too.
    """
    wanted = stems(claim)
    named = names_in(claim)
    is_near = share_said(wanted, said) >= 0.4 or len(wanted - said) <= 3
    if not is_near or (named and not any(_begins_any(part, said) for name in named for part in stems(name))):
        return False
    is_other_thing = (
        not said & {"birth", "death"}
        and _COPULAR.search(claim)
        and not all(_begins_any(part, said) for part in wanted)
    )
    return bool(_NEGATED.search(claim) or unstated(claim, said) or is_other_thing)


def names_in(text: str) -> tuple[str, ...]:
    """Runs of capitalised words that are not all stop-words, without an article in front."""
    runs = [re.sub(r"^(The|An?) ", "", run) for run in re.findall(r"[A-Z]\w*(?:[ '.-]+[A-Z]\w*)*", text)]
    return tuple(run for run in runs if content_words(run))
