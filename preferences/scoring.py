"""The rewards of completions, as a saved head gives them: for `--score` of train_rm.py, and for best of N.

How prompts are built is handed in. This module knows nothing about pairs or training.
"""

from collections.abc import Callable
from pathlib import Path

from models.distributed import Shards
from preferences.completion_reader import PromptSource
from preferences.cuts import note_cut
from preferences.features import load_features
from preferences.head_base import base_of_head
from preferences.reward import load_head, score_rows
from preferences.reward_config import reading_of
from utils.jsonl import write_jsonl
from utils.schema import read_completion_rows


def score_completions(
    rows: list[dict],
    folder: Path,
    config: dict,
    prompts_of: Callable[[str], PromptSource],
    shards: Shards,
) -> list[dict]:
    """The reward, head score and penalties of each completion row; see `score_rows`.

    `folder` has the head, `prompts_of(name)` gives the prompts of a template. `config` is that of
    train_rm.py.
    """
    head, saved = load_head(folder)
    # A head fits only features made as those that it was trained on, whatever the YAML says today.
    config = config | reading_of(saved)
    config["base_model"] = base_of_head(folder, saved, config["base_model"])
    found = load_features(rows, config, prompts_of(config["template"]), shards)
    if shards.is_main:
        note_cut(found)
    return score_rows(rows, found, head, saved)


def score_file(
    path: Path,
    target: Path,
    folder: Path,
    config: dict,
    prompts_of: Callable[[str], PromptSource],
    shards: Shards,
) -> None:
    """Write `score_completions` of the rows of `path` to `target`. DataError for a wrong row."""
    rows = read_completion_rows(path)
    scored = score_completions(rows, folder, config, prompts_of, shards)
    if not shards.is_main:
        return
    write_jsonl(target, scored)
    print(f"wrote {len(rows)} rewards to {target}")
