"""Whether an evidence answers a made question with one answer only, or not at all.

Every check looks at the texts alone and rejects in doubt.
"""

import functools
import re
from dataclasses import dataclass

from evidence.paraphrase import answer_parts, asked_stems, says_most, stems
from evidence.questions.fact import Fact
from evidence.questions.sentences import page_name
from evidence.questions.spans import DATE_RE, NAME_RE
from evidence.spellings import holds_spelling, spellings_of
from utils.text import chunk_text, holds_words, padded_words

MAX_ANSWER_WORDS = 6

# Pages say these in so many words that a text which does not is hard to find.
SAID_ANYHOW = frozenset("occupation nationality genre sport location country position where".split())
SAID_ANYHOW |= {"film genre", "other name"}


_BY_NAME = re.compile(r"\bby (?:[a-z]+ ){0,4}[A-Z]")


@dataclass(frozen=True)
class ShownChunk:
    """One chunk of an evidence, with the facts that its sentences state."""

    title: str
    text: str
    facts: tuple[Fact, ...]

    @functools.cached_property
    def words(self) -> str:
        return padded_words(chunk_text({"title": self.title, "text": self.text}))

    @functools.cached_property
    def stems(self) -> frozenset[str]:
        return stems(self.text)

    def may_hold(self, fact: Fact) -> bool:
        """Whether the chunk contains the answer in another spelling."""
        return holds_spelling(
            chunk_text({"title": self.title, "text": self.text}), spellings_of(fact.answers)
        )

    def is_about(self, fact: Fact) -> bool:
        """Whether the chunk is of the fact's page, or names its subject."""
        return self.title == fact.title or padded_words(fact.subject) in self.words


def needles_of(fact: Fact) -> list[str]:
    return [padded_words(answer) for answer in fact.answers]


def _has_other(chunk: ShownChunk, fact: Fact) -> bool:
    """Whether the chunk has an expression of the answer's type that is neither the answer nor the subject."""
    if fact.answer_type == "date":
        found = DATE_RE.findall(chunk.text)
    elif fact.answer_type == "number":
        found = re.findall(r"\d[\d,.]*", chunk.text)
    elif fact.answer_type == "word":
        return True
    else:
        found = NAME_RE.findall(chunk.text)
    known = padded_words(" ".join([*fact.answers, fact.subject, fact.title]))
    return any(padded_words(text) not in known for text in found)


def _may_state(chunk: ShownChunk, fact: Fact) -> bool:
    """Whether the chunk may state the fact's relation, with another answer or in other words."""
    n_cues = len(fact.cues & chunk.stems)
    if not fact.answers:
        # What the answer is, nobody knows: a date, or a name after "by", may be it without any cue.
        pattern = DATE_RE if fact.answer_type == "date" else _BY_NAME
        return chunk.is_about(fact) and (n_cues > 0 or bool(pattern.search(chunk.text)))
    is_cued = n_cues == len(fact.cues) if fact.kind != "template" else n_cues > 0
    return is_cued and chunk.is_about(fact) and _has_other(chunk, fact)


def _same_relation(fact: Fact, other: Fact) -> bool:
    mine = (fact.relation, fact.subject.lower(), fact.about)
    return mine == (other.relation, other.subject.lower(), other.about)


def _is_namesake(chunk: ShownChunk, fact: Fact) -> bool:
    """Whether the chunk may be of another page of the name: `Peter Pan (1953 film)`, or George P. Putnam for
    George Palmer Putnam, whose own page says the same kind of thing.
    """
    if chunk.title == fact.title:
        return False
    is_namesake = page_name(chunk.title) == page_name(fact.title)
    has_same = any(other.relation == fact.relation and not other.is_title for other in chunk.facts)
    return is_namesake or (has_same and not fact.is_title and chunk.is_about(fact))


def unclear_reason(fact: Fact, question: str) -> str | None:
    """Why a question cannot be asked of any evidence; None for a good one."""
    if not fact.answers:
        return None
    answer = fact.answers[0]
    if not answer.strip() or len(answer.split()) > MAX_ANSWER_WORDS:
        return "long answer"
    asked = padded_words(question)
    is_circular = any(needle.strip() and needle in asked for needle in needles_of(fact))
    is_of_subject = padded_words(answer) in padded_words(fact.subject) and not fact.is_title
    return "answer in the question" if is_circular or is_of_subject else None


def support_of(fact: Fact, question: str, chunks: list[ShownChunk], own: int) -> list[int] | str:
    """The chunks that state the fact, `own` among them; or the reason why the evidence is no good for it."""
    needles = needles_of(fact)
    if not holds_words(chunks[own].words, needles):
        return "answer not in its chunk"
    support = [own]
    for i, chunk in enumerate(chunks):
        same = [other for other in chunk.facts if _same_relation(fact, other)]
        if any(other.answers[0] != fact.answers[0] for other in same):
            return "two answers"
        if i == own:
            continue
        if _is_namesake(chunk, fact):
            return "two pages of the name"
        if holds_words(chunk.words, needles):
            if not same:
                return "answer in another chunk"
            support.append(i)
            continue
        may_name = fact.is_title and says_most(asked_stems(question), chunk.stems)
        if may_name or _may_state(chunk, fact) or chunk.may_hold(fact):
            return "another chunk may answer"
    return sorted(support)


def is_unanswered(fact: Fact, question: str, chunks: list[ShownChunk]) -> bool:
    """Whether no chunk answers the question."""
    if fact.relation in SAID_ANYHOW and any(chunk.is_about(fact) for chunk in chunks):
        return False
    needles = needles_of(fact)
    parts = answer_parts(list(fact.answers), question)
    asked = asked_stems(question)
    for chunk in chunks:
        if holds_words(chunk.words, needles) or parts & chunk.stems or chunk.may_hold(fact):
            return False
        if _may_state(chunk, fact) or any(_same_relation(fact, other) for other in chunk.facts):
            return False
        if says_most(asked, chunk.stems) and (fact.kind != "template" or fact.is_title):
            return False
        if _is_namesake(chunk, fact):
            return False
    return True
