"""The tables of a comparison over seeds, in Markdown: quality, leads, transfer sets, and an ablation.

Reads results files of evaluate_sft_fast_robust.py, one per training seed, and prints. Only means over seeds
are computed; all files of one flag must be of the same samples.

    python -m benchmarks.quality --results runs/s42/eval_results.json runs/s43/eval_results.json
    python -m benchmarks.quality --transfer runs/s42/eval_external.json runs/s43/eval_external.json
    python -m benchmarks.quality --ablation runs/ablation.jsonl

A row of the ablation file is one run: {"lever", "minutes", "results"}, where results is the path of a results
file, or in its place the figures: {"lever", "minutes", "em", "citations", "refusal_f1", "net"}. Rows with one
lever and minutes are the seeds of one line. "bar" and "aim" are what this project set itself (docs/log.md).
"""

import argparse
from pathlib import Path
from typing import NamedTuple

from evaluation.columns import format_interval, format_number
from evaluation.comparison import read_results
from evaluation.differing import file_contents
from evaluation.leads import is_above, leads_by_part
from evaluation.tables import all_models
from utils.config import input_path
from utils.errors import DataError, UsageError
from utils.json_values import is_number
from utils.jsonl import read_jsonl
from utils.startup import run_main

OPPONENTS = ("overlap_rule", "surface_model", "claim_only", "always_refuse", "base_fewshot")
# Printed beside the table: what a trained extractive reader of a similar size reaches with far more rows.
REFERENCE = (
    "For scale: a fully supervised 110 M encoder has EM 0.65 on NQ, 0.60 on HotpotQA and 0.73 on relation "
    "questions, with 75,000 training rows of each."
)


class Figure(NamedTuple):
    """A line of a table: its name, the metric, and what it should reach (None: no bar)."""

    name: str
    key: str
    bar: float | None = None
    aim: float | None = None


FIGURES = (
    Figure("EM on answerable", "em_answerable", 0.62, 0.70),
    Figure("exact citations", "citation_correctness", 0.78, 0.85),
    Figure("refusal F1", "refusal_f1", 0.85, 0.90),
    Figure("net score", "net_score"),
)
MACRO_EM = Figure("EM, mean of sources", "em_answerable", 0.50, 0.58)
# Source -> its figures. A claim without a verdict (a refusal) counts as wrong in em_answerable.
TRANSFER = {
    "fever_symmetric": (Figure("accuracy", "em_answerable", 0.65, 0.72), Figure("answered", "answered_rate")),
    "clapnq": (
        Figure("refusal F1", "refusal_f1", 0.65, 0.75),
        Figure("sentence-citation F1", "citation_f1", 0.40, 0.50),
    ),
    "fool_me_twice": (
        Figure("accuracy", "em_answerable"),
        Figure("citation F1", "citation_f1"),
        Figure("answered", "answered_rate"),
    ),
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--results", nargs="+", default=[], metavar="FILE", help="results files on the own test set")
    add("--transfer", nargs="+", default=[], metavar="FILE", help="results files on the external test sets")
    add("--ablation", metavar="FILE", help="JSONL file with one row per run")
    against = f"models that must be led, separated by commas (default: {','.join(OPPONENTS)})"
    add("--against", default=",".join(OPPONENTS), help=against)
    parts = "where the lead is shown: all and sources, separated by commas (default: all,fever)"
    add("--parts", default="all,fever", help=parts)
    return parser


# --- numbers over seeds


def over_seeds(values: list[float | None]) -> str:
    """Mean, lowest and highest as "0.620 (0.610 to 0.630)"; one value alone, `-` where a seed has none."""
    known = [value for value in values if value is not None]
    if len(known) < len(values) or not known:
        return "-"
    mean = format_number(sum(known) / len(known))
    return mean if len(known) == 1 else f"{mean} ({min(known):.3f} to {max(known):.3f})"


def markdown_table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _target(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def figure_row(name: str, figure: Figure, columns: list[list[float | None]]) -> list[str]:
    """Name, bar and aim, then mean and range of each column's values, one per seed."""
    return [name, _target(figure.bar), _target(figure.aim), *(over_seeds(values) for values in columns)]


# --- the files


def read_seeds(paths: list[str]) -> list[dict]:
    """The results files, each with an SFT model. DataError for files of other samples than the first."""
    runs = [read_results(input_path(path)) for path in paths]
    drawn = []
    if twice := [path for path in paths if paths.count(path) > 1]:
        raise UsageError(f"{twice[0]} is named twice; each file is the run of one seed")
    for path, results in zip(paths, runs):
        if "sft" not in results:
            raise DataError(f"{path}: no model named sft; name the results of a checkpoint")
        run = results["run"]
        limit = run["settings"].get("limit")
        draw = (file_contents(run, "test_data"), results["sft"]["n"], limit, run["seed"] if limit else None)
        drawn.append(draw)
        if draw != drawn[0]:
            raise DataError(
                f"{path}: evaluated other samples than {paths[0]} (test data, --limit or --seed differ); "
                "evaluate all seeds on the same samples"
            )
    return runs


def _of_sources(runs: list[dict]) -> list[str]:
    return list(runs[0]["by_source"])


# --- quality and leads


def quality_table(runs: list[dict]) -> str:
    """The headline figures over all samples and by source, and EM as a mean of sources."""
    sources = _of_sources(runs)
    rows = []
    for figure in FIGURES:
        columns = [[run["sft"][figure.key] for run in runs]]
        for source in sources:
            columns.append([run["by_source"][source]["sft"][figure.key] for run in runs])
        rows.append(figure_row(figure.name, figure, columns))
    macro = [[run["sft"]["macro"][MACRO_EM.key] for run in runs]]
    rows.insert(1, figure_row(MACRO_EM.name, MACRO_EM, macro) + [""] * len(sources))

    n = runs[0]["sft"]["n"]
    sizes = [f"{source} ({runs[0]['by_source'][source]['sft']['n']})" for source in sources]
    table = markdown_table(["", "bar", "aim", f"all ({n:,})", *sizes], rows)
    return f"{table}\n\n{len(runs)} seeds, mean (lowest to highest). {REFERENCE}"


def _lead(deltas: dict | None) -> str:
    if deltas is None or deltas["net_score"] is None:
        return "-"
    interval = format_interval(deltas["ci95"]["net_score"], sign=True)
    return f"{deltas['net_score']:+.3f} {interval}".strip()


def lead_rows_of(runs: list[dict], other: str, wanted: list[str]) -> list[list[str]]:
    """A row per part: the mean lead over another model, each seed's with its interval, and the verdict."""
    rows = []
    for part in wanted:
        # Of a file with one source, that source is a part too.
        found = [
            {**run.get("deltas_by_source", {}), **leads_by_part(run)}.get(part, {}).get(other) for run in runs
        ]
        known = [deltas for deltas in found if deltas is not None]
        if len(known) < len(found):
            rows.append([other, part, "-", *map(_lead, found), "not evaluated"])
            continue
        mean = over_seeds([deltas["net_score"] for deltas in known]).split(" ")[0]
        n_led = sum(map(is_above, known))
        rows.append(
            [
                other,
                part,
                mean,
                *map(_lead, found),
                "yes" if n_led == len(known) else f"{n_led} of {len(known)}",
            ]
        )
    return rows


def lead_table_of(runs: list[dict], opponents: list[str], wanted: list[str]) -> str:
    """Leads in net score over each opponent, per seed."""
    parts = ["all", *_of_sources(runs)]
    if unknown := [part for part in wanted if part not in parts]:
        raise UsageError(f"--parts {','.join(unknown)}: these results have {', '.join(parts)}")
    rows = []
    for other in opponents:
        rows += lead_rows_of(runs, other, wanted)
    seeds = [f"seed {i}" for i in range(1, len(runs) + 1)]
    table = markdown_table(["net score lead over", "on", "mean", *seeds, "all above 0"], rows)
    return f"{table}\n\nPaired 95% intervals; the last column counts the seeds whose interval is above 0."


# --- transfer


def transfer_rows(runs: list[dict], source: str, figures: tuple[Figure, ...]) -> list[list[str]]:
    """The figures of one external set, for the SFT model and for every other in the files."""
    models = runs[0]["by_source"][source]
    rows = []
    for figure in figures:
        columns = []
        for name in ("sft", *_others(runs)):
            columns.append([run["by_source"][source].get(name, {}).get(figure.key) for run in runs])
        rows.append(figure_row(f"{source} ({models['sft']['n']}): {figure.name}", figure, columns))
    return rows


def verdict_rows(runs: list[dict], source: str) -> list[list[str]]:
    """EM where each verdict is right: a model that always says one of them has 1 and 0."""
    rows = []
    for part, models in runs[0].get("slices", {}).get("verdict", {}).items():
        if not part.startswith(f"{source} "):
            continue
        columns = []
        for name in ("sft", *_others(runs)):
            verdicts = [run.get("slices", {}).get("verdict", {}) for run in runs]
            found = [parts.get(part, {}).get(name, {}) for parts in verdicts]
            columns.append([metrics.get("em_answerable") for metrics in found])
        rows.append(figure_row(f"{part} ({models['sft']['n']}): accuracy", Figure("", ""), columns))
    return rows


def _others(runs: list[dict]) -> list[str]:
    """The opponents that any file has, in their order."""
    known = set().union(*(all_models(run) for run in runs))
    return [name for name in OPPONENTS if name in known]


def transfer_table(runs: list[dict]) -> str:
    """The external test sets: nothing was trained on them."""
    rows = []
    for source, figures in TRANSFER.items():
        if source in runs[0]["by_source"]:
            rows += transfer_rows(runs, source, figures)
            rows += verdict_rows(runs, source)
    if not rows:
        raise DataError(f"--transfer: none of {', '.join(TRANSFER)} is a source of these results files")
    table = markdown_table(["", "bar", "aim", "sft", *_others(runs)], rows)
    return f"{table}\n\n{len(runs)} seeds, mean (lowest to highest). A refused claim counts as wrong."


# --- ablation

ABLATION = {
    "em": "em_answerable",
    "citations": "citation_correctness",
    "refusal_f1": "refusal_f1",
    "net": "net_score",
}


def _figures_of(row: dict, where: str) -> dict[str, float | None]:
    """The figures of a run: from its results file, or as the row has them."""
    if "results" in row:
        metrics = read_seeds([row["results"]])[0]["sft"]
        return {name: metrics[key] for name, key in ABLATION.items()}
    if missing := [name for name in ABLATION if not is_number(row.get(name))]:
        raise DataError(
            f"{where}: {', '.join(missing)} missing; give the figures, or results: a results file"
        )
    return {name: row[name] for name in ABLATION}


def ablation_table(path: Path) -> str:
    """A line per lever and minutes, in the file's order: the figures over its seeds, and their number."""
    lines: dict[tuple[str, float], list[dict]] = {}
    for number, row in read_jsonl(path):
        where = f"{path}:{number}"
        if not isinstance(row.get("lever"), str) or not is_number(row.get("minutes")):
            raise DataError(f"{where}: each run needs lever (a text) and minutes (a number)")
        lines.setdefault((row["lever"], row["minutes"]), []).append(_figures_of(row, where))
    if not lines:
        raise DataError(f"{path}: the file has no rows; each is one run (--help shows them)")
    rows = []
    for (lever, minutes), runs in lines.items():
        columns = [over_seeds([run[name] for run in runs]) for name in ABLATION]
        rows.append([lever, f"{minutes:g}", *columns, str(len(runs))])
    header = ["lever", "minutes", "EM on answerable", "exact citations", "refusal F1", "net score", "seeds"]
    return markdown_table(header, rows)


# --- the run


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    blocks = []
    if args.results:
        runs = read_seeds(args.results)
        blocks += [quality_table(runs), lead_table_of(runs, args.against.split(","), args.parts.split(","))]
    if args.transfer:
        blocks.append(transfer_table(read_seeds(args.transfer)))
    if args.ablation:
        blocks.append(ablation_table(input_path(args.ablation)))
    if not blocks:
        raise UsageError("name files with --results, --transfer or --ablation")
    print("\n\n".join(blocks))


if __name__ == "__main__":
    run_main(main)
