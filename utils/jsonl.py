"""Files that are complete or absent: JSONL and JSON in and out, atomic writes, hashes.

JSON is read strictly (`utils/strict_json.py`). This module knows nothing about what a row means;
`utils/schema.py` has the rules.
"""

import codecs
import contextlib
import gzip
import hashlib
import json
import math
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO, cast

from utils.atomic import atomic_write, disk_errors_named, sync_file
from utils.errors import DataError
from utils.file_kinds import UTF16
from utils.input_files import unreadable_reason
from utils.progress import open_watched
from utils.recognition import signature_kind
from utils.strict_json import OLD_LINE_ENDS, parse_json, several_values

# The longest line of the real sources is under 2 MB. One over this limit is no row: its rest is skipped.
MAX_LINE_BYTES = 16 << 20
_BLOCK_BYTES = 1 << 20
# Of a packed JSON document, which is read as a whole: a few MB can unpack to more than fits the memory.
_MAX_UNPACKED_BYTES = 256 << 20


def raise_bad(problem: str) -> None:
    """The default `on_bad`: stop. A caller that counts bad rows and continues hands in its own."""
    raise DataError(problem)


def _is_gzip(path: Path) -> bool:
    with open(path, "rb") as handle:
        return path.suffix == ".gz" or handle.read(2) == b"\x1f\x8b"


@contextlib.contextmanager
def open_bytes(path: str | Path) -> Iterator[IO[bytes]]:
    """A file as bytes, unpacked if it is a gzip by name or content. DataError if it is missing or damaged."""
    path = Path(path)
    if reason := unreadable_reason(path):
        raise DataError(f"{path}: {reason}")
    try:
        with open_watched(path) as raw:
            # GzipFile has the methods of IO[bytes] that are used here, but typeshed does not say so.
            yield cast(IO[bytes], gzip.GzipFile(fileobj=raw)) if _is_gzip(path) else raw
    # A truncated gzip raises only at its end, so the error comes from wherever the caller is reading.
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path}: damaged gzip ({error}); download it again, or take .gz off its name if it is not packed"
        ) from error


def _skip_rest_of_line(handle: IO[bytes]) -> None:
    while block := handle.readline(_BLOCK_BYTES):
        if block.endswith(b"\n"):
            return


def without_mark(raw: bytes, name: str) -> bytes:
    """A file's first line without its byte order mark. DataError for a file that is no UTF-8 text."""
    kind = signature_kind(raw)
    if kind is UTF16:
        raise DataError(f"{name}:1: {kind.what}, found {raw[:4]!r}; {kind.remedy}")
    if kind:
        raise DataError(f"{name}: {kind.what}, which is not read here; {kind.remedy}")
    return raw.removeprefix(codecs.BOM_UTF8)


def read_lines(handle: IO[bytes], name: str, on_bad: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of the lines that are not blank.

    A line that is too long or is not UTF-8 goes to `on_bad` as a message with file and line.
    """
    number = 0
    while raw := handle.readline(MAX_LINE_BYTES + 1):
        number += 1
        if number == 1:
            raw = without_mark(raw, name)
        if len(raw) > MAX_LINE_BYTES:
            if not raw.endswith(b"\n"):
                _skip_rest_of_line(handle)
            if b"}\r{" in raw:
                raise DataError(f"{name}:{number}: {OLD_LINE_ENDS}")
            limit = f"{MAX_LINE_BYTES >> 20} MB"
            on_bad(f"{name}:{number}: line over {limit}; the file is damaged or has another format")
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            on_bad(f"{name}:{number}: not UTF-8 ({error}); convert the file to UTF-8 or remove the line")
            continue
        if text.strip():
            yield number, text


def read_objects(handle: IO[bytes], name: str, on_bad: Callable[[str], None]) -> Iterator[tuple[int, dict]]:
    """(line number from 1, row). What is no object goes to `on_bad`; DataError for a line with several."""
    for number, text in read_lines(handle, name, on_bad):
        try:
            row = parse_json(text)
        except ValueError as error:
            # Counted as one bad row, the others of the line would be lost silently.
            if several := several_values(text):
                raise DataError(f"{name}:{number}: {several}") from error
            on_bad(f"{name}:{number}: not a JSON object ({error}); rebuild the file or remove the line")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            on_bad(f"{name}:{number}: expected a JSON object, found {type(row).__name__}")


def read_jsonl(path: str | Path, on_bad: Callable[[str], None] = raise_bad) -> Iterator[tuple[int, dict]]:
    """(line number from 1, row) of a .jsonl or .jsonl.gz file. Bad lines go to `on_bad`, not blank ones."""
    with open_bytes(path) as handle:
        yield from read_objects(handle, str(path), on_bad)


def read_json(path: str | Path):
    """The value in a .json or .json.gz file. DataError if it is missing or not valid JSON."""
    with open_bytes(path) as handle:
        raw = handle.read(_MAX_UNPACKED_BYTES + 1)
        # What is not packed has the size that the disk shows.
        if len(raw) > _MAX_UNPACKED_BYTES and isinstance(handle, gzip.GzipFile):
            limit = f"{_MAX_UNPACKED_BYTES >> 20} MB"
            raise DataError(
                f"{path}: unpacks to over {limit}; no packed JSON document of a stage is so large"
            )
        raw += handle.read()
    try:
        return parse_json(raw.decode("utf-8-sig"))
    # UnicodeDecodeError is a ValueError too.
    except ValueError as error:
        raise DataError(
            f"{path}: not valid JSON ({error}); repair it, or delete it and rerun the stage that writes it"
        ) from error


def read_json_object(path: str | Path) -> dict:
    """`read_json` of a file that contains one object. DataError for any other value."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise DataError(f"{path}: expected a JSON object, found {value!r:.60}; delete it and rerun the stage")
    return value


def dump_row(row: dict) -> str:
    """The row as one line of JSON, without the line's end. ValueError for NaN and infinity."""
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


def write_text(path: str | Path, text: str) -> None:
    with atomic_write(path) as handle:
        handle.write(text)


def finite(value: float | None) -> float | None:
    """None for infinity and not-a-number, which JSON cannot express."""
    return value if value is not None and math.isfinite(value) else None


def write_json(path: str | Path, value) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2, allow_nan=False) + "\n")


def write_jsonl(path: str | Path, rows: Iterable[dict]) -> int:
    """Write all rows or nothing. Returns their number."""
    n_rows = 0
    with atomic_write(path) as handle:
        for row in rows:
            handle.write(dump_row(row) + "\n")
            n_rows += 1
    return n_rows


def append_jsonl(path: str | Path, rows: Iterable[dict]) -> None:
    """Append a batch durably. A kill can leave a torn last line; `read_appended` cuts it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # One write per batch, so a kill tears at most one line.
    text = "".join(dump_row(row) + "\n" for row in rows)
    with disk_errors_named(path), open(path, "a", encoding="utf-8") as handle:
        handle.write(text)
        handle.flush()
        sync_file(handle)


def read_appended(path: str | Path) -> list[dict]:
    """Rows of a file that `append_jsonl` wrote, after cutting a torn last line. No file, no rows."""
    path = Path(path)
    if not path.is_file():
        return []
    raw = path.read_bytes()
    n_complete = raw.rfind(b"\n") + 1
    if n_complete < len(raw):
        with open(path, "rb+") as handle:
            handle.truncate(n_complete)
    return [row for _, row in read_jsonl(path)]


def sha256_file(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open_watched(Path(path)) as handle:
        for block in iter(lambda: handle.read(_BLOCK_BYTES), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_value(value) -> str:
    """Hash of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
