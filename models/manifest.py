"""What the manifest of a checkpoint says of its files, and whether they are still what was written.

A size tells a file that was cut, and a hash one whose contents changed: a disk that lost a write keeps the
size. It knows the files of a checkpoint by name alone, and loads none of them.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from models.fingerprint import WHOLE_BYTES, hash_part
from utils.errors import DataError
from utils.own_files import CHECKPOINT
from utils.shapes import read_shaped

MANIFEST = "run.json"


def file_hash(path: Path) -> str:
    """SHA-256 of a file or, of one over `WHOLE_BYTES`, of its beginning, middle and end."""
    size = path.stat().st_size
    with open(path, "rb") as handle:
        return hash_part(handle, 0, size, whole=size <= WHOLE_BYTES)


def describe_files(paths: Iterable[Path]) -> dict[str, dict]:
    """The keys of a manifest that `damage` reads: "files", name -> bytes, and "hashes", name -> hash."""
    files = {}
    hashes = {}
    for path in paths:
        files[path.name] = path.stat().st_size
        hashes[path.name] = file_hash(path)
    return {"files": files, "hashes": hashes}


def damage(
    folder: Path, is_read: Callable[[str], bool] = lambda name: True, sizes_only: bool = False
) -> str | None:
    """What is wrong with the files in a folder that its manifest names; None if nothing is.

    `is_read(name)`: whether a file matters. Manifests of earlier versions have sizes alone, and with
    `sizes_only` no file is opened.
    """
    path = folder / MANIFEST
    if not path.is_file():
        return f"{MANIFEST} is missing"
    try:
        manifest = read_shaped(path, CHECKPOINT)
    except DataError as error:
        return f"{MANIFEST} is not readable: {str(error).removeprefix(f'{path}: ').partition(';')[0]}"
    hashes = {} if sizes_only else manifest.get("hashes", {})
    for name, size in manifest.get("files", {}).items():
        if not is_read(name):
            continue
        file = folder / name
        if not file.is_file():
            return f"{name} is missing"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size:,} of {size:,} bytes"
        if name in hashes and file_hash(file) != hashes[name]:
            return f"{name} is not what was written"
    return None
