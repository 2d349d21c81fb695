"""Edits of where someone or something is from or is, by nationality, country or place."""

import random
import re

from evidence.contrast_case import NAME, Case, Edit, alternatives, in_title, pairs, replaced
from evidence.paraphrase import stems

# Country -> its adjective. Countries only, so that none contains another.
_PAIRS = """
    Argentina=Argentine Australia=Australian Austria=Austrian Belgium=Belgian Brazil=Brazilian Canada=Canadian
    Chile=Chilean China=Chinese Croatia=Croatian Cuba=Cuban Denmark=Danish Egypt=Egyptian England=English
    Finland=Finnish France=French Germany=German Greece=Greek Hungary=Hungarian Iceland=Icelandic India=Indian
    Indonesia=Indonesian Iran=Iranian Ireland=Irish Israel=Israeli Italy=Italian Jamaica=Jamaican
    Japan=Japanese Kenya=Kenyan Korea=Korean Mexico=Mexican Morocco=Moroccan Nigeria=Nigerian Norway=Norwegian
    Pakistan=Pakistani Peru=Peruvian Poland=Polish Portugal=Portuguese Russia=Russian Scotland=Scottish
    Spain=Spanish Sweden=Swedish Switzerland=Swiss Taiwan=Taiwanese Thailand=Thai Turkey=Turkish
    Venezuela=Venezuelan Vietnam=Vietnamese Wales=Welsh
"""
_NATIONALITIES = pairs(_PAIRS)
_NATIONALITIES |= {
    "the United States": "American",
    "America": "American",
    "the United Kingdom": "British",
    "South Africa": "South African",
    "New Zealand": "New Zealand",
}
_COUNTRY_OF = {adjective: country for country, adjective in _NATIONALITIES.items()}
_COUNTRY_OF["American"] = "the United States"
# Written in claims in place of another: neither is used against the other.
_NEAR = ("English", "British", "Scottish", "Welsh", "Irish", "Chinese", "Taiwanese", "Korean")
_COMMON = (
    "Canadian Australian French German Italian Spanish Mexican Brazilian Swedish Russian Japanese".split()
)
ADJECTIVE = alternatives(_COUNTRY_OF)
_COUNTRY = alternatives([*_NATIONALITIES, "United States", "United Kingdom", "US", "U.S.", "USA"])

_IS_ADJECTIVE = re.compile(
    rf"(?:\b(?:is|was|are|were)(?: an?| the)?(?: [a-z-]+| \d{{4}})?) (?P<value>{ADJECTIVE})"
    r"(?= [a-z]|\.$|$)"
)
_FROM_COUNTRY = re.compile(
    rf"\b(?:is|was|are|comes?|came|hails?)(?: [a-z ]+)? from (?P<value>{_COUNTRY})\.?$"
)
# The first nationality after what the page is: "is a 2003 American film", "was an English-born actor".
_SAID_ADJECTIVE = re.compile(
    rf"\b(?:is|was|are|were) (?:an?|the) (?:(?!Native )[\w-]+ ){{0,3}}?(?P<value>{ADJECTIVE})(?! [A-Z])\b"
)


def _said_adjectives(case: Case) -> set[str]:
    """Every nationality that the support names, by adjective or country."""
    found = set(re.findall(rf"\b({ADJECTIVE})\b", case.text))
    for country, adjective in _NATIONALITIES.items():
        if case.says(country.removeprefix("the ")):
            found.add(adjective)
    return found


def countries_said(case: Case) -> frozenset[str]:
    """Stems of the countries whose nationality the support names."""
    return frozenset().union(*(stems(_COUNTRY_OF[adjective]) for adjective in _said_adjectives(case)))


def _adjective_of(country: str) -> str:
    """The adjective of a country as claims write it: "United States", "USA"."""
    return _NATIONALITIES.get(country) or _NATIONALITIES.get(f"the {country}", "American")


def nationality(case: Case, rng: random.Random) -> list[Edit]:
    """Another nationality or country in a supported claim, that of the evidence in a refuted one."""
    match = _IS_ADJECTIVE.search(case.claim) or _FROM_COUNTRY.search(case.claim)
    if match is None or in_title(case, match.span("value")) or "Native" in case.claim:
        return []
    value = match["value"]
    said = _said_adjectives(case)
    is_country = match.re is _FROM_COUNTRY
    own = _adjective_of(value) if is_country else value
    if case.verdict == "supported":
        near = set(_NEAR) if own in _NEAR else set()
        others = [other for other in _COMMON if other not in said | near | {own}]
        # "is an American", but not "is a Japanese".
        if re.search(r"\ban? \w+\.?$", case.claim):
            others = [other for other in others if other.endswith("an")]
        if own not in said or not others:
            return []
        right = rng.choice(others)
        verdict = "refuted"
    else:
        stated = _SAID_ADJECTIVE.search(case.text)
        if stated is None or own in said or (own in _NEAR and stated["value"] in _NEAR):
            return []
        if case.unsaid(without=value):
            return []
        right = stated["value"]
        verdict = "supported"
    new = _COUNTRY_OF[right] if is_country else right
    return [Edit("entity", replaced(case.claim, match.span("value"), new), verdict)]


# --- places

_PLACE_RELATION = re.compile(
    r"\b(?:(?P<relation>born|based|headquarters are|headquarters is|headquartered|originated|formed|founded|"
    r"located|situated|played|held|is|was) (?:in|from|at)) (?:the )?"
    rf"(?P<value>{NAME})(?=\.?$| in \d{{4}}\.?$)"
)
_NO_PLACE = re.compile(
    r"\d|^(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_CONTINENTS = ("Africa", "Asia", "Europe", "South America", "North America", "Oceania")
_FAR = ("Denmark", "Brazil", "Canada", "Japan", "Egypt", "Norway", "Australia", "Chile", "Kenya", "Vietnam")
_CITIES = (
    "Dallas, Texas",
    "Boston, Massachusetts",
    "Denver, Colorado",
    "Seattle, Washington",
    "Miami, Florida",
)
# What the page is in: "is a city in Yavapai County, Arizona, United States".
_IS_IN = re.compile(
    rf"\b(?:is|was|lies|resides)\b[^.;()]*?\b(?:in|of) (?P<the>the )?(?:[a-z]+ (?:of )?)?(?P<value>{NAME})"
    # "of Southern rock band": a name before a noun is not where something is.
    r"(?!\w)(?! (?!(?:and|in|on|near|at|with|located|that|which|where|since|for)\b)\w)"
)


def _place_said(case: Case, relation: str) -> str | None:
    """The place that the evidence gives for a relation of the claim, None where it is not sure."""
    if relation in ("is", "was", "are", "located", "situated"):
        first = case.texts[0]
        found = _IS_IN.search(re.sub(r"\([^()]*\)", "", first))
        if found is None or len(case.texts) > 1:
            return None
        # A name does not go on behind a full stop, unless that is one of an abbreviation.
        value = re.sub(r"(?<=\w{4})\.\s.*", "", found["value"])
        # Of "Yavapai County, Arizona", the largest place; "the" belongs to the first one.
        parts = value.rstrip(" .,").split(", ")
        return f"the {parts[0]}" if found["the"] and len(parts) == 1 else parts[-1]
    begin = "headquarter" if relation.startswith("headquarter") else relation.removesuffix("ed")
    pattern = rf"\b{begin}\w*\b[^.;()]{{0,40}}?\b(?:in|from|at) (?P<value>{NAME})"
    places = {found["value"] for found in re.finditer(pattern, case.text)}
    return places.pop().rstrip(" .,") if len(places) == 1 else None


def _places_like(value: str) -> tuple[str, ...]:
    """Places of the type of another: continents, cities with their state, and else countries."""
    if value in _CONTINENTS:
        return _CONTINENTS
    return _CITIES if ", " in value else _FAR


def _is_place(value: str) -> bool:
    """Whether a name is that of a country or continent, or says what it is in ("Dallas, Texas")."""
    return ", " in value or value in _CONTINENTS or re.fullmatch(_COUNTRY, value) is not None


def place(case: Case, rng: random.Random) -> list[Edit]:
    """Another place in a supported claim, that of the evidence in a refuted one."""
    match = _PLACE_RELATION.search(case.claim)
    if match is None or in_title(case, match.span("value")) or _NO_PLACE.search(match["value"]):
        return []
    value = match["value"].rstrip(".")
    start = match.start("value")
    # "the" goes with "United States".
    span = (start - len("the ") * case.claim[:start].endswith(" the "), start + len(value))
    if case.verdict == "supported":
        # What somebody is or was in may be a film.
        if not stems(value) <= case.said or (match["relation"] in ("is", "was") and not _is_place(value)):
            return []
        others = [other for other in _places_like(value) if not stems(other) & case.said]
        return [Edit("entity", replaced(case.claim, span, rng.choice(others)), "refuted")] if others else []
    right = _place_said(case, match["relation"])
    if right is None or stems(right) <= stems(case.claim) or stems(value) & case.said:
        return []
    if case.unsaid(without=f"{value} {match['relation']}"):
        return []
    if right.startswith("United"):
        right = f"the {right}"
    return [Edit("entity", replaced(case.claim, span, right), "supported")]
