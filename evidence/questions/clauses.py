"""The clauses of a sentence that questions can be made of: a subject with a name, and what is said of it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from evidence.paraphrase import stem
from evidence.questions.fact import Fact
from evidence.questions.sentences import THINGS, PageSentence, page_name
from evidence.questions.spans import DATE, NAME, NAME_RE
from utils.text import content_words

PARTICIPLE = (
    r"(?:[a-z-]+ed|built|held|won|written|sung|known|shown|seen|given|taken|born|buried|set|shot|sold|made|"
    r"found|led|spoken|drawn|fought|driven|grown|worn|broken|chosen|beaten|cut|laid|sent|spent|taught|thrown)"
)
_PAST_FORMS = (
    "won win, wrote write, began begin, became become, came come, made make, took take, left leave, "
    "led lead, ran run, held hold, met meet, sold sell, built build, gave give, got get, lost lose, "
    "fought fight, fell fall, went go, spent spend, sang sing, grew grow, found find, bought buy, "
    "brought bring, taught teach, sent send, drew draw, rose rise, saw see, set set, put put, hit hit, "
    "beat beat, broke break, chose choose, had have, said say, told tell, paid pay, shot shoot, "
    "kept keep"
)
_INFINITIVE = dict(pair.split() for pair in _PAST_FORMS.split(", "))
PAST = rf"(?:[a-z]+ed|{'|'.join(_INFINITIVE)})"
# What these words refer to is not in the question.
_LOOSE = re.compile(
    r"\b(?:it|they|them|this|these|those|he|she|him|former|latter|there|here|such|another|also|other|same|"
    r"however|respectively|later|then|again|finally|eventually|previously|subsequently|soon|both|thus|"
    r"therefore)\b",
    re.IGNORECASE,
)
_LAST_STOP = re.compile(r"[.!?][\"']?$")
_FRONT = re.compile(rf"(?:In|On) ({DATE}), (.*)$")
_PART = re.compile(rf"The (?!only |next |new |most )((?:[a-z-]+ ){{1,3}}?)(?=(?:was|were|is|are|{PAST}) )")
_NOUN_PHRASE = re.compile(rf"((?:[Tt]he )?(?:[a-z]+ ){{0,2}}(?:{NAME})) (?=(?:was|were|is|are|{PAST}) )")
_NO_SUBJECT = re.compile(
    r"(?:In|On|At|As|For|After|Before|During|By|With|From|When|While|His|Her|Its|Their|A|An)\b"
)
_SECOND_CLAUSE = re.compile(
    r", (?:which|who|where|when|while|whose|and|but|with|making|becoming|after|before|as)\b|;| but |"
    r" and (?:was|is|were|has|had|became|won)\b"
)


@dataclass(frozen=True)
class Clause:
    """`when`: the date in front of the subject, "" without one."""

    sentence: PageSentence
    subject: str
    predicate: str
    when: str = ""

    @property
    def main(self) -> str:
        """The predicate up to a second clause."""
        return _SECOND_CLAUSE.split(self.predicate)[0]

    def fact(
        self, relation: str, answers: tuple[str, ...], asked: tuple[str, str, str], about: str, **more
    ) -> Fact:
        """`asked`: the question in each style, without a mark; `about`: the words that state the relation."""
        web, plain, long = asked
        questions: dict[str, tuple[str, ...]] = {
            "web": (web,),
            "plain": (f"{plain}?",),
            "long": (f"{long}?",),
        }
        words = content_words(about)
        more |= {"about": " ".join(words), "cues": frozenset(map(stem, words[:2]))}
        title = self.sentence.title
        return Fact("cloze", relation, title, self.subject, answers=answers, questions=questions, **more)


def clauses(sentence: PageSentence) -> Iterator[Clause]:
    """The clause of a sentence; none where its subject is a pronoun or too vague to be asked about.

    Subjects are that of the page, a part of it ("the libretto of X"), or a noun phrase with a name.
    """
    if sentence.subject:
        yield Clause(sentence, sentence.subject, sentence.predicate)
        return
    text = _LAST_STOP.sub("", sentence.text)
    front = _FRONT.match(text)
    when, rest = (front[1], front[2]) if front else ("", text)
    part = _PART.match(rest)
    if part and (_LOOSE.search(part[1]) or part[1].strip() in THINGS):
        return
    if part:
        yield Clause(sentence, f"the {part[1]}of {page_name(sentence.title)}", rest[part.end() :], when)
        return
    phrase = _NOUN_PHRASE.match(rest)
    if not phrase or _NO_SUBJECT.match(rest) or _LOOSE.search(phrase[1]):
        return
    name = re.sub(r"^The ", "the ", phrase[1])
    # The first word of a sentence is capitalized whether it is a name or not.
    has_name = any(word[0].isupper() for word in name.split()[1:])
    if has_name or (when and NAME_RE.fullmatch(name)):
        yield Clause(sentence, name, rest[phrase.end() :], when)


def is_closed(fact: Fact) -> bool:
    """Whether the questions of a fact have no word that refers to something outside them."""
    return not any(_LOOSE.search(text) for texts in fact.questions.values() for text in texts)


def infinitive(verb: str, words: dict[str, int]) -> str | None:
    """The infinitive of a verb in the past tense, None if not known. `words`: counts of known words."""
    if verb in _INFINITIVE:
        return _INFINITIVE[verb]
    candidates = [f"{verb[:-3]}y"] if verb.endswith("ied") else [verb[:-2], verb[:-1]]
    if len(verb) > 4 and verb[-3] == verb[-4]:
        candidates.append(verb[:-3])
    best = max(candidates, key=lambda word: words.get(word, 0))
    return best if words.get(best, 0) else None
