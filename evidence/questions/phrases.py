"""Relations that one phrase of a predicate states: "is located in Y", "plays for Y", "was born in Y".

A table: a new relation is a line here and its wording in relations.yaml.
"""

import re
from collections.abc import Iterator

from evidence.questions.fact import Fact, relation_fact
from evidence.questions.sentences import PageSentence
from evidence.questions.spans import ALONE, COUNTRIES, DATE, DEMONYMS, END, MONTH, NAME, NUMBER, PLACE

# A title in quotes, or names up to a comma: " to " may be part of a title.
_TITLE = rf"(?:\"(?P<quoted>[^\"]+?),?\"|(?P<answer>{NAME})(?=$|[.,;](?!\w)))"
_NAME = rf"(?P<answer>{NAME}){END}{ALONE}"
_PLACE = rf"(?P<answer>{PLACE})(?=$|,? (?=[a-z])|[.;])"
_DATE = rf"(?P<answer>{DATE}){END}"
_BANDS = r"(?:band|duo|trio|group|supergroup)\b"
_SITES = (
    "city town village municipality commune suburb neighborhood neighbourhood district parish county "
    "province region lake river mountain island museum stadium university college school airport "
    "station bridge tower castle park hospital church cathedral community settlement building "
    "skyscraper hotel theatre monument memorial arena"
)
_SPORTS = (
    "basketball|baseball|tennis|ice hockey|rugby league|rugby union|cricket|golf|volleyball|badminton|chess|"
    "softball|handball|squash|table tennis|field hockey|soccer"
)
_GENERIC = r"(?:[\w'’-]+ ){0,6}?"

# Relation -> type of the answer, and the pattern that states it, with a group `answer` or `quoted`.
_PHRASES = {
    "location": (
        "place",
        r"^(?:is|are|was) (?:(?:located|situated) |(?:an? |the )?[^,;]{0,60}?\b"
        rf"(?:{'|'.join(_SITES.split())}) (?:located |situated )?)in {_PLACE}",
    ),
    "capital of": (
        "place",
        r"^(?:is|was) the (?:(?!most|soul)[a-z, ]+ )?capital(?: city)?(?: and [a-z, -]*(?:city|center|centre|"
        rf"town|port))? of (?:the )?(?:[a-z]+ of )?{_NAME}",
    ),
    "headquarters": ("place", rf"\bheadquartered in (?P<answer>{PLACE}){END}"),
    "genre": (
        "word",
        rf"^(?:is|was|are|were) an? (?:{DEMONYMS}) (?P<answer>[a-z -]+?) {_BANDS}",
    ),
    "origin": (
        "place",
        rf"^(?:is|was|are|were) an? {_GENERIC}{_BANDS},? "
        rf"(?:originally )?(?:formed in|from) (?P<answer>(?!\d){PLACE}){END}",
    ),
    "population": (
        "number",
        rf"\bpopulation (?:of|was|is)(?: about| around| approximately)? (?P<answer>{NUMBER})\b"
        r"(?! (?:km|mi|per))",
    ),
    "premiere": (
        "date",
        rf"^(?:premiered|debuted|first aired|aired)(?: on [^,;]*?)?(?: on| in) {_DATE}",
    ),
    "birthplace": ("place", rf"^was born(?: on {DATE},?)? in {_PLACE}"),
    "birth": ("date", rf"^was born (?:on|in) {_DATE}"),
    "death": ("date", rf"^died(?: in {PLACE})? (?:on|in) {_DATE}"),
    "team": (
        "name",
        rf"^(?:[^,;]*? who )?(?:currently )?plays (?:as an? [a-z -]+? )?for (?:the )?(?:(?:{DEMONYMS}|"
        rf"[A-Z][\w-]+ [A-Z]?[\w-]*) )??(?:[a-z]+ )?(?:club |side |team )?{_NAME}",
    ),
    "position": (
        "word",
        r"\bplays (?:for [^,;]*? )?as an? (?P<answer>(?!member|part)[a-z]+(?:[ -][a-z]+){0,2}?)"
        r"(?=$|[.,;]| (?:for|and|in|at|with)\b)",
    ),
    "sport": (
        "word",
        rf"^(?:is|was) an? (?:(?:[A-Z][\w-]+|retired|former|professional|international|college) ){{0,4}}"
        rf"(?P<answer>{_SPORTS}) (?:player|coach|manager|forward|guard|center|goaltender|defenceman)",
    ),
    "other name": (
        "name",
        rf"\b(?:also|better|commonly|popularly) (?:known|called)(?: simply)? as (?:the )?{_TITLE}",
    ),
    "former name": ("name", rf"\b(?:formerly|previously) (?:known|called|named)(?: as)? (?:the )?{_TITLE}"),
    "namesake": ("name", rf"\bnamed (?:after|in honou?r of) (?:the )?(?:[a-z]+ ){{0,3}}{_NAME}"),
    "setting": (
        "place",
        rf"\bset in (?:the (?:[a-z]+ )?(?:town|city|village|kingdom|state) of )?(?P<answer>(?!\d){PLACE})"
        r"(?=$|[.;])",
    ),
    "owner": (
        "name",
        rf"^(?:is|was|are)\b[^;]*?(?<!formerly )\bowned(?: and operated)? by (?:the )?{_NAME}",
    ),
    "album": (
        "name",
        r"\b(?:single|song|track|released) [^,;\"]*?\b(?:from|on) (?:the |his |her |their |its )?"
        rf"(?:[\w'’-]+ ){{0,7}}?album,? {_TITLE}",
    ),
    "series": (
        "name",
        rf"\bepisode (?:of|in|from) (?:the [a-z -]*?season of )?(?:the )?{_GENERIC}"
        rf"(?:series|sitcom|show|drama|comedy) {_TITLE}",
    ),
    "season": (
        "word",
        r"\bepisode (?:of|in|from) (?:the )?(?:[a-z-]+ )?(?P<answer>[a-z-]*(?:th|first|second|third)) "
        r"season of",
    ),
    "sequel": (
        "name",
        rf"\b(?:sequel|follow-up|prequel) to (?:the )?(?:(?:\d{{4}}|[a-z-]+) ){{0,4}}{_TITLE}",
    ),
    "author of basis": (
        "name",
        r"^(?:is|was)\b.*?\bbased on [^.;]*?\b(?:novel|book|play|story|memoir|novella|comic|manga)s?\b"
        rf"[^,.;]*? by (?:[a-z]+ )?{_NAME}",
    ),
    "basis": (
        "name",
        rf"\bbased on (?:the |his |her )?(?:(?:\d{{4}}|[a-z'’-]+|{DEMONYMS}) ){{0,4}}?(?:novel|book|play|"
        rf"story|memoir|novella|comic|series|game),? {_TITLE}",
    ),
    "network": (
        "name",
        r"\b(?:aired|airs|premiered|broadcast|broadcasts|ran|debuted) on (?:the )?(?P<answer>[A-Z][\w&+]*"
        r"(?: (?!on\b)[A-Z1-4][\w]*){0,2})(?=$|[.,;]| (?:on|from|in|and|for|between|until)\b)",
    ),
    "band": (
        "name",
        r"\b(?:member|vocalist|singer|guitarist|drummer|bassist|frontman|keyboardist) (?:of|for|in) (?:the )?"
        rf"(?:[\w-]+ ){{0,4}}?(?:band|group|duo|trio) {_NAME}",
    ),
    "party": ("name", r"\b(?:member of|represent(?:s|ed|ing)) the (?P<answer>(?:[A-Z][\w'’]+ ){1,3}Party)\b"),
    "school": ("name", rf"\b(?:graduated from|attended|educated at|studied at|alumnus of) (?:the )?{_NAME}"),
    "parent": (
        "name",
        r"^(?:is|was) (?:the )?(?:[a-z]+ ){0,3}(?:son|daughter|child) of (?:[a-z]+ ){0,3}"
        rf"(?P<answer>{NAME})(?=$|[.,;])",
    ),
    "spouse": (
        "name",
        r"^(?:later )?(?:married|(?:is|was) (?:the )?(?:married to|wife of|husband of)) (?:[a-z]+ ){0,3}"
        rf"{_NAME}",
    ),
    "label": (
        "name",
        r"\breleased [^;]*?\b(?:by|on|through|via|under) (?:the )?(?P<answer>(?:[A-Z][\w&.'’]* ){1,3}"
        r"(?:Records|Music|Recordings|Entertainment))\b",
    ),
}
_PATTERNS = {name: (answer_type, re.compile(pattern)) for name, (answer_type, pattern) in _PHRASES.items()}
# "Married an American", "premiered on February 22": no names.
_NO_NAME = re.compile(rf"(?:{DEMONYMS})|(?:{MONTH})\b.*")


def place_forms(place: str) -> tuple[str, ...]:
    """Accepted forms of a place: as written, and its first part."""
    return tuple(dict.fromkeys((place, place.split(",")[0])))


def phrase_facts(sentence: PageSentence) -> Iterator[Fact]:
    """The facts that the phrases of the table state about the sentence's subject."""
    for relation, (answer_type, pattern) in _PATTERNS.items():
        matches = list(pattern.finditer(sentence.predicate))
        # Two matches: which of the two is asked for would be open.
        if len(matches) != 1:
            continue
        groups = matches[0].groupdict()
        answer = (groups.get("quoted") or groups["answer"]).strip()
        is_place = answer_type == "place"
        if answer == sentence.subject or (answer_type != "date" and _NO_NAME.fullmatch(answer)):
            continue
        answers = place_forms(answer) if is_place else (answer,)
        yield relation_fact(sentence, relation, answers, answer_type=answer_type)
        country = answer.split(", ")[-1].removeprefix("the ")
        if relation == "location" and country in COUNTRIES:
            yield relation_fact(sentence, "country", country, answer_type="place")
        if relation == "capital of":
            yield relation_fact(sentence, "capital", sentence.subject, about=answer, is_title=True)
