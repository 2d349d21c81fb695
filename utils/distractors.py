"""Chunks to put beside a sample's evidence: near its question, and verified not to answer it."""

import random

from utils.retrieval import BM25
from utils.schema import is_label_answer
from utils.text import content_words, holds_words, padded_words, tokenize

_N_SEARCHED = 200


def known_answers(sample: dict) -> list[str]:
    """Accepted forms of the answer, also of one whose support was removed; empty when nobody knows any."""
    return sample["answer_aliases"] or sample["metadata"].get("gold_aliases") or []


class DistractorPool:
    """All chunks of a sample file, each text once."""

    def __init__(self, samples: list[dict]):
        groups: dict[str, set[str]] = {}
        chunks: dict[str, dict] = {}
        for sample in samples:
            for chunk in sample["evidence_chunks"]:
                chunks.setdefault(chunk["text"], chunk)
                groups.setdefault(chunk["text"], set()).add(sample["group"])
        self.chunks = list(chunks.values())
        self._groups = [groups[chunk["text"]] for chunk in self.chunks]
        full = [f"{chunk['title']}. {chunk['text']}" for chunk in self.chunks]
        self._words, self._index = [padded_words(text) for text in full], BM25(full)

    def _answers_nothing(self, i: int, sample: dict, needles: list[str]) -> bool:
        """A chunk without the answer. Where no text can tell (verdicts, yes/no, unknown answers): one of another group's evidence
        that shares less than half of the question's content words."""
        if needles:
            return not holds_words(self._words[i], needles)
        wanted = set(content_words(sample["question"]))
        return sample["group"] not in self._groups[i] and 2 * len(wanted.intersection(self._words[i].split())) < len(wanted)

    def draw(self, sample: dict, n: int, rng: random.Random) -> list[dict] | None:
        """The `n` verified chunks nearest to the question, shuffled; others at random where few share a word with it; None when there are fewer."""
        answers = known_answers(sample)
        needles = [] if not answers or is_label_answer(answers[0]) else [padded_words(answer) for answer in answers]
        own = {tuple(tokenize(chunk["text"])) for chunk in sample["evidence_chunks"]}
        found: list[dict] = []
        near = self._index.top(sample["question"], _N_SEARCHED)
        far = rng.sample(range(len(self.chunks)), min(_N_SEARCHED, len(self.chunks)))
        for i in dict.fromkeys(near + far):
            words = tuple(tokenize(self.chunks[i]["text"]))
            if words not in own and self._answers_nothing(i, sample, needles):
                own.add(words)
                found.append(self.chunks[i])
            if len(found) == n:
                rng.shuffle(found)
                return found
        return None
