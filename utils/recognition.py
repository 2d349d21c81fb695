"""Tells what a file is, and stops a reader at a file of another kind with one line that names it.

It looks at the first bytes and keys only, so a file that it lets pass may still have bad rows.
"""

import gzip
import json
import zlib
from pathlib import Path

import yaml

from utils import file_kinds
from utils.errors import DataError
from utils.file_kinds import CONFIGS, DOCUMENTS, EXPECTED, MARKED_ROWS, ROWS, SIGNATURES, FileKind
from utils.input_files import unreadable_reason
from utils.yaml_reading import load_yaml

# Enough for the first row of any file of the pipeline.
_HEAD_BYTES = 1 << 18
# A JSON document is parsed as a whole to see its keys. A larger one is no file of this pipeline.
_MAX_DOCUMENT_BYTES = 64 << 20
_MAX_YAML_HEAD = 8 << 10


def signature_kind(head: bytes) -> FileKind | None:
    """The kind of a file that is not text, from its first bytes; None for text."""
    # torch.save writes a zip file with a pickle in it.
    if head.startswith(b"PK") and b"data.pkl" in head[:1024]:
        return file_kinds.PICKLE
    for signature, kind in SIGNATURES:
        if head.startswith(signature):
            return kind
    if head[257:262] == b"ustar":
        return file_kinds.TAR
    # Eight bytes with the length of the JSON header, which follows.
    if head[8:10] in (b'{"', b"{ ") and int.from_bytes(head[:8], "little") < 1 << 28:
        return file_kinds.SAFETENSORS
    # UTF-16 has a mark that is no UTF-8, or a zero byte beside each ASCII character.
    if head.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in head[:2]:
        return file_kinds.UTF16
    if head[:15].lower().startswith((b"<!doctype html", b"<html")):
        return file_kinds.PAGE
    return None


def _read(path: Path, n_bytes: int) -> bytes:
    """The first bytes of a file, unpacked if it is a gzip; what can be read of a damaged one."""
    with open(path, "rb") as handle:
        raw = handle.read(n_bytes)
    if not raw.startswith(b"\x1f\x8b"):
        return raw
    try:
        with gzip.open(path, "rb") as unpacked:
            return unpacked.read(n_bytes)
    # The reader reports the damage, with the place.
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return b""


def _first(kinds: tuple[FileKind, ...], keys: set[str]) -> FileKind | None:
    return next((kind for kind in kinds if kind.keys <= keys), None)


def _row_kind(row: dict, expected: str) -> FileKind | None:
    """The kind of a row. Of several it is the expected one: a row may have more keys than its stage reads."""
    wanted = [kind for kind in ROWS if kind.name == expected][:1]
    return _first((*MARKED_ROWS, *wanted, *ROWS, *DOCUMENTS), set(row))


def config_kind(config: dict, expected: str = "") -> FileKind | None:
    """The stage that a YAML config belongs to, by the keys that only this stage has; None without any.

    A config that fits several stages equally is taken for the `expected` one.
    """
    keys = set(map(str, config))
    best = max(CONFIGS, key=lambda kind: (len(kind.keys & keys), kind.name == expected))
    return best if best.keys & keys else None


def _json_kind(path: Path, text: str, expected: str) -> FileKind | None:
    """The kind of a file that starts like JSON; None for unknown or damaged JSON."""
    first_line = text.lstrip().split("\n", 1)[0]
    try:
        value = json.loads(first_line)
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return _row_kind(value, expected)
    try:
        whole = _read(path, _MAX_DOCUMENT_BYTES).decode("utf-8-sig").strip()
        document = json.loads(whole)
    except (ValueError, RecursionError):
        return None
    if isinstance(document, dict):
        # One row that is longer than the head.
        if "\n" not in whole:
            return _row_kind(document, expected)
        # Where a document is expected, its reader says which keys it lacks.
        unknown = None if any(kind.name == expected for kind in DOCUMENTS) else file_kinds.OBJECT
        return _first(DOCUMENTS, set(document)) or unknown
    is_of_rows = isinstance(document, list) and document and isinstance(document[0], dict)
    return file_kinds.LIST if is_of_rows else None


def _is_table(text: str) -> bool:
    lines = text.splitlines()[:3]
    counts = {tuple(line.count(mark) for mark in ",\t;") for line in lines}
    return len(lines) > 1 and len(counts) == 1 and max(counts.pop()) > 0


def _text_kind(text: str) -> FileKind:
    """The kind of a text that is not JSON."""
    if text.lstrip().startswith("<"):
        return file_kinds.XML
    if "{question}" in text and "{evidence}" in text:
        return file_kinds.TEMPLATE
    if text.startswith(("#!", "import ", "from ", '"""')):
        return file_kinds.PROGRAM
    # Of a long text the first lines: YAML is read slowly.
    if len(text) > _MAX_YAML_HEAD:
        text = text[:_MAX_YAML_HEAD].rpartition("\n")[0]
    try:
        value, _ = load_yaml(text)
    except (yaml.YAMLError, ValueError, RecursionError):
        value = None
    if isinstance(value, dict):
        return config_kind(value) or file_kinds.YAML
    return file_kinds.TABLE if _is_table(text) else file_kinds.TEXT


def kind_of(path: Path, expected: str = "") -> FileKind | None:
    """What the file is. None for an empty file and for JSON of no known kind.

    A file that can be of several kinds is taken for the `expected` one.
    """
    head = _read(path, _HEAD_BYTES)
    if kind := signature_kind(head):
        return kind
    # The last character may be cut in the middle.
    text = head.decode("utf-8-sig", errors="replace").lstrip()
    if not text:
        return None
    return _json_kind(path, text, expected) if text[0] in "{[" else _text_kind(text)


def check_kind(path: Path, expected: str) -> None:
    """DataError for a path that is no file, or plainly one of another kind than `expected` (see EXPECTED)."""
    if reason := unreadable_reason(path):
        raise DataError(f"{path}: {reason}")
    kind = kind_of(path, expected)
    if kind and kind.name != expected:
        raise DataError(f"{path}: found {kind.what}, expected {EXPECTED[expected]}; {kind.remedy}")
