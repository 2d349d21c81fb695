"""How large the chunks of a data set are, so that other evidence can be cut like it.

It knows sample files and the manifest beside them, not what is in a chunk.
"""

from dataclasses import dataclass
from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_json_object


@dataclass(frozen=True)
class ChunkSizes:
    """Most chunks of a sample, and most words of a chunk; a longer sentence is a chunk of its own."""

    max_chunks: int
    max_chunk_words: int

    def __str__(self) -> str:
        return f"{self.max_chunks} chunks of at most {self.max_chunk_words} words"


# The defaults of build_data.py.
DEFAULT_SIZES = ChunkSizes(6, 80)


def sizes_in(settings) -> ChunkSizes | None:
    """The sizes in a block of a manifest, which people edit too; None if it does not give both."""
    if not isinstance(settings, dict):
        return None
    max_chunks = settings.get("max_chunks")
    max_words = settings.get("max_chunk_words")
    if not isinstance(max_chunks, int) or not isinstance(max_words, int) or min(max_chunks, max_words) < 1:
        return None
    return ChunkSizes(max_chunks, max_words)


def sizes_of_build(data_path: Path) -> ChunkSizes | None:
    """The sizes that a sample file was built with, from the run.json beside it; None without one."""
    manifest = data_path.parent / "run.json"
    try:
        settings = read_json_object(manifest).get("settings", {}) if manifest.is_file() else {}
    except DataError:
        return None
    return sizes_in(settings)


def sizes_of_samples(samples: list[dict]) -> ChunkSizes:
    """The sizes that samples show: their most chunks, and the words that nine of ten chunks stay below."""
    chunks = [chunk for sample in samples for chunk in sample["evidence_chunks"]]
    if not chunks:
        return DEFAULT_SIZES
    lengths = sorted(len(chunk["text"].split()) for chunk in chunks)
    # A sentence longer than the limit is a chunk of its own, so the longest chunk tells nothing.
    limit = lengths[int(0.9 * (len(lengths) - 1))]
    return ChunkSizes(max(len(sample["evidence_chunks"]) for sample in samples), max(1, limit))
