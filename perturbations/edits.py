"""Edits of one sample's evidence: chunks added, dropped or moved, an answer swapped, and the gold to match.

Each function returns a new sample in the layout of the sample file and leaves its arguments alone.
Randomness comes in as `rng`. `perturbations/suites.py` decides which edits make up a suite, and the levels.
"""

import random
import re
from collections import Counter

from utils.schema import is_label_answer
from utils.text import REFUSAL, answer_pattern, contains_tokens, holds_answer, tokenize

# (old id, chunk) in a new order; the id is None for a chunk that the sample did not have.
Order = list[tuple[int | None, dict]]


def relayout(sample: dict, order: Order) -> dict:
    """The sample with these chunks in this order, its gold renumbered.

    A support set that lost a chunk is removed. When no set is left the right completion is a refusal, and
    `metadata.gold_aliases` keeps the answers.
    """
    place = {old: new for new, (old, _) in enumerate(order) if old is not None}
    sets = []
    for support_set in sample["support_sets"]:
        if all(i in place for i in support_set):
            sets.append(sorted(place[i] for i in support_set))
    spans = sorted({i for support_set in sets for i in support_set})
    moved = {
        **sample,
        "evidence_chunks": [chunk for _, chunk in order],
        "support_sets": sets,
        "support_spans": spans,
        "hard_negatives": [i for i in range(len(order)) if i not in spans],
    }
    if sample["answerable"] and not sets:
        facts = {"gold_aliases": sample["answer_aliases"], "support_rule": "support dropped"}
        moved["metadata"] = {**sample["metadata"], **facts}
        moved |= {"answer": REFUSAL, "answer_aliases": [], "answerable": False}
    return moved


def _chunk_holds(chunk: dict, answers: list[str]) -> bool:
    return holds_answer(f"{chunk['title']} {chunk['text']}", answers)


# --- chunks added, dropped, moved


def add_distractors(sample: dict, distractors: list[dict], rng: random.Random) -> dict:
    """The sample with chunks that do not answer it, each inserted at a random place."""
    order: Order = list(enumerate(sample["evidence_chunks"]))
    for chunk in distractors:
        order.insert(rng.randint(0, len(order)), (None, chunk))
    return relayout(sample, order)


def drop_order(sample: dict, rng: random.Random) -> dict[int, float]:
    """Support chunk -> the share of dropping, 0 to 1, from which on it is gone.

    The shares are drawn uniformly, so that dropping a share p removes p of all support in expectation, even
    from samples with a single support chunk. Chunks that contain the answer go first, and those of one
    support set together: what is left of a broken set must not answer the question.
    """
    chunks = sample["evidence_chunks"]
    spans = sample["support_spans"]
    # A label ("yes", "supported") is no text to look for.
    answers = [] if is_label_answer(sample["answer"]) else sample["answer_aliases"]
    holds = {i: _chunk_holds(chunks[i], answers) for i in spans}
    first_to_last = sorted(spans, key=lambda i: (not holds[i], rng.random()))
    shares = dict(zip(first_to_last, sorted(rng.random() for _ in spans)))
    for support_set in sample["support_sets"]:
        holders = [i for i in support_set if holds[i]]
        earliest = min((shares[i] for i in holders), default=1.0)
        shares |= dict.fromkeys(holders, earliest)
    return shares


def drop_support(sample: dict, share: float, drops: dict[int, float], filler: dict | None) -> dict | None:
    """The sample without the support chunks that are gone at this share (`drops` is from `drop_order`).

    A sample that loses all its chunks gets `filler` instead; without a filler the result is None.
    """
    order: Order = []
    for i, chunk in enumerate(sample["evidence_chunks"]):
        if i not in drops or drops[i] >= share:
            order.append((i, chunk))
    if not order and filler is None:
        return None
    if not order and filler is not None:
        order = [(None, filler)]
    return relayout(sample, order)


def move_gold(sample: dict, position: int) -> dict:
    """The sample with its only support chunk at `position` (from 0), the others in their order."""
    # Unpacking fails for any other number of support chunks; with_movable_gold() leaves those out.
    (gold,) = sample["support_spans"]
    order: Order = [(i, chunk) for i, chunk in enumerate(sample["evidence_chunks"]) if i != gold]
    order.insert(position, (gold, sample["evidence_chunks"][gold]))
    return relayout(sample, order)


def with_movable_gold(samples: list[dict]) -> list[dict]:
    """Answerable samples with one support chunk and the most common number of chunks among these.

    One number of chunks for all, so that every sample can be at every position.
    """
    single = [sample for sample in samples if sample["answerable"] and len(sample["support_spans"]) == 1]
    if not single:
        return []
    sizes = Counter(len(sample["evidence_chunks"]) for sample in single)
    n_chunks = sizes.most_common(1)[0][0]
    return [sample for sample in single if len(sample["evidence_chunks"]) == n_chunks]


# --- the answer swapped

_ASKED = re.compile(
    r"\b(how many|how much|how|who|whose|whom|when|where|what year|which year)\b", re.IGNORECASE
)


def _question_word(question: str) -> str:
    match = _ASKED.search(question)
    return match[0].lower() if match else ""


def _shape(answer: str) -> tuple[bool, bool]:
    """(is a number, has a capitalized word)."""
    return answer.isdigit(), any(word[:1].isupper() for word in answer.split())


def _likeness(sample: dict, donor: dict) -> int:
    """How well a donor's answer fits in place of the sample's: 0 is not at all, 3 is best.

    3: the same property (PopQA); 2: the same question word; 1: the same shape; 0: another shape. By shape
    alone odd swaps happen, such as a lake that measures "7 gold medals" (docs/log.md).
    """
    if _shape(sample["answer"]) != _shape(donor["answer"]):
        return 0
    ours = sample["metadata"]
    if ours.get("popularity") is not None and ours.get("type") == donor["metadata"].get("type"):
        return 3
    asked = _question_word(sample["question"])
    return 2 if asked and asked == _question_word(donor["question"]) else 1


def _best_answers(sample: dict, donors: list[dict]) -> list[str]:
    """Sorted answers of the most similar donors of the same source that the sample does not mention."""
    aliases = sample["answer_aliases"]
    texts = [f"{chunk['title']} {chunk['text']}" for chunk in sample["evidence_chunks"]]
    everything = " ".join([sample["question"], *texts])
    usable: dict[str, int] = {}
    for donor in donors:
        likeness = _likeness(sample, donor) if donor["source"] == sample["source"] else 0
        if not likeness or holds_answer(everything, [donor["answer"]]):
            continue
        # "Warsaw, Poland" in place of "Warsaw" would be the old answer still.
        if holds_answer(donor["answer"], aliases):
            continue
        usable[donor["answer"]] = max(likeness, usable.get(donor["answer"], 0))
    best = max(usable.values(), default=0)
    return sorted(answer for answer, likeness in usable.items() if likeness == best)


def counterfactual(sample: dict, donors: list[dict], rng: random.Random) -> dict | str:
    """The sample with another answer in place of its own in all evidence; or why there is none, in words.

    The new answer becomes the gold. `metadata.memory_aliases` keeps the old ones, which a model may remember.
    """
    if not sample["answerable"] or is_label_answer(sample["answer"]):
        return "no entity to swap"
    aliases = sample["answer_aliases"]
    if holds_answer(sample["question"], aliases):
        return "answer appears in the question"
    candidates = _best_answers(sample, donors)
    if not candidates:
        return "no similar answer to swap in"
    new = rng.choice(candidates)
    pattern = answer_pattern(aliases)
    if pattern is None:
        return "answer has no word"

    chunks = []
    for chunk in sample["evidence_chunks"]:
        # A function as replacement: in a string, a backslash of the answer would be an escape.
        swapped = {key: pattern.sub(lambda _: new, chunk[key]) for key in ("title", "text")}
        chunks.append({**chunk, **swapped})
    if any(_chunk_holds(chunk, aliases) for chunk in chunks):
        return "old answer left in the evidence"
    if not any(contains_tokens(tokenize(chunks[i]["text"]), tokenize(new)) for i in sample["support_spans"]):
        return "new answer not in the support"
    # Verified above: the old answer is nowhere, the new one is in the support.
    metadata = {**sample["metadata"], "memory_aliases": aliases}
    return {**sample, "evidence_chunks": chunks, "answer": new, "answer_aliases": [new], "metadata": metadata}
