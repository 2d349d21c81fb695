"""The hub's cache on this machine, and the revision behind a hub id: `owner/name@revision`.

A revision is a commit, a tag or a branch; without one it is the branch `main`. No model library is imported.
"""

from pathlib import Path

from utils.hub_names import split_revision
from utils.jsonl import read_json_object


def cached_dir(name: str) -> Path | None:
    """The directory of a hub model in the hub's cache; None unless all its weights are there."""
    # A fifth of a second, which local models need not wait for.
    from huggingface_hub import try_to_load_from_cache

    hub_id, revision = split_revision(name)
    try:
        found = try_to_load_from_cache(hub_id, "config.json", revision=revision)
    except ValueError:
        # No name that the hub could have: the path of a checkpoint that is not there yet, for example.
        return None
    if not isinstance(found, str):
        return None
    directory = Path(found).parent
    index = directory / "model.safetensors.index.json"
    if index.is_file():
        parts = set(read_json_object(index)["weight_map"].values())
        is_whole = all((directory / part).is_file() for part in parts)
    else:
        is_whole = any(path.suffix in (".safetensors", ".bin") for path in directory.iterdir())
    return directory if is_whole else None


def load_from(resolved: str) -> dict[str, str]:
    """The arguments by which `from_pretrained` finds a directory or a hub id with its revision."""
    hub_id, revision = split_revision(resolved)
    where = {"pretrained_model_name_or_path": hub_id}
    return where | {"revision": revision} if revision else where
