"""Edits that deny a claim, or take its denial away: the verdict turns whatever the claim is about.

What is denied is the whole predicate, so "not" goes behind the first verb after the subject. Verbs that are
not in the table are left alone.
"""

import re

from evidence.contrast_case import NAME, Case, Edit, alternatives, pairs
from evidence.paraphrase import denies
from utils.text import STOP_WORDS

# Verb in the past or third person -> its base form.
_BASES = """
    acted=act aired=air appeared=appear appears=appear attended=attend became=become began=begin
    belongs=belong came=come competes=compete concerns=concern contains=contain covered=cover
    created=create deals=deal debuted=debut designed=design developed=develop died=die directed=direct
    earned=earn ended=end existed=exist featured=feature features=feature formed=form founded=found
    graduated=graduate grossed=gross had=have has=have includes=include involved=involve joined=join
    lasted=last launched=launch led=lead lies=lie lived=live lives=live lost=lose made=make
    marketed=market married=marry moved=move opened=open operates=operate originated=originate owned=own
    owns=own participated=participate peaked=peak performed=perform performs=perform played=play
    plays=play premiered=premiere produced=produce published=publish races=race reached=reach
    received=receive released=release resides=reside returned=return serves=serve shared=share
    shares=share signed=sign soared=soar speak=speak spent=spend starred=star stars=star started=start
    studied=study took=take went=go won=win worked=work works=work writes=write wrote=write
"""
_BASE = pairs(_BASES)
_VERB = alternatives(_BASE)
_NO_SUBJECT = STOP_WORDS | {"after", "before", "during", "part", "both", "one", "multiple", "since", "until"}
# Also behind what belongs to the subject: "Easy A's director is ...".
_COPULA = re.compile(r"^(?:(?:'s|')(?: [a-z-]+){1,4}?| development)? (?P<verb>is|are|was|were|can|will)(?= )")
_LEXICAL = re.compile(rf"^ (?P<verb>{_VERB})(?= |\.)")
# With these words, denying the predicate says something else, or says it badly.
_UNCLEAR = re.compile(
    r"\b(?:some|any|all|every|both|always|ever|still|also|least|yet|either|neither|too|known as|called|"
    r"several|only|just|but|nothing)\b|^ is born\b|\bun(?!i|d|til)[a-z]+\b|\ban [bcdfgj-np-tv-z]|\ba [aeio]|"
    r"\bday \d|\bmonth of the\b"
)

# A denial -> what the claim says without it.
_DENIALS = (
    (r"\b(is|are|was|were|can)(?:n't| not)\b", r"\1"),
    (r"\bhas nothing to do with\b", "has something to do with"),
    (r"\bhad nothing to do with\b", "had something to do with"),
    (r"\bis unrelated to\b", "is related to"),
    (r"\bis dissociated from\b", "is associated with"),
    (r"\bis unaffected by\b", "is affected by"),
    (r"\bis unfamiliar with\b", "is familiar with"),
    (r"\bwas disassociated with\b", "was associated with"),
    (r"\b(is|was)( located| based)? outside(?: of)?\b", r"\1\2 in"),
    (r"\bis (?:unable to be|incapable of being) (?=an? )", "is "),
    (r"\b(failed|fails) to be (?=an? )", "was "),
    (r"\bfailed to become\b", "became"),
    (r"\bis incapable of\b", "is capable of"),
    (r"\bwas unable to\b", "was able to"),
    (r"\bnever (?=was |were |had |\w+ed\b|went|wrote)", ""),
    (r"\bwas never\b", "was"),
)


def _subject_end(case: Case) -> int | None:
    """Where the subject ends, if a title of the support or another name is at the start of the claim."""
    for title in sorted(case.titles, key=len, reverse=True):
        match = re.match(
            rf"(?:The |An? )?{re.escape(title)}(?: \([^()]*\))?(?=[ '])", case.claim, re.IGNORECASE
        )
        if match:
            return match.end()
    name = re.match(rf"(?:The )?{NAME}(?=[ '])", case.claim)
    return name.end() if name and name[0].split()[0].lower() not in _NO_SUBJECT else None


def deny(case: Case) -> list[Edit]:
    """The claim denied: supported if it was refuted, refuted if it was supported."""
    end = _subject_end(case)
    if end is None or denies(case.claim) or _UNCLEAR.search(case.claim[end:]):
        return []
    rest = case.claim[end:]
    verdict = "refuted" if case.verdict == "supported" else "supported"
    copula = _COPULA.match(rest)
    if copula:
        denied = f"{copula[0]} not{rest[copula.end() :]}"
        return [Edit("negation", case.claim[:end] + denied, verdict)]
    lexical = _LEXICAL.match(rest)
    perfect = re.match(r" (?:has|had|have)(?= (?:been|done|made|won|become|\w+ed|\w+en)\b)", rest)
    if perfect:
        return [Edit("negation", f"{case.claim[:end]}{perfect[0]} not{rest[perfect.end() :]}", verdict)]
    if lexical is None:
        return []
    verb = lexical["verb"]
    auxiliary = "does" if verb.endswith("s") else "did"
    denied = f" {auxiliary} not {_BASE[verb]}{rest[lexical.end() :]}"
    return [Edit("negation", case.claim[:end] + denied, verdict)]


def affirm(case: Case) -> list[Edit]:
    """A claim without its denial: supported if it was refuted, refuted if it was supported."""
    verdict = "refuted" if case.verdict == "supported" else "supported"
    # "not ... not" and "only" limit a claim in a way that taking one word away does not undo.
    if re.search(r"\b(?:only|solely|exclusively|any|anything|ever|named)\b", case.claim):
        return []
    past_of = {base: form for form, base in _BASE.items() if not form.endswith("s")}
    present_of = {base: form for form, base in _BASE.items() if form.endswith("s")}
    match = re.search(r"\b(?P<aux>did|does)(?:n't| not) (?P<base>\w+)\b", case.claim)
    match = match or re.search(r"\b(?P<aux>refused|refuses) to (?P<base>\w+)\b", case.claim)
    if match:
        forms = past_of if match["aux"].endswith("d") else present_of
        if match["base"] not in forms:
            return []
        claim = case.claim[: match.start()] + forms[match["base"]] + case.claim[match.end() :]
        return [Edit("word", claim, verdict)]
    for pattern, plain in _DENIALS:
        claim = re.sub(pattern, plain, case.claim)
        if claim != case.claim:
            return [] if denies(claim) else [Edit("word", claim, verdict)]
    return []
