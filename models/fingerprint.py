"""Whether two models are the same one: fingerprints of their weights and files, wherever they are.

A fingerprint depends on no path, file name or time, so a model keeps it when it is copied or moved, and
another model under the same path has another one. This module loads no model; models/base.py uses it.
"""

import functools
import hashlib
import json
from pathlib import Path
from typing import Any

from utils.errors import DataError
from utils.jsonl import read_json_object, sha256_file, sha256_value

# Weights up to this size are hashed whole, in seconds. Of larger ones (Gemma-2-9B has 18 GB, which take
# minutes to read from a network drive) a part of every tensor is hashed. Any training changes all parts of
# the matrices that it trains, so another model differs there too; size and time would be quicker still, but
# every copy has a new time.
WHOLE_BYTES = 1 << 30
_PART_BYTES = 64 << 10

# Besides the weights, these decide what a model says. Cards, optimizer states and manifests do not.
_DECIDING_FILES = (
    *("adapter_config.json", "tokenizer.json", "tokenizer_config.json", "tokenizer.model"),
    *("special_tokens_map.json", "added_tokens.json", "vocab.json", "vocab.txt", "merges.txt"),
    *("spiece.model", "sentencepiece.bpe.model", "tekken.json", "tiktoken.model"),
    *("chat_template.jinja", "chat_template.json", "additional_chat_templates/*.jinja"),
)
# Keys of a config.json that change when a model is saved again, and say nothing about it.
_UNSTEADY_KEYS = ("_name_or_path", "transformers_version", "torch_dtype", "dtype")
# Other formats than safetensors, which is preferred where both are present.
_OTHER_WEIGHTS = ("*.bin", "*.gguf")


def is_weights_or_tokenizer(name: str) -> bool:
    """True for a file that no one edits by hand, and that decides what a model says."""
    is_weights = Path(name).suffix in (".safetensors", ".bin", ".gguf")
    return is_weights or (name in _DECIDING_FILES and not name.endswith("config.json"))


def hash_part(handle: Any, start: int, n_bytes: int, whole: bool) -> str:
    """SHA-256 of `n_bytes` bytes from `start` or, unless `whole`, of their beginning, middle and end."""
    digest = hashlib.sha256()
    if whole or n_bytes <= 3 * _PART_BYTES:
        handle.seek(start)
        left = n_bytes
        while block := handle.read(min(left, 1 << 20)):
            digest.update(block)
            left -= len(block)
        return digest.hexdigest()
    for offset in (0, (n_bytes - _PART_BYTES) // 2, n_bytes - _PART_BYTES):
        handle.seek(start + offset)
        digest.update(handle.read(_PART_BYTES))
    return digest.hexdigest()


def _tensors(path: Path, whole: bool) -> dict[str, list]:
    """Tensor name -> [dtype, shape, hash] of a safetensors file. DataError for a damaged file."""
    # The format: the header's length in 8 bytes, the header as JSON, then the data that its offsets name.
    found = {}
    with open(path, "rb") as handle:
        n_header = int.from_bytes(handle.read(8), "little")
        try:
            # A length beyond the file's is not the format, and must not be read into memory.
            header = json.loads(handle.read(min(n_header, path.stat().st_size)))
            # Free text about the file, such as the library that wrote it.
            header.pop("__metadata__", None)
            for name, about in header.items():
                start, end = about["data_offsets"]
                digest = hash_part(handle, 8 + n_header + start, end - start, whole)
                found[name] = [about["dtype"], about["shape"], digest]
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DataError(f"{path}: not a safetensors file; copy or download it again") from error
    return found


@functools.lru_cache(maxsize=32)
def _hash_weights(model_type: str | None, files: tuple[tuple[Path, int, int], ...]) -> str:
    """Hash over the tensors of all (path, size, time of change): the same however they are split in files."""
    whole = sum(size for _, size, _ in files) <= WHOLE_BYTES
    # Two architectures may have tensors of the same names and shapes.
    found: dict[str, Any] = {"model_type": model_type}
    for path, size, _ in files:
        if path.suffix == ".safetensors":
            found |= _tensors(path, whole)
        else:
            with open(path, "rb") as handle:
                found[path.name] = [size, hash_part(handle, 0, size, whole)]
    return sha256_value(found)


def weights_hash(directory: Path) -> str | None:
    """Hash of the weights in a model's directory and of its architecture's name; None if it has none."""
    paths = sorted(directory.glob("*.safetensors"))
    for pattern in _OTHER_WEIGHTS:
        paths = paths or sorted(directory.glob(pattern))
    # Size and time are part of the key alone under which the hash is remembered.
    stats = [(path, path.stat()) for path in paths]
    files = tuple((path, stat.st_size, stat.st_mtime_ns) for path, stat in stats)
    config = directory / "config.json"
    model_type = read_json_object(config).get("model_type") if config.is_file() else None
    return _hash_weights(model_type, files) if files else None


def _config_hash(path: Path) -> str:
    config = read_json_object(path)
    return sha256_value({key: value for key, value in config.items() if key not in _UNSTEADY_KEYS})


def files_hash(directory: Path) -> str:
    """Hash of all that decides what the model in a directory says: weights, config, tokenizer, adapter."""
    found: dict[str, Any] = {"weights": weights_hash(directory)}
    if (directory / "config.json").is_file():
        found["config.json"] = _config_hash(directory / "config.json")
    for pattern in _DECIDING_FILES:
        for path in sorted(directory.glob(pattern)):
            found[str(path.relative_to(directory))] = sha256_file(path)
    return sha256_value(found)


def _ends_in(path: Path) -> list[int]:
    """The token ids that a config file names as ends of a text, sorted; empty without file or key."""
    ends = read_json_object(path).get("eos_token_id") if path.is_file() else None
    named = ends if isinstance(ends, list) else [ends]
    return sorted(token for token in named if isinstance(token, int))


def other_ends(directory: Path) -> list[int]:
    """Tokens at which a model stops that its generation_config.json names, and its config.json does not.

    They are no part of `files_hash`: they change what is generated, and nothing that is read.
    """
    known = _ends_in(directory / "config.json")
    return [token for token in _ends_in(directory / "generation_config.json") if token not in known]
