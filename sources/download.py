"""Raw files: fetched whole or not at all, resumed after a cut, pinned by SHA-256."""

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from utils.errors import DataError, StageError
from utils.jsonl import read_json, sha256_file, write_json

_N_TRIES = 4
_BLOCK = 1 << 20
_TIMEOUT_SECONDS = 60
# Answers that another try can change; every other 4xx is final for its url.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class _Refused(Exception):
    """The server will not give the file, however often it is asked."""


def _open_url(url: str, n_have: int, validator: str):
    """The response to a request for the bytes from `n_have` on; the server sends all of them when the file has changed."""
    headers = {"Accept-Encoding": "identity"}
    if n_have:
        # RFC 9110, 13.1.5: a range only if the validator still holds, else the whole file.
        headers |= {"Range": f"bytes={n_have}-", "If-Range": validator}
    try:
        return urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=_TIMEOUT_SECONDS)
    except urllib.error.HTTPError as error:
        if error.code == 416:  # what lies here is longer than the file is now
            return _open_url(url, 0, "")
        if error.code in _PASSING:
            raise
        raise _Refused(f"HTTP {error.code} {error.reason}") from error


def _total_size(response, n_have: int) -> int | None:
    """Size of the whole file as the response states it; None when it does not. A range that starts elsewhere is an OSError."""
    if response.status != 206:
        length = response.headers.get("Content-Length")
        return int(length) if length else None
    unit, _, rest = (response.headers.get("Content-Range") or "").partition(" ")
    span, _, total = rest.partition("/")
    if unit != "bytes" or span.partition("-")[0] != str(n_have) or not total.isdigit():
        raise OSError(
            f"asked for bytes from {n_have}, got Content-Range {response.headers.get('Content-Range')!r}"
        )
    return int(total)


def _fetch_once(url: str, part: Path, name: str) -> None:
    """Bring `part` to its full length, from where an earlier try of the same url stopped. OSError when the connection breaks."""
    notes = part.with_name(part.name + ".json")
    known = read_json(notes) if notes.is_file() and part.is_file() else {}
    can_resume = known.get("url") == url and known.get("validator")
    n_have = part.stat().st_size if can_resume else 0
    with _open_url(url, n_have, known.get("validator", "")) as response:
        if response.status != 206:
            n_have = 0
        total = _total_size(response, n_have)
        if n_have and total != known.get("size"):
            notes.unlink()
            raise OSError(f"the file's size changed from {known.get('size')} to {total}")
        etag = response.headers.get("ETag") or ""
        # A weak ETag does not promise the same bytes.
        validator = (
            etag if etag and not etag.startswith("W/") else response.headers.get("Last-Modified") or ""
        )
        with open(part, "ab" if n_have else "wb") as handle:
            write_json(notes, {"url": url, "validator": validator, "size": total})
            with tqdm(total=total, initial=n_have, unit="B", unit_scale=True, desc=name, disable=None) as bar:
                while block := response.read(_BLOCK):
                    handle.write(block)
                    bar.update(len(block))
            handle.flush()
            os.fsync(handle.fileno())
    n_have = part.stat().st_size
    if total is not None and n_have != total:
        raise OSError(f"got {n_have} of {total} bytes")


def fetch(urls: list[str], path: Path, pin: str | None = None) -> None:
    """Download the first url that gives the file to `path`: bounded retries with backoff for each, mirrors in order.

    Until it is whole, and its SHA-256 is `pin` where one is given, it lies beside `path` as `.<name>.part`, from which the next
    call goes on. StageError when every url fails, DataError for another content than the pinned one.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    problems = []
    for url in urls:
        for attempt in range(_N_TRIES):
            try:
                _fetch_once(url, part, path.name)
            except (_Refused, ValueError) as error:
                problems.append(f"{url}: {error}")
                break
            except (OSError, http.client.HTTPException) as error:
                if attempt + 1 < _N_TRIES:
                    time.sleep(2**attempt)
                else:
                    problems.append(f"{url}: {error}")
                continue
            digest = sha256_file(part)
            part.with_name(part.name + ".json").unlink()
            if pin and digest != pin:
                part.unlink()
                raise DataError(
                    f"{url}: sha256 {digest}, but {pin} is pinned; nothing was replaced. Look at the new file, then delete the pin"
                )
            os.replace(part, path)
            return
    raise StageError(
        f"cannot fetch {path.name} ({'; '.join(problems)}); check the network, or put the file at {path} and add --offline"
    )


def entry_path(entry: dict, raw_dir: Path, root: Path) -> Path:
    """Where the file of a sources-config entry is, or will be after a download.

    A `path` starts at `root`, with environment variables expanded; a `url` is saved in `raw_dir`.
    """
    if "path" in entry:
        return root / os.path.expandvars(entry["path"]).removeprefix("file://")
    return raw_dir / entry.get("file", entry["url"].rsplit("/", 1)[-1])


def locate(entry: dict, raw_dir: Path, root: Path, offline: bool, pins: dict[str, str]) -> Path | None:
    """The local path of a sources-config entry; None if an optional file is missing.

    A `url` (or one of its `mirrors`) is downloaded into `raw_dir` unless the file is there. `pins`: SHA-256 by
    `<source>/<file>`, where the source is the name of `raw_dir`. DataError for a missing file.
    """
    path = entry_path(entry, raw_dir, root)
    if "$" in os.path.expandvars(entry.get("path", "")):
        raise DataError(
            f"{entry['path']}: environment variable not set; export it or edit the sources config"
        )
    if "path" not in entry and not path.is_file() and not offline:
        pin = pins.get(f"{raw_dir.name}/{path.name}")
        fetch([entry["url"], *entry.get("mirrors", [])], path, pin)

    if path.is_file():
        return path
    if entry.get("optional"):
        return None
    remedy = "run once without --offline" if "url" in entry else "correct the path in the sources config"
    raise DataError(f"{path}: no such file; {remedy}")


def read_pins(pins_path: Path) -> dict[str, str]:
    return read_json(pins_path) if pins_path.is_file() else {}


def check_pins(files: dict[str, Path], pins_path: Path, accept_new: bool) -> dict[str, str]:
    """Compare each file's SHA-256 with its pin; new files are pinned with `accept_new`, a mismatch raises DataError."""
    pins = read_pins(pins_path)
    hashes = {name: sha256_file(path) for name, path in files.items()}
    for name, digest in hashes.items():
        if name in pins and pins[name] != digest:
            raise DataError(
                f"{files[name]}: sha256 {digest} but {pins_path} pins {pins[name]}; restore the file, or delete its pin"
            )
        if name not in pins and not accept_new:
            raise DataError(
                f"{files[name]}: not pinned in {pins_path} yet; look at the file, then add --accept-new-hash"
            )
    if accept_new and hashes:
        write_json(pins_path, {**pins, **hashes})
    return hashes
