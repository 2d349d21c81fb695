"""FEVER's wiki pages: a zip of JSONL members (or one plain file of rows) -> sentences by page title.

Each line: {"id", "text", "lines": "0<TAB>sentence<TAB>links...<NEWLINE>1<TAB>..."}. The zip is streamed
once and never unpacked; it unpacks from 1.7 GB to about 7 GB. Searching the pages is the work of
page_search.py and of the page pool.
"""

import functools
import heapq
import io
import itertools
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, cast

from sources.fever import page_title, title_key, unescape
from sources.fields import field, text
from sources.json_list import all_rows, never_empty
from sources.page_search import PageSearch
from utils.errors import DataError
from utils.jsonl import read_objects
from utils.progress import open_watched

# Bounds against zip bombs, far above the public zip, which unpacks to about 4 times its size.
_MAX_UNPACKED_BYTES = 64 << 30
_MAX_RATIO = 100

_BLOCK_BYTES = 1 << 20

# Lines with a higher number are damage: a list of that many sentences would fill memory.
_MAX_LINES = 10_000

# Pages that tell how rare a word is: a word in 1 of 10,000 is rare enough to find its page with.
_N_SAMPLED = 10_000


def _jsonl_members(archive: zipfile.ZipFile, path: Path) -> list[zipfile.ZipInfo]:
    """The members to read, in the order of their names; DataError for a zip that unpacks to far too much."""
    members = []
    for member in archive.infolist():
        # macOS adds a folder of metadata with the same file names.
        if member.filename.lower().endswith(".jsonl") and not member.filename.startswith("__MACOSX"):
            members.append(member)
    if not members:
        found = ", ".join(archive.namelist()[:3])
        raise DataError(
            f"{path}: no .jsonl file in the zip, only {found or 'nothing'}; pack the pages as JSON lines"
        )
    if sum(member.file_size for member in members) > _MAX_UNPACKED_BYTES:
        raise DataError(f"{path}: unpacks to over {_MAX_UNPACKED_BYTES >> 30} GB; not a FEVER zip")
    return sorted(members, key=lambda member: member.filename)


def _read_rows(
    path: Path, on_bad: Callable[[str], None], n_sampled: int | None = None
) -> Iterator[tuple[str, dict]]:
    """(`file:line`, row) of every page, streamed; nothing is extracted. DataError for a damaged zip.

    With `n_sampled`, that many pages at most: the first ones of every member, as many of each.
    """
    if path.suffix.lower() != ".zip":
        yield from itertools.islice(all_rows(path, on_bad), n_sampled)
        return
    try:
        with open_watched(path) as packed, zipfile.ZipFile(packed) as archive:
            members = _jsonl_members(archive, path)
            n_of_member = n_sampled and max(n_sampled // max(len(members), 1), 1)
            for member in members:
                # A small member counts as 64 KB, since a few repetitive rows may be packed to almost nothing.
                if member.file_size > _MAX_RATIO * max(member.compress_size, 1 << 16):
                    growth = f"unpacks to {_MAX_RATIO} times its size"
                    raise DataError(f"{path}: member {member.filename} {growth}; not a FEVER zip")
                # A name is only ever shown, never opened as a path, so `../` in it does nothing.
                with archive.open(member) as raw:
                    # A ZipExtFile's own `readline` is Python: a quarter of the whole pass.
                    lines = cast(IO[bytes], io.BufferedReader(raw, _BLOCK_BYTES))
                    name = f"{path}/{member.filename}"
                    for number, row in itertools.islice(read_objects(lines, name, on_bad), n_of_member):
                        yield f"{name}:{number}", row
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise DataError(
            f"{path}: damaged zip ({error}); delete it and run again to download it again"
        ) from error


class _Pool:
    """The pages with the lowest title hashes, whatever the order of the file."""

    def __init__(self, max_pages: int):
        self.max_pages = max_pages
        # A heap whose first item has the highest hash, since that one has to go first.
        self._heap: list[tuple[int, str, str]] = []

    def offer(self, title: str, lines: str) -> None:
        """Keep the page if it is among the `max_pages` lowest so far."""
        # A page without a tab has no sentences.
        if not self.max_pages or "\t" not in lines:
            return
        item = (-zlib.crc32(title.encode("utf-8")), title, lines)
        if len(self._heap) < self.max_pages:
            heapq.heappush(self._heap, item)
        elif item[0] > self._heap[0][0]:
            heapq.heapreplace(self._heap, item)

    def pages(self) -> dict[str, list[str]]:
        """Title -> sentences of the kept pages that have any, in the order of their hashes."""
        found = {title: page_sentences(lines) for _, title, lines in sorted(self._heap, reverse=True)}
        return {title: sentences for title, sentences in found.items() if any(sentences)}


def _text_of(row: dict) -> str:
    """The text that a page is searched by: "text", or "lines" where there is none."""
    text = row.get("text")
    return text if isinstance(text, str) and text else row["lines"]


def sample_texts(paths: list[Path]) -> Iterator[str]:
    """The texts of about `_N_SAMPLED` pages from all parts of the files. Broken rows are left out."""
    for path in paths:
        # `KeptPages` reports the broken rows.
        for _, row in _read_rows(path, lambda problem: None, _N_SAMPLED // len(paths)):
            if isinstance(row.get("lines"), str):
                yield _text_of(row)


class KeptPages:
    """The pages of all files that rows name, and of each file a pool of `max_pool` others.

    `by_title`: title -> sentences, where the index is the FEVER line number (missing lines are empty).
    `two_texts`: titles that are there with another text too. The first one is kept: which text the line
    numbers of gold sets mean, nobody knows. `search` is offered every page.
    """

    def __init__(
        self, wanted: set[str], wanted_keys: set[str], max_pool: int, search: PageSearch | None = None
    ):
        self.by_title: dict[str, list[str]] = {}
        self.two_texts: set[str] = set()
        self._wanted = wanted
        self._wanted_keys = wanted_keys
        self._max_pool = max_pool
        self._search = search

    def read(self, path: Path, on_bad: Callable[[str], None]) -> None:
        """One pass over the pages of a file; `on_bad` gets malformed rows."""
        pool = _Pool(self._max_pool)
        for where, row in never_empty(path, on_bad, functools.partial(_read_rows, path), "pages"):
            try:
                title = page_title(text(field(row, "id"), "id"))
                lines = text(field(row, "lines"), "lines")
            except ValueError as error:
                on_bad(f"{where}: not a wiki page: {error}")
                continue
            # The public zip has one page without a name.
            if not title:
                continue
            key = title_key(title)
            if self._search:
                self._search.offer(title, key, _text_of(row), lines)
            if title in self._wanted or key in self._wanted_keys:
                self._keep(title, page_sentences(lines))
            else:
                # Kept as text: most pages are pushed out again, and splitting all of them would take longest.
                pool.offer(title, lines)
        for title, sentences in pool.pages().items():
            self.by_title.setdefault(title, sentences)

    def _keep(self, title: str, sentences: list[str]) -> None:
        """Keep the first text of a page. A page without any text says nothing else than one that has some."""
        known = self.by_title.get(title, [])
        if not any(known):
            self.by_title[title] = sentences
        elif any(sentences) and sentences != known:
            self.two_texts.add(title)


def read_pages(
    path: Path,
    wanted: set[str],
    wanted_keys: set[str],
    max_pool: int,
    on_bad: Callable[[str], None],
    search: PageSearch | None = None,
) -> dict[str, list[str]]:
    """The pages of one file, as `KeptPages` has them: title -> sentences by FEVER line number."""
    kept = KeptPages(wanted, wanted_keys, max_pool, search)
    kept.read(path, on_bad)
    return kept.by_title


def page_sentences(lines: str) -> list[str]:
    """`number<TAB>sentence<TAB>links...` lines -> sentences by number.

    Lines that break the pattern belong to the links of a sentence and are skipped.
    """
    numbered = {}
    for line in lines.split("\n"):
        number, tab, rest = line.partition("\t")
        if tab and number.isascii() and number.isdigit() and int(number) < _MAX_LINES:
            numbered[int(number)] = unescape(rest.split("\t")[0])
    return [numbered.get(i, "") for i in range(max(numbered, default=-1) + 1)]
