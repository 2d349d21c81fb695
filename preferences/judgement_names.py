"""Which file has the judgements of a judge: it is named after all that changes them.

Names of an earlier version lack the precision and the commit of the judge's model. What was judged then is
read where nothing tells that it was judged otherwise. This module knows nothing about scores or pairs.
"""

from pathlib import Path

from models.hardware import choose_dtype
from models.revisions import hub_revisions
from preferences.judges import Judge, judge_key
from utils.config import input_path
from utils.jsonl import sha256_value
from utils.own_files import HEAD, PREFERENCE_STATS
from utils.shapes import lenient, read_if_there


def judge_version(judge: Judge, model: str | None) -> dict:
    """What the key of a judge's model does not tell, and its judgements depend on; nothing without a model.

    The precision of the passes, and the commits of what was loaded from the hub, by hub id.
    """
    if not judge.model or not model:
        return {}
    names: list[str | None] = [model]
    if judge.model == "rewards":
        # A head is a folder, and its base may be of the hub.
        names = [read_if_there(input_path(model) / "config.json", lenient(HEAD)).get("base_model")]
    # Rounding differs by precision, and with it close comparisons.
    version = {"precision": str(choose_dtype()), "revisions": hub_revisions(*names)}
    return {name: value for name, value in version.items() if value}


def _is_other(stats_path: Path, version: dict) -> bool:
    """Whether the statistics of earlier judgements name another commit of a model."""
    known = read_if_there(stats_path, lenient(PREFERENCE_STATS)).get("revisions", {})
    now = version.get("revisions", {})
    return any(known.get(name, commit) != commit for name, commit in now.items())


def name_judgements(
    cache: Path, settings: dict, version: dict, pairing: dict, overwrite: bool
) -> tuple[str, dict]:
    """(the signature of the judgements and pairs in a cache, the settings that it stands for).

    `settings` of `judge_settings` and `version` of `judge_version` name them, and `pairing`, which changes
    the pairs. Judgements of an earlier version, whose signature is without `version`, keep it; with
    `overwrite` they are made anew, under the signature of today.
    """
    key = judge_key(settings) | pairing
    signature = sha256_value(key | version)[:8]
    earlier = sha256_value(key)[:8]
    is_judged = (cache / f"judgements_{signature}.jsonl").is_file()
    if not is_judged and not overwrite and (cache / f"judgements_{earlier}.jsonl").is_file():
        folder = cache.parent.parent
        if not _is_other(folder / f"preference_stats_{cache.name}-{earlier}.json", version):
            return earlier, settings
    return signature, settings | version


def same_judgements(cache: Path, settings: dict, pairing: dict) -> Path | None:
    """Complete judgements of the candidates in a cache by the same judge, for pairs that other flags made.

    None without any. `settings`: of `name_judgements`; `pairing` names the flags that change no judgement.
    """
    for stats_path in sorted(cache.parent.parent.glob(f"preference_stats_{cache.name}-*.json")):
        known = read_if_there(stats_path, lenient(PREFERENCE_STATS)).get("settings", {})
        judged_by = {name: value for name, value in known.items() if name not in {*pairing, "cache"}}
        found = cache / f"judgements_{stats_path.stem.rpartition('-')[2]}.jsonl"
        if judge_key(judged_by) == judge_key(settings) and found.is_file():
            return found
    return None
