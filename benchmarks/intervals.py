"""How long metrics with intervals take, on invented predictions for the samples of a file, repeated.

    python -m benchmarks.intervals --test-data data/processed/test.jsonl
    python -m benchmarks.intervals --test-data data/processed/test.jsonl --samples 1000,5000,20000

Measured are the intervals of one model, a paired difference, and everything that a results file contains.
"""

import argparse
import time

import numpy as np

from evaluation.baselines import baseline_predictions
from evaluation.columns import format_table
from evaluation.confidence import confidence_intervals
from evaluation.results import score_all, score_rows
from utils.completions import render_completion
from utils.config import input_path
from utils.intervals import draw_counts, paired_deltas, with_intervals
from utils.schema import read_samples
from utils.scoring import is_right_answer
from utils.startup import run_main

HEADER = [
    "samples",
    "resamples",
    "one model's metrics s",
    "a paired difference s",
    "baselines' answers s",
    "whole results s",
]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--test-data", required=True, help="sample file whose rows are repeated")
    parser.add_argument("--samples", default="1000,5000", help="numbers of samples, separated by commas")
    return parser


def repeated(samples: list[dict], n: int) -> list[dict]:
    """`n` samples in groups of about two, as twins are."""
    rows = []
    for i in range(n):
        sample = samples[i % len(samples)]
        rows.append({**sample, "id": f"{sample['source']}:{i}", "group": str(i // 2)})
    return rows


def invented(samples: list[dict], model: str, rng: np.random.Generator) -> list[dict]:
    """Prediction rows of which six in ten answer right, with random citations and confidences."""
    confidences = rng.integers(0, 101, len(samples)) / 100
    cited = rng.integers(0, 3, len(samples))
    is_right = rng.random(len(samples)) < 0.6
    rows = []
    for i, sample in enumerate(samples):
        answer = sample["answer"] if is_right[i] else "something else"
        completion = render_completion(answer, [int(cited[i])], float(confidences[i]))
        rows.append({"id": sample["id"], "model": model, "completion": completion})
    return rows


def measure(samples: list[dict], rng: np.random.Generator) -> list[str]:
    """One row of the table: the cells of HEADER."""
    sft = invented(samples, "sft", rng)
    base = invented(samples, "base", rng)
    groups = [s["group"] for s in samples]
    # A new seed: the draws of an earlier row are cached, and drawing is part of the work.
    seed = int(rng.integers(1 << 30))
    terms, parsed = score_rows(sft, samples)
    other, _ = score_rows(base, samples)
    right = [is_right_answer(p, s) for p, s in zip(parsed, samples)]
    stated = [p.confidence if p.is_answer else None for p in parsed]

    clock = [time.perf_counter()]
    with_intervals(terms, groups, seed)
    confidence_intervals(stated, right, groups, seed)
    clock.append(time.perf_counter())
    # The same seed: in a run the models share their draws.
    paired_deltas(terms, other, groups, seed)
    clock.append(time.perf_counter())
    baselines = baseline_predictions(samples, [], [])
    clock.append(time.perf_counter())
    score_all(sft + base + baselines, samples, seed + 1)
    clock.append(time.perf_counter())

    n_resamples = draw_counts(len(set(groups)), seed).shape[0]
    seconds = [f"{after - before:.2f}" for before, after in zip(clock, clock[1:])]
    return [f"{len(samples):,}", f"{n_resamples:,}", *seconds]


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    samples = read_samples(input_path(args.test_data))
    rng = np.random.default_rng(0)
    rows = [measure(repeated(samples, int(n)), rng) for n in args.samples.split(",")]
    print(format_table(HEADER, rows))


if __name__ == "__main__":
    run_main(main)
