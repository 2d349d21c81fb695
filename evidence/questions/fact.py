"""What a sentence of a page states, as questions and an answer. It knows nothing of samples."""

import functools
import re
from dataclasses import dataclass, field
from pathlib import Path

from evidence.paraphrase import stem
from evidence.questions.sentences import PageSentence
from evidence.questions.spans import DATE_RE, YEAR
from utils.yaml_files import parse_yaml

STYLES = ("web", "plain", "long")


@dataclass(frozen=True)
class Fact:
    """One thing that a sentence of the page `title` says about `subject`.

    `kind`: template, cloze or gap. `about`: what the question says besides the subject; facts of one
    relation, subject and `about` with different answers contradict each other. `answers`: accepted forms,
    the canonical one first. `is_title`: the answer is the name of the page. `cues`: stems by which another
    sentence may state the relation. `questions`: wordings by style, no part of what is stated.
    """

    kind: str
    relation: str
    title: str
    subject: str
    answers: tuple[str, ...]
    questions: dict[str, tuple[str, ...]] = field(compare=False)
    cues: frozenset[str]
    answer_type: str = "name"
    about: str = ""
    is_title: bool = False


@functools.cache
def _relations() -> dict[str, dict]:
    path = Path(__file__).with_name("relations.yaml")
    return parse_yaml(path.read_text(encoding="utf-8"), path.name)


def _fits(wording: str, answer: str, has_kind: bool) -> bool:
    """False for a wording that needs the kind of the subject where it is unknown, and for one that asks for a
    year where the answer is a whole date, or the other way round.
    """
    is_year = bool(re.fullmatch(YEAR, answer))
    is_date = DATE_RE.fullmatch(answer) and not is_year
    asks_date = re.search(r" date\b|birthday", wording)
    return (has_kind or "{k}" not in wording) and not (
        is_date and " year" in wording or is_year and asks_date
    )


def relation_fact(
    sentence: PageSentence, relation: str, answers: str | tuple[str, ...], kind: str = "", **more
) -> Fact:
    """A fact about the sentence's subject, worded as relations.yaml says.

    `kind`: what the subject is ("movie"), "" if unknown. `more`: further fields of Fact.
    """
    answers = (answers,) if isinstance(answers, str) else answers
    subject = more.pop("subject", sentence.subject)
    return worded_fact(relation, (sentence.title, subject), answers, kind, **more)


def worded_fact(
    relation: str, page: tuple[str, str], answers: tuple[str, ...] = (), kind: str = "", **more
) -> Fact:
    """A fact of a `page` (title, subject). Without answers it is one that no sentence is known to state."""
    table = _relations()[relation]
    title, subject = page
    answer = answers[0] if answers else ""
    parts = {"x": subject, "k": kind, "o": more.get("about", "")}
    questions = {}
    for style in STYLES:
        fitting = [wording for wording in table[style] if _fits(wording, answer, bool(kind))]
        questions[style] = tuple(wording.format(**parts) for wording in fitting)
    cues = frozenset(stem(word) for word in table["cues"].split())
    return Fact("template", relation, title, subject, answers, questions, cues, **more)
