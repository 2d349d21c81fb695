"""The audit of a build: the rules over all splits, and the figures of audit.json.

The rules of a single row are in utils/rules.py; `sample_rule_broken` adds those that have to read the texts
(soundness.py).
"""

from collections import Counter
from collections.abc import Mapping

from evidence.leaks import shared_between_splits
from evidence.shortcuts import measure_shortcuts
from evidence.soundness import text_faults
from utils.rules import sample_problem
from utils.schema import is_label_answer
from utils.text import chunk_text, holds_answer


def sample_rule_broken(sample: dict) -> str | None:
    """The first rule that a sample breaks, None if it keeps them all."""
    return sample_problem(sample) or next(iter(text_faults(sample)), None)


def broken_rules(splits: dict[str, list[dict]], shared: dict[str, int]) -> list[str]:
    """Every rule that the build breaks, one line each; empty if it keeps them all.

    `shared`: what is in more than one split, from `shared_between_splits`.
    """
    problems = []
    for split, samples in splits.items():
        for sample in samples:
            problem = sample_rule_broken(sample)
            if problem:
                problems.append(f"{split}: {sample['id']}: {problem}")

    for name, n in shared.items():
        # The same answer to two questions is no leak: "1957" or "France" answers many.
        if n and name != "answers":
            problems.append(f"{n} {name.replace('_', ' ')} appear in more than one split")
    return problems


def position_test(samples: list[dict]) -> dict:
    """Histogram of support positions, and the p-value of a chi-square test against a flat one.

    Over the answerable samples of the most common chunk count, since positions of longer samples would not be
    equally likely. A small p-value means that a chunk's position tells whether it is support.
    """
    # Imported here: scipy.stats takes most of a second to import.
    from scipy.stats import chisquare

    answerable = [sample for sample in samples if sample["answerable"]]
    if not answerable:
        return {"n_chunks": None, "histogram": [], "p": None}
    n_chunks = Counter(len(sample["evidence_chunks"]) for sample in answerable).most_common(1)[0][0]

    counts: Counter = Counter()
    for sample in answerable:
        if len(sample["evidence_chunks"]) == n_chunks:
            counts.update(sample["support_spans"])
    histogram = [counts[i] for i in range(n_chunks)]
    return {"n_chunks": n_chunks, "histogram": histogram, "p": float(chisquare(histogram).pvalue)}


def _quantiles(values: list[int]) -> dict[str, int]:
    if not values:
        return {}
    ordered = sorted(values)
    p99 = ordered[int(0.99 * (len(ordered) - 1))]
    return {"median": ordered[len(ordered) // 2], "p99": p99, "max": ordered[-1]}


def _counts(splits: dict[str, list[dict]]) -> dict[str, dict[str, dict[str, int]]]:
    """Split -> source -> number of answerable and unanswerable samples."""
    counts: dict[str, dict[str, dict[str, int]]] = {}
    for split, samples in splits.items():
        counts[split] = {}
        for source in sorted({sample["source"] for sample in samples}):
            of_source = [sample for sample in samples if sample["source"] == source]
            kinds = Counter("answerable" if sample["answerable"] else "unanswerable" for sample in of_source)
            counts[split][source] = dict(kinds)
    return counts


def _verbatim_share(samples: list[dict]) -> float | None:
    """Share of the answerable samples, without label answers, whose support contains an accepted answer."""
    spans = [s for s in samples if s["answerable"] and not is_label_answer(s["answer"])]
    n_verbatim = 0
    for sample in spans:
        texts = [chunk_text(sample["evidence_chunks"][i]) for i in sample["support_spans"]]
        n_verbatim += any(holds_answer(text, sample["answer_aliases"]) for text in texts)
    return round(n_verbatim / len(spans), 4) if spans else None


def _n_words(sample: dict) -> int:
    """Words of the question and of the whole evidence, titles too."""
    texts = [f"{chunk['title']} {chunk['text']}" for chunk in sample["evidence_chunks"]]
    return sum(len(text.split()) for text in [sample["question"], *texts])


def flat_drops(drops: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Dropped rows by "source: reason", from source -> reason -> rows."""
    flat = {}
    for source, reasons in drops.items():
        for reason, n in reasons.items():
            flat[f"{source}: {reason}"] = n
    return flat


def audit(splits: dict[str, list[dict]], drops: dict[str, dict[str, int]]) -> dict:
    """The figures of audit.json. `drops`: source -> reason -> dropped rows."""
    samples = [sample for part in splits.values() for sample in part]
    chunks = [chunk for sample in samples for chunk in sample["evidence_chunks"]]
    shared = shared_between_splits(splits)
    return {
        "n_samples": {split: len(part) for split, part in splits.items()},
        "counts": _counts(splits),
        "dropped": drops,
        "support_positions": position_test(samples),
        "support_rules": dict(Counter(sample["metadata"]["support_rule"] for sample in samples)),
        "chunk_words": _quantiles([len(chunk["text"].split()) for chunk in chunks]),
        "question_and_evidence_words": _quantiles([_n_words(sample) for sample in samples]),
        "answers_verbatim_in_support": _verbatim_share(samples),
        "contamination": shared,
        "shortcuts": measure_shortcuts(splits),
        "rules_broken": broken_rules(splits, shared),
    }
