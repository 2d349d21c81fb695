"""Faults of one sample that only its texts show: the rules of its fields are in utils/rules.py.

They are no rules of reading: older files and files of other tools may break them and still be read.
"""

from evidence.spellings import says_answer
from utils.completions import MAX_ANSWER_CHARS
from utils.schema import is_label_answer, verdict_class
from utils.text import chunk_text, holds_answer


def leaked_answer(sample: dict) -> str | None:
    """The fault of a sample whose negative contains an accepted answer; None without one.

    Of an unanswerable sample all chunks are negatives, and the forms of the removed answer are looked for.
    """
    aliases = sample["answer_aliases"] or sample["metadata"].get("gold_aliases") or []
    # Yes/no answers and verdicts are words of any text; there the annotation decides.
    if not aliases or is_label_answer(aliases[0]):
        return None
    for i in sample["hard_negatives"]:
        if says_answer(chunk_text(sample["evidence_chunks"][i]), aliases):
            return f"chunk {i} is a negative but contains an accepted answer, one of {aliases[:2]}"
    return None


def repeated_chunk(sample: dict) -> str | None:
    """The fault of a sample that shows one chunk twice: citing either of the two would be right."""
    first: dict[tuple[str, str], int] = {}
    for i, chunk in enumerate(sample["evidence_chunks"]):
        # Spaces cannot be seen in a prompt, so they do not tell chunks apart.
        earlier = first.setdefault((chunk["title"].strip(), " ".join(chunk["text"].split())), i)
        if earlier != i:
            return f"chunk {i} repeats title and text of chunk {earlier}, {chunk['title']!r:.60}"
    return None


def long_answer(sample: dict) -> str | None:
    """The fault of a sample whose answer is longer than a completion may give."""
    n_characters = len(sample["answer"])
    if n_characters <= MAX_ANSWER_CHARS:
        return None
    answer = f"{sample['answer']!r:.60}"
    return f"answer of {n_characters} characters, over {MAX_ANSWER_CHARS}, found {answer}"


def unsupported_answer(sample: dict) -> str | None:
    """The fault of a sample with a support set that contains none of the accepted answers."""
    if not sample["answerable"] or is_label_answer(sample["answer"]):
        return None
    for support_set in sample["support_sets"]:
        texts = [chunk_text(sample["evidence_chunks"][i]) for i in support_set]
        if not any(holds_answer(text, sample["answer_aliases"]) for text in texts):
            accepted = sample["answer_aliases"][:2]
            return f"support set {support_set} contains no accepted answer, such as {accepted}"
    return None


def mixed_verdict(sample: dict) -> str | None:
    """The fault of a sample that accepts both verdicts; None without one."""
    verdicts = {verdict_class(alias) for alias in sample["answer_aliases"]}
    if {"supported", "refuted"} <= verdicts:
        return f"answer_aliases accept both verdicts: {sample['answer_aliases']!r:.60}"
    return None


def text_faults(sample: dict) -> list[str]:
    """Every fault that the texts of a sample show; its fields must keep the rules of a sample."""
    checks = (leaked_answer, repeated_chunk, long_answer, unsupported_answer, mixed_verdict)
    return [fault for check in checks if (fault := check(sample))]
