"""Who made a work, when, and of what kind it is: "is a 2012 American comedy film directed by X"."""

import re
from collections.abc import Iterator

from evidence.questions.fact import Fact, relation_fact
from evidence.questions.sentences import PageSentence
from evidence.questions.spans import (
    DATE,
    DEMONYMS,
    END,
    HEARD,
    NAME,
    READ,
    ROLE_MODIFIERS,
    ROLES,
    WORKS,
    YEAR,
)

_KINDS = "|".join(sorted(WORKS, key=len, reverse=True))
# The words in front of the kind name no other work.
_WORK = re.compile(
    r"(?:is|was) (?:an?|the) (?P<front>(?:(?!(?:of|by|that|who|which|about|in|from|to|on|for)\b)"
    rf"[\w'’/&.–-]+,? ){{0,8}}?)(?P<kind>{_KINDS})\b(?! (?:{_KINDS}|for|and)\b)(?P<tail>.*)$"
)
_YEAR_FIRST = re.compile(rf"({YEAR})\b")
_GENRE = re.compile(rf"(?:{DEMONYMS}|{YEAR}) ((?:[a-z][a-z-]+ ){{1,3}})$")
_NO_GENRE = re.compile("television|short|feature|animated|web|language|independent")
_STARRING = re.compile(r"(?:starring|stars) (.+)$")
_BY = re.compile(r",? by (.+)$")
_CREDITS = {
    **{"directed": "director", "written": "screenwriter", "produced": "producer", "created": "creator"},
    **{"developed": "creator", "composed": "composer", "published": "publisher", "recorded": "album artist"},
    **{"performed": "album artist", "sung": "album artist"},
}
_VERBS = "|".join(_CREDITS)
_CREDIT = re.compile(rf"(?P<verbs>(?:{_VERBS})(?:(?:, | and |, and )(?:{_VERBS}))*) by (?P<names>.+)$")
_FIRST_CREDIT = re.compile(rf"\b(?:co-)?(?:{_VERBS})\b[^;]*?\bby .*")
_NEXT_CREDIT = re.compile(rf"(?:,? and |, )(?=(?:co-)?(?:{_VERBS}) )(?=[^,]* by )")
# A clause about another work ("the sequel to Y, directed by Z") tells nothing of this one.
_OTHER_WORK = re.compile(
    r"\b(?:who|that|which|whose|sequel|based|adapt\w+|remake|version|about|inspired)\b|\""
)
_DATED = {
    **{"released": "release", "published": "publication"},
    **dict.fromkeys(("founded", "established", "formed", "incorporated"), "founding"),
}
_WHEN = re.compile(
    r"(?:is|was|were|are) (?P<before>(?:[^,;]*?,? )?(?:first |originally |officially )?)"
    rf"(?P<verb>{'|'.join(_DATED)}) (?:in|on) (?:early |late )?(?P<date>{DATE}){END}"
)
_OTHER_DATE = re.compile(r"\b(?:that|which|who|whose|song|single|by)\b")
_FOUNDED_BY = re.compile(r"(?:was|were) (?:founded|established|started)(?: in \d{4})? by (.+)$")

_NAME_FIRST = re.compile(NAME)
_IS_LIST = re.compile(
    rf",? (?:and|&) (?:(?:the|his|her|by|[a-z-]+) )*[A-Z\"]|, (?!starring|featuring)(?:[a-z]+ )?{NAME}|/|-"
)
_NAME_ENDS = re.compile(
    r"$|[,;:]|\.(?!\w)| (?:and|from|for|on|in|with|as|that|which|who|about|featuring|starring|based|at|under|"
    r"of|to|over|during|through|set|is|was|between|after)\b"
)


def by_name(text: str) -> str | None:
    """The name with which a text starts after its roles: "English rock band Pink Floyd, ..." -> "Pink Floyd".

    None for several names, and where the text starts otherwise.
    """
    words = text.split(" ")
    while words:
        rest = " ".join(words)
        name = _NAME_FIRST.match(rest)
        next_word = rest[name.end() :].lstrip(" ").split(" ")[0].strip(",") if name else ""
        # "American" of "American singer X" is no name: a role follows.
        if name and (next_word not in ROLES | ROLE_MODIFIERS or next_word in ("and", "the", "a")):
            after = rest[name.end() :]
            is_one = _NAME_ENDS.match(after) and not _IS_LIST.match(after)
            is_fit = len(name[0].split()) <= 6 and not name[0].endswith(("'s", "’s"))
            return name[0] if is_one and is_fit else None
        if not name and words[0].strip(",").lower() not in ROLES | ROLE_MODIFIERS:
            return None
        words = words[len(name[0].split(" ")) if name else 1 :]
    return None


def _credit_relation(verb: str, kind: str) -> str:
    """The relation of a credit: what is "written" by a person depends on the kind of work."""
    noun = WORKS[kind]
    relation = _CREDITS[verb]
    if relation == "screenwriter" and (noun in READ or kind in ("play", "short story", "poem")):
        return "author"
    if relation == "screenwriter" and noun in HEARD:
        return "songwriter"
    if relation == "album artist" and noun == "song":
        return "performer"
    return "developer" if verb == "developed" and noun == "game" else relation


def _makers(sentence: PageSentence, kind: str, tail: str) -> Iterator[Fact]:
    """Who made a work of `kind`; `tail`: what follows the kind."""
    noun = WORKS[kind]
    by = _BY.match(tail)
    name = by_name(by[1]) if by else None
    plain = {"song": "performer", "album": "album artist", "EP": "album artist"}.get(noun)
    relation = "author" if noun in READ or kind == "play" else plain
    if name and relation:
        yield relation_fact(sentence, relation, name, noun)
    first = _FIRST_CREDIT.search(tail)
    if not first or _OTHER_WORK.search(tail[: first.start()]):
        return
    for part in _NEXT_CREDIT.split(first[0]):
        credit = _CREDIT.match(part)
        name = by_name(credit["names"]) if credit else None
        if not credit or not name:
            continue
        for verb in re.findall(_VERBS, credit["verbs"]):
            yield relation_fact(sentence, _credit_relation(verb, kind), name, noun)


def work_facts(sentence: PageSentence) -> Iterator[Fact]:
    """Facts of a sentence that says what the work of its page is."""
    match = _WORK.match(sentence.predicate)
    if not match:
        return
    kind = match["kind"]
    noun = WORKS[kind]
    yield from _makers(sentence, kind, match["tail"])
    year = _YEAR_FIRST.match(match["front"])
    if year and noun not in READ:
        yield relation_fact(sentence, "year", year[1], noun, answer_type="date")
    genre = _GENRE.search(match["front"])
    if genre and kind == "film" and not _NO_GENRE.search(genre[1]):
        answers = (f"{genre[1]}film", genre[1].strip())
        yield relation_fact(sentence, "film genre", answers, noun, answer_type="word")
    star = _STARRING.search(match["tail"])
    name = by_name(star[1]) if star else None
    if name:
        yield relation_fact(sentence, "star", name, noun)


def dated_facts(sentence: PageSentence) -> Iterator[Fact]:
    """When something was released, published or founded, and by whom it was founded."""
    when = _WHEN.match(sentence.predicate)
    if when and not _OTHER_DATE.search(when["before"]):
        yield relation_fact(sentence, _DATED[when["verb"]], when["date"], answer_type="date")
    founder = _FOUNDED_BY.match(sentence.predicate)
    name = by_name(founder[1]) if founder else None
    if name:
        yield relation_fact(sentence, "founder", name)
