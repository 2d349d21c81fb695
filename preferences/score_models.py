"""Opens the models of `preferences/scored.py`: a reward head with its base, or a model for likelihoods.

How prompts are built is handed in. This module knows nothing about candidates or pairs.
"""

from collections.abc import Callable

import torch

from preferences.completion_reader import CompletionReader, PromptSource
from preferences.head_base import base_of_head
from preferences.reward import load_head, score_rows
from preferences.reward_config import DEFAULTS, reading_of
from preferences.scored import ScoreModel, citation_scores, squashed
from utils.config import input_path


def open_reward(name: str, settings: dict, prompts_of: Callable[[str], PromptSource]) -> ScoreModel:
    """The reward model in a folder, whose score is its reward, squashed.

    `settings`: keys of train_rm.py's YAML. A head reads as it was trained, whatever they say.
    """
    folder = input_path(name)
    head, saved = load_head(folder)
    config = DEFAULTS | settings | reading_of(saved)
    config["base_model"] = base_of_head(folder, saved, saved["base_model"])
    reader = CompletionReader.load(config, prompts_of(config["template"]))

    def score(rows: list[dict]) -> list[float]:
        readings = reader.read(rows)
        found = {}
        for key in readings[0]:
            found[key] = torch.stack([reading[key] for reading in readings])
        return [squashed(row["reward"]) for row in score_rows(rows, found, head, saved)]

    return ScoreModel(score)


def open_likelihood(name: str, settings: dict, prompts_of: Callable[[str], PromptSource]) -> ScoreModel:
    """A model whose likelihoods tell what citations are worth; `settings`: keys of train_rm.py's YAML."""
    config = DEFAULTS | settings | {"base_model": name}
    reader = CompletionReader.load(config, prompts_of(config["template"]))
    return ScoreModel(lambda rows: citation_scores(rows, reader.citation_effects(rows)))


OPEN = {"rewards": open_reward, "likelihood": open_likelihood}
