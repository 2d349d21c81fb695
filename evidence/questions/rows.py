"""Rows that ask about the evidence of a training sample, as it is; about a third of them go unanswered.

All rows of a sample share what is computed for its evidence. They rest on one chunk each, so they are made
for sources whose questions do, and not for claims: with questions on the evidence of all sources, a model
learned verdicts and the citing of two chunks later (docs/log.md, 2026-11-28).
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from evidence.made_row import Making, made_row
from evidence.queries import claim_of
from evidence.questions.checks import SAID_ANYHOW, is_unanswered, support_of, unclear_reason
from evidence.questions.fact import Fact
from evidence.questions.index import FactIndex
from utils.schema import unit_of
from utils.text import REFUSAL, padded_words

# Most rows per sample that its evidence answers, and that it does not answer.
_MAX_ANSWERED = 4
_MAX_UNANSWERED = 2
# Share of unanswerable rows, and that of relations that are only missing where their page is not shown: such
# a row is easy, but without any, the wording would tell that there is an answer.
_UNANSWERABLE = 0.33
_EASY_UNANSWERABLE = 0.15
# Sentences with a gap look like no real question: at most this many per other answerable row.
_MAX_GAPS = 0.08
# A relation of more facts than this is asked for last.
_MANY = 100
# How questions are worded, by source.
_STYLES = {"nq_open": ("web",), "popqa": ("plain",)}
_ANY_STYLE = ("web", "web", "plain", "long")


@dataclass
class _Row:
    """A question about the evidence of sample number `origin`; unanswerable without `support`."""

    origin: int
    fact: Fact
    question: str
    support: list[int]

    def changes(self, n_chunks: int) -> dict:
        """The fields that differ from those of the origin, which shows `n_chunks` chunks."""
        answers = list(dict.fromkeys(answer.strip() for answer in self.fact.answers))
        is_answered = bool(self.support)
        forms = {"gold_aliases": answers} if answers and not is_answered else {}
        return {
            "question": self.question,
            "answer": answers[0] if is_answered else REFUSAL,
            "answer_aliases": answers if is_answered else [],
            "answerable": is_answered,
            "support_sets": [[chunk] for chunk in self.support],
            "support_spans": self.support,
            "hard_negatives": [chunk for chunk in range(n_chunks) if chunk not in self.support],
            "metadata": {"relation": self.fact.relation, **forms},
        }


def _asking_sources(samples: list[dict]) -> set[str]:
    """The sources whose answerable samples are questions and, most of them, rest on one chunk."""
    n_all: Counter[str] = Counter()
    n_fitting: Counter[str] = Counter()
    for sample in samples:
        if sample["answerable"]:
            n_all[sample["source"]] += 1
            n_fitting[sample["source"]] += len(sample["support_sets"][0]) == 1 and not claim_of(sample)
    return {source for source, n in n_all.items() if n_fitting[source] > n / 2}


class _Asker:
    """Words questions, so that no two units ask the same, and looks which of them an evidence answers."""

    def __init__(self, samples: list[dict], rng: random.Random):
        self.rng = rng
        self.samples = samples
        sources = _asking_sources(samples)
        # The numbers of the samples whose evidence is asked about; all of them are searched for answers.
        self.origins = [i for i, sample in enumerate(samples) if sample["source"] in sources]
        self.index = FactIndex(samples)
        self.skipped: Counter[str] = Counter()
        self.n_unanswered: Counter[int] = Counter()
        self._unit_of = {padded_words(sample["question"]): unit_of(sample) for sample in samples}
        # Unit -> fact -> how the unit asks for it: an original and its twin ask in the same words.
        self._asked: dict[str, dict[Fact, str]] = defaultdict(dict)

    def _wording(self, fact: Fact, sample: dict) -> str | None:
        """A question in the style of the sample's source; None where other units ask all of them."""
        own = unit_of(sample)
        if fact in self._asked[own]:
            return self._asked[own][fact]
        wordings = list(fact.questions[self.rng.choice(_STYLES.get(sample["source"], _ANY_STYLE))])
        self.rng.shuffle(wordings)
        for text in wordings:
            question = text.lower() if text in fact.questions["web"] else text[:1].upper() + text[1:]
            if self._unit_of.get(padded_words(question), own) == own:
                return question
        return None

    def _row(self, i: int, fact: Fact, question: str, support: list[int]) -> _Row:
        own = unit_of(self.samples[i])
        self._unit_of.setdefault(padded_words(question), own)
        self._asked[own][fact] = question
        return _Row(i, fact, question, support)

    def answered(self, i: int) -> Iterator[_Row]:
        """Rows that the evidence of sample `i` answers, of rare relations first."""
        chunks = self.index.shown[i]
        found = [(own, fact) for own, chunk in enumerate(chunks) for fact in chunk.facts]
        self.rng.shuffle(found)
        found.sort(key=lambda pair: (pair[1].kind == "gap", self._is_common(pair[1])))
        answers: set[tuple[int, str]] = set()
        for own, fact in found:
            question = self._wording(fact, self.samples[i])
            reason = unclear_reason(fact, question) if question else "asked elsewhere"
            support = reason or support_of(fact, question or "", chunks, own)
            if isinstance(support, str) or question is None:
                self.skipped[str(support)] += 1
            elif (own, fact.answers[0]) in answers or len(answers) == _MAX_ANSWERED:
                self.skipped["enough of its sample"] += 1
            else:
                answers.add((own, fact.answers[0]))
                yield self._row(i, fact, question, support)

    def _is_common(self, fact: Fact) -> bool:
        return len(self.index.of_relation[fact.relation]) > _MANY

    def unanswered(self, i: int, facts: Iterable[Fact], quota: Counter[str]) -> Iterator[_Row]:
        """Rows of facts that the evidence of sample `i` does not state. Uses up `quota`: rows by relation."""
        sample = self.samples[i]
        for fact in facts:
            if not quota[fact.relation] or self.n_unanswered[i] == _MAX_UNANSWERED:
                continue
            question = self._wording(fact, sample)
            if question is None or unclear_reason(fact, question):
                continue
            if not is_unanswered(fact, question, self.index.shown[i]):
                self.skipped["may be answered"] += 1
                continue
            quota[fact.relation] -= 1
            self.n_unanswered[i] += 1
            yield self._row(i, fact, question, [])

    def absent(self, i: int) -> list[Fact]:
        """Facts that fit the evidence of sample `i` best without being in it.

        First those that its twin is asked for, then others of the pages that it shows.
        """
        stated = {fact for chunk in self.index.shown[i] for fact in chunk.facts}
        of_unit = [fact for fact in self._asked[unit_of(self.samples[i])] if fact not in stated]
        others = self.index.same_page(i)
        self.rng.shuffle(others)
        others.sort(key=lambda fact: fact.kind == "gap")
        return list(dict.fromkeys([*of_unit, *others]))


def _answered_rows(asker: _Asker) -> list[_Row]:
    rows: list[_Row] = []
    gaps: list[_Row] = []
    for i in asker.origins:
        for row in asker.answered(i):
            (gaps if row.fact.kind == "gap" else rows).append(row)
    n_gaps = min(len(gaps), round(_MAX_GAPS * len(rows)))
    asker.skipped["enough gaps"] += len(gaps) - n_gaps
    return rows + asker.rng.sample(gaps, n_gaps)


def _quota(answered: list[_Row]) -> Counter[str]:
    """How many unanswerable rows of each relation are wanted."""
    n_easy = Counter(
        row.fact.relation for row in answered if row.fact.relation in SAID_ANYHOW or row.fact.is_title
    )
    n_other = Counter(row.fact.relation for row in answered) - n_easy
    quota = Counter(
        {name: round(n * _EASY_UNANSWERABLE / (1 - _EASY_UNANSWERABLE)) for name, n in n_easy.items()}
    )
    n_wanted = len(answered) * _UNANSWERABLE / (1 - _UNANSWERABLE) - quota.total()
    share = n_wanted / max(1, n_other.total())
    quota.update({name: round(n * share) for name, n in n_other.items()})
    return quota


def _unanswered_rows(asker: _Asker, answered: list[_Row]) -> list[_Row]:
    """The wanted share of unanswerable rows of each relation, those nearest to their evidence first."""
    quota = _quota(answered)
    order = list(asker.origins)
    rows: list[_Row] = []
    ways = (
        asker.absent,
        lambda i: asker.rng.sample(found := asker.index.open_facts(i), len(found)),
        lambda i: asker.index.same_name(i, asker.rng),
        lambda i: asker.index.same_relation(i, asker.rng),
    )
    for facts_of in ways:
        asker.rng.shuffle(order)
        for i in order:
            rows += asker.unanswered(i, facts_of(i), quota)
    return rows


def question_rows(samples: list[dict], seed: int) -> Making:
    """Questions made of the pages of finished training samples. `skipped` counts questions, by reason."""
    asker = _Asker(samples, random.Random(f"questions {seed}"))
    rows = _answered_rows(asker)
    rows += _unanswered_rows(asker, rows)

    making = Making(skipped=asker.skipped)
    numbers: Counter[tuple[int, str]] = Counter()
    for row in sorted(rows, key=lambda row: row.origin):
        kind = f"question: {row.fact.kind}"
        numbers[row.origin, kind] += 1
        origin = samples[row.origin]
        changes = row.changes(len(origin["evidence_chunks"]))
        making.rows.append(made_row(origin, kind, changes, numbers[row.origin, kind]))
    return making
