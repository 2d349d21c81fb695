"""NQ-Open and PopQA from wiki pages alone: speed, memory and correctness of the one pass over the pages.

The pool of pages is made by wiki_pool.py from the real records (FACTUALITY_REAL_DATA).

    python benchmarks/wiki_stream.py --supports 50 --seed 7
    python benchmarks/wiki_stream.py --speed --pages 50000,500000 --before ../old
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from process_memory import peak_mb
from wiki_pool import write_zip

FULL_PAGES = 5_416_537
# About as many pages as the real records have; they are part of the numbers of pages asked for.
N_REAL = 13_000
QUESTION_FILES = {"nq_open": "nq/NQ-open.dev.jsonl", "popqa": "popqa/popQA.tsv"}

ROOT = Path(__file__).resolve().parent.parent
# Another checkout of the project can be measured with this script.
sys.path.insert(0, os.environ.get("WIKI_STREAM_TREE", str(ROOT)))


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--others", type=int, default=200_000, help="other pages among the real ones")
    add("--source", default="nq_open", choices=tuple(QUESTION_FILES), help="whose questions are asked")
    add("--supports", type=int, default=50, help="supports to print for a check by hand")
    add("--seed", type=int, default=7, help="decides which supports are printed")
    add("--speed", action="store_true", help="measure pages/s and memory in place of correctness")
    add("--pages", default="50000,500000", help="comma-separated numbers of pages for --speed")
    add("--questions", type=int, default=2500, help="questions in flight for --speed")
    add("--rounds", type=int, default=3, help="rounds of --speed; the median is shown")
    add("--before", metavar="DIR", help="an older checkout, whose reader is measured beside this one")
    add(
        "--one", nargs=2, metavar=("ZIP", "N"), help="measure one zip in this process (for the script itself)"
    )
    return parser


# --- correctness


def gold_titles(folder: Path) -> dict[str, str]:
    """Question key -> title of the gold page, for the NQ questions that have one in the pool."""
    from sources.contexts import question_key
    from utils.jsonl import read_jsonl

    rows = read_jsonl(folder / "nq/nq-open-oracle.jsonl")
    return {question_key(row["question"]): row["ctxs"][0]["title"] for _, row in rows}


def check_supports(args: argparse.Namespace, folder: Path, zip_path: Path) -> None:
    """Print how many questions become answerable, and a random sample of their supports."""
    from evidence.support import find_support
    from sources import reader_of
    from sources.contexts import question_key
    from sources.pages import read_page_pool
    from utils.jsonl import raise_bad

    records = list(reader_of(args.source)(folder / QUESTION_FILES[args.source], "any", raise_bad))
    files = {args.source: {"records": [], "contexts": [], "pages": [(zip_path, {})]}}
    records, pool = read_page_pool(files, records, 20_000, 80, lambda problem, name: raise_bad(problem))

    drops: Counter[str] = Counter()
    supports = []
    for record in records:
        found = find_support(record, pool)
        if isinstance(found, str):
            drops[found] += 1
        else:
            supports.append(found)
    gold = gold_titles(folder)
    asked = [record for record in records if question_key(record.question) in gold]
    answered = [s for s in supports if question_key(s.record.question) in gold]
    on_gold = [s for s in answered if s.sets[0][0].title == gold[question_key(s.record.question)]]
    print(f"{len(records):,} questions, {len(supports):,} answerable; dropped: {dict(drops)}")
    if asked:
        share = len(answered) / len(asked)
        print(f"{len(asked):,} have their gold page in the pool, {len(answered):,} of them are answerable")
        print(f"({share:.1%}), {len(on_gold):,} by the gold page")

    supports.sort(key=lambda support: support.record.id)
    for i, s in enumerate(random.Random(args.seed).sample(supports, min(args.supports, len(supports)))):
        chunk = s.sets[0][0]
        print(f"\n{i + 1}. {s.record.question} | {list(s.aliases)[:4]}\n   [{chunk.title}] {chunk.text}")


# --- speed


def measure(zip_path: Path, n_questions: int, folder: Path) -> dict[str, float]:
    """Seconds and peak memory of reading one zip, with a pool of 20,000 pages, for so many questions."""
    from sources import nq_open, popqa
    from sources.wiki_pages import read_pages
    from utils.jsonl import raise_bad

    search = []
    started = time.perf_counter()
    cpu_started = time.process_time()
    if n_questions:
        from sources.page_search import PageSearch
        from sources.wiki_pages import sample_texts

        records = list(nq_open.read_records(folder / QUESTION_FILES["nq_open"], "any", raise_bad))
        records += popqa.read_records(folder / QUESTION_FILES["popqa"], "any", raise_bad)
        search = [PageSearch([record.question for record in records[:n_questions]])]
        search[0].learn(sample_texts([zip_path]))
    # Claims name pages by key in every build with FEVER.
    read_pages(zip_path, set(), {"no such title"}, 20_000, raise_bad, *search)
    if search:
        search[0].finish()
    return {
        "seconds": time.perf_counter() - started,
        "cpu_seconds": time.process_time() - cpu_started,
        "peak_mb": peak_mb(),
    }


def in_process(zip_path: Path, n_questions: int, tree: str) -> dict[str, float]:
    """`measure` in a process of its own, so that a peak is that run's."""
    command = [sys.executable, __file__, "--one", str(zip_path), str(n_questions)]
    environment = {**os.environ, "WIKI_STREAM_TREE": tree, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return json.loads(done.stdout)


def median_of(runs: list[dict[str, float]], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def compare_speed(args: argparse.Namespace, folder: Path) -> None:
    """Print the cost per page with and without questions, by number of pages: medians of rounds in turn."""
    print("| pages | reader | cpu us/page | wall us/page | peak MB | 5.4 M pages, cpu minutes |")
    print("|---|---|---|---|---|---|")
    runs = {"no questions": (0, str(ROOT)), f"{args.questions:,} questions": (args.questions, str(ROOT))}
    if args.before:
        runs = {"before": (0, args.before), **runs}
    for n_wanted in map(int, args.pages.split(",")):
        with tempfile.TemporaryDirectory() as scratch:
            zip_path = Path(scratch) / "wiki-pages.zip"
            n_pages = write_zip(zip_path, folder, n_wanted - N_REAL)
            rounds: dict[str, list[dict]] = {name: [] for name in runs}
            for _ in range(args.rounds):
                for name, (n_questions, tree) in runs.items():
                    rounds[name].append(in_process(zip_path, n_questions, tree))
        for name, found in rounds.items():
            cpu = 1e6 * median_of(found, "cpu_seconds") / n_pages
            wall = 1e6 * median_of(found, "seconds") / n_pages
            peak = median_of(found, "peak_mb")
            full = cpu * FULL_PAGES / 60e6
            cells = [f"{n_pages:,}", name, f"{cpu:.1f}", f"{wall:.1f}", f"{peak:,.0f}", f"{full:.1f}"]
            print(f"| {' | '.join(cells)} |", flush=True)


def main(args: argparse.Namespace) -> None:
    folder = Path(os.environ.get("FACTUALITY_REAL_DATA", ROOT.parent / "shared/realdata"))
    if args.one:
        print(json.dumps(measure(Path(args.one[0]), int(args.one[1]), folder)))
    elif args.speed:
        compare_speed(args, folder)
    else:
        with tempfile.TemporaryDirectory() as scratch:
            zip_path = Path(scratch) / "wiki-pages.zip"
            write_zip(zip_path, folder, args.others)
            check_supports(args, folder, zip_path)


if __name__ == "__main__":
    main(build_parser().parse_args())
