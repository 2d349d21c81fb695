"""Answers without a model, each (answer, citations, confidence) for a sample, and evidence views: what tells a trained model's grounding."""

import functools
import re

import numpy as np

from evaluation.results import score_rows
from evidence.retrieval import BM25
from utils.completions import render_completion
from utils.text import REFUSAL, STOP_WORDS, split_sentences, tokenize

MAX_SPAN = 5
_CONTEXT = 6
Answer = tuple[str, list[int], float]


def always_refuse(sample: dict) -> Answer:
    return REFUSAL, [], 0.0


def best_span(text: str, question: str) -> str:
    """The span of at most 5 words with most question words within 6 words around it and none inside; the earliest of equals."""
    words = text.split()
    asked = set(tokenize(question)) - STOP_WORDS
    hits = [any(token in asked for token in tokenize(word)) for word in words]
    usable = [
        not hit and any(token not in STOP_WORDS for token in tokenize(word)) for hit, word in zip(hits, words)
    ]
    best = " ".join(words[:MAX_SPAN])
    best_score = -1.0
    for start in range(len(words)):
        for end in range(start + 1, min(start + MAX_SPAN, len(words)) + 1):
            if not usable[start] or not usable[end - 1] or any(hits[start:end]):
                continue
            around = sum(hits[max(0, start - _CONTEXT) : start]) + sum(hits[end : end + _CONTEXT])
            score = around + 0.01 * (end - start)
            if score > best_score:
                best = " ".join(words[start:end])
                best_score = score
    return re.sub(r"^\W+|\W+$", "", best) or best


def cite_first_chunk(sample: dict) -> Answer:
    """The best span of the first sentence of chunk 0, citing chunk 0 with full confidence."""
    sentences = split_sentences(sample["evidence_chunks"][0]["text"])
    return (
        best_span(sentences[0] if sentences else sample["evidence_chunks"][0]["text"], sample["question"])[
            :120
        ],
        [0],
        1.0,
    )


def lexical_score(sample: dict) -> tuple[float, int]:
    """BM25 score and index of the chunk nearest to the question, among the sample's own chunks."""
    scores = BM25([f"{chunk['title']}. {chunk['text']}" for chunk in sample["evidence_chunks"]]).scores(
        sample["question"]
    )
    return float(scores.max()), int(scores.argmax())


def lexical(sample: dict, threshold: float) -> Answer:
    """Best span of the best BM25 chunk, cited; a refusal when its score is below `threshold`."""
    score, i = lexical_score(sample)
    if score < threshold:
        return always_refuse(sample)
    return (
        best_span(sample["evidence_chunks"][i]["text"], sample["question"])[:120],
        [i],
        round(min(1.0, score / 10), 2),
    )


# name -> ids of the chunks that a view shows: without evidence answers come from memory, with support alone nothing distracts.
EVIDENCE_VIEWS = {"closed_book": lambda sample: [], "gold_only": lambda sample: sample["support_spans"]}


def show_only(sample: dict, ids: list[int]) -> dict:
    """The sample with these chunks alone. Its gold fields still name the ids of all chunks."""
    return {**sample, "evidence_chunks": [sample["evidence_chunks"][i] for i in ids]}


def baseline_predictions(samples: list[dict], val: list[dict]) -> list[dict]:
    """`always_refuse`, `cite_first_chunk` and `lexical`, as completions like a model's."""
    answerers = {
        "always_refuse": always_refuse,
        "cite_first_chunk": cite_first_chunk,
        "lexical": functools.partial(lexical, threshold=tune_lexical(val)),
    }
    return [
        {"id": s["id"], "model": name, "completion": render_completion(*answer(s))}
        for name, answer in answerers.items()
        for s in samples
    ]


def tune_lexical(val: list[dict]) -> float:
    """The score threshold with the best net score of the lexical baseline on val; 0, which never refuses, without val."""
    if not val:
        return 0.0
    scored = []
    for sample in val:
        score, _ = lexical_score(sample)
        nets = [
            score_rows(
                [{"id": sample["id"], "completion": render_completion(*lexical(sample, t))}], [sample]
            )[0][0]["net_score"]
            for t in (0.0, np.inf)
        ]
        scored.append((score, *nets))

    def net(threshold: float) -> float:
        return sum(refused if score < threshold else answered for score, answered, refused in scored)

    # Infinity: the baseline may find that refusing everything is best.
    return max([0.0, *sorted({score for score, _, _ in scored}), np.inf], key=net)
