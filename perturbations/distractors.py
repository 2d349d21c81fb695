"""Distractors: chunks to put beside a sample's evidence, near its question and verified not to answer it."""

import random

from evidence.paraphrase import answer_parts, asked_stems, says_most, share_said, stems
from evidence.queries import query_of
from evidence.retrieval import BM25
from evidence.spellings import says_answer
from utils.schema import is_label_answer
from utils.text import chunk_text, tokenize

# Chunks near the question, and as many at random, that are checked until enough of them do not answer it.
_N_SEARCHED = 200


def known_answers(sample: dict) -> list[str]:
    """Accepted answers, also of a sample whose support was removed; empty when no one knows any."""
    return sample["answer_aliases"] or sample["metadata"].get("gold_aliases") or []


class DistractorPool:
    """All chunks of a sample file, each text once, with an index to search them."""

    def __init__(self, samples: list[dict]):
        groups: dict[str, set[str]] = {}
        chunks: dict[str, dict] = {}
        for sample in samples:
            for chunk in sample["evidence_chunks"]:
                chunks.setdefault(chunk["text"], chunk)
                groups.setdefault(chunk["text"], set()).add(sample["group"])
        self.chunks = list(chunks.values())
        # Lists in the order of `chunks`: groups that show the chunk, and its stems.
        self._groups = [groups[chunk["text"]] for chunk in self.chunks]
        full = [chunk_text(chunk) for chunk in self.chunks]
        self._stems = [stems(text) for text in full]
        self._index = BM25(full)

    def _answers_nothing(self, i: int, sample: dict, answers: list[str], parts: frozenset[str]) -> bool:
        """True when chunk `i` does not answer the sample.

        With `answers`, the accepted ones: the chunk contains none of them in any spelling and no part of one,
        and does not say most of what is asked. Without (verdicts, yes/no, unknown answers) no text tells: the
        chunk must be another group's evidence and say less than half of what is asked.
        """
        asked = asked_stems(query_of(sample))
        if not answers:
            is_foreign = sample["group"] not in self._groups[i]
            return is_foreign and share_said(asked, self._stems[i]) < 0.5
        if parts & self._stems[i] or says_most(asked, self._stems[i]):
            return False
        return not says_answer(chunk_text(self.chunks[i]), answers)

    def draw(self, sample: dict, n: int, rng: random.Random) -> list[dict] | None:
        """`n` chunks that do not answer the sample, shuffled; None when there are fewer.

        The nearest to the question come first; where few share a word with it, random ones fill up.
        """
        answers = known_answers(sample)
        if answers and is_label_answer(answers[0]):
            answers = []
        parts = answer_parts(answers, sample["question"])

        # A text that the sample has already, or that was drawn before, adds nothing.
        own = {tuple(tokenize(chunk["text"])) for chunk in sample["evidence_chunks"]}
        found: list[dict] = []
        near = self._index.top(query_of(sample), _N_SEARCHED)
        far = rng.sample(range(len(self.chunks)), min(_N_SEARCHED, len(self.chunks)))
        for i in dict.fromkeys(near + far):
            words = tuple(tokenize(self.chunks[i]["text"]))
            if words not in own and self._answers_nothing(i, sample, answers, parts):
                own.add(words)
                found.append(self.chunks[i])
            if len(found) == n:
                rng.shuffle(found)
                return found
        return None
