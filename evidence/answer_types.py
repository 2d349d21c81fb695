"""The type of an answer, as far as surface can tell: what may take its place without sounding absurd.

A type comes from the answer's form (a year, a date, a number with its unit, a capitalized name) and from what
is asked: the relation (PopQA), the question word, or the noun after "which". Where these do not tell, there
is no type, and two answers of no type are not alike. It knows words, not the world: "who has most titles" may
be answered by a person or by a club.
"""

import functools
import re

from utils.answer_forms import MONTH_OF
from utils.numerals import CARDINALS, ORDINALS
from utils.text import STOP_WORDS, tokenize

AnswerType = tuple[str, ...]

# Small words inside or in front of a name: "Leonardo da Vinci", "Lord of the Rings".
_PARTICLES = frozenset("al bin da de del der di du el la le van von y".split())
_IN_NAMES = _PARTICLES | set("a an and at in of on the to".split())
_TOKEN = re.compile(r"[$€£]|\d[\d,]*(?:\.\d+)?(?:st|nd|rd|th|s)?\b%?|[^\W\d]+(?:[.'’-][^\W\d]+)*|\d\w*")

# With these verbs "who" asks of clubs, companies and countries as often as of people.
_TEAM_VERBS = frozenset("beat had has have hosted hosts made makes own owned owns win wins won".split())
# Nouns after "which" or "what" whose answers are people; other nouns are types of their own.
_PEOPLE = frozenset(
    "actor actress artist author coach composer director footballer golfer king musician novelist person "
    "player poet politician president queen rapper singer songwriter writer".split()
)
# Nouns that name no type: "of what name", "what is the meaning of".
_EMPTY_NOUNS = frozenset("answer definition meaning name names nickname one ones part thing title".split())
_SAME_NOUN = {"nation": "country", "town": "city", "film": "movie", "job": "occupation"}
# "How to Eat, released in which year" does not ask how.
_MEASURES = frozenset("big deep far fast heavy high large long many much often old tall wide".split())
_AUXILIARIES = frozenset("was were is are did does do has have had can could will would".split())
# A question begins with its question word, maybe behind a preposition; others end with theirs.
_AT_START = re.compile(
    r"^(?:(?:in|on|at|by|from|for|to|of|with|during|under)\s+)?(who|whom|whose|where|when|how|what|which)\b",
    re.IGNORECASE,
)
_WHICH = re.compile(r"\b(?:what|which)\b", re.IGNORECASE)
_WORDS = re.compile(r"(?:\s+[\w'’-]+)*")
_WHAT_IS_NOUN = re.compile(
    r"^what(?:'s|\s+(?:is|was|are|were))\s+the((?:\s+[\w'’-]+)+?)\s+(?:of|in|for|to|on|at|by)\b"
)


# --- form


def _token_class(token: str) -> str:
    """A number, month or ordinal as its kind; any other word as it is, in lower case."""
    word = token.lower()
    if word in MONTH_OF and (token[0].isupper() or word not in ("may", "march", "mar")):
        return "<month>"
    if word in CARDINALS or word == "hundred":
        return "<number word>"
    if word in ORDINALS or re.fullmatch(r"\d+(st|nd|rd|th)", word):
        return "<ordinal>"
    if re.fullmatch(r"[12]\d{3}", word):
        return "<year>"
    if re.fullmatch(r"\d+s", word):
        return "<decade>"
    if word[0].isdigit():
        # As many digits: a town of 7 people is no likely one. Up to 99 is one kind.
        n_digits = max(2, len(re.sub(r"\D", "", word.split(".")[0])))
        decimals = " with decimals" if "." in word else ""
        percent = " percent" if "%" in word else ""
        return f"<{n_digits} digits{decimals}{percent}>"
    return word


def _numeric_form(tokens: list[str], classes: list[str]) -> AnswerType | None:
    """The kinds and unit words of a number, a date or a time; None for names and other texts."""
    is_numeric = any(kind.startswith("<") for kind in classes)
    has_name = any(
        kind == token.lower() and token[0].isupper() and kind not in STOP_WORDS
        for kind, token in zip(classes, tokens)
    )
    if not is_numeric or has_name:
        return None
    # "8 September 2010" and "September 8, 2010" are both dates.
    if {"<month>", "<year>"} <= set(classes) and set(classes) <= {"<month>", "<year>", "<2 digits>"}:
        return ("numeric", *sorted(classes))
    return ("numeric", *classes)


def written_form(answer: str) -> AnswerType | None:
    """How an answer looks: numeric with kinds and units, a name, or a lower-case phrase; None for neither."""
    tokens = _TOKEN.findall(answer)
    # "(2011" and "Russia (" are torn out of a text, and would tear another.
    if not tokens or answer.count("(") != answer.count(")") or answer[-1] in ",;:-":
        return None
    numeric = _numeric_form(tokens, [_token_class(token) for token in tokens])
    if numeric:
        return numeric
    words = [token for token in tokens if token.lower() not in _IN_NAMES]
    capitalized = [word[0].isupper() or word[0].isdigit() for word in words]
    if words and all(capitalized):
        # "in Cherry Hill" fits another sentence than "Cherry Hill".
        first = tokens[0].lower() if tokens[0] != words[0] else ""
        return ("name", first.removeprefix("the"))
    return None if any(capitalized) else ("phrase",)


def _is_like_a_person(answer: str) -> bool:
    """Two to five capitalized words, not "The ...", no plural and no "and": "Jenny" may be a ship."""
    words = answer.split()
    if not 2 <= len(words) <= 5 or words[0].lower() in _IN_NAMES or "," in answer or "&" in answer:
        return False
    last = words[-1].lower().rstrip(".")
    is_plural = last.endswith("s") and not last.endswith(("ss", "us", "is"))
    return not is_plural and all(word[0].isupper() or word in _PARTICLES for word in words)


# --- what is asked


def _noun_in(text: str) -> str:
    """The head noun of the words behind "which": the last one in front of a verb or a preposition."""
    noun = ""
    for word in text.split():
        token = word.lower()
        if token in STOP_WORDS or token in _AUXILIARIES:
            # "what type of boundary", "which of the cities": the noun is still to come.
            if token == "of" and noun in ("", "type", "kind", "sort"):
                continue
            if token in ("the", "these") and not noun:
                continue
            break
        noun = token
    return _SAME_NOUN.get(noun, noun)


def _behind_which(question: str, at_start: bool) -> str:
    """The words behind the "which" or "what" that asks, up to a comma; empty without one.

    Of "the man who won ... was born in what city?" the last one asks, of "Which ... which ..." the first.
    """
    places = [match.end() for match in _WHICH.finditer(question)]
    if not places:
        return ""
    words = _WORDS.match(question, places[0] if at_start else places[-1])
    return words[0] if words else ""


def asked_type(question: str) -> AnswerType | None:
    """What a question asks for: its question word with the verb, or the noun behind "which" or "what"."""
    start = _AT_START.match(question.strip())
    word = start[1].lower() if start else ""
    rest = tokenize(question.strip()[start.end() :]) if start else []
    if word in ("who", "whom", "whose"):
        is_team = bool(_TEAM_VERBS & set(rest[:2]))
        verb = next((token for token in rest if token not in _AUXILIARIES), "")
        return None if is_team else ("who", verb)
    if word in ("where", "when"):
        return (word,)
    if word == "how" and rest and rest[0] in _MEASURES:
        return ("how", rest[0])

    named = _WHAT_IS_NOUN.match(question.strip().lower()) if start else None
    noun = _noun_in(named[1] if named else _behind_which(question, at_start=start is not None))
    return None if noun in ("", *_EMPTY_NOUNS) else ("noun", noun)


def _named_type(answer: str, asked: AnswerType) -> AnswerType | None:
    """The type of a capitalized name, from what is asked."""
    is_people_noun = asked[0] == "noun" and asked[1] in _PEOPLE
    if asked[0] != "who" and not is_people_noun:
        return asked if asked[0] in ("noun", "where") else None
    if _is_like_a_person(answer):
        return ("person",)
    # The same verb and as many words: a band for a band where both sang.
    return (*asked, "name of", str(len(answer.split())), "the" if answer.lower().startswith("the ") else "")


# Cached: each answer is a donor to many.
@functools.lru_cache(1 << 14)
def _surface_type(answer: str, question: str) -> AnswerType | None:
    """The type that form and question tell."""
    form = written_form(answer)
    asked = asked_type(question)
    if form is None:
        return None
    if form[0] == "numeric":
        # "How many" may be answered by 1912, and then it is no year.
        is_count = asked is not None and asked[0] == "how"
        return tuple(kind.replace("<year>", "<4 digits>") for kind in form) if is_count else form
    if asked is None:
        return None
    if form[0] == "name":
        named = _named_type(answer, asked)
        return (*named, *form) if named else None
    return (*asked, *form) if asked[0] == "noun" else None


def answer_types(sample: dict) -> list[AnswerType]:
    """The types of a sample's answer, the narrowest first; none where surface does not tell any.

    A PopQA sample's relation (`metadata.type`) with the form is one. A number or a date has one whatever is
    asked. A name or a phrase needs a question that tells what it names.
    """
    metadata = sample["metadata"]
    form = written_form(sample["answer"])
    types: list[AnswerType] = []
    # Only PopQA has a popularity, and only there `type` is a relation: HotpotQA's is "bridge".
    if form and metadata.get("popularity") is not None and metadata.get("type"):
        types.append(("relation", str(metadata["type"]), *form))
    surface = _surface_type(sample["answer"], sample["question"])
    return [*types, surface] if surface else types
