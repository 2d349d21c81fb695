"""Ways to game an evaluation, played on a sample file: what a weak metric reports for each, and what ours do.

    python -m benchmarks.games --test-data data/processed/test.jsonl

A weak metric is one that some pipelines report. Every row of the table is also a test, worked by hand on
a few samples (tests/test_metric_gaming.py).
"""

import argparse
from collections.abc import Callable

from benchmarks import near_misses
from evaluation.columns import format_number, format_table
from evaluation.confidence import confidence_metrics
from evaluation.results import score_rows
from utils.completions import parse_completion, render_completion
from utils.config import input_path
from utils.correctness import exact_match, is_correct_lenient
from utils.intervals import as_numbers, group_sums, total
from utils.metrics import rates_from_sums
from utils.schema import is_label_answer, read_samples, verdict_class
from utils.scoring import hallucination_kind
from utils.startup import run_main
from utils.text import REFUSAL, holds_answer, tokenize

OURS = (
    "em_answerable",
    "citation_correctness",
    "refusal_f1",
    "hallucination_rate",
    "answered_rate",
    "net_score_lenient",
    "net_score",
    "ece",
)
_WRONG = "a wrong answer"


# --- games: sample -> completion, or None where a game does not apply. Several look at the gold, as a model
# that knew it could.


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


def list_all_titles(sample: dict) -> str | None:
    """Of questions whose answer is one of the titles."""
    titles = [chunk["title"] for chunk in sample["evidence_chunks"]]
    if not sample["answerable"] or is_label_answer(sample["answer"]) or len(set(titles)) < 2:
        return None
    if not any(exact_match(title, sample["answer_aliases"]) for title in titles):
        return None
    return render_completion(", ".join(dict.fromkeys(titles)), sample["support_sets"][0], 0.9)


def near_miss(edit: Callable[[str], str | None]) -> Callable[[dict], str | None]:
    """A game that cites the gold support and answers with the edited gold, where that is not accepted."""

    def emit(sample: dict) -> str | None:
        if not sample["answerable"] or is_label_answer(sample["answer"]):
            return None
        # The shortest: added to a longer one, a word may make it another accepted answer with an addition.
        shortest = min(sample["answer_aliases"], key=lambda alias: len(alias.split()))
        answer = edit(shortest)
        if answer is None or exact_match(answer, sample["answer_aliases"]):
            return None
        return render_completion(answer, sample["support_sets"][0], 0.9)

    return emit


def _verdict(sample: dict, answer: str) -> str | None:
    """A completion that answers a verdict or yes/no question, with gold citations."""
    if not sample["answerable"] or not is_label_answer(sample["answer"]):
        return None
    return render_completion(answer, sample["support_sets"][0], 0.9)


def opposite_verdict(sample: dict) -> str | None:
    is_supported = verdict_class(sample["answer"]) == "supported"
    return _verdict(sample, "no" if is_supported else "yes")


def both_verdicts(sample: dict) -> str | None:
    return _verdict(sample, "supported or refuted")


def yes_to_everything(sample: dict) -> str | None:
    return _verdict(sample, "yes")


def certain_of_everything(sample: dict) -> str:
    """Right where there is an answer, and as sure where there is none."""
    answer = sample["answer"] if sample["answerable"] else _WRONG
    return render_completion(answer, (sample["support_sets"] or [[0]])[0], 1.0)


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


def lenient_rightness(rows: list) -> float:
    """Share of answers with an F1 of at least 0.5 and a citation of support: what counted as sound before."""
    sound = [hallucination_kind(parsed, sample, is_correct_lenient) is None for parsed, sample in rows]
    return sum(sound) / len(sound)


def right_of_supported(rows: list) -> float:
    """Accuracy on the claims that are supported, as in a test set without refuted ones; 0 without any."""
    supported = [(p, s) for p, s in rows if verdict_class(s["answer"]) == "supported"]
    return sum(verdict_class(p.answer) == "supported" for p, s in supported) / max(1, len(supported))


def mean_confidence(rows: list) -> float:
    return sum(parsed.confidence for parsed, _ in rows) / len(rows)


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

_LENIENT = "cited and F1 of at least 0.5, 1 is best"
_CONTAINED = "answer contained, 1 is best"
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
    "copying a chunk as the answer": (copy_a_chunk, containment, _CONTAINED),
    "listing all titles": (list_all_titles, containment, _CONTAINED),
    "the opposite verdict": (opposite_verdict, support_recall, "recall of the support, 1 is best"),
    "both verdicts": (both_verdicts, support_recall, "recall of the support, 1 is best"),
    "yes to everything": (yes_to_everything, right_of_supported, "accuracy where yes is right, 1 is best"),
    "certain of everything": (certain_of_everything, mean_confidence, "mean confidence, 1 is best"),
}
# With gold citations: wrong answers that share most of their words with the accepted one.
NEAR_MISSES = {
    "one word of a name replaced": near_misses.name_with_another_word,
    "the first word of a long name": near_misses.first_word_of_a_long_name,
    "a year off by ten": near_misses.year_off_by_ten,
    "three years for one": near_misses.three_years_for_one,
    "another month": near_misses.another_month,
    "another number": near_misses.another_number,
    "another unit": near_misses.another_unit,
    "the answer denied": near_misses.denied,
    "an alternative with or": near_misses.either_of_two,
    "an alternative with maybe": near_misses.hedged,
    "an alternative with and": near_misses.both_of_two,
    "an alternative after a slash": near_misses.split_by_a_slash,
    "answered and refused at once": near_misses.answered_and_refused,
}
GAMES |= {game: (near_miss(edit), lenient_rightness, _LENIENT) for game, edit in NEAR_MISSES.items()}


def play(game: str, samples: list[dict]) -> tuple[float, dict] | None:
    """(weak metric, our metrics) of one game on the samples it applies to; None where there is none."""
    emit, weak, _ = GAMES[game]
    rows = []
    emitted = []
    played = []
    for sample in samples:
        completion = emit(sample)
        if completion is None:
            continue
        played.append(sample)
        rows.append({"id": sample["id"], "completion": completion})
        # The weak metric gets the same repairs, but citations as they were emitted.
        emitted.append((parse_completion(completion, len(sample["evidence_chunks"])), sample))
    if not played:
        return None
    terms, parsed = score_rows(rows, played)
    sums = group_sums(terms, [sample["id"] for sample in played])
    ours = as_numbers(rates_from_sums(total(sums))) | {"n": len(played)}
    return weak(emitted), ours | confidence_metrics(parsed, played, None, None)


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
    header = ["gaming strategy", "n", "metric it fools", "it reports", *OURS]
    rows = []
    for game, (_, _, words) in GAMES.items():
        found = play(game, samples)
        if found is None:
            rows.append([game, "0", words, *["-"] * (1 + len(OURS))])
            continue
        weak, ours = found
        cells = [format_number(ours[name]) for name in OURS]
        rows.append([game, str(ours["n"]), words, f"{weak:.2f}", *cells])
    if args.markdown:
        for row in [header, ["---"] * len(header), *rows]:
            print("| " + " | ".join(row) + " |")
    else:
        print(format_table(header, rows))


if __name__ == "__main__":
    run_main(main)
