"""Baselines: rules that answer without a model, and views of the evidence that show what a model relies on.

A rule takes a sample and returns (answer, citations, confidence). It sees question and chunks, no gold.
"""

import dataclasses
import functools
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np

from evaluation.results import score_rows
from evidence.retrieval import BM25
from utils.completions import MAX_ANSWER_CHARS, render_completion
from utils.schema import read_samples
from utils.text import REFUSAL, STOP_WORDS, split_sentences, tokenize

# Longest answer of a rule, in words: most accepted answers are names, dates and numbers.
MAX_SPAN = 5
# Words on each side of a span in which words of the question count for it.
_CONTEXT = 6

Answer = tuple[str, list[int], float]


# --- the rules


def always_refuse(sample: dict) -> Answer:
    return REFUSAL, [], 0.0


def _has_asked_word(word: str, asked: set[str]) -> bool:
    return any(token in asked for token in tokenize(word))


def _has_content(word: str) -> bool:
    return any(token not in STOP_WORDS for token in tokenize(word))


def best_span(text: str, question: str) -> str:
    """The span of at most 5 words with the most question words within 6 words around it and none inside.

    Longer spans win ties, then earlier ones; without any usable span, the first 5 words.
    """
    words = text.split()
    asked = set(tokenize(question)) - STOP_WORDS
    hits = [_has_asked_word(word, asked) for word in words]
    # A span may contain stop words, but starts and ends with a word that says something new.
    is_edge = [not hit and _has_content(word) for hit, word in zip(hits, words)]
    best = " ".join(words[:MAX_SPAN])
    best_score = -1.0
    for start in range(len(words)):
        for end in range(start + 1, min(start + MAX_SPAN, len(words)) + 1):
            if not is_edge[start] or not is_edge[end - 1] or any(hits[start:end]):
                continue
            n_before = sum(hits[max(0, start - _CONTEXT) : start])
            n_after = sum(hits[end : end + _CONTEXT])
            # The small term prefers the longer of two spans with equally many question words around them.
            score = n_before + n_after + 0.01 * (end - start)
            if score > best_score:
                best = " ".join(words[start:end])
                best_score = score
    return re.sub(r"^\W+|\W+$", "", best) or best


def cite_first_chunk(sample: dict) -> Answer:
    """The best span of the first sentence of chunk 0, which it cites with full confidence."""
    text = sample["evidence_chunks"][0]["text"]
    sentences = split_sentences(text)
    first = sentences[0] if sentences else text
    return best_span(first, sample["question"])[:MAX_ANSWER_CHARS], [0], 1.0


def lexical_score(sample: dict) -> tuple[float, int]:
    """(BM25 score, index) of the chunk nearest to the question, among the sample's own chunks."""
    texts = [f"{chunk['title']}. {chunk['text']}" for chunk in sample["evidence_chunks"]]
    scores = BM25(texts).scores(sample["question"])
    return float(scores.max()), int(scores.argmax())


def lexical(sample: dict, threshold: float) -> Answer:
    """The best span of the chunk with the best BM25 score; a refusal when that score is below `threshold`."""
    score, i = lexical_score(sample)
    if score < threshold:
        return always_refuse(sample)
    answer = best_span(sample["evidence_chunks"][i]["text"], sample["question"])[:MAX_ANSWER_CHARS]
    return answer, [i], round(min(1.0, score / 10), 2)


# --- predictions of the rules


def _net_score(sample: dict, answer: Answer) -> float:
    row = {"id": sample["id"], "completion": render_completion(*answer)}
    terms, _ = score_rows([row], [sample])
    return terms[0]["net_score"]


def tune_lexical(val: list[dict]) -> float:
    """The threshold with the lexical rule's best net score on val; without val 0, which never refuses."""
    if not val:
        return 0.0
    scored = []
    for sample in val:
        score, _ = lexical_score(sample)
        answered = _net_score(sample, lexical(sample, 0.0))
        refused = _net_score(sample, always_refuse(sample))
        scored.append((score, answered, refused))

    def net(threshold: float) -> float:
        return sum(refused if score < threshold else answered for score, answered, refused in scored)

    # Infinity refuses everything, the best choice on real data (docs/log.md). The first of equals wins.
    candidates = [0.0, *sorted({score for score, _, _ in scored}), np.inf]
    return max(candidates, key=net)


def read_val(test_path: Path) -> list[dict]:
    """The validation samples beside the test file, to tune the lexical rule on; empty without such a file."""
    path = test_path.with_name("val.jsonl")
    return read_samples(path) if path.is_file() and path != test_path else []


def baseline_predictions(samples: list[dict], val: list[dict]) -> list[dict]:
    """Prediction rows of `always_refuse`, `cite_first_chunk` and `lexical`, in the format of a model's."""
    rules: dict[str, Callable[[dict], Answer]] = {
        "always_refuse": always_refuse,
        "cite_first_chunk": cite_first_chunk,
        "lexical": functools.partial(lexical, threshold=tune_lexical(val)),
    }
    rows = []
    for name, rule in rules.items():
        for sample in samples:
            answer, citations, confidence = rule(sample)
            completion = render_completion(answer, citations, confidence)
            rows.append({"id": sample["id"], "model": name, "completion": completion})
    return rows


# --- views of the evidence, for a model

# name -> ids of the chunks that the prompt shows. Without evidence, answers come from the model's memory;
# with the support alone, nothing distracts from it.
EVIDENCE_VIEWS = {"closed_book": lambda sample: [], "gold_only": lambda sample: sample["support_spans"]}


def show_only(sample: dict, ids: list[int]) -> dict:
    """The sample with these chunks alone. Its gold fields still use the ids of all chunks."""
    return {**sample, "evidence_chunks": [sample["evidence_chunks"][i] for i in ids]}


def build_prompts(builder, samples: list[dict], view: str | None) -> list:
    """The prompts of samples, with all their evidence or with what a view of `EVIDENCE_VIEWS` shows."""
    if view is None:
        return [builder.build(sample) for sample in samples]
    prompts = []
    for sample in samples:
        ids = EVIDENCE_VIEWS[view](sample)
        prompt = builder.build(show_only(sample, ids))
        # The builder numbers the chunks of the view; scoring needs the sample's own ids.
        prompts.append(dataclasses.replace(prompt, shown=[ids[i] for i in prompt.shown]))
    return prompts
