"""Edits of a claim's year, month or day.

Only what happens once is edited: one is born once, but acts in many years.
"""

import random
import re

from evidence.contrast_case import Case, Edit, alternatives, in_title
from evidence.paraphrase import stems
from evidence.relations import is_said
from utils.answer_spelling import MONTHS

_MONTHS = [month.capitalize() for month in MONTHS]
_MONTH = alternatives(_MONTHS)
YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b(?!'?s)")
# "July 24th, 1783", "24 July 1783", "April of 1961", "March 22", "March".
DATE = re.compile(
    rf"\b(?:(?P<day1>\d\d?)(?:st|nd|rd|th)? (?:of )?)?(?P<month>{_MONTH})\b"
    rf"(?: (?P<day2>\d\d?)(?:st|nd|rd|th)?\b(?!\d))?(?:,? (?:of )?(?P<year>(?:1[0-9]|20)\d\d))?"
)
# What happens once: another year, month or day is wrong.
_ONCE = re.compile(
    r"\b(?:born|birth\w*|died|death|released?|came out|out in|premiered|debuted?|published|aired|established|"
    r"founded|formed|opened|introduced|married|wedding|first|created|launched|album|film|movie|song|novel|"
    r"series|single|game|show|began|started|filming|photography|played|held|ended|finale|won|named)\b",
    re.IGNORECASE,
)
# Beside these a date is a limit, and another date may be as true.
LIMIT = re.compile(
    r"\b(?:before|after|since|until|till|by|between|around|about|at least|at most|more than|less than|over|"
    r"under|nearly|almost|up to|least|late|early|mid|from|to|one of|during|only|not|never)\W+$",
    re.IGNORECASE,
)
# "the month of August", "on March": with another date these read badly. To give birth is not to be born.
_ODD = re.compile(rf"\bmonth\b|\bon (?:{_MONTH})\.?$|\bgave birth\b|\bis born\b|\bday\b")
_MAX_YEARS = 12
# Characters between a date and the word for what happened then.
_NEAR = 50


def _birth_and_death(text: str) -> dict[str, dict[str, str]]:
    """The dates of birth and death as the first sentence of a biography has them in brackets.

    Elsewhere two years in brackets may be those of a series.
    """
    found: dict[str, str] = {}
    born = re.search(rf"\bborn\b[^;()]{{0,60}}?({DATE.pattern}|{YEAR.pattern})", text)
    # The bounds keep the time linear; names in other scripts and places fit into them.
    lived = re.match(r"[^();]{1,80}\(([^()]{0,300}?\d{4})\s*[-–]\s*([^()]{0,300}?\d{4})\)", text)
    if born:
        found["born"] = born[1]
    elif lived:
        found["born"] = lived[1]
        found["died"] = lived[2]
    return {name: _parts(value) for name, value in found.items()}


def _parts(text: str) -> dict[str, str]:
    """Year, month and day of the first date in a text, those that it has."""
    match = DATE.search(text)
    if match is None:
        year = YEAR.search(text)
        return {"year": year[0]} if year else {}
    found = {"month": match["month"], "day": match["day1"] or match["day2"], "year": match["year"]}
    return {name: value for name, value in found.items() if value}


def _spans(claim: str) -> dict[str, tuple[int, int]]:
    """Where the year, month and day of a claim's only date are; {} with several dates."""
    dates = list(DATE.finditer(claim))
    years = list(YEAR.finditer(claim))
    if len(dates) > 1 or len(years) > 1:
        return {}
    spans = {"year": years[0].span()} if years else {}
    if dates:
        match = dates[0]
        spans["month"] = match.span("month")
        for name in ("day1", "day2"):
            if match[name]:
                spans["day"] = match.span(name)
    return spans


def _wrong(part: str, value: str, case: Case, rng: random.Random) -> str:
    """Another year, month or day, of the evidence where it has one that belongs to something else."""
    if part == "month":
        return rng.choice([month for month in _MONTHS if not case.says(month)])
    if part == "day":
        return str(rng.choice([day for day in range(1, 29) if day % 10 > 3 and not case.says(str(day))]))
    said = [year for year in dict.fromkeys(YEAR.findall(case.text)) if year != value]
    # Years of birth and death: each is wrong for the other. Those of other works or events may not be.
    lived = _birth_and_death(case.text)
    both = [dates["year"] for dates in lived.values() if "year" in dates]
    if len(both) == 2 and value in both:
        return both[0] if value == both[1] else both[1]
    near = range(int(value) - _MAX_YEARS, min(int(value) + _MAX_YEARS, 2017) + 1)
    return str(rng.choice([year for year in near if str(year) not in said and str(year) != value]))


def wrong_date(case: Case, rng: random.Random) -> list[Edit]:
    """A supported claim with another year, month or day."""
    spans = _spans(case.claim)
    if not spans or not _ONCE.search(case.claim) or _ODD.search(case.claim):
        return []
    for start, end in spans.values():
        if LIMIT.search(case.claim[:start]) and not re.search(r"from $", case.claim[:start]):
            return []
        if not case.says(case.claim[start:end]) or in_title(case, (start, end)):
            return []
    if re.search(r"\b(?:from|between)\b.*\b(?:to|and|until)\b", case.claim):
        return []
    part = rng.choice(sorted(spans))
    start, end = spans[part]
    other = _wrong(part, case.claim[start:end], case, rng)
    return [Edit("date", _with_ordinal(case.claim, spans[part], other), "refuted")]


def _with_ordinal(claim: str, span: tuple[int, int], new: str) -> str:
    """The claim with another day, whose "st" or "th" fits it, or another month or year."""
    changed = claim[: span[0]] + new + claim[span[1] :]
    if not new.isdecimal() or len(new) > 2:
        return changed
    place = span[0] + len(new)
    suffix = "th" if 10 < int(new) < 20 else {"1": "st", "2": "nd", "3": "rd"}.get(new[-1], "th")
    return changed[:place] + re.sub(r"^(?:st|nd|rd|th)\b", suffix, changed[place:])


def _right_parts(case: Case) -> dict[str, str]:
    """The date that the evidence gives for the claim's relation; {} where it is not sure."""
    if re.search(r"\b(?:born|birth\w*)\b", case.claim):
        return _birth_and_death(case.text).get("born", {})
    if re.search(r"\b(?:died|death)\b", case.claim):
        return _birth_and_death(case.text).get("died", {})
    years = list(YEAR.finditer(case.text))
    dates = list(DATE.finditer(case.text))
    # One date in all, or one year: of several, a reader has to choose.
    if len({year[0] for year in years}) != 1 or len(dates) > 1 or re.search(r"\d0s\b", case.text):
        return {}
    near = case.text[max(0, years[0].start() - _NEAR) : years[0].end() + _NEAR]
    happened = stems(" ".join(_ONCE.findall(case.claim)))
    if not any(is_said(part, stems(near)) for part in happened):
        return {}
    return {"year": years[0][0], **(_parts(dates[0][0]) if dates else {})}


def right_date(case: Case) -> list[Edit]:
    """A refuted claim with the date of its evidence."""
    spans = _spans(case.claim)
    right = _right_parts(case)
    if not spans or not spans.keys() <= right.keys() or not _ONCE.search(case.claim):
        return []
    if _ODD.search(case.claim):
        return []
    date = " ".join(case.claim[start:end] for start, end in spans.values())
    before = case.claim[: min(start for start, _ in spans.values())]
    if case.unsaid(without=date) or (LIMIT.search(before) and not before.endswith("from ")):
        return []
    claim = case.claim
    for part, span in sorted(spans.items(), key=lambda item: item[1], reverse=True):
        claim = _with_ordinal(claim, span, right[part])
    return [Edit("date", claim, "supported")] if claim != case.claim else []
