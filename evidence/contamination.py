"""Contamination of an external test set: what of it a model has seen in its training data.

A sample is contaminated when a training sample shares its support page or a sentence of its support, or asks
the same or nearly the same. Contaminated samples are dropped and counted, not marked: a figure with them
says how well a model remembers.
"""

from pathlib import Path

from evidence.drops import Drops
from evidence.duplicates import near_duplicates
from evidence.leaks import support_chunks
from evidence.queries import query_of
from utils.commands import stage_command
from utils.config import home_path, input_path, portable_path
from utils.errors import DataError, UsageError
from utils.jsonl import sha256_file
from utils.text import padded_words, split_sentences, tokenize

# Shorter sentences ("He won the award.") are written many times.
_MIN_SENTENCE_WORDS = 6


def training_files(named: list[str] | None, default: str, is_evaluation: bool) -> dict[str, str]:
    """Path -> SHA-256 of the sample files that an evaluation-only build is compared with.

    These are the named ones, else the default one if it exists; none for another build. UsageError if that
    names any, DataError for a missing file.
    """
    if not is_evaluation:
        if named:
            raise UsageError("--against needs a sources config with `evaluation_only: true`")
        return {}
    for name in named or []:
        if not input_path(name).is_file():
            raise DataError(f"{name}: no such file; --against names sample files, such as {default}")
    paths = [input_path(name) for name in named or []] or [home_path(default)]
    return {str(path): sha256_file(path) for path in paths if path.is_file()}


def next_steps(processed: Path, against: dict[str, str]) -> str:
    """What to do after an evaluation-only build, and which training data it was compared with."""
    checked = f"contamination checked against {', '.join(against)}"
    if not against:
        checked = "contamination not checked: name your training data with --against"
    test_path = portable_path(processed / "test.jsonl")
    checkpoints = sorted(home_path("checkpoints").glob("**/checkpoint-best"), key=lambda p: p.stat().st_mtime)
    if not checkpoints:
        return f"{checked}\nnext: train a model (train_sft.py), then evaluate it with --test-data {test_path}"
    flags = ("--test-data", test_path, "--model-path", portable_path(checkpoints[-1]))
    return f"{checked}\nnext: {stage_command('evaluate_sft_fast_robust.py', *flags)}"


def _pages(sample: dict) -> set[str]:
    """The pages of a sample's support, as words: files differ in case and punctuation."""
    return {padded_words(chunk["title"]) for chunk in support_chunks(sample)} - {padded_words("")}


def _sentences(sample: dict) -> set[str]:
    """The sentences of a sample's support, as words."""
    found = set()
    for chunk in support_chunks(sample):
        for sentence in split_sentences(chunk["text"]):
            if len(tokenize(sentence)) >= _MIN_SENTENCE_WORDS:
                found.add(padded_words(sentence))
    return found


def _near_train(samples: list[dict], train: list[dict]) -> set[int]:
    """Numbers of the samples that ask nearly the same as a training sample."""
    queries = list({query_of(sample): None for sample in train})
    n_train = len(queries)
    pairs = near_duplicates([*queries, *map(query_of, samples)])
    # `near_duplicates` gives i < j: a pair of both files has its sample in the second place.
    return {j - n_train for i, j in pairs if i < n_train <= j}


def without_contaminated(samples: list[dict], train: list[dict], drops: Drops) -> list[dict]:
    """The samples that share nothing with the training samples; the others are counted in `drops`."""
    pages = set().union(*map(_pages, train))
    sentences = set().union(*map(_sentences, train))
    questions = {padded_words(query_of(sample)) for sample in train}
    near = _near_train(samples, train)

    kept = []
    for i, sample in enumerate(samples):
        shared = {
            "question or claim": padded_words(query_of(sample)) in questions,
            "near-duplicate of a question or claim": i in near,
            "support page": bool(_pages(sample) & pages),
            "support sentence": bool(_sentences(sample) & sentences),
        }
        found = [name for name, is_shared in shared.items() if is_shared]
        if found:
            reason = f"contaminated, {found[0]} in the training data"
            drops[sample["source"]].drop(reason, sample["id"], sample["question"])
        else:
            kept.append(sample)
    return kept
