"""Files that finish whole: JSONL and JSON in and out, atomic writes, hashes."""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from utils.errors import DataError


def _reject_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def parse_json(text: str):
    """`json.loads` without its extensions: NaN and Infinity are errors, and so is nesting too deep to parse."""
    try:
        return json.loads(text, parse_constant=_reject_constant)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def raise_bad(problem: str) -> None:
    """The default answer to a bad row: stop. Readers take a callback in its place to count and go on."""
    raise DataError(problem)


def read_jsonl(path: str | Path, on_bad: Callable[[str], None] = raise_bad) -> Iterator[tuple[int, dict]]:
    """Yield (line number from 1, row). Blank lines are skipped; a bad line goes to `on_bad` with file and line."""
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the stage that writes it (README, stage table) or check the path")
    with open(path, "rb") as handle:
        for number, raw in enumerate(handle, 1):
            if not raw.strip():
                continue
            try:
                row = parse_json(raw.decode("utf-8"))
            except (ValueError, UnicodeDecodeError) as error:
                on_bad(f"{path}:{number}: not a JSON object ({error}); rebuild the file or remove the line")
                continue
            if isinstance(row, dict):
                yield number, row
            else:
                on_bad(f"{path}:{number}: expected a JSON object, found {type(row).__name__}")


def read_json(path: str | Path):
    path = Path(path)
    if not path.is_file():
        raise DataError(f"{path}: no such file; run the stage that writes it or check the path")
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not valid JSON ({error}); the file was written by hand or is damaged") from error


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
