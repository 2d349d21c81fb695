"""Baselines: rules that answer without a model, and views of the evidence that show what a model relies on.

A rule takes a sample and returns (answer, citations, confidence). It sees question and chunks, no gold.
"""

import functools
from collections.abc import Callable
from pathlib import Path

from evaluation.fitted_baselines import claim_answers, surface_answers
from evaluation.overlap_baselines import answer_from, overlap_rule, title_overlap
from evaluation.spans import best_span
from evaluation.thresholds import (
    REFUSED,
    Answer,
    Rule,
    best_threshold,
    try_rule,
    tuned_by_source,
)
from evidence.orders import build_showing
from evidence.retrieval import BM25
from utils.completions import MAX_ANSWER_CHARS, render_completion
from utils.jsonl import sha256_file
from utils.progress import track
from utils.runs import note
from utils.schema import read_samples
from utils.text import chunk_text, split_sentences

# --- the rules


def always_refuse(sample: dict) -> Answer:
    return REFUSED


def cite_first_chunk(sample: dict) -> Answer:
    """The best span of the first sentence of chunk 0, which it cites with full confidence."""
    text = sample["evidence_chunks"][0]["text"]
    sentences = split_sentences(text)
    first = sentences[0] if sentences else text
    return best_span(first, sample["question"])[:MAX_ANSWER_CHARS], [0], 1.0


def lexical_score(sample: dict) -> tuple[float, int]:
    """(BM25 score, index) of the chunk nearest to the question, among the sample's own chunks."""
    scores = BM25(map(chunk_text, sample["evidence_chunks"])).scores(sample["question"])
    return float(scores.max()), int(scores.argmax())


def lexical(sample: dict, threshold: float) -> Answer:
    """The best span of the chunk with the best BM25 score; a refusal when that score is below `threshold`."""
    score, i = lexical_score(sample)
    if score < threshold:
        return REFUSED
    return answer_from(sample, i), [i], round(min(1.0, score / 10), 2)


def tune_lexical(val: list[dict]) -> float:
    """The threshold with the lexical rule's best net score on val; without val 0, which never refuses."""
    tried = []
    for sample in val:
        score, _ = lexical_score(sample)
        tried.append(try_rule(sample, lexical(sample, 0.0), score))
    return best_threshold(tried)


# --- predictions of the rules

# Fitted on train, so they are left out without it.
FITTED = {"surface_model": surface_answers, "claim_only": claim_answers}


def _tuning_files(test_path: Path) -> dict[str, Path]:
    """The train and val files beside a test file that are there, by split."""
    paths = {split: test_path.with_name(f"{split}.jsonl") for split in ("train", "val")}
    return {split: path for split, path in paths.items() if path.is_file() and path != test_path}


def tuning_hashes(test_path: Path) -> dict[str, str]:
    """The hashes of the files that `read_tuning` reads, by split."""
    return {split: sha256_file(path) for split, path in _tuning_files(test_path).items()}


def read_tuning(test_path: Path) -> tuple[list[dict], list[dict]]:
    """(train, val) samples beside the test file, to fit and tune rules on; empty for a missing file."""
    found = {split: read_samples(path) for split, path in _tuning_files(test_path).items()}
    if not found.get("train"):
        note(f"{' and '.join(FITTED)} left out: they are fitted on a train.jsonl beside {test_path}")
    return found.get("train", []), found.get("val", [])


def baseline_predictions(samples: list[dict], train: list[dict], val: list[dict]) -> list[dict]:
    """Prediction rows of the baselines that need no model, in the format of a model's.

    Thresholds are tuned on val. Without val, those of the overlap rules are tuned on train.
    """
    tuning = val or train
    rules: dict[str, Rule] = {
        "always_refuse": always_refuse,
        "cite_first_chunk": cite_first_chunk,
        "lexical": functools.partial(lexical, threshold=tune_lexical(val)),
        # As it was defined, it has no threshold: a source is answered or refused as a whole.
        "overlap_rule": tuned_by_source(overlap_rule, tuning, is_all_or_none=True),
        "title_overlap": tuned_by_source(title_overlap, tuning),
    }
    answers = {name: [rule(sample) for sample in samples] for name, rule in rules.items()}
    for name in track(FITTED if train else {}, "fitting baselines", "baseline"):
        answers[name] = FITTED[name](samples, train)

    rows = []
    for name, found in answers.items():
        for sample, answer in zip(samples, found):
            rows.append({"id": sample["id"], "model": name, "completion": render_completion(*answer)})
    return rows


# --- views of the evidence, for a model

# name -> ids of the chunks that the prompt shows. Without evidence, answers come from the model's memory;
# with the support alone, nothing distracts from it.
EVIDENCE_VIEWS = {"closed_book": lambda sample: [], "gold_only": lambda sample: sample["support_spans"]}


def build_prompts(builder, samples: list[dict], view: Callable[[dict], list[int]] | None) -> list:
    """The prompts of samples, with all their evidence or with the chunks that a view names, in its order."""
    read = track(samples, "reading prompts", "sample")
    if view is None:
        return [builder.build(sample) for sample in read]
    return [build_showing(builder, sample, view(sample)) for sample in read]
