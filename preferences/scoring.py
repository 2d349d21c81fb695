"""`--score` of train_rm.py: the rewards of completions in a file, as a saved head gives them.

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


def score_file(
    path: Path,
    target: Path,
    folder: Path,
    config: dict,
    prompts_of: Callable[[str], PromptSource],
    shards: Shards,
) -> None:
    """Write the reward, head score and penalties of each row of `path` to `target`.

    `folder` has the head, `prompts_of(name)` gives the prompts of a template. DataError for a wrong row.
    """
    rows = read_completion_rows(path)
    head, saved = load_head(folder)
    # A head fits only features made as those that it was trained on, whatever the YAML says today.
    config = config | reading_of(saved)
    config["base_model"] = base_of_head(folder, saved, config["base_model"])
    found = load_features(rows, config, prompts_of(config["template"]), shards)
    if not shards.is_main:
        return
    note_cut(found)
    write_jsonl(target, score_rows(rows, found, head, saved))
    print(f"wrote {len(rows)} rewards to {target}")
