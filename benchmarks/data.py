"""How the data stage scales: FEVER-format zips of several sizes -> pages/s, queries/s and peak memory.

BM25 is compared with rank-bm25 and bm25s (`pip install rank-bm25 bm25s`; left out where they are missing).
Reads nothing; writes its zips into a temporary folder.

    python benchmarks/data.py
    python benchmarks/data.py --pages 50000,150000,500000 --queries 200
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks.process_memory import peak_mb

N_WORDS = 200_000
N_WANTED = 5_000
N_BEST = 40

# As many pages per member as the public zip has.
PAGES_PER_MEMBER = 50_000
WORDS_PER_SENTENCE = 18

COLUMNS = [
    "pages",
    "kept",
    "chunks",
    "pages/s",
    "read s",
    "index s",
    "queries/s",
    "memory before MB",
    "peak MB",
]

# A search of a batch of queries.
Search = Callable[[list[str]], object]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--pages", default="50000,150000,500000", help="comma-separated numbers of pages, one zip each")
    add("--queries", type=int, default=200, help="queries of the retrieval comparison")
    add("--pool", type=int, default=20_000, help="pages kept for negatives (max_pool_pages of the sources)")
    add("--one", metavar="ZIP", help="measure one zip in this process, print JSON (for the script itself)")
    return parser


def make_page(i: int, rng: np.random.Generator) -> dict:
    """A page of about 9 sentences of Zipf-distributed words, as in running text, in FEVER's format."""
    n_sentences = int(rng.integers(3, 16))
    words = rng.zipf(1.25, size=n_sentences * WORDS_PER_SENTENCE) % N_WORDS
    sentences = []
    for start in range(0, len(words), WORDS_PER_SENTENCE):
        part = words[start : start + WORDS_PER_SENTENCE]
        sentences.append(" ".join(f"w{word}" for word in part) + " .")
    lines = "\n".join(f"{k}\t{sentence}\tw1\tw2" for k, sentence in enumerate(sentences))
    return {"id": f"Page_w{words[0]}_{i}", "text": " ".join(sentences), "lines": lines}


def write_zip(path: Path, n_pages: int) -> None:
    rng = np.random.default_rng(0)
    # Level 1: the reader's speed hardly depends on the level, the writer's does.
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for start in range(0, n_pages, PAGES_PER_MEMBER):
            name = f"wiki-pages/wiki-{start // PAGES_PER_MEMBER:03d}.jsonl"
            with archive.open(name, "w", force_zip64=True) as member:
                for i in range(start, min(start + PAGES_PER_MEMBER, n_pages)):
                    member.write(json.dumps(make_page(i, rng)).encode() + b"\n")


def queries_of(chunks: list, n_queries: int) -> list[str]:
    """Questions of 10 words from random chunks."""
    rng = random.Random(0)
    return [" ".join(rng.sample(rng.choice(chunks).text.split(), 10)) for _ in range(n_queries)]


def measure(path: Path, n_pages: int, n_queries: int, max_pool: int) -> dict:
    """Read one zip as build_data.py does, index the kept pages, search them."""
    from evidence.chunks import PagePool
    from sources import fever
    from sources.wiki_pages import read_pages
    from utils.jsonl import raise_bad

    start_mb = peak_mb()
    started = time.perf_counter()
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
        wanted = {fever.page_title(json.loads(line)["id"]) for line, _ in zip(member, range(N_WANTED))}
    pages = read_pages(path, wanted, set(), max_pool, raise_bad)
    read_seconds = time.perf_counter() - started

    started = time.perf_counter()
    pool = PagePool(pages, 80)
    index_seconds = time.perf_counter() - started

    queries = queries_of(pool.chunks, n_queries)
    started = time.perf_counter()
    for query in queries:
        pool.search(query)
    search_seconds = time.perf_counter() - started

    # In the order of COLUMNS.
    return {
        "n_pages": n_pages,
        "n_kept": len(pages),
        "n_chunks": len(pool.chunks),
        "pages_per_s": n_pages / read_seconds,
        "read_s": read_seconds,
        "index_s": index_seconds,
        "queries_per_s": n_queries / search_seconds,
        "start_mb": start_mb,
        "peak_mb": peak_mb(),
    }


def rank_bm25_search(texts: list[list[str]]) -> Search | None:
    """rank-bm25 over the texts; None, with a note, if it is not installed."""
    from evidence.retrieval import terms_of

    try:
        from rank_bm25 import BM25Okapi
    except ImportError:
        print("rank-bm25 is not installed; left out", file=sys.stderr)
        return None
    index = BM25Okapi(texts)

    def search(batch: list[str]) -> list:
        return [np.argsort(index.get_scores(terms_of(query)))[::-1][:N_BEST] for query in batch]

    return search


def bm25s_search(texts: list[list[str]], backend: str) -> Search | None:
    """bm25s over the texts with a backend (numpy, numba); None, with a note, if it is not installed."""
    from evidence.retrieval import terms_of

    try:
        import bm25s

        index = bm25s.BM25(backend=backend)
        index.index(texts, show_progress=False)

        def search(batch: list[str]) -> object:
            return index.retrieve([terms_of(query) for query in batch], k=N_BEST, show_progress=False)

        # Numba compiles at the first search, which must not count; without Numba this is where it fails.
        search(["w1 w2"])
    except ImportError as error:
        print(f"bm25s with {backend}: {error}; left out", file=sys.stderr)
        return None
    return search


def compare_retrieval(path: Path, n_queries: int, max_pool: int) -> tuple[int, dict[str, float]]:
    """Number of chunks, and queries/s of the top 40 of them by system: the median of three rounds."""
    from evidence.chunks import PagePool
    from evidence.retrieval import terms_of
    from sources.wiki_pages import read_pages
    from utils.jsonl import raise_bad

    pool = PagePool(read_pages(path, set(), set(), max_pool, raise_bad), 80)
    texts = [terms_of(chunk.full_text) for chunk in pool.chunks]
    queries = queries_of(pool.chunks, n_queries)

    searches: dict[str, Search | None] = {
        "ours": lambda batch: [pool.search(query, N_BEST) for query in batch],
        "rank-bm25": rank_bm25_search(texts),
        "bm25s numpy": bm25s_search(texts, "numpy"),
        "bm25s numba": bm25s_search(texts, "numba"),
    }
    # rank-bm25 answers 4 queries per second: 20 are enough for a rate.
    batches = {name: queries[:20] if name == "rank-bm25" else queries for name in searches}

    # Round after round, so that a slow minute of the machine meets all systems.
    rates: dict[str, list[float]] = {name: [] for name, search in searches.items() if search}
    for _ in range(3):
        for name, found in rates.items():
            started = time.perf_counter()
            searches[name](batches[name])
            found.append(len(batches[name]) / (time.perf_counter() - started))
    return len(pool.chunks), {name: sorted(found)[1] for name, found in rates.items()}


def table_row(figures: dict) -> str:
    cells = [f"{value:,.0f}" if value > 50 else f"{value:.1f}" for value in figures.values()]
    return "| " + " | ".join(cells) + " |"


def main(args: argparse.Namespace) -> None:
    if args.one:
        name, n_pages = args.one.rsplit(":", 1)
        print(json.dumps(measure(Path(name), int(n_pages), args.queries, args.pool)))
        return

    print("| " + " | ".join(COLUMNS) + " |")
    print("|---" * len(COLUMNS) + "|")
    with tempfile.TemporaryDirectory() as folder:
        for n_pages in map(int, args.pages.split(",")):
            path = Path(folder) / f"{n_pages}.zip"
            write_zip(path, n_pages)
            # A separate process per size, so that a peak is that size's.
            flags = ["--one", f"{path}:{n_pages}", "--queries", str(args.queries), "--pool", str(args.pool)]
            command = [sys.executable, __file__, *flags]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            print(table_row(json.loads(done.stdout)), flush=True)
        n_chunks, rates = compare_retrieval(path, args.queries, args.pool)

    shown = ", ".join(f"{name} {rate:,.1f}" for name, rate in rates.items())
    print(f"\nqueries/s over {n_chunks:,} chunks, top {N_BEST}, one process: {shown}")


if __name__ == "__main__":
    main(build_parser().parse_args())
