"""Edits of who made something: directed, wrote, produced it and so on.

The evidence names all makers of a role, so that another name contradicts it. It need not name all of a cast.
"""

import random
import re

from evidence.contrast_case import NAME, Case, Edit, in_title, replaced
from evidence.contrast_places import ADJECTIVE
from evidence.paraphrase import stems

_MADE = (
    "directed|written|produced|created|developed|published|designed|composed|recorded|hosted|fronted|founded"
)
_BY = re.compile(
    rf"\b(?P<made>(?:{_MADE})(?: and (?:{_MADE}))?)(?: only| solely| exclusively)? by (?:only |solely )?"
    rf"(?P<value>{NAME})(?: only)?\.?$"
)
# As in "Robert Lorenz directed Trouble with the Curve".
_ACTIVE = re.compile(rf"^(?P<value>{NAME}) (?P<made>directed|wrote|produced|created|designed) .+$")
_PARTICIPLE = {"wrote": "written"}


def _makers(case: Case, made: str) -> list[str]:
    """The names that the evidence gives after "directed by" and its like, all of a list."""
    found = []
    # "by American singer Katy Perry": what they are is no part of the name.
    role = rf"(?:(?:{ADJECTIVE}) (?:[a-z]+ ){{1,3}})?"
    verbs = rf"(?:{_MADE})(?:,? (?:and |co-)?(?:{_MADE}))*(?: and \w+)?"
    for match in re.finditer(rf"{verbs} by {role}(?P<value>{NAME}(?:(?:, | and |, and ){NAME})*)", case.text):
        before = match[0][: match.start("value") - match.start()]
        if re.search(rf"\b{made}\b", before):
            # A name ends with its sentence, but for initials and abbreviations.
            ended = re.split(r"(?<=[a-z]{4})\. ", match["value"])[0]
            found += [name.removesuffix(".") for name in re.split(r", and |, | and ", ended)]
    return found


def maker(case: Case, rng: random.Random) -> list[Edit]:
    """Another maker in a supported claim, the right one in a refuted one.

    The wrong one is of the cast where the evidence names it, so that its words do not give it away.
    """
    match = _BY.search(case.claim) or _ACTIVE.search(case.claim)
    if match is None or in_title(case, match.span("value")):
        return []
    value = match["value"].rstrip(".")
    roles = [_PARTICIPLE.get(role, role) for role in match["made"].split(" and ")]
    makers = [_makers(case, role) for role in roles]
    shared = [name for name in makers[0] if all(name in names for names in makers)]
    span = (match.start("value"), match.start("value") + len(value))
    if case.verdict == "supported":
        if not any(stems(value) <= stems(name) for name in shared):
            return []
        starring = re.search(rf"\b(?:starring|stars) (?P<value>{NAME}(?:, {NAME})*)", case.text)
        cast = starring["value"].split(", ") if starring else []
        named = stems(" ".join(sum(makers, [])))
        others = [name.rstrip(".") for name in cast if " " in name and not stems(name) & named]
        others = others or case.others(roles[0], case.claim)
        return [Edit("entity", replaced(case.claim, span, rng.choice(others)), "refuted")] if others else []
    if not shared or stems(value) & case.said or case.unsaid(without=f"{value} only solely exclusively"):
        return []
    claim = replaced(case.claim, span, shared[0])
    return [Edit("entity", re.sub(r" (?:only|solely|exclusively)\b", "", claim), "supported")]


def makers_of_claims(claims: list[str]) -> dict[str, list[str]]:
    """Role -> the makers that claims name, sorted: the pool of wrong ones."""
    pool: dict[str, set[str]] = {}
    for claim in claims:
        match = _BY.search(claim)
        if match:
            for role in match["made"].split(" and "):
                pool.setdefault(role, set()).add(match["value"].rstrip("."))
    return {role: sorted(names) for role, names in pool.items()}
