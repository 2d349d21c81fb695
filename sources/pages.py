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
from sources.page_search import PageSearch
from sources.wiki_pages import KeptPages, page_sentences, sample_texts
from utils.runs import note

TWO_TEXTS = "gold page is there twice with different text"

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


def _start_search(records: list[Record], paths: list[Path]) -> tuple[list[Record], PageSearch | None]:
    """The records that have to find their evidence in the pages, and the search for it; None without any."""
    open_records = [record for record in records if not record.has_evidence]
    if not open_records or not paths:
        return [], None
    search = PageSearch([record.question for record in open_records])
    search.learn(sample_texts(paths))
    return open_records, search


def _with_found_pages(
    records: list[Record], open_records: list[Record], search: PageSearch | None
) -> list[Record]:
    """The records, with the pages that the search found for the open ones as their passages."""
    if not search:
        return records
    titles, lines_of = search.finish()
    # One object per page: many questions share a page.
    passages = {title: Passage(title, tuple(page_sentences(lines))) for title, lines in lines_of.items()}
    found = {}
    for record, titles_of_record in zip(open_records, titles):
        found[record.id] = tuple(passages[title] for title in titles_of_record)
    return [dataclasses.replace(record, passages=found.get(record.id, record.passages)) for record in records]


def _with_doubt(records: list[Record], two_texts: set[str]) -> list[Record]:
    """The records, with a doubt about those whose gold is on a page that the files have with two texts."""
    if not two_texts:
        return records
    what = "the first text of each is used, and rows with gold on it are dropped"
    note(f"pages that are there twice with different text: {len(two_texts)} ({min(two_texts)!r}); {what}")
    doubted = []
    for record in records:
        gold = {page for pairs in record.gold_sets for page, _ in pairs}
        # Gold on a passage of the row itself does not mean the page.
        if not two_texts.isdisjoint(gold.intersection(record.page_titles)):
            record = dataclasses.replace(record, doubt=record.doubt or TWO_TEXTS)
        doubted.append(record)
    return doubted


def read_page_pool(
    files: dict[str, SourceFiles],
    records: list[Record],
    max_pool: int,
    max_words: int,
    on_bad: Callable[..., None],
) -> tuple[list[Record], PagePool]:
    """The records with evidence from the pages, and a pool of pages, cut into chunks.

    Records without any evidence get the pages that are nearest to their question as passages. The pool
    consists of the pages that records name, others for negatives, and the pages of passages. Of the others
    and of the passages' pages, at most `max_pool` each are kept (0: none of the others, all of the passages'
    pages). `on_bad(problem, name=source)` gets malformed rows.
    """
    wanted = {title for record in records for title in record.page_titles}
    claims = [record.metadata["claim"] for record in records if record.is_claim]
    keys = fever.named_titles(claims)

    paths = {path: name for name in files for path, _ in files[name]["pages"]}
    open_records, search = _start_search(records, list(paths))
    kept = KeptPages(wanted, keys, max_pool, search)
    for path, name in paths.items():
        kept.read(path, functools.partial(on_bad, name=name))
    pages = kept.by_title
    records = _with_doubt(_with_found_pages(records, open_records, search), kept.two_texts)

    # Passages of other pages serve the searches of all records.
    distinct: dict[str, Passage] = {}
    for record in records:
        for passage in record.passages:
            if passage.title not in pages:
                distinct.setdefault(passage.text_key, passage)
    # An untitled passage is a page of its own.
    pages_of = {key: passage.leak_page for key, passage in distinct.items()}
    lowest = _lowest_hashes(list(dict.fromkeys(pages_of.values())), max_pool)
    chosen = [distinct[key] for key, page in pages_of.items() if page in lowest]
    return records, PagePool(pages, max_words, chosen)


def _pages_named_in(claim: str, titles_by_key: dict[str, list[str]]) -> tuple[str, ...]:
    """Titles of the pages that a claim names, those with the longest names first."""
    keys = fever.named_titles([claim]) & titles_by_key.keys()
    titles: list[str] = []
    for key in sorted(keys, key=lambda key: (-len(key.split()), key)):
        titles += titles_by_key[key]
    return tuple(titles[:_MAX_NAMED_PAGES])


def name_pages(records: list[Record], pool: PagePool) -> list[Record]:
    """The records, with claims given the pages that they name.

    FEVER annotates no evidence for NOT ENOUGH INFO claims, so their text is all there is to find pages with.
    The pages that other claims name beside the annotated ones serve as negatives.
    """
    titles_by_key: dict[str, list[str]] = {}
    for title in pool.by_title:
        titles_by_key.setdefault(fever.title_key(title), []).append(title)

    named = []
    for record in records:
        if record.is_claim:
            claim = record.metadata["claim"]
            titles = _pages_named_in(claim, titles_by_key)
            if record.answerable:
                related = tuple(title for title in titles if title not in record.page_titles)
                record = dataclasses.replace(record, related_titles=related)
            else:
                record = dataclasses.replace(record, page_titles=titles, names=names_in(claim))
        named.append(record)
    return named
