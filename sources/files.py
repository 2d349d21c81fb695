"""Which files a build reads: the sources config, checked, and its entries as paths on this machine.

Nothing here opens a raw file; the readers do.
"""

import os
from pathlib import Path

from sources.download import fetch
from utils.config import check_keys, nearest, read_yaml
from utils.errors import DataError, UsageError

# What a file of a source is for: rows with questions, wiki pages, or passages for questions that come
# without any.
ROLES = ("records", "pages", "contexts")

_CONFIG_KEYS = {"respect_official_splits", "max_pool_pages", "sources"}
_SOURCE_KEYS = {"licence", *ROLES}
_ENTRY_KEYS = {"url", "mirrors", "path", "file", "split", "optional"}

# The files of one source by role: (path, its entry in the config).
SourceFiles = dict[str, list[tuple[Path, dict]]]


def entry_path(entry: dict, raw_dir: Path, root: Path) -> Path:
    """Where the file of a sources-config entry is, or will be after a download.

    A `path` starts at `root`, with environment variables expanded; a `url` is saved in `raw_dir`.
    """
    if "path" in entry:
        return root / os.path.expandvars(entry["path"]).removeprefix("file://")
    return raw_dir / entry.get("file", entry["url"].rsplit("/", 1)[-1])


def locate(entry: dict, raw_dir: Path, root: Path, offline: bool, pins: dict[str, str]) -> Path | None:
    """The local path of a sources-config entry; None if an optional file is missing.

    A `url` (or one of its `mirrors`) is downloaded into `raw_dir` unless the file is there. `pins`: SHA-256
    by `<source>/<file>`, where the source is the name of `raw_dir`. DataError for a missing file.
    """
    path = entry_path(entry, raw_dir, root)
    if "$" in os.path.expandvars(entry.get("path", "")):
        raise DataError(
            f"{entry['path']}: environment variable not set; export it or edit the sources config"
        )
    if "path" not in entry and not path.is_file() and not offline:
        pin = pins.get(f"{raw_dir.name}/{path.name}")
        fetch([entry["url"], *entry.get("mirrors", [])], path, pin)

    if path.is_file():
        return path
    if entry.get("optional"):
        return None
    remedy = "run once without --offline" if "url" in entry else "correct the path in the sources config"
    raise DataError(f"{path}: no such file; {remedy}")


def _check_source(where: str, source: dict) -> None:
    """UsageError for the first unknown key of a source or of its files, or a file without path or url."""
    if not isinstance(source, dict):
        raise UsageError(
            f"{where}: expected a block of {', '.join(sorted(_SOURCE_KEYS))}, found {source!r:.60}"
        )
    check_keys(where, source, _SOURCE_KEYS)
    for role in ROLES:
        for entry in source.get(role, []):
            if not isinstance(entry, dict) or not {"path", "url"} & entry.keys():
                raise UsageError(f"{where}.{role}: each file needs a path or a url, found {entry!r:.60}")
            check_keys(f"{where}.{role}", entry, _ENTRY_KEYS)


def read_sources_config(name: str, root: Path, wanted: list[str] | None) -> dict:
    """The sources YAML, checked and reduced to the wanted sources (None: all, in the order of the file).

    `name` is looked up under `root` first, so that the configs that ship work from any directory, then as
    given. DataError without such a file, UsageError for an unknown key or source.
    """
    path = root / name
    if not path.is_file():
        path = Path(name)
    config = read_yaml(path)
    check_keys(str(path), config, _CONFIG_KEYS)

    sources = config.get("sources") or {}
    chosen = {}
    for source in wanted or sources:
        if source not in sources:
            raise UsageError(f"source {source!r} is not in {path}{nearest(source, sources)}")
        _check_source(f"{path}: sources.{source}", sources[source])
        chosen[source] = sources[source]
    if not chosen:
        raise UsageError(f"{path}: no sources; name at least one under `sources:` (see configs/sources.yaml)")
    return {**config, "sources": chosen}


def locate_files(
    config: dict, raw_dir: Path, root: Path, offline: bool, pins: dict[str, str]
) -> dict[str, SourceFiles]:
    """The files of each source of the config; a url is downloaded into `raw_dir` unless it is there.

    `root`: where relative paths of the config start. `pins`: SHA-256 by `<source>/<file>`. Optional files
    that are missing are left out; DataError for others.
    """
    files: dict[str, SourceFiles] = {}
    for name, source in config["sources"].items():
        files[name] = {role: [] for role in ROLES}
        for role in ROLES:
            for entry in source.get(role, []):
                path = locate(entry, raw_dir / name, root, offline, pins)
                if path:
                    files[name][role].append((path, entry))
    return files


def files_by_name(files: dict[str, SourceFiles]) -> dict[str, Path]:
    """`<source>/<file name>` -> path of every file: the names that hashes are pinned under."""
    by_name = {}
    for source, roles in files.items():
        for entries in roles.values():
            by_name.update({f"{source}/{path.name}": path for path, _ in entries})
    return by_name


def planned_files(config: dict, raw_dir: Path, root: Path) -> list[tuple[str, str, Path, str]]:
    """(source, role, path, state) of every file of the config, for a dry run: nothing is downloaded."""
    planned = []
    for name, source in config["sources"].items():
        for role in ROLES:
            for entry in source.get(role, []):
                path = entry_path(entry, raw_dir / name, root)
                planned.append((name, role, path, _state(path, entry)))
    return planned


def _state(path: Path, entry: dict) -> str:
    """State of the path of a config entry: present, missing, optional or to be downloaded."""
    if path.is_file():
        return "present"
    if entry.get("optional"):
        return "optional, not present"
    return "to be downloaded" if "url" in entry else "missing"
