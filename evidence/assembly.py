"""All supports -> all samples and twins, in one process or in several.

Which of the built samples are kept is the script's choice (build_data.py).
"""

import contextlib
import multiprocessing
import random
import signal
from collections.abc import Iterator
from dataclasses import dataclass

from evidence.chunks import PagePool
from evidence.negatives import ranked_negatives
from evidence.samples import build_sample, build_twin
from evidence.splits import SPLITS
from evidence.support import Support
from evidence.withheld import Withheld, asked_alike, evidence_by_question
from utils.progress import track

# With fewer negatives than this, pages of the training samples may give some to val and test.
_FEW = 2


@dataclass(frozen=True)
class AssemblySettings:
    """How samples are assembled. `max_chunks`: most chunks per sample. `workers`: processes, for speed."""

    seed: int
    max_chunks: int
    workers: int = 1


@dataclass(frozen=True)
class _Assembly:
    """Everything that a worker needs to build the samples of one support.

    `banned_pages`: no negatives come from these. `never_pages`: not even where there are too few others.
    `by_question`: what answers a question of the user's own, in all rows that ask it.
    """

    supports: list[Support]
    groups: list[str]
    banned_pages: list[frozenset[str]]
    never_pages: list[frozenset[str]]
    by_question: dict[str, Withheld]
    pool: PagePool
    settings: AssemblySettings


# Shared with the workers through fork: sending each of them the page pool would copy all of it.
_JOB: list[_Assembly] = []


def _assemble(i: int) -> tuple[dict | str, dict | None]:
    """Sample (or the reason why there is none) and twin (None if there is none) of support `i`."""
    job = _JOB[-1]
    support = job.supports[i]
    # The seed and the id alone decide, so the output does not depend on the order or number of the workers.
    rng = random.Random(f"{job.settings.seed}:{support.record.id}")
    alike = asked_alike(support, job.by_question)
    ranked = ranked_negatives(support, job.pool, job.banned_pages[i], rng, alike)
    if len(ranked) < _FEW and job.never_pages[i] != job.banned_pages[i]:
        ranked = ranked_negatives(support, job.pool, job.never_pages[i], rng, alike)
    sample = build_sample(support, ranked, job.settings.max_chunks, job.groups[i], rng)
    if isinstance(sample, str) or not sample["answerable"]:
        return sample, None
    return sample, build_twin(support, sample, ranked, rng)


def _support_pages(supports: list[Support], splits: list[str]) -> dict[str, set[str]]:
    """By split, the pages that support its samples."""
    pages: dict[str, set[str]] = {split: set() for split in SPLITS}
    for support, split in zip(supports, splits):
        pages[split] |= support.pages
    return pages


def _pages_of_others(pages: dict[str, set[str]], split: str, free: tuple[str, ...] = ()) -> frozenset[str]:
    """The pages that support a sample of another split, `free` splits left out."""
    return frozenset().union(*(pages[other] for other in SPLITS if other not in (split, *free)))


def _start_worker() -> None:
    # `run_main` turns SIGTERM into KeyboardInterrupt, and workers inherit that. A worker that gets the signal
    # just before it waits for a lock would then wait forever, and the pool for it.
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    # Ctrl-C reaches every process of the terminal; the parent ends the others.
    signal.signal(signal.SIGINT, signal.SIG_IGN)


@contextlib.contextmanager
def start_workers(n_workers: int) -> Iterator:
    """A pool of forked processes that have ended when the block is left."""
    with multiprocessing.get_context("fork").Pool(n_workers, initializer=_start_worker) as workers:
        yield workers
        workers.close()
        workers.join()


def assemble(
    supports: list[Support],
    groups: list[str],
    split_of: dict[str, str],
    pool: PagePool,
    settings: AssemblySettings,
) -> list[tuple[dict | str, dict | None]]:
    """The result of `_assemble` for every support, in the order of `supports`.

    `groups`: the group name of each support. `split_of`: group name -> split.
    """
    splits = [split_of[group] for group in groups]
    pages = _support_pages(supports, splits)
    banned = {split: _pages_of_others(pages, split) for split in SPLITS}
    # In a small data set, nearly every page supports a sample of some split. Negatives of val and test may
    # then come from pages of train; nothing of val and test is ever shown in train.
    never = {split: _pages_of_others(pages, split, free=("train",)) for split in SPLITS}
    _JOB[:] = [
        _Assembly(
            supports=supports,
            groups=groups,
            banned_pages=[banned[split] for split in splits],
            never_pages=[never[split] for split in splits],
            by_question=evidence_by_question(supports, pool),
            pool=pool,
            settings=settings,
        )
    ]

    numbers = range(len(supports))
    if settings.workers > 1 and "fork" in multiprocessing.get_all_start_methods():
        with start_workers(settings.workers) as workers:
            found = workers.imap(_assemble, numbers, chunksize=16)
            return list(track(found, "assembling samples", "sample", len(numbers)))
    return list(track(map(_assemble, numbers), "assembling samples", "sample", len(numbers)))
