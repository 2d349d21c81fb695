"""Features of completions on disk: one folder per model and way of reading, in it files of some completions.

A completion is known by its prompt and text, so that another preferences file reads only what is new. Each
file is written whole or not at all: a run that was stopped goes on where it was. This module knows nothing
about models.
"""

import json
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save

from models.folders import header_problem
from utils.atomic import atomic_write
from utils.jsonl import sha256_value
from utils.runs import note


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
        for path in sorted(folder.glob("*.safetensors")):
            self._index(path)

    def _index(self, path: Path) -> None:
        # Its completions are then missing, and read again.
        if problem := header_problem(path):
            note(f"{path}: {problem.partition(';')[0]}, so its completions are read again")
            path.unlink(missing_ok=True)
            return
        with safe_open(path, framework="pt") as handle:
            keys = json.loads(handle.metadata()["keys"])
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
        self._index(path)

    def read(self, keys: list[str]) -> dict[str, torch.Tensor]:
        """The features of these completions, in their order: name -> (n, ...)."""
        of_file: dict[Path, dict[str, torch.Tensor]] = {}
        rows: dict[str, list[torch.Tensor]] = {}
        for key in keys:
            path, place = self._places[key]
            if path not in of_file:
                of_file[path] = load_file(path)
            for name, tensor in of_file[path].items():
                rows.setdefault(name, []).append(tensor[place])
        return {name: torch.stack(values) for name, values in rows.items()}
