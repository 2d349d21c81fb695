"""The sources config: the YAML that names each source's files, every key and value checked.

It opens no file but the YAML; where the named files are is known to `files.py`.
"""

import re
from collections.abc import Callable
from pathlib import Path

from utils.addresses import without_secrets
from utils.config import check_keys, check_stage, home_path, nearest
from utils.errors import UsageError
from utils.yaml_files import read_yaml

# What a file of a source is for: rows with questions, wiki pages, or passages for questions that come
# without any.
ROLES = ("records", "pages", "contexts")

# The official splits that the build knows; rows of `any` may be put into each.
OFFICIAL_SPLITS = ("train", "dev", "test", "any")

# What other tools call one of them. Not taken silently: "eval" is dev to some and test to others.
_OTHER_NAMES = {"validation": "dev", "valid": "dev", "val": "dev", "eval": "dev or test", "all": "any"}


def _is_text(value) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_flag(value) -> bool:
    return isinstance(value, bool)


def _is_count(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_sha256(value) -> bool:
    return isinstance(value, str) and bool(re.fullmatch("[0-9a-f]{64}", value))


def _is_url(value) -> bool:
    """Whether a url can be opened at all; other characters have to be percent-encoded."""
    return isinstance(value, str) and bool(re.fullmatch(r"(https?|ftp|file)://[!-Z_a-z~%]+|file://.+", value))


def _are_urls(value) -> bool:
    return isinstance(value, list) and all(_is_url(item) for item in value)


# A check of a value, and what the value must be.
_Rule = tuple[Callable[[object], bool], str]
_TEXT: _Rule = (_is_text, "text (put it in quotes)")
_FLAG: _Rule = (_is_flag, "true or false")
_COUNT: _Rule = (_is_count, "a whole number from 0 on, such as 20000")
_URL: _Rule = (_is_url, "a url such as https://host/file.jsonl, with %20 for a space")
_URLS: _Rule = (_are_urls, "a list of urls, each such as https://host/file.jsonl")
_SHA256: _Rule = (_is_sha256, "64 lower-case hexadecimal digits, as sha256sum prints them")
_BLOCK: _Rule = (lambda value: isinstance(value, dict), "a block of keys")
_LIST: _Rule = (lambda value: isinstance(value, list), "a list, each item `- path: ...` or `- url: ...`")

_CONFIG_RULES = {
    **{"evaluation_only": _FLAG, "respect_official_splits": _FLAG},
    **{"max_pool_pages": _COUNT, "sources": _BLOCK},
}
_SOURCE_RULES = {"licence": _TEXT, **dict.fromkeys(ROLES, _LIST)}
_ENTRY_RULES = {
    **{"url": _URL, "mirrors": _URLS, "path": _TEXT, "file": _TEXT, "split": _TEXT},
    **{"optional": _FLAG, "sha256": _SHA256},
}


def _check_block(where: str, block, rules: dict[str, _Rule]) -> None:
    """UsageError unless `block` has known keys alone, each with a value of its kind."""
    if not isinstance(block, dict):
        raise UsageError(f"{where}: expected a block of {', '.join(sorted(rules))}, found {block!r:.60}")
    check_keys(where, block, rules)
    for key, value in block.items():
        is_right, wanted = rules[key]
        if not is_right(value):
            # At the top of the file, `where` is the file alone.
            place = f"{where}.{key}" if ": " in where else f"{where}: {key}"
            raise UsageError(f"{place}: must be {wanted}, found {value!r:.60}")


def _check_split(where: str, split: str) -> None:
    """UsageError for a split of another name: its rows would be put into any split, test rows into train."""
    if split in OFFICIAL_SPLITS:
        return
    meant = _OTHER_NAMES.get(split.lower()) or (split.lower() if split.lower() in OFFICIAL_SPLITS else "")
    hint = f"; did you mean {meant}?" if meant else ""
    raise UsageError(f"{where}.split: must be train, dev, test or any, found {split!r}{hint}")


def _check_entry(where: str, entry) -> None:
    if not isinstance(entry, dict) or not {"path", "url"} & entry.keys():
        raise UsageError(f"{where}: each file needs a path or a url (`- path: ...`), found {entry!r:.60}")
    _check_block(where, entry, _ENTRY_RULES)
    _check_split(where, entry.get("split", "any"))
    # The file of a url is saved in the source's own folder.
    if Path(entry.get("file", "x")).name != entry.get("file", "x"):
        raise UsageError(f"{where}.file: must be a name without a folder, found {entry['file']!r}")


def _check_downloads(where: str, entries: list[dict]) -> None:
    """UsageError for two urls that would be saved as one file: the second would be read from the first."""
    url_of: dict[str, str] = {}
    for entry in entries:
        if "path" in entry:
            continue
        name = download_name(entry)
        is_host_alone = "/" not in entry["url"].partition("://")[2].rstrip("/")
        if is_host_alone and "file" not in entry:
            url = without_secrets(entry["url"])
            raise UsageError(f"{where}: {url} has no file name; give it one with `file:`")
        if url_of.setdefault(name, entry["url"]) != entry["url"]:
            urls = without_secrets(f"{url_of[name]} and {entry['url']}")
            raise UsageError(f"{where}: {urls} are both saved as {name}; give one a `file:` name")


def _check_source(where: str, source: dict) -> None:
    """UsageError for the first key or value of a source, or of its files, that is wrong."""
    _check_block(where, source, _SOURCE_RULES)
    if not any(source.get(role) for role in ROLES):
        raise UsageError(f"{where}: names no file; list its `records:`, each `- path: ...` or `- url: ...`")
    for role in ROLES:
        for entry in source.get(role, []):
            _check_entry(f"{where}.{role}", entry)
    _check_downloads(where, [entry for role in ROLES for entry in source.get(role, [])])


def _check_name(where: str, name) -> None:
    """UsageError for a source's name that can be neither a folder nor the start of an id."""
    if not _is_text(name):
        raise UsageError(f"{where}.{name}: a source's name must be text (put it in quotes), found {name!r}")
    if name != name.strip() or not name.isprintable():
        raise UsageError(f"{where}.{name!r}: a source's name must be one line without spaces around it")
    if set(name) & set("/\\:") or name.startswith("."):
        raise UsageError(f"{where}.{name}: a source's name must not contain / \\ : or start with a full stop")


def download_name(entry: dict) -> str:
    """The name that the file of a url is saved under."""
    # A query or fragment is no part of the name.
    return entry.get("file") or entry["url"].split("?")[0].split("#")[0].rstrip("/").rsplit("/", 1)[-1]


def read_sources_config(name: str, root: Path, wanted: list[str] | None) -> dict:
    """The sources YAML, checked and reduced to the wanted sources (None: all, in the order of the file).

    `name` is looked up under `root` first, so that the configs that ship work from any directory, then as
    given, then under FACTUALITY_HOME. DataError without such a file, UsageError for a wrong key or value, or
    an unknown source.
    """
    places = (root / name, Path(name), home_path(name))
    path = next((place for place in places if place.is_file()), Path(name))
    config = read_yaml(path, "sources_config")
    check_stage(path, config, "sources_config")
    sources = config.get("sources") or {}
    _check_block(str(path), {**config, "sources": sources}, _CONFIG_RULES)

    chosen = {}
    for source in wanted or sources:
        if source not in sources:
            raise UsageError(f"source {source!r} is not in {path}{nearest(source, map(str, sources))}")
        _check_name(f"{path}: sources", source)
        _check_source(f"{path}: sources.{source}", sources[source])
        chosen[source] = sources[source]
    if not chosen:
        raise UsageError(f"{path}: no sources; name at least one under `sources:` (see configs/sources.yaml)")
    return {**config, "sources": chosen}
