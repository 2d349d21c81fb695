"""Chunks to put beside a sample's evidence: near its question, and verified not to answer it."""

import random

from evidence.paraphrase import answer_parts, asked_stems, says_most, share_said, stems
from evidence.retrieval import BM25
from utils.schema import is_label_answer
from utils.text import holds_words, padded_words, tokenize

_N_SEARCHED = 200


def known_answers(sample: dict) -> list[str]:
    """Accepted forms of the answer, also of one whose support was removed; empty when nobody knows any."""
    return sample["answer_aliases"] or sample["metadata"].get("gold_aliases") or []


def _query(sample: dict) -> str:
    """What the sample asks; of a claim (FEVER) without the words that all such questions share."""
    return sample["metadata"].get("claim") or sample["question"]


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
        self._words = [padded_words(text) for text in full]
        self._stems = [stems(text) for text in full]
        self._index = BM25(full)

    def _answers_nothing(self, i: int, sample: dict, needles: list[str], parts: frozenset[str]) -> bool:
        """No accepted answer stands in the chunk, nor a part of one, and it does not say most of what is asked. Where no text can tell
        (verdicts, yes/no, unknown answers): a chunk of another group's evidence that says less than half of it."""
        asked = asked_stems(_query(sample))
        if needles:
            return (
                not holds_words(self._words[i], needles)
                and not parts & self._stems[i]
                and not says_most(asked, self._stems[i])
            )
        return sample["group"] not in self._groups[i] and share_said(asked, self._stems[i]) < 0.5

    def draw(self, sample: dict, n: int, rng: random.Random) -> list[dict] | None:
        """The `n` verified chunks nearest to the question, shuffled; others at random where few share a word with it; None when there are fewer."""
        answers = known_answers(sample)
        needles = (
            [] if not answers or is_label_answer(answers[0]) else [padded_words(answer) for answer in answers]
        )
        parts = answer_parts(answers, sample["question"]) if needles else frozenset()
        own = {tuple(tokenize(chunk["text"])) for chunk in sample["evidence_chunks"]}
        found: list[dict] = []
        near = self._index.top(_query(sample), _N_SEARCHED)
        far = rng.sample(range(len(self.chunks)), min(_N_SEARCHED, len(self.chunks)))
        for i in dict.fromkeys(near + far):
            words = tuple(tokenize(self.chunks[i]["text"]))
            if words not in own and self._answers_nothing(i, sample, needles, parts):
                own.add(words)
                found.append(self.chunks[i])
            if len(found) == n:
                rng.shuffle(found)
                return found
        return None
