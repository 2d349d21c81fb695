"""The facts of all chunks, and those that an evidence could be asked about without stating them."""

import itertools
import random
from collections import Counter, defaultdict

from evidence.paraphrase import stems
from evidence.questions.checks import ShownChunk
from evidence.questions.cloze import cloze_facts
from evidence.questions.definitions import gap_facts
from evidence.questions.fact import Fact, worded_fact
from evidence.questions.persons import person_facts, role_facts
from evidence.questions.phrases import phrase_facts
from evidence.questions.sentences import page_name, page_sentences
from evidence.questions.works import dated_facts, work_facts
from utils.text import tokenize

# Facts of other pages that are tried per sample: for each word of a title, and for each relation.
_N_PER_NAME = 4
_N_PER_RELATION = 3
# What can be asked of a page that is not known to state it: a text that does not is recognized by its words.
_OPEN = frozenset(
    "director screenwriter composer producer songwriter author publisher founder founding birth birthplace "
    "spouse school year release premiere publication population label owner creator developer".split()
)
_PERSONAL = frozenset("birth birthplace spouse school".split())
# Relations that say the same thing of a page in other words.
_RELEASES = frozenset("year release premiere publication".split())
# Pages that state both of two relations, at least, for a page with one to be asked for the other.
_MIN_TOGETHER = 3
_RELATIONS = (work_facts, dated_facts, person_facts, role_facts, phrase_facts)


class FactIndex:
    """`shown`: the chunks of each sample, with their facts."""

    def __init__(self, samples: list[dict]):
        texts = dict.fromkeys(chunk["text"] for sample in samples for chunk in sample["evidence_chunks"])
        self._words = Counter(word for text in texts for word in tokenize(text))
        self._chunks: dict[tuple[str, str], ShownChunk] = {}
        self.shown = [[self._chunk(chunk) for chunk in sample["evidence_chunks"]] for sample in samples]

        self.of_relation: dict[str, list[Fact]] = defaultdict(list)
        self._of_page: dict[str, list[Fact]] = defaultdict(list)
        self._of_name: dict[str, list[Fact]] = defaultdict(list)
        for fact in dict.fromkeys(itertools.chain(*(chunk.facts for chunk in self._chunks.values()))):
            self.of_relation[fact.relation].append(fact)
            self._of_page[fact.title].append(fact)
            for part in stems(fact.subject):
                self._of_name[part].append(fact)

        self._companions: dict[str, Counter[str]] = defaultdict(Counter)
        for facts in self._of_page.values():
            stated = self._stated(facts)
            for relation in stated:
                self._companions[relation].update(stated)

    def _stated(self, facts: list[Fact]) -> list[str]:
        """The relations that sentences of a page state by template about the subject of the page itself."""
        own = [fact for fact in facts if fact.kind == "template" and fact.subject == page_name(fact.title)]
        return list(dict.fromkeys(fact.relation for fact in own))

    def _chunk(self, chunk: dict) -> ShownChunk:
        """The chunk with its facts, which are read once however many samples show it."""
        key = (chunk["title"], chunk["text"])
        if key not in self._chunks:
            facts: list[Fact] = []
            for sentence in page_sentences(*key):
                if sentence.subject:
                    for read in _RELATIONS:
                        facts += read(sentence)
                facts += [*cloze_facts(sentence, self._words), *gap_facts(sentence)]
            self._chunks[key] = ShownChunk(*key, tuple(dict.fromkeys(facts)))
        return self._chunks[key]

    def same_page(self, i: int) -> list[Fact]:
        """Facts of the pages that sample `i` shows, in chunks that it does not show."""
        stated = {fact for chunk in self.shown[i] for fact in chunk.facts}
        pages = dict.fromkeys(chunk.title for chunk in self.shown[i])
        return [fact for page in pages for fact in self._of_page[page] if fact not in stated]

    def open_facts(self, i: int) -> list[Fact]:
        """Facts without an answer: what pages like those of sample `i` state, and no chunk of theirs does."""
        found = []
        for title in dict.fromkeys(chunk.title for chunk in self.shown[i]):
            stated = self._stated(self._of_page[title])
            likely: Counter[str] = sum((self._companions[relation] for relation in stated), Counter())
            fitting = {relation for relation in _OPEN if likely[relation] >= _MIN_TOGETHER}
            fitting -= set(stated)
            if _RELEASES.intersection(stated):
                fitting -= _RELEASES
            if "occupation" not in stated:
                fitting -= _PERSONAL
            for relation in sorted(fitting):
                answer_type = self.of_relation[relation][0].answer_type
                found.append(worded_fact(relation, (title, page_name(title)), answer_type=answer_type))
        return found

    def same_name(self, i: int, rng: random.Random) -> list[Fact]:
        """Facts of other pages about subjects that share a word with a title of sample `i`."""
        pages = {chunk.title for chunk in self.shown[i]}
        parts = dict.fromkeys(part for page in sorted(pages) for part in sorted(stems(page_name(page))))
        found: list[Fact] = []
        for part in parts:
            of_name = self._of_name[part]
            found += rng.sample(of_name, min(_N_PER_NAME, len(of_name)))
        return [fact for fact in dict.fromkeys(found) if fact.title not in pages]

    def same_relation(self, i: int, rng: random.Random) -> list[Fact]:
        """Facts of other pages that state what some fact of sample `i` states of its own page."""
        pages = {chunk.title for chunk in self.shown[i]}
        relations = dict.fromkeys(fact.relation for chunk in self.shown[i] for fact in chunk.facts)
        found: list[Fact] = []
        for relation in relations:
            of_relation = self.of_relation[relation]
            found += rng.sample(of_relation, min(_N_PER_RELATION, len(of_relation)))
        return [fact for fact in dict.fromkeys(found) if fact.title not in pages]
