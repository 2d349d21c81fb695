"""Files that finish whole: JSONL and JSON in and out, atomic writes, hashes."""

import codecs
import contextlib
import gzip
import hashlib
import json
import math
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import IO

from utils.errors import DataError

# The longest line of the real sources has under 2 MB; a longer one than this is no row, and is not read into memory.
MAX_LINE_BYTES = 16 << 20
_NO_VALUE = re.compile(r"[\s,]*")


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def _unique_keys(pairs: list[tuple]) -> dict:
    value = dict(pairs)
    if len(value) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(
            f"key {next(key for key in keys if keys.count(key) > 1)!r} stands twice in one object"
        )
    return value


# Strict: NaN, Infinity and repeated keys, all of which json.loads takes, are errors.
_DECODER = json.JSONDecoder(parse_constant=_reject_constant, object_pairs_hook=_unique_keys)


def parse_json(text: str):
    """`json.loads` without its extensions: NaN, Infinity and repeated keys are errors, and so is nesting too deep to parse."""
    try:
        return _DECODER.decode(text)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def raise_bad(problem: str) -> None:
    """The default answer to a bad row: stop. Readers take a callback in its place to count and go on."""
    raise DataError(problem)


@contextlib.contextmanager
def open_bytes(path: str | Path) -> Iterator[IO[bytes]]:
    """A file as bytes, unpacked when its name ends in .gz. A gzip that ends early is a DataError, wherever the reader stands."""
    path = Path(path)
    if not path.is_file():
        raise DataError(
            f"{path}: no such file; run the stage that writes it (README, stage table) or check the path"
        )
    try:
        with gzip.open(path, "rb") if path.suffix == ".gz" else open(path, "rb") as handle:
            yield handle
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged gzip ({error}); delete it and fetch it anew") from error


def read_lines(handle: IO[bytes], name: str, on_bad: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """(line number from 1, text) of the lines that are not blank. One that is too long or no UTF-8 goes to `on_bad`."""
    number = 0
    while raw := handle.readline(MAX_LINE_BYTES + 1):
        number += 1
        if len(raw) > MAX_LINE_BYTES:
            while not raw.endswith(b"\n") and (raw := handle.readline(1 << 20)):
                pass
            on_bad(
                f"{name}:{number}: a line of over {MAX_LINE_BYTES >> 20} MB; the file is damaged or has another format"
            )
            continue
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError as error:
            on_bad(f"{name}:{number}: not UTF-8 ({error}); convert the file or remove the line")
            continue
        if text.strip():
            yield number, text


def read_objects(handle: IO[bytes], name: str, on_bad: Callable[[str], None]) -> Iterator[tuple[int, dict]]:
    """(line number from 1, row) of JSON lines; what is no JSON object goes to `on_bad` with file and line."""
    for number, text in read_lines(handle, name, on_bad):
        try:
            row = parse_json(text)
        except ValueError as error:
            on_bad(f"{name}:{number}: not a JSON object ({error}); rebuild the file or remove the line")
            continue
        if isinstance(row, dict):
            yield number, row
        else:
            on_bad(f"{name}:{number}: expected a JSON object, found {type(row).__name__}")


def read_jsonl(path: str | Path, on_bad: Callable[[str], None] = raise_bad) -> Iterator[tuple[int, dict]]:
    """Yield (line number from 1, row) of a .jsonl or .jsonl.gz file. Blank lines are skipped; a bad line goes to `on_bad`."""
    with open_bytes(path) as handle:
        yield from read_objects(handle, str(path), on_bad)


def read_json(path: str | Path):
    with open_bytes(path) as handle:
        raw = handle.read()
    try:
        return parse_json(raw.decode("utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not valid JSON ({error}); the file was written by hand or is damaged"
        ) from error


def read_json_list(path: str | Path) -> Iterator[tuple[int, dict]]:
    """(row number from 1, row) of a JSON list of objects, .json or .json.gz, parsed one row at a time in flat memory."""
    with open_bytes(path) as handle:
        text = codecs.getreader("utf-8")(handle)
        place = 0
        number = 0
        try:
            buffer = text.read(1 << 20).lstrip()
            if not buffer.startswith("["):
                raise ValueError("it does not start with [")
            place = 1
            while True:
                # Past white space and the comma between two rows.
                place = _NO_VALUE.match(buffer, place).end()
                if place < len(buffer) and buffer[place] == "]":
                    return
                try:
                    row, end = _DECODER.raw_decode(buffer, place)
                except ValueError:
                    # The row may go on behind the buffer.
                    more = text.read(1 << 20)
                    if not more or len(buffer) - place > MAX_LINE_BYTES:
                        raise
                    buffer = buffer[place:] + more
                    place = 0
                    continue
                number = number + 1
                place = end
                yield number, row
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}: row {number + 1} is not valid JSON ({error}); expected a JSON list of objects"
            ) from error


def dump_row(row: dict) -> str:
    return json.dumps(row, ensure_ascii=False, allow_nan=False)


@contextlib.contextmanager
def atomic_write(path: str | Path, mode: str = "w"):
    """Open a temporary file beside `path`; on success flush, fsync and rename it there, on failure leave nothing."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as handle:
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    with atomic_write(path) as handle:
        handle.write(text)


def finite(value: float | None) -> float | None:
    """None for infinity and not-a-number, which JSON cannot say."""
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
    """Append a batch durably. A torn last line left by a kill is cut off first by `read_appended`."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a", encoding="utf-8") as handle:
        handle.write("".join(dump_row(row) + "\n" for row in rows))
        handle.flush()
        os.fsync(handle.fileno())


def read_appended(path: str | Path) -> list[dict]:
    """Rows of a file that grows by `append_jsonl`, after cutting a torn last line. Missing file: no rows."""
    path = Path(path)
    if not path.is_file():
        return []
    raw = path.read_bytes()
    whole = raw[: raw.rfind(b"\n") + 1]
    if len(whole) < len(raw):
        with open(path, "rb+") as handle:
            handle.truncate(len(whole))
    return [row for _, row in read_jsonl(path)]


def sha256_file(path: str | Path) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as handle:
        for block in iter(lambda: handle.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def sha256_value(value) -> str:
    """Hash of a JSON value, independent of key order."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode("utf-8")).hexdigest()
