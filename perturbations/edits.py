"""Edits of one sample's evidence: chunks added, dropped or moved, an answer swapped, and the gold to match.

Each function returns a new sample in the layout of the sample file and leaves its arguments alone.
Randomness comes in as `rng`. `perturbations/suites.py` decides which edits make up a suite, and the levels.
"""

import random
from collections import Counter

from evidence.answer_types import AnswerType, answer_types, written_form
from evidence.paraphrase import answer_parts, stems
from evidence.queries import claim_of
from evidence.spellings import says_answer
from utils.schema import is_label_answer
from utils.text import REFUSAL, answer_pattern, chunk_text, contains_tokens, holds_answer, tokenize

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
    return says_answer(chunk_text(chunk), answers)


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
    # A label ("no", "refuted") is no text to look for, and one hop may prove it.
    is_label = is_label_answer(sample["answer"])
    holds = {i: is_label or _chunk_holds(chunks[i], sample["answer_aliases"]) for i in spans}
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


def _typed_answers(sample: dict, donors: list[dict]) -> list[str] | str:
    """Sorted answers that may take the place of the sample's; or why there are none, in words.

    They are answers of the same source, of the narrowest type that any has, and the sample does not mention
    them.
    """
    types = answer_types(sample)
    if not types:
        return "type of the answer not told by its surface"
    texts = [f"{chunk['title']} {chunk['text']}" for chunk in sample["evidence_chunks"]]
    everything = " ".join([sample["question"], *texts])
    found: dict[AnswerType, set[str]] = {kind: set() for kind in types}
    for donor in donors:
        shared = set(answer_types(donor)) & set(types) if donor["source"] == sample["source"] else set()
        # "Warsaw, Poland" in place of "Warsaw" would be the old answer still.
        if not shared or says_answer(donor["answer"], sample["answer_aliases"]):
            continue
        if not says_answer(everything, [donor["answer"]]):
            for kind in shared:
                found[kind].add(donor["answer"])
    narrowest = [sorted(found[kind]) for kind in types if found[kind]]
    return narrowest[0] if narrowest else "no similar answer to swap in"


def _names_old(sample: dict, chunks: list[dict], new: str) -> bool:
    """Whether a swapped support still has part of the old name: "played by Teri Garr. Christie returned"."""
    form = written_form(new)
    if form is None or form[0] != "name":
        return False
    parts = answer_parts(sample["answer_aliases"], sample["question"]) - stems(new)
    said = [stems(chunk_text(chunks[i])) for i in sample["support_spans"]]
    return any(parts & found for found in said)


def counterfactual(sample: dict, donors: list[dict], rng: random.Random) -> dict | str:
    """The sample with another answer in place of its own in all evidence; or why there is none, in words.

    The new answer becomes the gold. `metadata.memory_aliases` keeps the old ones, which a model may remember.
    """
    # A verdict is a class: no word in the evidence can be swapped to turn it into the other one for sure.
    is_verdict = bool(claim_of(sample)) or is_label_answer(sample["answer"])
    if not sample["answerable"] or is_verdict:
        return "no entity to swap"
    aliases = sample["answer_aliases"]
    if holds_answer(sample["question"], aliases):
        return "answer appears in the question"
    candidates = _typed_answers(sample, donors)
    if isinstance(candidates, str):
        return candidates
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
    if _names_old(sample, chunks, new):
        return "part of the old name left in the support"
    # Verified above: the old answer is nowhere, the new one is in the support.
    metadata = {**sample["metadata"], "memory_aliases": aliases}
    return {**sample, "evidence_chunks": chunks, "answer": new, "answer_aliases": [new], "metadata": metadata}
