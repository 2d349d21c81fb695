"""Questions for a name that a sentence defines, or a role introduces, for who did something, and gaps."""

import re
from collections.abc import Iterator

from evidence.paraphrase import stem
from evidence.questions.clauses import PARTICIPLE, Clause, is_closed
from evidence.questions.fact import STYLES, Fact
from evidence.questions.sentences import PageSentence
from evidence.questions.spans import DATE_RE, JOB_RE, NAME, NAME_RE, ROLES
from utils.text import content_words

# A tail that ends so lacks the name behind it.
_OPEN_ENDS = ROLES | frozenset("in of on by from at to for the a an with as and or".split())
_NOUNS_IN_ING = ("painting", "building", "recording", "wedding")
_MAX_TAIL_WORDS = 14
# "X is a 2000 American film starring Y": the noun, and what is said of it.
_TAIL = rf"(?:who|that|which|starring|featuring|best|known|widely|by|in|from|originally|jointly|{PARTICIPLE})"
_DEFINITION = re.compile(
    r"(?P<aux>is|was|are|were) (?P<article>an?|the) "
    rf"(?P<noun>(?:(?!(?:{_TAIL}|of|for|and|to|on|as|with|about|one)\b)[\w'’-]+ ){{2,6}}?)"
    rf"(?P<tail>{_TAIL}\b.*)$"
)
_TAIL_ENDS = re.compile(r"[,;]| and (?=[a-z])")
# The start of a tail, and the verb that a question puts in its place. States are of the definition's tense.
_STATES = (
    "located|situated|based|headquartered|owned|operated|set|used|found|spoken|published|broadcast|made|known"
)
_LINKS = (
    (re.compile(rf"(?=(?:{_STATES}) )"), "{aux} "),
    (re.compile(rf"(?=(?:originally |jointly |co-)?{PARTICIPLE} )"), "was "),
    (re.compile(r"starring (?=[A-Z])"), "starred "),
    (re.compile(r"featuring (?=[A-Z])"), "featured "),
    (re.compile(r"(?:who|that|which) (?=[a-z]+ )"), ""),
    (re.compile(r"(?:best |widely )?known for (?=\w)"), "is known for "),
    (re.compile(r"(?=(?:in|by|from|on) (?:the )?[A-Z])"), "{aux} "),
)
# "X is a song by the rock band Y".
_ROLE = re.compile(
    r"(?P<before>(?:is|was|are|were|features|stars) [^,;]{3,70}? (?:by|of|for|with|from)) "
    rf"(?:the )?(?P<what>(?:{NAME} )?(?:[a-z][\w/-]* ){{0,3}}?(?P<role>[a-z][\w/-]*)) "
    rf"(?P<name>{NAME})(?=$|[;:]|,(?! [A-Z\"]))"
)
# Verbs whose subject is mostly a person or a team.
_DOING = (
    "wrote|directed|played|plays|won|sang|sings|founded|designed|produced|created|discovered|invented|"
    "composed|defeated|painted|married|hosted|recorded|performed|voiced|voices|portrayed|portrays|"
    "managed|coached|led|scored|killed|appointed|succeeded|narrated|proposed|built"
)
_DOER = re.compile(rf"(?P<rest>(?:{_DOING}) (?!by )(?=.*[A-Z])[^,]+)")
_POSSESSIVE = re.compile(r"\b(?:his|her|its|their)\b")
_MAX_GAP_WORDS = 24


def _named(clause: Clause) -> Iterator[Fact]:
    """ "X is a 2000 American film starring Y": which 2000 American film starred Y."""
    match = _DEFINITION.match(clause.predicate)
    if not match or clause.when:
        return
    noun = match["noun"].strip()
    aux = match["aux"]
    tail = _TAIL_ENDS.split(match["tail"])[0].strip()
    last = noun.split()[-1]
    is_cut = last.endswith(("ed", "ing")) and last not in _NOUNS_IN_ING
    n_words = len(tail.split())
    if is_cut or not 2 <= n_words <= _MAX_TAIL_WORDS or tail.split()[-1] in _OPEN_ENDS:
        return
    asked = None
    if match["article"] == "the":
        ask = f"{'who' if JOB_RE.search(noun) else 'what'} {aux} the {noun} {tail}"
        asked = (ask, ask, ask)
    for pattern, link in _LINKS:
        found = pattern.match(tail)
        if found and not asked:
            rest = f"{noun} {link.format(aux=aux)}{tail[found.end() :]}"
            asked = (f"which {rest}", f"which {rest}", f"what {rest}")
    if asked:
        yield clause.fact("which", (clause.subject,), asked, f"{noun} {tail}", is_title=True)


def _with_role(clause: Clause) -> Iterator[Fact]:
    """ "X is a song by the rock band Y": X is a song by which rock band."""
    match = _ROLE.match(clause.predicate)
    if match and match["role"] in ROLES and not clause.when:
        ask = f"{clause.subject} {match['before']} which {match['what']}"
        yield clause.fact(
            "which role", (match["name"],), (ask, ask, ask), f"{match['role']} {match['before']}"
        )


def _doer(clause: Clause) -> Iterator[Fact]:
    """ "X designed the Y tower": who designed the Y tower."""
    match = _DOER.match(clause.main)
    is_thing = clause.sentence.is_indirect and not re.match("S?[Hh]e ", clause.sentence.text)
    is_name = NAME_RE.fullmatch(clause.subject) and 2 <= len(clause.subject.split()) <= 4
    if not match or is_thing or not is_name or clause.when or _POSSESSIVE.search(match["rest"]):
        return
    if 4 <= len(match["rest"].split()) <= _MAX_TAIL_WORDS:
        ask = f"who {match['rest'].strip()}"
        more = {"is_title": bool(clause.sentence.subject)}
        yield clause.fact("who", (clause.subject,), (ask, ask, ask), match["rest"], **more)


def definition_facts(clause: Clause) -> Iterator[Fact]:
    yield from _named(clause)
    yield from _with_role(clause)
    yield from _doer(clause)


def gap_facts(sentence: PageSentence) -> Iterator[Fact]:
    """The sentence with its last date, and with its last name, left out."""
    if not sentence.subject or len(sentence.predicate.split()) > _MAX_GAP_WORDS:
        return
    for pattern, answer_type in ((DATE_RE, "date"), (NAME_RE, "name")):
        found = list(pattern.finditer(sentence.predicate))
        if not found:
            continue
        before = sentence.predicate[: found[-1].start()]
        after = sentence.predicate[found[-1].end() :]
        gap = f"{sentence.subject} {before}____{after}"
        questions: dict[str, tuple[str, ...]] = dict.fromkeys(STYLES, (f"Fill in: {gap}.",))
        cues = frozenset(map(stem, content_words(sentence.predicate)[:2]))
        answers = (found[-1][0],)
        page = (sentence.title, sentence.subject)
        fact = Fact("gap", "gap", *page, answers, questions, cues, answer_type, gap)
        if is_closed(fact):
            yield fact
