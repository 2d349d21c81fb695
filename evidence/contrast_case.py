"""A claim to be edited with what its evidence says, and the operations on claims that all edits share."""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field

from evidence.paraphrase import asked_stems, bare_title, stems
from evidence.relations import FILLERS, is_said

# A run of capitalized words as FEVER writes them, with initials, particles and commas before a larger place.
NAME = r"[A-Z][\w'’.-]*(?:,? (?:of |de |von |van |del |the )?[A-Z][\w'’.-]*)*"


@dataclass(frozen=True)
class Edit:
    """A changed claim and what its evidence says about it: "supported" or "refuted"."""

    kind: str
    claim: str
    verdict: str


@dataclass(frozen=True)
class Case:
    """A claim, its verdict and its support.

    `titles`: names of the support pages, without what tells pages of one name apart. `texts`: one per support
    chunk. `pool`: makers that other training claims name, by role; a wrong one may be taken from it.
    """

    claim: str
    verdict: str
    titles: tuple[str, ...]
    texts: tuple[str, ...]
    pool: dict[str, list[str]] = field(default_factory=dict)

    @functools.cached_property
    def text(self) -> str:
        return " ".join(self.texts)

    @functools.cached_property
    def said(self) -> frozenset[str]:
        """Stems of the support with its titles."""
        return stems(" ".join(self.titles)) | stems(without_suffixes(self.text))

    def says(self, phrase: str) -> bool:
        """Whether the support says the phrase in these words, whatever the case."""
        return re.search(rf"(?<!\w){re.escape(phrase)}(?!\w)", self.text, re.IGNORECASE) is not None

    def unsaid(self, without: str = "") -> frozenset[str]:
        """Stems that the claim asks for and the support does not say, those of `without` left out."""
        asked = asked_stems(without_suffixes(self.claim)) - stems(without) - FILLERS
        return frozenset(part for part in asked if not is_said(part, self.said))

    def others(self, relation: str, *not_these: str) -> list[str]:
        """Values of the pool that the support does not say, and that share no word with `not_these`."""
        taken = self.said | stems(" ".join(not_these))
        return [value for value in self.pool.get(relation, []) if not stems(value) & taken]


def without_suffixes(text: str) -> str:
    """The text with "15th" as "15", so that a date is the same in both spellings."""
    return re.sub(r"(?<=\d)(?:st|nd|rd|th)\b", "", text)


def case_of(sample: dict, claim: str, pool: dict[str, list[str]]) -> Case:
    """The case of an answerable sample whose gold is a verdict."""
    chunks = [sample["evidence_chunks"][i] for i in sample["support_spans"]]
    titles = tuple(dict.fromkeys(bare_title(chunk["title"]) for chunk in chunks))
    return Case(claim, sample["answer"], titles, tuple(chunk["text"] for chunk in chunks), pool)


def replaced(claim: str, span: tuple[int, int], new: str) -> str:
    """The claim with another text at `span`, and "a" or "an" in front of it as the new text needs it."""
    before = claim[: span[0]]
    article = re.search(r"\b([Aa])n? $", before)
    if article:
        vowel = re.match(r"[aeiouAEIO]|8|1[18]\b", new) and not re.match(r"(?:one|uni|use|eu)", new, re.I)
        before = before[: article.start()] + article[1] + ("n " if vowel else " ")
    return before + new + claim[span[1] :]


def in_title(case: Case, span: tuple[int, int]) -> bool:
    """Whether a span of the claim is part of a title that the claim names."""
    for title in case.titles:
        for match in re.finditer(re.escape(title), case.claim, re.IGNORECASE):
            if span[0] < match.end() and match.start() < span[1]:
                return True
    return False


def pairs(table: str) -> dict[str, str]:
    """The words of a table of "word=other" pairs."""
    return dict(pair.split("=") for pair in table.split())


def alternatives(words: Iterable[str]) -> str:
    """A pattern of any of the words, the longest first."""
    return "|".join(sorted(map(re.escape, words), key=len, reverse=True))
