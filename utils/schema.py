"""The rows that travel between stages, and the rules each must keep (README, "Files")."""

import random
from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_jsonl
from utils.text import REFUSAL

LABEL_ALIASES = {
    "supported": ["supported", "supports", "true", "yes"],
    "refuted": ["refuted", "refutes", "false", "no"],
}
_SAMPLE_TYPES = {
    "id": str,
    "source": str,
    "question": str,
    "evidence_chunks": list,
    "answer": str,
    "answer_aliases": list,
    "answerable": bool,
    "support_sets": list,
    "support_spans": list,
    "hard_negatives": list,
    "group": str,
    "metadata": dict,
}
_PREFERENCE_TYPES = {
    "id": str,
    "sample_id": str,
    "source": str,
    "group": str,
    "question": str,
    "answerable": bool,
    "evidence_chunks": list,
    "prompt": list,
    "chosen": list,
    "rejected": list,
    "margin": float,
    "score_chosen": float,
    "score_rejected": float,
    "chosen_model": str,
    "rejected_model": str,
    "decided_by": str,
    "judge": dict,
}


def is_label_answer(answer: str) -> bool:
    """True for yes/no and verdict answers, which are classes rather than spans of the evidence."""
    return answer.strip().lower() in {"yes", "no", "supported", "refuted"}


def _type_problem(row: dict, types: dict[str, type]) -> str | None:
    for field, kind in types.items():
        if field not in row:
            return f"field {field!r} is missing"
        accepted = (int, float) if kind is float else kind
        if not isinstance(row[field], accepted) or (isinstance(row[field], bool) and kind is not bool):
            return f"field {field!r} must be {kind.__name__}, found {row[field]!r:.60}"
    return None


def _index_problem(name: str, values: list, n_chunks: int) -> str | None:
    for value in values:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < n_chunks:
            return f"{name} holds {value!r} but only chunks 0-{n_chunks - 1} exist"
    return f"{name} is not sorted and distinct: {values}" if values != sorted(set(values)) else None


def _chunks_problem(chunks: list) -> str | None:
    if not chunks:
        return "evidence_chunks is empty"
    for i, chunk in enumerate(chunks):
        if (
            not isinstance(chunk, dict)
            or not isinstance(chunk.get("title"), str)
            or not isinstance(chunk.get("text"), str)
        ):
            return f"evidence_chunks[{i}] needs a text 'title' and 'text', found {chunk!r:.60}"
        if not chunk["text"].strip():
            return f"evidence_chunks[{i}] has an empty text"
    return None


def _support_problem(row: dict) -> str | None:
    n_chunks = len(row["evidence_chunks"])
    spans = row["support_spans"]
    for name, values in [("support_spans", spans), ("hard_negatives", row["hard_negatives"])]:
        if problem := _index_problem(name, values, n_chunks):
            return problem
    for support_set in row["support_sets"]:
        if not isinstance(support_set, list) or not support_set:
            return f"support_sets holds {support_set!r}, not a non-empty list of chunk ids"
        if problem := _index_problem("support_sets", support_set, n_chunks):
            return problem
    if spans != sorted({i for support_set in row["support_sets"] for i in support_set}):
        return f"support_spans {spans} is not the sorted union of support_sets {row['support_sets']}"
    if row["hard_negatives"] != [i for i in range(n_chunks) if i not in spans]:
        return f"hard_negatives {row['hard_negatives']} are not all the chunks outside support_spans {spans}"
    return None


def sample_problem(row: dict) -> str | None:
    """The first rule of the sample table that the row breaks, with the value found; None when it keeps them all."""
    if problem := _type_problem(row, _SAMPLE_TYPES):
        return problem
    if not row["id"].startswith(row["source"] + ":"):
        return f"id {row['id']!r} does not start with its source {row['source']!r} and a colon"
    if not row["question"].strip():
        return "question is empty"
    if not all(isinstance(alias, str) and alias.strip() for alias in row["answer_aliases"]):
        return f"answer_aliases must be non-empty texts, found {row['answer_aliases']!r:.60}"
    if problem := _chunks_problem(row["evidence_chunks"]) or _support_problem(row):
        return problem
    if row["answerable"]:
        if not row["support_spans"]:
            return "answerable but support_spans is empty"
        if row["answer"] == REFUSAL or not row["answer"].strip():
            return f"answerable but the answer is {row['answer']!r}"
        if row["answer_aliases"][:1] != [row["answer"]]:
            return f"answer_aliases must start with the answer {row['answer']!r}, found {row['answer_aliases'][:1]!r}"
    elif row["support_spans"] or row["answer_aliases"] or row["answer"] != REFUSAL:
        return f"unanswerable, so answer must be {REFUSAL}, support_spans and answer_aliases empty"
    return None


def preference_problem(row: dict) -> str | None:
    """The first rule of the preference row that `row` breaks, None when it keeps them all."""
    if problem := _type_problem(row, _PREFERENCE_TYPES):
        return problem
    for field in ("prompt", "chosen", "rejected"):
        if not row[field] or not all(
            isinstance(m, dict) and {"role", "content"} <= m.keys() for m in row[field]
        ):
            return f"{field} must be a list of chat messages with role and content"
    if row["chosen"] == row["rejected"]:
        return "chosen and rejected are the same text"
    if not 0 <= row["margin"] <= 1:
        return f"margin {row['margin']} is outside 0..1"
    return _chunks_problem(row["evidence_chunks"])


def _read_checked(path: str | Path, problem_of, remedy: str) -> list[dict]:
    rows = []
    line_of = {}
    for number, row in read_jsonl(path):
        if problem := problem_of(row):
            raise DataError(f"{path}:{number}: {problem}; {remedy}")
        if row["id"] in line_of:
            raise DataError(
                f"{path}:{number}: id {row['id']!r} stands in line {line_of[row['id']]} already; {remedy}"
            )
        line_of[row["id"]] = number
        rows.append(row)
    if not rows:
        raise DataError(f"{path}: holds no rows; {remedy}")
    return rows


def read_samples(path: str | Path) -> list[dict]:
    """All samples of a file, checked. DataError names file, line, rule and value."""
    return _read_checked(path, sample_problem, "rebuild it with build_data.py")


def read_preferences(path: str | Path) -> list[dict]:
    """All preference rows of a file, checked. DataError names file, line, rule and value."""
    return _read_checked(path, preference_problem, "rebuild it with make_prefs.py")


def pick_samples(samples: list[dict], n_wanted: int | None, seed: int) -> list[dict]:
    """At most `n_wanted` samples in file order, drawn over whole groups so that a twin stays beside its original."""
    if not n_wanted or n_wanted >= len(samples):
        return list(samples)
    by_group: dict[str, list[int]] = {}
    for i, sample in enumerate(samples):
        by_group.setdefault(sample["metadata"].get("twin_of") or sample["id"], []).append(i)
    pairs = list(by_group.values())
    random.Random(seed).shuffle(pairs)
    picked = [i for pair in pairs for i in pair][:n_wanted]
    return [samples[i] for i in sorted(picked)]


def cap_sources(samples: list[dict], n_wanted: int, seed: int) -> list[dict]:
    """At most `n_wanted` samples of each source, in file order."""
    by_source: dict[str, list[dict]] = {}
    for sample in samples:
        by_source.setdefault(sample["source"], []).append(sample)
    kept = {
        sample["id"] for of_source in by_source.values() for sample in pick_samples(of_source, n_wanted, seed)
    }
    return [sample for sample in samples if sample["id"] in kept]


def pick_balanced(
    samples: list[dict], n_wanted: int | None, unanswerable_fraction: float, seed: int
) -> list[dict]:
    """At most `n_wanted` samples in file order, this share of them unanswerable; originals of the drawn twins come before other answerable ones."""
    rng = random.Random(seed)
    unanswerable, answerable = ([s for s in samples if s["answerable"] is side] for side in (False, True))
    rng.shuffle(unanswerable)
    rng.shuffle(answerable)
    n_wanted = min(n_wanted or len(samples), len(samples), int(len(unanswerable) / unanswerable_fraction))
    drawn = unanswerable[: round(n_wanted * unanswerable_fraction)]
    originals = {sample["metadata"].get("twin_of") for sample in drawn}
    drawn += sorted(answerable, key=lambda sample: sample["id"] not in originals)[: n_wanted - len(drawn)]
    kept = {sample["id"] for sample in drawn}
    return [sample for sample in samples if sample["id"] in kept]


def shuffle_chunks(sample: dict, rng: random.Random) -> dict:
    """The sample with its evidence chunks in a new order, every chunk id in it renumbered."""
    order = list(range(len(sample["evidence_chunks"])))
    rng.shuffle(order)
    place = {old: new for new, old in enumerate(order)}
    return {
        **sample,
        "evidence_chunks": [sample["evidence_chunks"][old] for old in order],
        "support_sets": [sorted(place[i] for i in support_set) for support_set in sample["support_sets"]],
        **{name: sorted(place[i] for i in sample[name]) for name in ("support_spans", "hard_negatives")},
    }
