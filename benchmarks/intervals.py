"""How long figures with intervals take: samples of a file repeated to a number, made-up predictions of several models, everything that a results file holds.

python -m benchmarks.intervals --test-data data/processed/test.jsonl
python -m benchmarks.intervals --test-data data/processed/test.jsonl --samples 1000,5000,20000
"""

import argparse
import time

import numpy as np

from evaluation.baselines import baseline_predictions
from evaluation.results import score_all, score_rows
from evaluation.tables import format_table
from utils.completions import render_completion
from utils.config import input_path
from utils.errors import run_main
from utils.intervals import confidence_intervals, draw_counts, paired_deltas, with_intervals
from utils.schema import read_samples
from utils.scoring import is_right_answer


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--test-data", required=True, help="sample file whose rows are repeated")
    parser.add_argument("--samples", default="1000,5000", help="numbers of samples, with commas between")
    return parser


def repeated(samples: list[dict], n: int) -> list[dict]:
    """`n` samples in groups of about two."""
    return [
        {
            **samples[i % len(samples)],
            "id": f"{samples[i % len(samples)]['source']}:{i}",
            "group": str(i // 2),
        }
        for i in range(n)
    ]


def made_up(samples: list[dict], model: str, rng: np.random.Generator) -> list[dict]:
    confidence = rng.integers(0, 101, len(samples)) / 100
    cited = rng.integers(0, 3, len(samples))
    answers = [
        s["answer"] if right else "something else"
        for s, right in zip(samples, rng.random(len(samples)) < 0.6)
    ]
    return [
        {"id": s["id"], "model": model, "completion": render_completion(a, [int(c)], float(f))}
        for s, a, c, f in zip(samples, answers, cited, confidence)
    ]


def measure(samples: list[dict], rng: np.random.Generator) -> list[str]:
    """[samples, resamples, seconds of the intervals of one model, of a paired difference, of a whole results object with five models]."""
    rows = {name: made_up(samples, name, rng) for name in ("sft", "base")}
    groups = [s["group"] for s in samples]
    seed = int(rng.integers(1 << 30))
    (terms, parsed), (other, _) = score_rows(rows["sft"], samples), score_rows(rows["base"], samples)
    right = [is_right_answer(p, s) for p, s in zip(parsed, samples)]
    clock = [time.perf_counter()]
    with_intervals(terms, groups, seed)
    confidence_intervals([p.confidence if p.is_answer else None for p in parsed], right, groups, seed)
    clock.append(time.perf_counter())
    paired_deltas(terms, other, groups, seed)
    clock.append(time.perf_counter())
    baselines = baseline_predictions(samples, [])
    clock.append(time.perf_counter())
    score_all(rows["sft"] + rows["base"] + baselines, samples, seed + 1)
    clock.append(time.perf_counter())
    n_resamples = draw_counts(len(set(groups)), seed).shape[0]
    return [
        f"{len(samples):,}",
        f"{n_resamples:,}",
        *(f"{after - before:.2f}" for before, after in zip(clock, clock[1:])),
    ]


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    samples = read_samples(input_path(args.test_data))
    rng = np.random.default_rng(0)
    rows = [measure(repeated(samples, int(n)), rng) for n in args.samples.split(",")]
    header = [
        "samples",
        "resamples",
        "one model's figures s",
        "a paired difference s",
        "baselines' answers s",
        "whole results, 5 models s",
    ]
    print(format_table(header, rows))


if __name__ == "__main__":
    run_main(main)
