"""Records and page files -> evidence to search: the passages of each question, and the pool of pages.

It knows which pages are named, not which of them support an answer (evidence/support.py).
"""

import dataclasses
import functools
import heapq
import zlib
from collections.abc import Callable
from pathlib import Path

from evidence.chunks import PagePool
from evidence.paraphrase import names_in
from evidence.records import Passage, Record, told_apart
from sources import contexts, fever
from sources.files import SourceFiles
from sources.wiki_pages import read_pages

# Pages of one name, or of several names in a claim, that a NOT ENOUGH INFO claim gets at most.
_MAX_NAMED_PAGES = 4


def attach_evidence(
    records: list[Record], files: list[tuple[Path, dict]], on_bad: Callable[[str], None]
) -> list[Record]:
    """The records, each with the passages that the contexts files (DPR layout) have for its question.

    `on_bad` gets malformed rows of the files.
    """
    wanted = {contexts.question_key(record.question) for record in records}
    by_question: dict[str, list[Passage]] = {}
    for path, _ in files:
        for key, found in contexts.read_contexts(path, wanted, on_bad).items():
            by_question.setdefault(key, []).extend(found)

    attached = []
    for record in records:
        found = by_question.get(contexts.question_key(record.question), [])
        passages = told_apart([*record.passages, *found])
        attached.append(dataclasses.replace(record, passages=passages))
    return attached


def _lowest_hashes(titles: list[str], n: int) -> set[str]:
    """The `n` titles with the lowest hashes (0 = all): a sample that does not depend on the file order."""
    if not n or len(titles) <= n:
        return set(titles)
    return set(heapq.nsmallest(n, titles, key=lambda title: (zlib.crc32(title.encode("utf-8")), title)))


def read_page_pool(
    files: dict[str, SourceFiles],
    records: list[Record],
    max_pool: int,
    max_words: int,
    on_bad: Callable[..., None],
) -> PagePool:
    """The pages that records name, others for negatives, and the pages of passages, cut into chunks.

    Of the others and of the passages' pages, at most `max_pool` each are kept (0: none of the others, all
    of the passages' pages). `on_bad(problem, name=source)` gets malformed rows.
    """
    wanted = {title for record in records for title in record.page_titles}
    claims = [record.metadata["claim"] for record in records if "claim" in record.metadata]
    keys = fever.named_titles(claims)

    pages: dict[str, list[str]] = {}
    for name in files:
        for path, _ in files[name]["pages"]:
            pages |= read_pages(path, wanted, keys, max_pool, functools.partial(on_bad, name=name))

    # Passages of other pages serve the searches of all records.
    distinct: dict[str, Passage] = {}
    for record in records:
        for passage in record.passages:
            if passage.title not in pages:
                distinct.setdefault(passage.text_key, passage)
    # An untitled passage is a page of its own.
    pages_of = {key: passage.leak_page for key, passage in distinct.items()}
    kept = _lowest_hashes(list(dict.fromkeys(pages_of.values())), max_pool)
    return PagePool(pages, max_words, [distinct[key] for key, page in pages_of.items() if page in kept])


def _pages_named_in(claim: str, titles_by_key: dict[str, list[str]]) -> tuple[str, ...]:
    """Titles of the pages that a claim names, those with the longest names first."""
    keys = fever.named_titles([claim]) & titles_by_key.keys()
    titles: list[str] = []
    for key in sorted(keys, key=lambda key: (-len(key.split()), key)):
        titles += titles_by_key[key]
    return tuple(titles[:_MAX_NAMED_PAGES])


def name_pages(records: list[Record], pool: PagePool) -> list[Record]:
    """The records, with NOT ENOUGH INFO claims given the pages and names that occur in them.

    FEVER annotates no evidence for these claims, so their text is all there is to find related pages with.
    """
    titles_by_key: dict[str, list[str]] = {}
    for title in pool.by_title:
        titles_by_key.setdefault(fever.title_key(title), []).append(title)

    named = []
    for record in records:
        if record.source == "fever" and not record.answerable:
            claim = record.metadata["claim"]
            titles = _pages_named_in(claim, titles_by_key)
            record = dataclasses.replace(record, page_titles=titles, names=names_in(claim))
        named.append(record)
    return named
