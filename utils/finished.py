"""What a finished output consists of: the hashes of its files in its manifest, and which of them are lost.

A rerun has nothing to do only where the files are still there. It knows nothing about what they contain.
"""

from collections.abc import Iterable
from pathlib import Path

from utils.errors import DataError
from utils.jsonl import sha256_file


def describe_outputs(folder: Path, pattern: str) -> dict[str, dict[str, str]]:
    """The key "outputs" of a manifest: name -> SHA-256 of the files of a folder that fit the pattern."""
    paths = [path for path in sorted(folder.glob(pattern)) if not path.name.startswith(".")]
    return {"outputs": {path.name: sha256_file(path) for path in paths}}


def check_outputs(folder: Path, manifest: dict, done: str, older: Iterable[str] = ()) -> None:
    """DataError if a file of a complete output in `folder` is gone or another one than was written.

    `done` is what says that it is complete. Manifests of earlier versions name no files: there those called
    `older` must exist.
    """
    outputs = manifest.get("outputs", dict.fromkeys(older))
    for name, digest in outputs.items():
        path = folder / name
        problem = None if path.is_file() else "is missing"
        if not problem and digest and sha256_file(path) != digest:
            problem = "is not what was written"
        if problem:
            raise DataError(
                f"{path}: {problem}, though {done} says that the run is complete; run it again with "
                "--overwrite, or copy the file from where it is whole"
            )
