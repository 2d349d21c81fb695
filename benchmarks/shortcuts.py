"""What a processed folder's surface gives away: the probes of audit.json and the rules' metrics by source.

python -m benchmarks.shortcuts --processed-dir data/processed
"""

import argparse
from pathlib import Path

from evaluation.baselines import baseline_predictions, read_tuning
from evaluation.columns import format_number, format_table
from evaluation.results import by_model, score_rows
from evidence.shortcuts import measure_shortcuts
from utils.config import input_path
from utils.intervals import as_numbers, group_sums, total
from utils.metrics import rates_from_sums
from utils.schema import read_samples
from utils.startup import run_main

METRICS = ("em_answerable", "citation_f1", "refusal_f1", "hallucination_rate", "answered_rate", "net_score")


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--processed-dir", default="data/processed", help="folder of a build's samples")
    return parser


def _rates(rows: list[dict], samples: list[dict]) -> dict:
    terms, _ = score_rows(rows, samples)
    return as_numbers(rates_from_sums(total(group_sums(terms, [sample["id"] for sample in samples]))))


def rules_table(test_path: Path) -> str:
    """One row per rule and source, and one per rule over all sources."""
    samples = read_samples(test_path)
    rows = by_model(baseline_predictions(samples, *read_tuning(test_path)))
    cells = []
    for name in rows:
        for source in ["all", *sorted({sample["source"] for sample in samples})]:
            part = [sample for sample in samples if source in ("all", sample["source"])]
            rates = _rates(rows[name], part)
            cells.append(
                [f"{name} {source}", str(len(part)), *(format_number(rates[key]) for key in METRICS)]
            )
    return format_table(["", "n", *METRICS], cells)


def probes_table(folder: Path) -> str:
    """One row per source, guess and probe. Probes with too few samples are left out."""
    splits = {}
    for split in ("train", "val", "test"):
        path = folder / f"{split}.jsonl"
        splits[split] = read_samples(path) if path.is_file() else []
    shortcuts = measure_shortcuts(splits)
    cells = []
    for source, tasks in shortcuts["by_source"].items():
        for task, probes in tasks.items():
            for probe, found in (probes or {}).items():
                numbers = [format_number(found[key]) for key in ("score", "chance", "limit")]
                mark = "ABOVE" if found["above"] else ""
                cells.append([f"{source} {task} {probe}", str(found["n"]), *numbers, mark])
    return format_table([f"probes on {shortcuts['split']}", "n", "score", "chance", "limit", ""], cells)


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    folder = input_path(args.processed_dir)
    print(probes_table(folder), end="\n\n")
    print(rules_table(folder / "test.jsonl"))


if __name__ == "__main__":
    run_main(main)
