"""Bytes of a file -> its kind and its text. What is no document is named as what it is.

It knows encodings and signatures, not what is inside a text.
"""

import codecs
import re
import unicodedata
from pathlib import PurePath

from utils.errors import DataError, UsageError

KIND_OF_SUFFIX = {
    **dict.fromkeys((".txt", ".text", ".rst", ""), "text"),
    **dict.fromkeys((".md", ".markdown"), "markdown"),
    **dict.fromkeys((".html", ".htm", ".xhtml"), "html"),
    ".pdf": "pdf",
}
READ_KINDS = "txt, md, html or pdf"

# Larger files are rather dumps than documents; reading one would take minutes and gigabytes.
MAX_BYTES = 50 << 20

# Text is told from binary data by the share of control characters among its first ones: random bytes read as
# Windows-1252 have 10%.
_N_LOOKED_AT = 4096
_MAX_CONTROLS = 0.05

_NOT_OF_DOCUMENTS = {"idna", "punycode", "raw-unicode-escape", "undefined", "unicode-escape"}

# The first bytes of what people take for documents. UTF-32 comes first: its mark begins like that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_SIGNATURES = (
    (b"PK\x03\x04", "a zip archive or an office document (docx, odt, epub)"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xd0\xcf\x11\xe0", "an old office document (doc, xls)"),
    (b"{\\rtf", "a rich text file (rtf)"),
    (b"\x89PNG", "an image (png)"),
    (b"\xff\xd8\xff", "an image (jpeg)"),
    (b"SQLite format 3", "a database"),
)
_HTML_START = re.compile(rb"\s*<(!doctype html|html)\b", re.IGNORECASE)
_META_CHARSET = re.compile(
    rb"<(?:meta[^>]{0,200}?charset|\?xml[^>]{0,200}?encoding)\s*=\s*[\"']?([\w.:-]+)", re.IGNORECASE
)


def kind_of(name: str, data: bytes) -> str:
    """ "text", "markdown", "html" or "pdf". DataError, one line, for anything else."""
    if len(data) > MAX_BYTES:
        raise DataError(f"{name}: over the limit of {MAX_BYTES >> 20} MB; split it")
    if data.startswith(b"%PDF-"):
        return "pdf"
    for signature, what in _SIGNATURES:
        if data.startswith(signature):
            raise DataError(f"{name}: is {what}, which is not read; save it as {READ_KINDS}")
    suffix = PurePath(name).suffix.lower()
    kind = KIND_OF_SUFFIX.get(suffix)
    if kind is None:
        raise DataError(f"{name}: {suffix} files are not read; save it as {READ_KINDS}")
    if kind == "pdf":
        raise DataError(f"{name}: is named .pdf but does not begin like a PDF; export it again")
    # A page that came through a pipe, or was saved under another name.
    return "html" if kind == "text" and _HTML_START.match(data) else kind


def _is_encoding(name: str) -> bool:
    """Whether Python knows an encoding, and it is one that a document can have."""
    try:
        info = codecs.lookup(name)
    except (LookupError, ValueError):
        return False
    # Python's own, such as escapes in its source, are slow or raise errors of other kinds.
    return info._is_text_encoding and info.name.replace("_", "-") not in _NOT_OF_DOCUMENTS


def check_encoding(name: str | None) -> None:
    """UsageError for an encoding that no document has, or that Python does not know."""
    if name and not _is_encoding(name):
        raise UsageError(
            f"--encoding {name}: no encoding of text is named {name}; "
            "write for example utf-8, cp1252 or shift_jis"
        )


def _candidates(data: bytes, kind: str, given: str | None) -> list[str]:
    """The encodings to try, the likeliest first. `given`: what the user says of files that are not UTF-8."""
    for mark, encoding in _MARKS:
        if data.startswith(mark):
            return [encoding]
    if given:
        # Encodings of 7 bits, such as ISO-2022-JP, are valid UTF-8 and something else.
        return [given] if data.isascii() else ["utf-8", given]
    # Without a mark, the zero bytes of western text in UTF-16 are all at odd or all at even places.
    n_odd = data[1::2].count(0)
    n_even = data[::2].count(0)
    if max(n_odd, n_even) > 0.4 * len(data) / 2 and len(data) % 2 == 0:
        return ["utf-16-le" if n_odd > n_even else "utf-16-be"]
    if n_odd or n_even:
        return []
    found = _META_CHARSET.search(data[:4096]) if kind == "html" else None
    named = found.group(1).decode("ascii") if found else "utf-8"
    return ["utf-8", *([named] if _is_encoding(named) else []), "cp1252", "latin-1"]


def decode(name: str, data: bytes, kind: str, encoding: str | None = None) -> tuple[str, str]:
    """(text, encoding used); line ends stay as they are. DataError for binary data and for half a file.

    A byte order mark decides, then UTF-8, then `encoding`, what the user says it is; without it the page's
    own charset and Windows-1252.
    """
    for candidate in _candidates(data, kind, encoding):
        try:
            text = data.decode(candidate)
            # UTF-7 can name half a character, which could be neither shown nor given to a model.
            text.encode("utf-8")
        except UnicodeError:
            continue
        # Almost any bytes are "valid" in a one-byte encoding.
        if candidate == encoding or _share_of_controls(text[:_N_LOOKED_AT]) < _MAX_CONTROLS:
            return text, candidate
    if encoding:
        raise DataError(f"{name}: is not valid {encoding}; give another --encoding or save it as UTF-8")
    raise DataError(f"{name}: is binary, not text; save it as {READ_KINDS}")


def _share_of_controls(text: str) -> float:
    """The share (0-1) of control characters that are no white space."""
    n_controls = sum(unicodedata.category(char) == "Cc" and not char.isspace() for char in text)
    return n_controls / max(len(text), 1)
