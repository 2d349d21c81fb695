"""Features of completions on disk: one folder per model and way of reading, in it files of some completions.

A completion is known by its prompt and text, so that another preferences file reads only what is new. Each
file is written whole or not at all: a run that was stopped goes on where it was. This module knows nothing
about models.
"""

import json
import time
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from models.folders import header_problem
from utils.atomic import atomic_write
from utils.errors import StageError
from utils.jsonl import sha256_value
from utils.runs import note

# A network drive may show a new file some seconds later.
_WAIT_SECONDS = 60.0
# Files that this process wrote, so that it need not wait for the drive to know them.
_WRITTEN: set[Path] = set()


def row_key(row: dict) -> str:
    """What names a completion row: everything of it that is read."""
    return sha256_value([row["question"], row["evidence_chunks"], row["completion"]])[:20]


def prompt_key(row: dict) -> str:
    """What names the prompt of a row, so that completions of one prompt share a pass over it."""
    return sha256_value([row["question"], row["evidence_chunks"]])


class FeatureStore:
    """`features/<signature>/`: files of tensors whose first dimension is the completion."""

    def __init__(self, folder: Path):
        self.folder = folder
        # Key of a completion -> (its file, its place there).
        self._places: dict[str, tuple[Path, int]] = {}
        self._indexed: set[Path] = set()
        self._look()

    def _look(self) -> None:
        """Index the files that the folder shows, and those that this process wrote there."""
        shown = set(self.folder.glob("*.safetensors"))
        written = {path for path in _WRITTEN if path.parent == self.folder and path.exists()}
        for path in sorted(shown | written):
            if path not in self._indexed:
                self._index(path)

    def _index(self, path: Path) -> None:
        # Its completions are then missing, and read again.
        if problem := header_problem(path):
            note(f"{path}: {problem.partition(';')[0]}, so its completions are read again")
            path.unlink(missing_ok=True)
            return
        with safe_open(path, framework="pt") as handle:
            keys = json.loads(handle.metadata()["keys"])
        self._indexed.add(path)
        for place, key in enumerate(keys):
            self._places.setdefault(key, (path, place))

    def __contains__(self, key: str) -> bool:
        return key in self._places

    def add(self, keys: list[str], tensors: dict[str, torch.Tensor]) -> None:
        """Write the features of these completions, (n, ...) each."""
        path = self.folder / f"{sha256_value(keys)[:16]}.safetensors"
        # The keys alone, in their order, so the file is byte-identical across runs.
        with atomic_write(path, "wb") as handle:
            handle.write(save(tensors, metadata={"keys": json.dumps(keys)}))
        _WRITTEN.add(path)
        self._index(path)

    def look_for(self, keys: list[str]) -> None:
        """Index what other processes have written by now. StageError if it does not show within a minute."""
        given_up = time.monotonic() + _WAIT_SECONDS
        while not all(key in self for key in keys):
            if time.monotonic() > given_up:
                raise StageError(
                    f"{self.folder}: does not show all features that were written to it; rerun the command, "
                    "or set FACTUALITY_HOME to a local disk"
                )
            self._look()
            time.sleep(0.1)

    def read(self, keys: list[str]) -> dict[str, torch.Tensor]:
        """The features of these completions, in their order: name -> (n, ...)."""
        wanted: dict[Path, list[int]] = {}
        for i, key in enumerate(keys):
            wanted.setdefault(self._places[key][0], []).append(i)
        found: dict[str, torch.Tensor] = {}
        # One file at a time, straight to its rows: all files and their rows would be twice the memory.
        for path, rows in wanted.items():
            places = [self._places[keys[i]][1] for i in rows]
            for name, tensor in load_file(path).items():
                if name not in found:
                    found[name] = tensor.new_empty((len(keys), *tensor.shape[1:]))
                found[name][rows] = tensor[places]
        return found
