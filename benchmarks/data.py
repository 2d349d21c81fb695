"""How the evidence builder scales: FEVER-format zips of several sizes -> pages/s, queries/s, peak memory; BM25 beside rank-bm25 and bm25s.

Reads nothing; writes its zips into a temporary folder. `pip install rank-bm25 bm25s` for the comparison (left out where they are missing).

    python benchmarks/data.py
    python benchmarks/data.py --pages 50000,150000,500000 --queries 200
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

N_WORDS = 200_000
N_WANTED = 5_000


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pages", default="50000,150000,500000", help="comma-separated sizes")
    parser.add_argument("--queries", type=int, default=200, help="queries of the retrieval comparison")
    parser.add_argument(
        "--pool",
        type=int,
        default=20_000,
        help="pages kept for negatives (max_pool_pages of the sources config)",
    )
    parser.add_argument(
        "--one",
        metavar="ZIP",
        help="measure one zip in this process and print JSON (used by the script itself)",
    )
    return parser


def write_zip(path: Path, n_pages: int) -> None:
    """A zip of pages with about 9 sentences of Zipf-distributed words, as many pages a member as the public one has."""
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for start in range(0, n_pages, 50_000):
            with archive.open(
                f"wiki-pages/wiki-{start // 50_000:03d}.jsonl", "w", force_zip64=True
            ) as member:
                for i in range(start, min(start + 50_000, n_pages)):
                    n_sentences = int(rng.integers(3, 16))
                    words = rng.zipf(1.25, size=n_sentences * 18) % N_WORDS
                    sentences = [
                        " ".join(f"w{word}" for word in words[k * 18 : k * 18 + 18]) + " ."
                        for k in range(n_sentences)
                    ]
                    lines = "\n".join(f"{k}\t{sentence}\tw1\tw2" for k, sentence in enumerate(sentences))
                    row = {"id": f"Page_w{words[0]}_{i}", "text": " ".join(sentences), "lines": lines}
                    member.write(json.dumps(row).encode() + b"\n")


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def queries_of(chunks, n_queries: int) -> list[str]:
    """Questions of 10 words from random chunks."""
    rng = random.Random(0)
    return [" ".join(rng.sample(rng.choice(chunks).text.split(), 10)) for _ in range(n_queries)]


def measure(path: Path, n_pages: int, n_queries: int, max_pool: int) -> dict:
    """Read one zip as build_data.py does, index the kept pages, search them."""
    from evidence.chunks import PagePool
    from sources import fever, wiki_pages
    from utils.jsonl import raise_bad

    start_mb = peak_mb()
    started = time.perf_counter()
    with zipfile.ZipFile(path) as archive, archive.open(archive.namelist()[0]) as member:
        wanted = {fever.page_title(json.loads(line)["id"]) for line, _ in zip(member, range(N_WANTED))}
    pages = wiki_pages.read_pages(path, wanted, set(), max_pool, raise_bad)
    read_seconds = time.perf_counter() - started
    started = time.perf_counter()
    pool = PagePool(pages, 80)
    index_seconds = time.perf_counter() - started
    queries = queries_of(pool.chunks, n_queries)
    started = time.perf_counter()
    for query in queries:
        pool.search(query)
    search_seconds = time.perf_counter() - started
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


def compare_retrieval(path: Path, n_queries: int, max_pool: int) -> dict[str, float]:
    """Queries/s of the top 40 on one pool: ours, rank-bm25, bm25s (NumPy and Numba backends), three rounds each, the median."""
    from evidence.chunks import PagePool
    from evidence.retrieval import terms_of
    from sources import wiki_pages
    from utils.jsonl import raise_bad

    pool = PagePool(wiki_pages.read_pages(path, set(), set(), max_pool, raise_bad), 80)
    texts = [terms_of(chunk.full_text) for chunk in pool.chunks]
    queries = queries_of(pool.chunks, n_queries)
    searches = {"ours": (lambda batch: [pool.search(query, 40) for query in batch], n_queries)}
    try:
        from rank_bm25 import BM25Okapi

        ranked = BM25Okapi(texts)
        searches["rank-bm25"] = (
            lambda batch: [np.argsort(ranked.get_scores(terms_of(query)))[::-1][:40] for query in batch],
            min(n_queries, 20),
        )
    except ImportError:
        print("rank-bm25 is not installed; left out", file=sys.stderr)
    try:
        import bm25s

        for backend in ("numpy", "numba"):
            try:
                index = bm25s.BM25(backend=backend)
                index.index(texts, show_progress=False)

                def found(batch, index=index):
                    return index.retrieve([terms_of(query) for query in batch], k=40, show_progress=False)

                found(queries[:2])
                searches[f"bm25s {backend}"] = (found, n_queries)
            except ImportError as error:
                print(f"bm25s {backend}: {error}; left out", file=sys.stderr)
    except ImportError:
        print("bm25s is not installed; left out", file=sys.stderr)
    rates: dict[str, list[float]] = {name: [] for name in searches}
    for _ in range(3):
        for name, (search, n) in searches.items():
            started = time.perf_counter()
            search(queries[:n])
            rates[name].append(n / (time.perf_counter() - started))
    return {"n_chunks": len(pool.chunks)} | {name: sorted(values)[1] for name, values in rates.items()}


def main(args: argparse.Namespace) -> None:
    if args.one:
        name, n_pages = args.one.rsplit(":", 1)
        print(json.dumps(measure(Path(name), int(n_pages), args.queries, args.pool)))
        return
    with tempfile.TemporaryDirectory() as folder:
        print(
            "| pages | kept | chunks | pages/s | read s | index s | queries/s | memory before MB | peak MB |\n|---|---|---|---|---|---|---|---|---|"
        )
        for n_pages in map(int, args.pages.split(",")):
            path = Path(folder) / f"{n_pages}.zip"
            write_zip(path, n_pages)
            # A process of its own for each size, so that a peak is that size's.
            flags = ["--one", f"{path}:{n_pages}", "--queries", str(args.queries), "--pool", str(args.pool)]
            row = json.loads(
                subprocess.run(
                    [sys.executable, __file__, *flags], check=True, stdout=subprocess.PIPE, text=True
                ).stdout
            )
            print(
                "| "
                + " | ".join(f"{row[key]:,.0f}" if row[key] > 50 else f"{row[key]:.1f}" for key in row)
                + " |",
                flush=True,
            )
        rates = compare_retrieval(path, args.queries, args.pool)
        print(
            f"\nqueries/s over {rates.pop('n_chunks'):,} chunks, top 40, one process: "
            + ", ".join(f"{name} {rate:,.1f}" for name, rate in rates.items())
        )


if __name__ == "__main__":
    main(build_parser().parse_args())
