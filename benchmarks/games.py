"""Ways to game an evaluation, played on a sample file: what a weak metric reports for each, and what ours do.

    python -m benchmarks.games --test-data data/processed/test.jsonl

A weak metric is one that some pipelines report. Every row of the table is also a test, worked by hand on two
samples (tests/test_metric_gaming.py).
"""

import argparse

from evaluation.results import score_rows
from evaluation.tables import format_number, format_table
from utils.completions import parse_completion, render_completion
from utils.config import input_path
from utils.errors import run_main
from utils.intervals import as_numbers, group_sums, total
from utils.metrics import rates_from_sums
from utils.schema import is_label_answer, read_samples
from utils.text import REFUSAL, holds_answer, tokenize

OURS = (
    "em_answerable",
    "citation_correctness",
    "refusal_f1",
    "hallucination_rate",
    "answered_rate",
    "net_score",
)
_WRONG = "a wrong answer"


# --- games: sample -> completion. Several look at the gold, as a model that knew it could.


def wrong_but_cited(sample: dict) -> str:
    return render_completion(_WRONG, [0], 1.0)


def right_out_of_range(sample: dict) -> str:
    return render_completion(sample["answer"], [len(sample["evidence_chunks"]) + 5], 1.0)


def refuse_everything(sample: dict) -> str:
    return render_completion(REFUSAL, [], 0.0)


def cite_everything(sample: dict) -> str:
    answer = sample["answer"] if sample["answerable"] else _WRONG
    return render_completion(answer, list(range(len(sample["evidence_chunks"]))), 1.0)


def unparsable(sample: dict) -> str:
    return "The evidence speaks for itself."


def repeat_the_question(sample: dict) -> str:
    return render_completion(sample["question"], [0], 1.0)


def copy_a_chunk(sample: dict) -> str:
    i = (sample["support_spans"] or [0])[0]
    return render_completion(sample["evidence_chunks"][i]["text"], [i], 1.0)


# --- weak metrics: rows of (parsed, sample) -> a number, 1 the best or 0 where lower is better


def legacy_uncited_rate(rows: list) -> float:
    """Share of answers without a citation. Lower is better."""
    return sum(parsed.is_answer and not parsed.citations for parsed, _ in rows) / len(rows)


def answer_only_em(rows: list) -> float:
    """EM of the answers to answerable questions, citations ignored."""
    asked = [(parsed, sample) for parsed, sample in rows if sample["answerable"]]
    return sum(parsed.answer in sample["answer_aliases"] for parsed, sample in asked) / len(asked)


def error_rate_given_answered(rows: list) -> float:
    """Share of wrong answers among the answers, 0 without any. Lower is better."""
    answered = [(parsed, sample) for parsed, sample in rows if parsed.is_answer]
    # This 0 is the hole in the metric: refusing everything makes no error.
    if not answered:
        return 0.0
    return sum(parsed.answer not in sample["answer_aliases"] for parsed, sample in answered) / len(answered)


def support_recall(rows: list) -> float:
    """Share of the support of answerable samples that is cited, mean over samples."""
    shares = []
    for parsed, sample in rows:
        if sample["answerable"]:
            support = set(sample["support_spans"])
            shares.append(len(set(parsed.citations) & support) / len(support))
    return sum(shares) / len(shares)


def containment(rows: list) -> float:
    """Share of questions for a span of the evidence whose answer contains an accepted answer anywhere."""
    found = []
    for parsed, sample in rows:
        if sample["answerable"] and not is_label_answer(sample["answer"]):
            found.append(parsed.is_answer and holds_answer(parsed.answer, sample["answer_aliases"]))
    return sum(found) / len(found)


def question_overlap(rows: list) -> float:
    """ "Relevance": share of the question's words that the answer repeats, mean over samples."""
    shares = []
    for parsed, sample in rows:
        asked = set(tokenize(sample["question"]))
        shares.append(len(asked & set(tokenize(parsed.answer or ""))) / len(asked))
    return sum(shares) / len(shares)


# --- the table

# game -> (its completions, the weak metric that it wins, what that metric is in words)
GAMES = {
    "wrong answers that cite chunk 0": (
        wrong_but_cited,
        legacy_uncited_rate,
        "`legacy_uncited_rate`, 0 is best",
    ),
    "right answers that cite ids out of range": (
        right_out_of_range,
        answer_only_em,
        "EM without citations, 1 is best",
    ),
    "refusing everything": (
        refuse_everything,
        error_rate_given_answered,
        "errors per answer given, 0 is best",
    ),
    "citing everything": (cite_everything, support_recall, "recall of the support, 1 is best"),
    "unparsable text": (unparsable, legacy_uncited_rate, "`legacy_uncited_rate`, 0 is best"),
    "repeating the question": (repeat_the_question, question_overlap, "overlap with the question, 1 is best"),
    "copying a chunk as the answer": (copy_a_chunk, containment, "answer contained, 1 is best"),
}


def play(game: str, samples: list[dict]) -> tuple[float, dict]:
    """(weak metric, our metrics) of one game."""
    emit, weak, _ = GAMES[game]
    rows = []
    emitted = []
    for sample in samples:
        completion = emit(sample)
        rows.append({"id": sample["id"], "completion": completion})
        # The weak metric gets the same repairs, but citations as they were emitted.
        emitted.append((parse_completion(completion, len(sample["evidence_chunks"])), sample))
    terms, _ = score_rows(rows, samples)
    sums = group_sums(terms, [sample["id"] for sample in samples])
    return weak(emitted), as_numbers(rates_from_sums(total(sums)))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--test-data", required=True, help="sample file with gold")
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    return parser


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    samples = read_samples(input_path(args.test_data))
    header = ["gaming strategy", "metric it fools", "it reports", *OURS]
    rows = []
    for game, (_, _, words) in GAMES.items():
        weak, ours = play(game, samples)
        rows.append([game, words, f"{weak:.2f}", *(format_number(ours[name]) for name in OURS)])
    if args.markdown:
        for row in [header, ["---"] * len(header), *rows]:
            print("| " + " | ".join(row) + " |")
    else:
        print(format_table(header, rows))


if __name__ == "__main__":
    run_main(main)
