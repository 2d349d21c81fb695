"""What has been done in a cache of candidates: begun, complete, judged; and the rows that are in it.

The manifest of a cache tells. Which cache fits the flags is told by `preferences/cache.py`.
"""

from pathlib import Path

from preferences.cache import MODELS
from utils.aside import drop_aside, restore_aside, set_aside
from utils.errors import DataError, UsageError
from utils.jsonl import read_appended, sha256_file, write_json
from utils.own_files import JUDGED_CACHE, UNFINISHED_CACHE
from utils.shapes import read_if_there, read_shaped

# In a manifest: a run with --overwrite has generated the candidates again, and not judged them yet.
_UNJUDGED = "unjudged"


def claim_cache(cache: Path, overwrite: bool, revision: str | None = None, judges_too: bool = False) -> bool:
    """Prepare a cache directory for generation. True, and said, when it is complete already.

    `revision`: the commit of a base model from the hub, which its key, a name, does not tell. UsageError,
    unless `overwrite`, where the cache is of another one. `judges_too`: this run judges what it generates.
    """
    restore_aside(cache)
    found = read_if_there(cache / "manifest.json", UNFINISHED_CACHE)
    is_complete = found.get("status") == "complete"
    known = found.get("base_revision")
    is_other = bool(revision and known and known != revision)
    if is_other and not overwrite:
        raise UsageError(
            f"{cache}: its candidates are of commit {known:.12} of the base model, and the copy on this "
            f"machine is of {revision:.12}; add --overwrite to generate them again"
        )
    # What a run with `overwrite` began is resumed by the next one: candidates that it did not finish, or did
    # not come to judge. The name of a cache says that its settings are these.
    is_begun = not is_complete or (judges_too and found.get(_UNJUDGED, False))
    if overwrite and cache.exists() and (is_other or not is_begun):
        # Judgements go too: they are about the texts that are generated again.
        set_aside(cache, is_complete)
        return False
    if is_complete:
        _check_whole(cache, found)
        print(f"candidates {cache.name} are complete; nothing to generate")
    return is_complete


def complete_cache(cache: Path, manifest: dict, is_unjudged: bool = False) -> int:
    """Mark a cache as complete: an interrupted one is resumed, never judged. Returns how many rows it has.

    `is_unjudged`: it was made again by a run that is still to judge it; `settle_cache` ends that.
    """
    rows = {name: len(cached_rows(cache, name)) for name in MODELS}
    n_rows = {name: n for name, n in rows.items() if n}
    unjudged = {_UNJUDGED: True} if is_unjudged else {}
    write_json(cache / "manifest.json", {**manifest, "n_rows": n_rows, **unjudged, "status": "complete"})
    drop_aside(cache)
    return sum(n_rows.values())


def settle_cache(cache: Path) -> None:
    """Note that the candidates have been judged."""
    manifest = read_shaped(cache / "manifest.json", JUDGED_CACHE)
    if manifest.pop(_UNJUDGED, False):
        write_json(cache / "manifest.json", manifest)


def _check_whole(cache: Path, manifest: dict) -> None:
    """DataError if a complete cache has lost candidates: a judge would compare what is left, and say nothing.

    Manifests of earlier versions do not say how many there were.
    """
    for name, wanted in manifest.get("n_rows", {}).items():
        found = len(cached_rows(cache, name))
        if found != wanted:
            raise DataError(
                f"{cache / f'gens_{name}.jsonl'}: has {found:,} of the {wanted:,} candidates that were "
                "generated; generate them again with --overwrite, or copy the file from where it is whole"
            )


def read_cached_settings(cache: Path, data_path: Path) -> dict:
    """The settings of a cache. DataError when its candidates are of another file than `data_path`."""
    manifest = read_shaped(cache / "manifest.json", JUDGED_CACHE)
    _check_whole(cache, manifest)
    settings = manifest["settings"]
    if not data_path.is_file() or sha256_file(data_path) != settings["data_sha256"]:
        raise DataError(
            f"{data_path}: not the file that the candidates in {cache} were generated from; "
            "name that file with --data-path, or generate again"
        )
    return settings


def cached_rows(cache: Path, name: str) -> list[dict]:
    """The candidate rows of one of MODELS; none of a model that was not asked for."""
    path = cache / f"gens_{name}.jsonl"
    return read_appended(path) if path.is_file() else []
