"""Edits of common words: the kind of thing that something is, opposites, and the word of the evidence."""

import random
import re

from evidence.contrast_case import Case, Edit, alternatives, in_title, pairs, replaced
from evidence.paraphrase import stem, stems
from utils.text import STOP_WORDS

# Kinds of things; what is of one group is of no other. Persons are left out: a singer may be an actor too.
_GROUPS = (
    ("film", "movie", "comedy film", "drama film"),
    ("album", "studio album"),
    ("song", "single"),
    ("novel", "book"),
    ("television series", "TV series", "television show", "TV show", "sitcom", "television drama"),
    ("video game",),
    ("band", "rock band"),
    ("city", "town"),
    ("country",),
    ("river",),
    ("island",),
    ("mountain",),
    ("university", "college"),
    ("newspaper", "magazine"),
    ("dance", "form of dance"),
    ("rock", "igneous rock"),
    ("smartphone", "telephone"),
    ("company",),
    ("fictional character",),
)
_WORKS = ("film", "album", "novel", "video game", "song", "television series")
_THINGS = ("river", "city", "band", "university", "island", "newspaper", "mountain")
_FAR = (
    "river",
    "newspaper",
    "video game",
    "song",
    "car",
    "horse",
    "mountain",
    "novel",
    "computer",
    "painting",
)
_GROUP_OF = {kind: number for number, group in enumerate(_GROUPS) for kind in group}
_KIND = alternatives(_GROUP_OF)
_AFTER = (
    "from|released|directed|produced|created|written|developed|in|by|that|which|set|starring|based|of|on|with"
)
# "X is a film.", "X is an American film", "X is a 2003 romantic film directed by Y".
_IS_KIND = re.compile(rf"\b(?:is|was) an? (?:[\w'-]+ ){{0,4}}?(?P<value>{_KIND})(?=\.|,|$| (?:{_AFTER})\b)")
# "There is a film called X" is true of any kind, and "a type of river" says little.
_NO_KIND = re.compile(r"^(?:There|After|In|On) |\b(?:type|kind|form) of\b")
# A whole predicate of few words, whatever it is: "X is a car."
_IS_THING = re.compile(r"\b(?:is|was) an? (?P<value>(?:[a-z-]+ ){0,2}?[a-z-]+)\.?$")

_OPPOSITE_PAIRS = """
    public=private northern=southern eastern=western before=after male=female increased=decreased
    older=younger oldest=youngest largest=smallest highest=lowest best=worst won=lost rose=fell
    started=ended beginning=end former=current fictional=real major=minor ancient=modern rapidly=slowly
    honorable=dishonorable reducing=increasing above=below early=late domestic=foreign married=unmarried
    professional=amateur southwestern=northeastern southeastern=northwestern landlocked=coastal
"""
_OPPOSITES = pairs(_OPPOSITE_PAIRS)
_OPPOSITES |= {opposite: word for word, opposite in _OPPOSITES.items()}
_OPPOSITE = alternatives(_OPPOSITES)


def _kinds_said(case: Case) -> set[int]:
    """Numbers of the groups of which the support names a kind."""
    text = f"{case.text} {' '.join(case.titles)}"
    return {_GROUP_OF[match[1]] for match in re.finditer(rf"\b({_KIND})s?\b", text)}


def _wrong_kind(case: Case, rng: random.Random) -> list[Edit]:
    """A supported claim with another kind of thing."""
    match = _IS_KIND.search(case.claim)
    thing = _IS_THING.search(case.claim)
    said = _kinds_said(case)
    if _NO_KIND.search(case.claim):
        return []
    if match and not in_title(case, match.span("value")) and _GROUP_OF[match["value"]] in said:
        pool = _WORKS if _GROUP_OF[match["value"]] < _GROUP_OF["band"] else _THINGS
        others = [kind for kind in pool if _GROUP_OF[kind] not in said]
    elif thing and not match and not in_title(case, thing.span("value")):
        # Of a person, a place or an idea: a thing that is nowhere near.
        match = thing
        others = [kind for kind in _FAR if not stems(kind) & case.said]
    else:
        return []
    if not others:
        return []
    return [Edit("word", replaced(case.claim, match.span("value"), rng.choice(others)), "refuted")]


def kind_of_thing(case: Case, rng: random.Random) -> list[Edit]:
    """A film called a song, and what was called a car called a film."""
    if case.verdict == "supported":
        return _wrong_kind(case, rng)
    match = _IS_THING.search(case.claim)
    stated = _IS_KIND.search(re.sub(r"\([^()]*\)", "", case.texts[0]))
    if match is None or stated is None or _NO_KIND.search(case.claim) or in_title(case, match.span("value")):
        return []
    # The claim's last word is what it says that the subject is.
    last = stem(match["value"].split()[-1])
    if last in case.said or case.unsaid(without=match["value"]):
        return []
    return [Edit("word", replaced(case.claim, match.span("value"), stated["value"]), "supported")]


_ORDINAL = r"\b(?:second|third|fourth|fifth|sixth|seventh|eighth|ninth|tenth)"


def opposite(case: Case) -> list[Edit]:
    """The opposite of a word of a supported claim; of a refuted one where the evidence says the opposite."""
    found = [m for m in re.finditer(rf"\b({_OPPOSITE})\b", case.claim) if not in_title(case, m.span())]
    if len(found) != 1 or re.search(r"\b(?:not|n't|only|never|has a former)\b", case.claim):
        return []
    word = found[0][1]
    other = _OPPOSITES[word]
    # "The 36th largest state" and "one of the oldest" are neither the largest nor the oldest.
    if re.search(rf"(?:\d(?:st|nd|rd|th)|{_ORDINAL}|\bone of the)[ -](?:{word}|{other})\b", case.text):
        return []
    if case.verdict == "supported":
        if not case.says(word) or case.says(other):
            return []
        verdict = "refuted"
    else:
        if not case.says(other) or case.says(word) or case.unsaid(without=word):
            return []
        verdict = "supported"
    return [Edit("word", replaced(case.claim, found[0].span(), other), verdict)]


# --- the word that the evidence has in the same place


def _words(text: str) -> list[re.Match]:
    return list(re.finditer(r"[\w'’-]+", text))


def _key(token: str) -> str:
    token = token.lower()
    return "a" if token in ("a", "an", "the") else stem(token)


def _context(words: list[re.Match], i: int, step: int, most: int) -> list[str]:
    """Up to `most` keys of the words on one side of word `i`, the nearest first."""
    chosen = words[i + 1 : i + 1 + most] if step > 0 else words[max(0, i - most) : i][::-1]
    return [_key(word[0]) for word in chosen]


def _n_equal(one: list[str], other: list[str]) -> int:
    """Content words in the common beginning of two lists of keys."""
    n = 0
    for a, b in zip(one, other):
        if a != b:
            break
        n += a not in STOP_WORDS
    return n


def _in_place_of(words: list[re.Match], i: int, text: str) -> list[str]:
    """The words of a text that have the same words around them as word `i` of the claim's `words`."""
    left = _context(words, i, -1, 4)
    right = _context(words, i, 1, 3)
    others = _words(text)
    found = []
    for j in range(1, len(others)):
        n_left = _n_equal(left, _context(others, j, -1, 4))
        n_right = _n_equal(right, _context(others, j, 1, 3))
        is_last = j + 1 == len(others)
        ends = is_last or others[j + 1][0] in STOP_WORDS or text[others[j].end()] in ",.;"
        # Between two content words, or behind two of them where the claim and the phrase end.
        is_between = n_left >= 1 and n_right >= 1
        if is_between or (n_left >= 2 and i == len(words) - 1 and ends):
            found.append(others[j][0])
    return found


def word_of_evidence(case: Case) -> list[Edit]:
    """A refuted claim whose only unsaid word is replaced by the one that the evidence has in its place."""
    if re.search(r"\b(?:not|only|solely|never|exclusively|\w+n't)\b", case.claim) or len(case.unsaid()) != 1:
        return []
    unsaid = next(iter(case.unsaid()))
    words = _words(case.claim)
    places = [i for i, word in enumerate(words) if stem(word[0].lower()) == unsaid]
    if len(places) != 1 or places[0] == 0:
        return []
    wrong = words[places[0]][0]
    found = set()
    for text in case.texts:
        for token in _in_place_of(words, places[0], text):
            is_new = token.lower() not in STOP_WORDS and stem(token.lower()) not in stems(case.claim)
            # A name stands for a name.
            if is_new and token[0].islower() == wrong[0].islower():
                found.add(token)
    if len(found) != 1:
        return []
    return [Edit("word", replaced(case.claim, words[places[0]].span(), found.pop()), "supported")]
