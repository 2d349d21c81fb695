"""Raw files: downloaded whole or not at all, resumed after a cut, pinned by SHA-256.

It moves bytes. What is in a file is known to the source's reader alone.
"""

import http.client
import os
import time
import urllib.error
import urllib.request
from pathlib import Path

from utils.addresses import split_login, without_secrets
from utils.atomic import sync_file
from utils.errors import DataError, StageError
from utils.jsonl import read_json_object, sha256_file, write_json
from utils.locks import cache_lock
from utils.progress import progress

_N_TRIES = 4
_BLOCK_BYTES = 1 << 20
_TIMEOUT_SECONDS = 60

# HTTP errors that may be gone at the next try; every other 4xx is final for its url.
_PASSING = (408, 425, 429, 500, 502, 503, 504)


class NotFetched(StageError):
    """No url gives the file."""


class _Refused(Exception):
    """The server will not send the file, however often it is asked."""


def _open_url(url: str, n_have: int, validator: str):
    """The response to a request for the bytes from `n_have` on; if the file has changed, it has all bytes.

    _Refused for a final answer of the server, OSError for one that another try may change.
    """
    # Compressed on the way, the bytes would not be those of the pinned hash.
    headers = {"Accept-Encoding": "identity"}
    if n_have:
        # RFC 9110, 13.1.5: a range only if the validator still holds, else the whole file.
        headers |= {"Range": f"bytes={n_have}-", "If-Range": validator}
    address, login = split_login(url)
    request = urllib.request.Request(address, headers=headers)
    if login:
        # Not sent on to where a redirect leads.
        request.add_unredirected_header("Authorization", login)
    try:
        # The user's own sources.yaml names the url, a file:// too; a redirect leads to http and ftp alone.
        return urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS)  # nosec B310
    except urllib.error.HTTPError as error:
        # 416, range not satisfiable: our part is longer than the file is now.
        if error.code == 416:
            return _open_url(url, 0, "")
        if error.code in _PASSING:
            raise
        raise _Refused(f"HTTP {error.code} {error.reason}") from error


def _total_size(response, n_have: int) -> int | None:
    """Size in bytes of the whole file, None if the response does not state it.

    OSError for a range that does not start at `n_have`.
    """
    if response.status != 206:
        length = response.headers.get("Content-Length")
        return int(length) if length else None
    content_range = response.headers.get("Content-Range")
    unit, _, rest = (content_range or "").partition(" ")
    span, _, total = rest.partition("/")
    if unit != "bytes" or span.partition("-")[0] != str(n_have) or not total.isdecimal():
        raise OSError(f"requested bytes from {n_have}, got Content-Range {content_range!r}")
    return int(total)


def _validator(response) -> str:
    """Header value that identifies this version of the file, to resume it safely; empty if there is none."""
    etag = response.headers.get("ETag") or ""
    # A weak ETag does not promise the same bytes.
    if etag and not etag.startswith("W/"):
        return etag
    return response.headers.get("Last-Modified") or ""


def _notes_path(part: Path) -> Path:
    """Beside a partial file: the url, validator and size it belongs to."""
    return part.with_name(part.name + ".json")


def _save(response, part: Path, n_have: int, notes: dict, name: str) -> None:
    """Write the response behind the first `n_have` bytes of `part`, and the notes beside it."""
    total = notes["size"]
    with open(part, "ab" if n_have else "wb") as handle:
        # After the part was opened, which empties it unless it is resumed: notes about a new version must
        # never be beside bytes of the old one, or a kill here would join the two.
        write_json(_notes_path(part), notes)
        with progress(total, f"downloading {name}", "B", scaled=True, initial=n_have) as bar:
            while block := response.read(_BLOCK_BYTES):
                handle.write(block)
                bar.update(len(block))
        handle.flush()
        sync_file(handle)


def _fetch_once(url: str, part: Path, name: str) -> None:
    """Bring `part` to its full length, from where an earlier try of the same url stopped.

    OSError if the connection breaks or the length is wrong.
    """
    notes = _notes_path(part)
    known = read_json_object(notes) if notes.is_file() and part.is_file() else {}
    # Without a validator, the rest could be that of another version of the file.
    can_resume = known.get("url") == without_secrets(url) and known.get("validator")
    n_have = part.stat().st_size if can_resume else 0

    with _open_url(url, n_have, known.get("validator", "")) as response:
        # 200 instead of 206: the server sends the file from its start.
        if response.status != 206:
            n_have = 0
        total = _total_size(response, n_have)
        if n_have and total != known.get("size"):
            notes.unlink()
            raise OSError(f"the file's size changed from {known.get('size')} to {total}")
        about = {"url": without_secrets(url), "validator": _validator(response), "size": total}
        _save(response, part, n_have, about, name)

    n_have = part.stat().st_size
    if total is not None and n_have != total:
        raise OSError(f"got {n_have} of {total} bytes")


def _problem_with(url: str, part: Path, name: str) -> str | None:
    """None once `part` is whole; else, after bounded tries with backoff, why the url does not give it."""
    problem = ""
    for attempt in range(_N_TRIES):
        if attempt:
            time.sleep(2 ** (attempt - 1))
        try:
            _fetch_once(url, part, name)
            return None
        except (_Refused, ValueError) as error:
            return without_secrets(f"{url}: {error}")
        except (OSError, http.client.HTTPException) as error:
            problem = without_secrets(f"{url}: {error}")
    return problem


def fetch(urls: list[str], path: Path, pin: str | None = None) -> None:
    """Download a file to `path` from the first url that gives it; the others are mirrors, tried in order.

    Until the file is complete, and has the SHA-256 `pin` if there is one, it is beside `path` as
    `.<name>.part`, from where the next call resumes. NotFetched if every url fails, DataError for other
    content than the pinned. If another process fetches the file, this one waits for it.
    """
    was_there = path.is_file()
    with cache_lock(path):
        if was_there or not path.is_file():
            _fetch_here(urls, path, pin)


def _fetch_here(urls: list[str], path: Path, pin: str | None) -> None:
    part = path.with_name(f".{path.name}.part")
    problems = []
    other_content = ""
    for url in urls:
        problem = _problem_with(url, part, path.name)
        if problem:
            problems.append(problem)
            continue
        digest = sha256_file(part)
        _notes_path(part).unlink()
        if pin and digest != pin:
            part.unlink()
            other_content = (
                f"{without_secrets(url)}: sha256 {digest}, but {pin} is pinned; nothing was replaced. "
            )
            continue
        os.replace(part, path)
        return
    if other_content:
        raise DataError(f"{other_content}Look at the new file, then delete the pin")
    raise NotFetched(
        f"cannot fetch {path.name} ({'; '.join(problems)}); "
        f"check the network, or put the file at {path} and add --offline"
    )
