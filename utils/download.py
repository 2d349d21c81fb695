"""Raw files: fetched once, whole or not at all, and pinned by SHA-256."""

import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from tqdm.auto import tqdm

from utils.errors import DataError, StageError
from utils.jsonl import atomic_write, read_json, sha256_file, write_json

_N_TRIES = 4
_BLOCK = 1 << 20


def fetch(url: str, path: Path) -> None:
    """Stream `url` to `path`; bounded retries with backoff, StageError when all fail, never a half file."""
    for attempt in range(_N_TRIES):
        try:
            with urllib.request.urlopen(url, timeout=60) as response, atomic_write(path, "wb") as handle:
                total = int(response.headers.get("Content-Length") or 0)
                with tqdm(total=total or None, unit="B", unit_scale=True, desc=path.name, disable=None) as bar:
                    while block := response.read(_BLOCK):
                        handle.write(block)
                        bar.update(len(block))
                    if total and bar.n != total:
                        raise OSError(f"got {bar.n} of {total} bytes")
            return
        except (OSError, urllib.error.URLError) as error:
            last = error
            if attempt + 1 < _N_TRIES:
                time.sleep(2**attempt)
    raise StageError(f"cannot fetch {url} ({last}); check the network, or put the file at {path} and add --offline")


def locate(entry: dict, raw_dir: Path, root: Path, offline: bool) -> Path | None:
    """The local path of a sources-config entry (`path`, or `url` fetched into `raw_dir`); None when an optional file is not there."""
    if "path" in entry:
        expanded = os.path.expandvars(entry["path"]).removeprefix("file://")
        if "$" in expanded:
            raise DataError(f"{entry['path']}: environment variable not set; export it or edit the sources config")
        path = root / expanded
    else:
        path = raw_dir / entry.get("file", entry["url"].rsplit("/", 1)[-1])
        if not path.is_file() and not offline:
            fetch(entry["url"], path)
    if path.is_file():
        return path
    if entry.get("optional"):
        return None
    raise DataError(f"{path}: no such file; " + ("run once without --offline" if "url" in entry else "correct the path in the sources config"))


def check_pins(files: dict[str, Path], pins_path: Path, accept_new: bool) -> dict[str, str]:
    """Compare each file's SHA-256 with its pin; new files are pinned with `accept_new`, a mismatch raises DataError."""
    pins = read_json(pins_path) if pins_path.is_file() else {}
    hashes = {name: sha256_file(path) for name, path in files.items()}
    for name, digest in hashes.items():
        if name in pins and pins[name] != digest:
            raise DataError(f"{files[name]}: sha256 {digest} but {pins_path} pins {pins[name]}; restore the file, or delete its pin")
        if name not in pins and not accept_new:
            raise DataError(f"{files[name]}: not pinned in {pins_path} yet; look at the file, then add --accept-new-hash")
    if merged := ({**pins, **hashes} if accept_new else None):
        write_json(pins_path, merged)
    return hashes
