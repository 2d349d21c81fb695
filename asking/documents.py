"""Files, folders and stdin -> documents: text in sections, with the place of every word in the file.

A folder is read as far as it can be: what is left out is said in one line per file. A file that was named is
read, or it is an error.
"""

import hashlib
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from asking.decoding import MAX_BYTES, READ_KINDS, decode, kind_of
from asking.evidence_files import files_below, find_evidence
from asking.markdown import markdown_blocks
from asking.markup import Block, html_blocks, text_blocks
from asking.pdf import pdf_texts
from utils.errors import DataError, StageError
from utils.runs import note

STDIN = "-"
_BLOCKS_OF = {"text": text_blocks, "markdown": markdown_blocks, "html": html_blocks}
# Fallbacks for files that are not UTF-8: any file reads as one of these, so the reader should know.
GUESSES = ("cp1252", "latin-1")
# A paragraph takes some hundred bytes of memory, however short it is.
_MAX_PARTS = 2_000_000


@dataclass(frozen=True)
class Page:
    """A page of a PDF, or a whole file of another kind. `source`: its text, into which offsets point."""

    source: str = field(repr=False)
    blocks: list[Block] = field(repr=False)
    # From 1; None where the document has no pages.
    number: int | None = None

    def line_of(self, offset: int) -> int:
        """The number of the line, from 1, that an offset is on."""
        before = self.source[:offset]
        # A Windows line end counts once, an old Mac's counts too.
        return 1 + before.count("\n") + before.replace("\r\n", "").count("\r")


@dataclass(frozen=True)
class Document:
    """A document as it was read. `path`: where it can be read again, None for stdin and for what was sent."""

    name: str
    kind: str
    pages: list[Page] = field(repr=False)
    path: Path | None = None
    encoding: str | None = None
    # Of the file's bytes: equal bytes are equal documents, and need no second reading.
    sha256: str = ""

    @property
    def n_words(self) -> int:
        return sum(len(block.words.texts) for page in self.pages for block in page.blocks)

    def read_again(self, page: Page) -> Page | None:
        """A page as the file has it now; the page itself if there is no file, None if it cannot be read."""
        if self.path is None:
            return page
        try:
            data = _read_bytes(self.path)
            if hashlib.sha256(data).hexdigest() == self.sha256:
                return page
            fresh = read_document(self.name, data, None, self.encoding)
        except (OSError, StageError):
            return None
        same = [other for other in fresh.pages if other.number == page.number]
        return same[0] if same else None


def _pdf_pages(name: str, data: bytes) -> list[Page]:
    texts = pdf_texts(name, data)
    _check_parts(name, sum(map(_n_line_ends, texts)))
    return [Page(text, text_blocks(text), number) for number, text in enumerate(texts, 1)]


def read_document(name: str, data: bytes, path: Path | None = None, encoding: str | None = None) -> Document:
    """The document in these bytes. One-line StageError if it is no document, or has no text."""
    kind = kind_of(name, data)
    used = None
    if kind == "pdf":
        pages = _pdf_pages(name, data)
    else:
        source, used = decode(name, data, kind, encoding)
        n_tags = source.count("<") if kind == "html" else 0
        _check_parts(name, _n_line_ends(source) + n_tags)
        pages = [Page(source, _BLOCKS_OF[kind](source))]
    if not any(block.level == 0 for page in pages for block in page.blocks):
        # A file of headings alone has no text that could be cited, so its headings are the text.
        pages = [Page(page.source, _flattened(page.blocks), page.number) for page in pages]
    document = Document(name, kind, pages, path, used, hashlib.sha256(data).hexdigest())
    if not document.n_words:
        scan = "; a scanned PDF needs OCR first" if kind == "pdf" else ""
        raise DataError(f"{name}: there is no text in it{scan}")
    return document


def _n_line_ends(text: str) -> int:
    # Those of Windows are two characters.
    return text.count("\n") + text.count("\r") - text.count("\r\n")


def _check_parts(name: str, n_parts: int) -> None:
    """DataError for a text of so many lines, or a page of so many tags, that its paragraphs fill memory."""
    if n_parts > _MAX_PARTS:
        raise DataError(f"{name}: over the limit of {_MAX_PARTS:,} lines and tags; split it")


def _flattened(blocks: list[Block]) -> list[Block]:
    return [Block(block.words) for block in blocks]


def _read_bytes(path: Path) -> bytes:
    """The bytes of a file; of one that is too large so many that `kind_of` says so."""
    with open(path, "rb") as handle:
        return handle.read(MAX_BYTES + 1)


def _read_file(path: Path, say: Callable[[str], None], encoding: str | None) -> Document:
    # A pipe (`<(command)`) can be read only once.
    again = path if path.is_file() else None
    try:
        data = _read_bytes(path)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from error
    document = read_document(str(path), data, again, encoding)
    if document.encoding in GUESSES and not encoding:
        say(f"{path}: not UTF-8, read as {document.encoding}; name another one with --encoding")
    return document


def _read_folder(folder: Path, say: Callable[[str], None], encoding: str | None) -> list[Document]:
    documents = []
    for path in files_below(folder, say):
        try:
            documents.append(_read_file(path, say, encoding))
        except StageError as error:
            say(f"skipped {error}")
    if not documents:
        raise DataError(f"{folder}: no document that can be read; put {READ_KINDS} files into it")
    return documents


def _read_stdin(encoding: str | None) -> Document:
    if sys.stdin is None:
        raise DataError("--evidence -: standard input is closed; pipe the text in, or give a file")
    return read_document("stdin", sys.stdin.buffer.read(MAX_BYTES + 1), encoding=encoding)


def read_documents(
    paths: Iterable[str], say: Callable[[str], None] = note, encoding: str | None = None
) -> list[Document]:
    """The documents of files, folders and `-` (stdin), each once. `say` gets one line per thing left out.

    DataError for a path that is missing, is no document or contains none; StageError if a library is missing.
    """
    documents: dict[str, Document] = {}
    for name in paths:
        if name == STDIN:
            found = [_read_stdin(encoding)]
        else:
            path = find_evidence(name)
            found = _read_folder(path, say, encoding) if path.is_dir() else [_read_file(path, say, encoding)]
        for document in found:
            documents.setdefault(str(document.path.resolve() if document.path else document.name), document)
    return list(documents.values())
