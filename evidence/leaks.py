"""What is in more than one split of a build: pages, questions, near-duplicates and groups must not be.

It sees finished samples. What an external test set shares with the training data is in contamination.py.
"""

from collections import Counter

from evidence.duplicates import near_duplicates
from evidence.queries import query_of
from evidence.records import leak_page
from utils.schema import is_label_answer
from utils.text import normalize_answer, plain_question

# Shared answers are counted for information: "1957" or "France" answers many questions.
_KINDS = ("support_pages", "questions", "near_duplicate_questions", "groups", "answers")


def support_chunks(sample: dict) -> list[dict]:
    return [sample["evidence_chunks"][i] for i in sample["support_spans"]]


def support_pages(sample: dict) -> set[str]:
    """The pages of a sample's support that no other split may have (`leak_page`)."""
    return {leak_page(chunk["title"], chunk["text"]) for chunk in support_chunks(sample)}


def _keys_of(sample: dict) -> set[tuple[str, str]]:
    """(kind, value) of everything in a sample that must not be in another split, and of its answer."""
    keys = {("support_pages", page) for page in support_pages(sample)}
    keys |= {("questions", plain_question(sample["question"])), ("groups", sample["group"])}
    if sample["answerable"] and not is_label_answer(sample["answer"]):
        keys.add(("answers", normalize_answer(sample["answer"])))
    return keys


def shared_between_splits(splits: dict[str, list[dict]]) -> dict[str, int]:
    """By kind, how many pages, questions, near-duplicates, groups and answers are in more than one split."""
    splits_of: dict[tuple[str, str], set[str]] = {}
    split_of_query: dict[str, str] = {}
    for split, samples in splits.items():
        for sample in samples:
            split_of_query[query_of(sample)] = split
            for key in _keys_of(sample):
                splits_of.setdefault(key, set()).add(split)

    shared = Counter(kind for (kind, _), found in splits_of.items() if len(found) > 1)
    queries = list(split_of_query)
    for i, j in near_duplicates(queries):
        shared["near_duplicate_questions"] += split_of_query[queries[i]] != split_of_query[queries[j]]
    return {kind: shared[kind] for kind in _KINDS}
