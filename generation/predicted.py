"""The row of a completion in a predictions file, and what a run that was cut short knows of its completions.

It knows the two shapes of a completion, but runs no model.
"""

import dataclasses
import math
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from generation.engine import GenerationSettings
from generation.rows import Generated
from utils.tokens import decode

# What a row has while its run may be resumed, and no result: the tokens of its completion.
TOKEN_IDS = "token_ids"


def answer_probability(tokenizer, generated: Generated) -> float:
    """The probability (0-1) of a completion up to the key `citations`: that of its answer."""
    # The key comes after the answer; a completion without it counts as a whole.
    text = ""
    for n, token in enumerate(generated.ids, 1):
        text += decode(tokenizer, [token])
        if '"citations"' in text:
            return math.exp(sum(generated.logps[:n]))
    return math.exp(sum(generated.logps))


def prediction_row(tokenizer, prompt_id: Hashable, name: str, prompt, generated: Generated) -> dict:
    """The row of one completion, as `predict` of `generation/answering.py` describes it."""
    return {
        "id": prompt_id,
        "model": name,
        "completion": decode(tokenizer, generated.ids).strip(),
        "shown": prompt.shown,
        "probability": answer_probability(tokenizer, generated),
        "logp": sum(generated.logps),
        "n_tokens": len(generated.ids),
    }


def known_tokens(rows: Iterable[dict], name: str, prompt_ids: Iterable[Hashable]) -> dict[int, list[int]]:
    """`GenerationSettings.known` of these prompts: what the rows of this model in a log say of them."""
    of_id = {row["id"]: row[TOKEN_IDS] for row in rows if row["model"] == name}
    return {i: of_id[prompt_id] for i, prompt_id in enumerate(prompt_ids) if prompt_id in of_id}


def without_tokens(rows: Iterable[dict]) -> list[dict]:
    """The rows as they are written at the end."""
    return [{key: value for key, value in row.items() if key != TOKEN_IDS} for row in rows]


def only_unknown(
    prompts: Mapping[Hashable, Any], settings: GenerationSettings
) -> tuple[dict[Hashable, Any], GenerationSettings]:
    """The prompts that are left, and their settings."""
    known = settings.known or {}
    left = [i for i in range(len(prompts)) if i not in known]
    ids = list(prompts)
    seeds = [settings.seeds[i] for i in left] if settings.seeds else []
    biases = [settings.biases[i] for i in left] if settings.biases else []
    own = dataclasses.replace(settings, seeds=seeds, biases=biases, known={})
    return {ids[i]: prompts[ids[i]] for i in left}, own
