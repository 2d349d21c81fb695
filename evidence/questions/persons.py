"""Who a person is, and whom an actor plays: "(born 3 May 1970) is a French actor", "played Z in W"."""

import re
from collections.abc import Iterator

from evidence.questions.fact import Fact, relation_fact
from evidence.questions.phrases import place_forms
from evidence.questions.sentences import PageSentence
from evidence.questions.spans import ALONE, DATE, DEMONYMS, END, JOB_RE, NAME, PLACE

_PERSON = re.compile(
    r"(?:is|was) an? (?:(?:retired|former|professional|contemporary|award-winning) )*"
    rf"(?P<nation>(?:{DEMONYMS})\b(?! and\b|-))?(?P<rest>.*)$"
)
_JOBS_END = re.compile(r"\b(?:who|known|best|whose|that|from|of|in|for|at|with|on|and the|by|about)\b|\.")
_MAX_JOB_WORDS = 14
_LIFE = re.compile(rf"(?P<birth>{DATE})(?: in [^–;-]+|, [^–;\d-]+)? ?[–-] ?(?P<death>{DATE})")
_BORN = re.compile(rf"\bborn:? (?:in )?(?:on )?(?P<date>{DATE})(?:,? in (?P<place>{PLACE})$)?")
# "the American drama series Lost": what stands before the name of a work.
_WORK = (
    r"(?:in|on) (?:the (?:[\w-]+ ){0,5}?(?:film|series|sitcom|show|drama|opera|movie) )?"
    rf"(?P<work>\"[^\"]+\"|{NAME}){END}{ALONE}"
)
_PLAYED = (
    re.compile(
        r"(?:later |once )?(?:played|portrayed|plays|portrays|voiced|voices|starred as|stars as|appeared as) "
        rf"(?P<role>{NAME}) {_WORK}"
    ),
    re.compile(
        rf".*?\b(?:his|her) (?:[a-z]+ )?(?:role|portrayal|performance) (?:as|of) (?:[a-z]+ ){{0,2}}"
        rf"(?P<role>{NAME}) {_WORK}"
    ),
)
_CHARACTER = re.compile(
    rf"(?:is|was) an? fictional character\b.*?\b(?:played|portrayed|voiced) by (?:(?:{DEMONYMS}) )?"
    rf"(?:actor |actress |comedian )?({NAME})(?=$|[.,;]| (?:in|since|until|from|for)\b)"
)


def person_facts(sentence: PageSentence) -> Iterator[Fact]:
    """What a sentence that defines a person says, with the dates in its brackets."""
    match = _PERSON.match(sentence.predicate)
    head = _JOBS_END.split(match["rest"])[0] if match else ""
    jobs = tuple(dict.fromkeys(job[0] for job in JOB_RE.finditer(head)))
    if not match or not jobs or len(head.split()) > _MAX_JOB_WORDS:
        return
    if match["nation"]:
        yield relation_fact(sentence, "nationality", match["nation"], answer_type="word")
    yield relation_fact(sentence, "occupation", jobs, answer_type="word")
    life = _LIFE.search(sentence.aside)
    born = _BORN.search(sentence.aside)
    if life:
        yield relation_fact(sentence, "birth", life["birth"], answer_type="date")
        yield relation_fact(sentence, "death", life["death"], answer_type="date")
    elif born:
        yield relation_fact(sentence, "birth", born["date"], answer_type="date")
        if born["place"]:
            yield relation_fact(sentence, "birthplace", place_forms(born["place"]), answer_type="place")


def role_facts(sentence: PageSentence) -> Iterator[Fact]:
    """Who plays whom in what, from the page of the actor or of the character."""
    for pattern in _PLAYED:
        if match := pattern.match(sentence.predicate):
            role = match["role"]
            work = match["work"].strip('"').rstrip(",")
            yield relation_fact(sentence, "role", role, about=work)
            yield relation_fact(sentence, "work of role", work, about=role)
            yield relation_fact(sentence, "actor", sentence.subject, subject=role, about=work, is_title=True)
    character = _CHARACTER.match(sentence.predicate)
    if character:
        yield relation_fact(sentence, "own actor", character[1])
