"""What a policy does more or less often than the model it was trained from: how long, cited and sure it is.

    python -m benchmarks.habits --test-data data/processed/test.jsonl \\
        --before eval_results_predictions.jsonl --after eval_policy_predictions.jsonl

A policy that learned to please its judge shows it in its form: longer answers, more citations, more
confidence, fewer refusals. Reads the predictions of two evaluations on the same samples, and prints a table:
each habit of both, and the mean difference over the samples where both have it, with its 95% interval,
resampled by group.
"""

import argparse
from collections.abc import Callable

from utils.arguments import stage_parser
from utils.completions import MAX_ANSWER_CHARS, Parsed, parse_completion
from utils.config import input_path
from utils.intervals import mean_with_interval
from utils.jsonl import read_jsonl
from utils.schema import is_label_answer, read_samples
from utils.startup import run_main
from utils.text import normalize_answer

# --- habits: (parsed completion, sample) -> number, or None where a completion has no such thing
# The chunks of the sample are those that the prompt shows.


def answered(parsed: Parsed, sample: dict) -> float | None:
    return float(parsed.is_answer)


def refuses_an_answerable(parsed: Parsed, sample: dict) -> float | None:
    return float(parsed.is_refusal) if sample["answerable"] else None


def refuses_an_unanswerable(parsed: Parsed, sample: dict) -> float | None:
    return None if sample["answerable"] else float(parsed.is_refusal)


def unparsable(parsed: Parsed, sample: dict) -> float | None:
    return float(parsed.answer is None)


def characters(parsed: Parsed, sample: dict) -> float | None:
    return float(len(parsed.answer or "")) if parsed.is_answer else None


def too_long(parsed: Parsed, sample: dict) -> float | None:
    return float(len(parsed.answer or "") > MAX_ANSWER_CHARS) if parsed.is_answer else None


def confidence(parsed: Parsed, sample: dict) -> float | None:
    return parsed.confidence if parsed.is_answer else None


def citations(parsed: Parsed, sample: dict) -> float | None:
    return float(len(set(parsed.citations))) if parsed.is_answer else None


def cites_nothing(parsed: Parsed, sample: dict) -> float | None:
    return float(not parsed.citations) if parsed.is_answer else None


def cites_everything(parsed: Parsed, sample: dict) -> float | None:
    n_chunks = len(sample["evidence_chunks"])
    return float(len(set(parsed.citations)) >= n_chunks) if parsed.is_answer and n_chunks > 1 else None


def cites_what_is_not_there(parsed: Parsed, sample: dict) -> float | None:
    if not parsed.is_answer:
        return None
    return float(any(not 0 <= number < len(sample["evidence_chunks"]) for number in parsed.citations))


def copies_a_chunk(parsed: Parsed, sample: dict) -> float | None:
    """Half of a chunk or more stands in the answer."""
    if not parsed.is_answer:
        return None
    answer = normalize_answer(parsed.answer or "")
    texts = [normalize_answer(chunk["text"]) for chunk in sample["evidence_chunks"]]
    return float(any(answer in text and 2 * len(answer) >= len(text) for text in texts))


def repeats_the_question(parsed: Parsed, sample: dict) -> float | None:
    # The text of a claim names its verdicts.
    if not parsed.is_answer or is_label_answer(parsed.answer or ""):
        return None
    return float(normalize_answer(parsed.answer or "") in normalize_answer(sample["question"]))


HABITS: dict[str, Callable[[Parsed, dict], float | None]] = {
    "answers": answered,
    "refuses an answerable": refuses_an_answerable,
    "refuses an unanswerable": refuses_an_unanswerable,
    "cannot be parsed": unparsable,
    "characters of an answer": characters,
    "answer over the limit": too_long,
    "stated confidence": confidence,
    "citations of an answer": citations,
    "cites nothing": cites_nothing,
    "cites every chunk": cites_everything,
    "cites what is not there": cites_what_is_not_there,
    "copies a chunk": copies_a_chunk,
    "answer is part of the question": repeats_the_question,
}


# --- the table


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument
    add("--test-data", required=True, help="the sample file of both evaluations")
    add("--before", required=True, metavar="FILE", help="predictions of the SFT model")
    add("--after", required=True, metavar="FILE", help="predictions of the policy")
    add("--model", default="sft", help="whose rows are taken from both files (default: sft)")
    add("--seed", type=int, default=42, help="of the intervals")
    return parser


def parsed_rows(path: str, model: str, by_id: dict[str, dict]) -> dict[str, tuple[Parsed, dict]]:
    """Sample id -> (parsed completion, the sample with the chunks that its prompt showed)."""
    found = {}
    for _, row in read_jsonl(input_path(path)):
        if row["model"] == model and row["id"] in by_id:
            sample = by_id[row["id"]]
            # A prompt that was cut shows fewer, and citations are numbers of the prompt.
            chunks = [sample["evidence_chunks"][i] for i in row["shown"]]
            parsed = parse_completion(row["completion"], len(chunks))
            found[row["id"]] = (parsed, {**sample, "evidence_chunks": chunks})
    return found


def mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None


def habit_row(
    habit: Callable, samples: list[dict], before: dict[str, tuple], after: dict[str, tuple], seed: int
) -> tuple[float | None, float | None, float | None, list[float] | None]:
    """(mean before, mean after, mean difference where both have the habit, its interval)."""
    sides: tuple[list[float], list[float]] = ([], [])
    differences: list[float] = []
    groups: list[str] = []
    for sample in samples:
        pair = [habit(*side[sample["id"]]) for side in (before, after)]
        for values, value in zip(sides, pair):
            if value is not None:
                values.append(value)
        if None not in pair:
            differences.append(pair[1] - pair[0])
            groups.append(sample["group"])
    difference, interval = mean_with_interval(differences, groups, seed)
    return mean(sides[0]), mean(sides[1]), difference, interval


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def main(argv: list[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    samples = read_samples(input_path(args.test_data))
    by_id = {sample["id"]: sample for sample in samples}
    before = parsed_rows(args.before, args.model, by_id)
    after = parsed_rows(args.after, args.model, by_id)
    both = [sample for sample in samples if sample["id"] in before and sample["id"] in after]
    print(f"{len(both)} samples\n\n| habit | before | after | difference |\n|---|---|---|---|")
    for name, habit in HABITS.items():
        first, second, difference, interval = habit_row(habit, both, before, after, args.seed)
        change = "" if difference is None else f"{difference:+.3f}"
        change += f" [{interval[0]:+.3f}, {interval[1]:+.3f}]" if interval else ""
        print(f"| {name} | {shown(first)} | {shown(second)} | {change} |")


if __name__ == "__main__":
    run_main(main)
