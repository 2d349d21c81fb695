"""The edits of one claim: what may be changed in it, so that its evidence surely gives the other verdict.

They see words, not meaning, and so change only what evidence and claim say in the same words.
"""

import random
import re
from dataclasses import dataclass

from evidence.paraphrase import asked_stems, denies, stems
from evidence.queries import query_of
from utils.schema import verdict_class
from utils.text import chunk_text

_YEAR = re.compile(r"\b(?:1[0-9]|20)\d\d\b(?!s)")
# Years that are nearer than this to the true one are wrong, and not absurd.
_MAX_YEARS = 12


@dataclass(frozen=True)
class Edit:
    """A changed claim and what its evidence says about it: "supported" or "refuted"."""

    kind: str
    claim: str
    verdict: str


def support_text(sample: dict) -> str:
    """Titles and texts of the support."""
    return " ".join(chunk_text(sample["evidence_chunks"][i]) for i in sample["support_spans"])


def _year_edits(claim: str, text: str, verdict: str, rng: random.Random) -> list[Edit]:
    """The only year of a claim replaced by another of the evidence or a near one, or by the right one."""
    years = _YEAR.findall(claim)
    said = list(dict.fromkeys(_YEAR.findall(text)))
    if len(years) != 1 or denies(claim):
        return []
    year = years[0]
    if verdict == "supported" and year in said:
        others = [other for other in said if other != year]
        near = [str(int(year) + shift) for shift in range(-_MAX_YEARS, _MAX_YEARS + 1)]
        other = rng.choice(others or [value for value in near if value not in said])
        return [Edit("year", claim.replace(year, other), "refuted")]
    is_rest_said = asked_stems(claim) - {year} <= stems(text)
    if verdict == "refuted" and len(said) == 1 and year not in said and is_rest_said:
        return [Edit("year", claim.replace(year, said[0]), "supported")]
    return []


def edits_of(sample: dict, rng: random.Random) -> list[Edit]:
    """The edits of a claim that give it the other verdict, the best first; [] without one."""
    verdict = verdict_class(sample["answer"])
    return _year_edits(query_of(sample), support_text(sample), verdict, rng)
