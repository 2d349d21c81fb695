"""SHA-256 of raw files: pinned at the first build or given by the sources config, verified at later ones.

A raw file that changes unseen would change the data under an old name.
"""

from pathlib import Path

from utils.errors import DataError
from utils.jsonl import sha256_file, write_json
from utils.own_files import PINS
from utils.runs import note
from utils.shapes import read_if_there


def read_pins(pins_path: Path) -> dict[str, str]:
    """SHA-256 by `<source>/<file>`; empty before the first build."""
    return read_if_there(pins_path, PINS)


def _pin_name(name: str, hashes: dict[str, str], pins: dict[str, str]) -> str:
    """The name that a file's pin has in `pins`, if it has one.

    Earlier builds pinned one of several files of a name, without its folder. Such a pin counts for the file
    that has its hash and, if none has, for all of them: one was changed.
    """
    source, *folders, file_name = name.split("/")
    short = f"{source}/{file_name}"
    if name in pins or not folders or short not in pins:
        return name
    namesakes = [
        other for other in hashes if other.startswith(f"{source}/") and other.endswith(f"/{file_name}")
    ]
    is_found = pins[short] in [hashes[other] for other in namesakes]
    return short if hashes[name] == pins[short] or not is_found else name


def check_pins(
    files: dict[str, Path], pins_path: Path, accept_new: bool, known: dict[Path, str] | None = None
) -> dict[str, str]:
    """The SHA-256 of each file, compared with its pin; new ones are accepted with `accept_new`.

    `known`: hashes that the sources config gives, by path; such a file needs no pin. A download must have the
    known hash (download.py); a file that the user put in its place may differ, and is pinned like any other.
    DataError for a file that differs from its pin (also with `accept_new`), or has none without `accept_new`.
    """
    known = known or {}
    pins = read_pins(pins_path)
    hashes = {name: sha256_file(path) for name, path in files.items()}
    for name, digest in hashes.items():
        path = files[name]
        if known.get(path) == digest:
            continue
        pinned = _pin_name(name, hashes, pins)
        if pinned in pins and pins[pinned] != digest:
            found = f"sha256 {digest} but {pins_path} pins {pinned} at {pins[pinned]}"
            raise DataError(f"{path}: {found}; restore the file, or delete its pin")
        problem = f"not pinned in {pins_path} yet"
        if path in known:
            problem = f"sha256 {digest} is not {known[path]}, which the sources config gives"
        if pinned not in pins and not accept_new:
            raise DataError(f"{path}: {problem}; look at the file, then add --accept-new-hash")
        if pinned not in pins and path in known:
            note(f"{path}: {problem}; accepted, because of --accept-new-hash")
    return hashes


def write_pins(pins_path: Path, hashes: dict[str, str]) -> None:
    """Pin these files, once a build has read them: a file that has to be corrected first gets no pin."""
    if hashes:
        write_json(pins_path, {**read_pins(pins_path), **hashes})
