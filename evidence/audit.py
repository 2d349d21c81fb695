"""What a build must prove: rules over all splits, and the figures of audit.json and the dataset card."""

from collections import Counter

from scipy.stats import chisquare

from evidence.splits import near_duplicates
from utils.schema import is_label_answer, sample_problem
from utils.text import holds_answer, normalize_answer

CUT_REASON = "ties two splits together"


def sample_rule_broken(sample: dict) -> str | None:
    """A rule that the schema cannot see: an accepted answer outside the support, or inside unanswerable evidence."""
    if problem := sample_problem(sample):
        return problem
    aliases = sample["answer_aliases"] or sample["metadata"].get("gold_aliases", [])
    if not aliases or is_label_answer(aliases[0]):
        return None
    for i in sample["hard_negatives"]:
        chunk = sample["evidence_chunks"][i]
        if holds_answer(f"{chunk['title']}. {chunk['text']}", aliases):
            return f"chunk {i} is a negative but holds an accepted answer of {aliases[:2]}"
    return None


def bare_question(sample: dict) -> str:
    """The question without the words that every claim of FEVER shares."""
    return sample["metadata"].get("claim", sample["question"])


def contamination(splits: dict[str, list[dict]]) -> dict[str, int]:
    """What stands on two sides, counted: support pages, questions, near-duplicate questions and groups; and, for information, answers."""
    shared = Counter()
    seen: dict[tuple[str, str], set[str]] = {}
    for split, samples in splits.items():
        for sample in samples:
            keys = {("support_pages", sample["evidence_chunks"][i]["title"]) for i in sample["support_spans"]}
            keys |= {("questions", sample["question"].casefold()), ("groups", sample["group"])}
            if sample["answerable"] and not is_label_answer(sample["answer"]):
                keys.add(("answers", normalize_answer(sample["answer"])))
            for key in keys:
                seen.setdefault(key, set()).add(split)
    shared.update(kind for (kind, _), sides in seen.items() if len(sides) > 1)
    side_of = {bare_question(sample): split for split, samples in splits.items() for sample in samples}
    questions = list(side_of)
    shared["near_duplicate_questions"] = sum(
        side_of[questions[i]] != side_of[questions[j]] for i, j in near_duplicates(questions)
    )
    return {
        name: shared[name]
        for name in ("support_pages", "questions", "near_duplicate_questions", "groups", "answers")
    }


def broken_rules(splits: dict[str, list[dict]], shared: dict[str, int] | None = None) -> list[str]:
    """Every rule that the build breaks, one line each; empty when it keeps them all. `shared`: their contamination, when counted already."""
    problems = []
    for split, samples in splits.items():
        for sample in samples:
            if problem := sample_rule_broken(sample):
                problems.append(f"{split}: {sample['id']}: {problem}")
    # The same answer to two questions is no leak: "1957" or "France" answers many.
    problems += [
        f"{n} {name} stand in two splits"
        for name, n in (shared or contamination(splits)).items()
        if n and name != "answers"
    ]
    return problems


def position_test(samples: list[dict]) -> dict:
    """Histogram of support positions over samples of the commonest chunk count, and its chi-square p against a flat one."""
    answerable = [sample for sample in samples if sample["answerable"]]
    if not answerable:
        return {"n_chunks": None, "histogram": [], "p": None}
    n_chunks = Counter(len(sample["evidence_chunks"]) for sample in answerable).most_common(1)[0][0]
    counts = Counter(
        i for s in answerable if len(s["evidence_chunks"]) == n_chunks for i in s["support_spans"]
    )
    histogram = [counts[i] for i in range(n_chunks)]
    return {"n_chunks": n_chunks, "histogram": histogram, "p": float(chisquare(histogram).pvalue)}


def _quantiles(values: list[int]) -> dict[str, int]:
    values = sorted(values)
    return (
        {"median": values[len(values) // 2], "p99": values[int(0.99 * (len(values) - 1))], "max": values[-1]}
        if values
        else {}
    )


def too_many_cut(samples: list[dict], drops: dict[str, dict[str, int]]) -> list[str]:
    """Sources that lost more than a fifth of their rows to the rule that nothing ties two splits together."""
    n_rows = Counter(sample["source"] for sample in samples if not sample["metadata"].get("twin_of"))
    cut = {source: reasons.get(CUT_REASON, 0) for source, reasons in drops.items()}
    return [
        f"{source}: {n} rows dropped because they tie two splits together, over 20%"
        for source, n in cut.items()
        if n > 0.2 * (n + n_rows[source])
    ]


def audit(splits: dict[str, list[dict]], drops: dict[str, dict[str, int]]) -> dict:
    """The figures of audit.json."""
    samples = [sample for part in splits.values() for sample in part]
    counts = {
        split: {
            source: dict(
                Counter(
                    "answerable" if s["answerable"] else "unanswerable" for s in part if s["source"] == source
                )
            )
            for source in sorted({s["source"] for s in part})
        }
        for split, part in splits.items()
    }
    spans = [s for s in samples if s["answerable"] and not is_label_answer(s["answer"])]
    verbatim = sum(
        any(
            holds_answer(
                s["evidence_chunks"][i]["title"] + ". " + s["evidence_chunks"][i]["text"], s["answer_aliases"]
            )
            for i in s["support_spans"]
        )
        for s in spans
    )
    shared = contamination(splits)
    chunk_words = [len(chunk["text"].split()) for s in samples for chunk in s["evidence_chunks"]]
    sample_words = [
        len(s["question"].split())
        + sum(len(f"{c['title']} {c['text']}".split()) for c in s["evidence_chunks"])
        for s in samples
    ]
    return {
        "n_samples": {split: len(part) for split, part in splits.items()},
        "counts": counts,
        "dropped": drops,
        "support_positions": position_test(samples),
        "support_rules": dict(Counter(s["metadata"]["support_rule"] for s in samples)),
        "chunk_words": _quantiles(chunk_words),
        "question_and_evidence_words": _quantiles(sample_words),
        "answers_verbatim_in_support": round(verbatim / len(spans), 4) if spans else None,
        "contamination": shared,
        "rules_broken": broken_rules(splits, shared) + too_many_cut(samples, drops),
    }


def dataset_card(figures: dict, licences: dict[str, str], hashes: dict[str, str], seed: int) -> str:
    """README.md of the built data set."""
    lines = [
        "# Evidence-grounded question answering",
        "",
        f"Built by `build_data.py` with seed {seed}. Figures: `audit.json`.",
        "",
    ]
    lines += ["| split | source | answerable | unanswerable |", "|---|---|---|---|"]
    for split, by_source in figures["counts"].items():
        lines += [
            f"| {split} | {source} | {n.get('answerable', 0)} | {n.get('unanswerable', 0)} |"
            for source, n in by_source.items()
        ]
    lines += ["", "## Licences", ""] + [f"- {source}: {licence}" for source, licence in licences.items()]
    lines += ["", "Samples keep the licence of the source they come from.", "", "## Raw files (SHA-256)", ""]
    lines += [f"- `{name}`: `{digest}`" for name, digest in hashes.items()]
    return "\n".join(lines) + "\n"
