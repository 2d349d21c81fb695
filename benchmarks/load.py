"""How time and memory grow with the number of samples, from reading to the cache of features.

    python -m benchmarks.load --test-data data/processed/test.jsonl
    python -m benchmarks.load --test-data data/processed/test.jsonl --samples 25000,50000,200000

The rows of a sample file are repeated, with invented predictions, candidates and features; no model runs.
Each step runs in a process of its own, and its memory is what it took beyond what that process began with.
"""

import argparse
import functools
import math
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.device import forget_peak
from benchmarks.intervals import invented, repeated
from evaluation.columns import format_table
from evaluation.results import score_all
from make_prefs import choose_pairs
from models.peak_memory import peak_memory_gb
from preferences.feature_store import FeatureStore, row_key
from preferences.judges import JUDGES
from preferences.kinds import match_forms
from preferences.pairing import Pairing, collect_pairs
from preferences.pairs import interval, pair_metrics, split_groups, style_check
from preferences.rows import preference_stats
from utils.completions import gold_completion, parse_completion, render_completion
from utils.config import input_path
from utils.errors import StageError, UsageError
from utils.jsonl import write_jsonl
from utils.schema import read_preferences, read_samples
from utils.startup import run_main

HEADER = ["step", "rows", "seconds", "GB", "kB per row"]
_N_FEATURES = 256
_ROWS_PER_FILE = 128
_SPLIT = {"seed": 1, "val_fraction": 0.15, "test_fraction": 0.15}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--test-data", required=True, help="sample file whose rows are repeated")
    parser.add_argument(
        "--samples", default="25000,50000", help="numbers of samples, separated by commas (25000,50000)"
    )
    parser.add_argument("--steps", default=",".join(STEPS), help="steps, separated by commas (default: all)")
    return parser


# --- what is invented


def predictions_of(samples: list[dict], model: str, rng: np.random.Generator) -> list[dict]:
    """Prediction rows with a probability, so that nearly every answer has one of its own."""
    rows = invented(samples, model, rng)
    for row, probability in zip(rows, rng.random(len(rows))):
        row["probability"] = float(probability)
    return rows


def candidates_of(samples: list[dict], rng: np.random.Generator) -> list[tuple[dict, list[dict]]]:
    """Three different candidates per sample: the gold completion, a wrong answer, and a refusal or a list."""
    jobs = []
    for sample, confidence in zip(samples, rng.random(len(samples))):
        shown = list(range(len(sample["evidence_chunks"])))
        wrong = render_completion("a wrong answer"[: 2 + int(12 * confidence)], [1], round(confidence, 2))
        texts = [gold_completion(sample, shown), wrong, "no JSON at all"]
        rows = [
            {"id": sample["id"], "n": n, "model": "sft", "shown": shown, "completion": text}
            for n, text in enumerate(texts)
        ]
        jobs.append((sample, rows))
    return jobs


# --- the steps: each is given samples, a folder and random numbers, and returns what it times, and its rows

Timed = tuple[Callable[[], object], int]


def reading(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    path = folder / "samples.jsonl"
    write_jsonl(path, samples)
    n_rows = len(samples)
    # What was invented is no memory of the reader.
    samples.clear()
    return lambda: read_samples(path), n_rows


def parsing(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    texts = [row["completion"] for row in invented(samples, "sft", rng)]

    def parse() -> None:
        for text in texts:
            parse_completion(text, 5)

    return parse, len(texts)


def scoring(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    rows = predictions_of(samples, "sft", rng) + predictions_of(samples, "base", rng)
    knots = np.linspace(0, 1, 11).tolist()
    isotonic = {"x": knots, "y": knots, "n": 100}
    return lambda: score_all(rows, samples, 1, None, isotonic), len(samples)


def pairing(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    jobs = candidates_of(samples, rng)
    judge = JUDGES["verifier"]
    settings = Pairing(0.2, "standard", 2, True, 0.1, 1)

    choose = functools.partial(choose_pairs, min_margin=0.2)

    def make() -> None:
        judgements = {row["id"]: row for row in judge.judge(jobs, None)}
        rows, drops, _ = collect_pairs(jobs, judgements, judge, settings, choose, lambda judged: "prompt")
        style_check(rows, 1)
        preference_stats(rows, list(judgements.values()), len(jobs), drops)
        write_jsonl(folder / "preferences.jsonl", rows)
        read_preferences(folder / "preferences.jsonl")

    return make, len(jobs)


def matching(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    # Chosen answers are longer by three characters, so few pairs are mirror images of another.
    lengths = rng.normal(40, 15, size=(len(samples), 2)).astype(int).clip(3)
    forms = []
    for chosen, rejected in lengths:
        first = (int(chosen) + 33, int(chosen) + 3, 1, 90, 0, 1)
        forms.append((first, (int(rejected) + 30, int(rejected), 1, 90, 0, 1)))
    return lambda: match_forms(forms), len(forms)


def reward_metrics(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    pairs = [{"group": sample["group"]} for sample in samples]
    scores = rng.normal(size=(2, len(samples)))

    def measure() -> None:
        test = split_groups(pairs, _SPLIT)["test"]
        chosen = scores[0, test] + 0.5
        rejected = scores[1, test]
        pair_metrics(chosen, rejected)
        interval(chosen, rejected, [pairs[i]["group"] for i in test], 1)

    return measure, len(pairs)


def features(samples: list[dict], folder: Path, rng: np.random.Generator) -> Timed:
    rows = []
    for sample in samples:
        text = render_completion(sample["answer"], [1], 0.5)
        keys = ("id", "question", "evidence_chunks")
        rows.append({name: sample[name] for name in keys} | {"completion": f"{text} {sample['id']}"})
    samples.clear()

    def fill_and_read() -> None:
        store = FeatureStore(folder)
        keys = [row_key(row) for row in rows]
        for start in range(0, len(keys), _ROWS_PER_FILE):
            own = keys[start : start + _ROWS_PER_FILE]
            store.add(own, {"features": torch.zeros(len(own), _N_FEATURES), "n_tokens": torch.ones(len(own))})
        FeatureStore(folder).read(keys)

    return fill_and_read, len(rows)


STEPS = {
    "schema": reading,
    "parse": parsing,
    "metrics": scoring,
    "preferences": pairing,
    "equal forms": matching,
    "reward metrics": reward_metrics,
    "feature cache": features,
}


# --- the run


def measure(name: str, path: Path, n: int, answers) -> None:
    """Run a step; puts (rows, seconds, GB beyond what was there before) into the queue `answers`."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        timed, n_rows = STEPS[name](repeated(read_samples(path), n), Path(folder), rng)
        forget_peak()
        before = peak_memory_gb() or 0.0
        started = time.perf_counter()
        timed()
        seconds = time.perf_counter() - started
        answers.put((n_rows, seconds, (peak_memory_gb() or 0.0) - before))


def measured(name: str, path: Path, n: int) -> tuple[int, float, float]:
    """`measure` in a process of its own."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    process = context.Process(target=measure, args=(name, path, n, answers))
    process.start()
    process.join()
    if process.exitcode:
        return n, float("nan"), float("nan")
    return answers.get()


def chosen_steps(text: str) -> list[str]:
    """The names in a list with commas. UsageError for one that no step has."""
    names = text.split(",")
    for name in names:
        if name not in STEPS:
            raise UsageError(f"--steps: no step {name!r}; known: {', '.join(STEPS)}")
    return names


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    names = chosen_steps(args.steps)
    path = input_path(args.test_data)
    table = []
    failed = []
    for name in names:
        for n in map(int, args.samples.split(",")):
            n_rows, seconds, peak = measured(name, path, n)
            per_row = f"{peak * 1e6 / n_rows:.1f}"
            if math.isnan(seconds):
                failed.append(f"{name} at {n:,}")
            table.append([name, f"{n_rows:,}", f"{seconds:.1f}", f"{peak:.2f}", per_row])
    print(format_table(HEADER, table))
    if failed:
        raise StageError(f"these steps ended without a result (see above): {', '.join(failed)}")


if __name__ == "__main__":
    run_main(main)
