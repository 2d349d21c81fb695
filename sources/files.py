"""Which files a build reads: the entries of the sources config as paths on this machine.

Nothing here opens a raw file; the readers do.
"""

import itertools
import os
from pathlib import Path

from sources.config import ROLES, download_name
from sources.download import NotFetched, fetch
from utils.config import home_path
from utils.errors import DataError, StageError
from utils.input_files import unreadable_reason
from utils.runs import note

# The files of one source by role: (path, its entry in the config).
SourceFiles = dict[str, list[tuple[Path, dict]]]


def entry_path(entry: dict, raw_dir: Path, root: Path) -> Path:
    """Where the file of a sources-config entry is, or will be after a download.

    A `path` starts at `root`, with environment variables and ~ expanded; a `url` is saved in `raw_dir`. A
    relative path that is not under `root` is also looked up in `raw_dir`, by its name, and under
    FACTUALITY_HOME, since these may be on another drive than the code.
    """
    if "path" not in entry:
        return raw_dir / download_name(entry)
    named = Path(os.path.expanduser(os.path.expandvars(entry["path"]).removeprefix("file://")))
    places = [root / named]
    if not named.is_absolute():
        places += [raw_dir / named.name, home_path(named)]
    return next((place for place in places if place.is_file()), places[0])


def locate(entry: dict, raw_dir: Path, root: Path, offline: bool, pins: dict[str, str]) -> Path | None:
    """The local path of a sources-config entry; None if an optional file is missing.

    A `url` (or one of its `mirrors`) is downloaded into `raw_dir` unless the file is there. `pins`: SHA-256
    by `<source>/<file>`, where the source is the name of `raw_dir`; the entry's own `sha256` comes first.
    DataError for a missing file, NotFetched if no url gives it.
    """
    path = entry_path(entry, raw_dir, root)
    # A file may have the sign in its name.
    if "$" in os.path.expandvars(entry.get("path", "")) and not path.is_file():
        raise DataError(
            f"{entry['path']}: environment variable not set; export it or edit the sources config"
        )
    is_noted = False
    if "path" not in entry and not path.is_file() and not offline:
        pin = entry.get("sha256") or pins.get(f"{raw_dir.name}/{path.name}")
        try:
            fetch([entry["url"], *entry.get("mirrors", [])], path, pin)
        except NotFetched as error:
            if not entry.get("optional"):
                raise
            note(f"{raw_dir.name}: built without an optional file: {error}")
            is_noted = True

    if path.is_file():
        return path
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name the file in it in the sources config")
    if path.is_symlink() or path.exists():
        raise DataError(f"{path}: {unreadable_reason(path)}")
    if entry.get("optional"):
        if not is_noted:
            note(f"{raw_dir.name}: built without an optional file: {path}: no such file")
        return None
    remedy = "run once without --offline" if "url" in entry else "correct the path in the sources config"
    raise DataError(f"{path}: no such file; {remedy}")


def locate_files(
    config: dict, raw_dir: Path, root: Path, offline: bool, pins: dict[str, str]
) -> tuple[dict[str, SourceFiles], list[str]]:
    """The files of each source of the config, and a line on each source that has to be left out.

    A url is downloaded into `raw_dir` unless it is there. `root`: where relative paths of the config start.
    `pins`: SHA-256 by `<source>/<file>`. Optional files that are missing are left out; DataError for others.
    A source is left out if a file of it cannot be downloaded; the others are still fetched. StageError if no
    source remains.
    """
    files: dict[str, SourceFiles] = {}
    left_out = []
    for name, source in config["sources"].items():
        try:
            files[name] = _source_files(source, raw_dir / name, root, offline, pins)
        except NotFetched as error:
            left_out.append(f"{name}: left out, {error}")
            note(left_out[-1])
    if not files:
        raise StageError(f"no source could be fetched; {left_out[0]}")
    return files, left_out


def _source_files(
    source: dict, raw_dir: Path, root: Path, offline: bool, pins: dict[str, str]
) -> SourceFiles:
    """The files of one source by role; the last error is raised once all of its files were tried."""
    files: SourceFiles = {role: [] for role in ROLES}
    failed = None
    for role in ROLES:
        for entry in source.get(role, []):
            try:
                path = locate(entry, raw_dir, root, offline, pins)
            except NotFetched as error:
                failed = error
                continue
            if path:
                files[role].append((path, entry))
    if failed:
        raise failed
    return files


def config_pins(files: dict[str, SourceFiles]) -> dict[Path, str]:
    """The SHA-256 that the config itself gives for a file (`sha256:`), by path."""
    pins = {}
    for roles in files.values():
        for path, entry in itertools.chain.from_iterable(roles.values()):
            if "sha256" in entry:
                pins[Path(os.path.abspath(path))] = entry["sha256"]
    return pins


def files_by_name(files: dict[str, SourceFiles]) -> dict[str, Path]:
    """`<source>/<file name>` -> path of every file: the names that hashes are pinned under.

    Files of one name in a source have their folders in front, as many as it takes to tell them apart.
    """
    by_name = {}
    for source, roles in files.items():
        # Not resolved: a link into a store of hashes is named like the file that it stands for.
        paths = {Path(os.path.abspath(path)) for entries in roles.values() for path, _ in entries}
        for path in sorted(paths):
            others = [other.parts for other in paths if other != path]
            n_parts = 1
            while any(other[-n_parts:] == path.parts[-n_parts:] for other in others):
                n_parts += 1
            by_name["/".join([source, *path.parts[-n_parts:]])] = path
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
