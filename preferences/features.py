"""Features of completions: the frozen base model's last hidden state, computed once and cached.

The base model is never trained, so its features never change and a head trains on them in seconds. The
template's hash and the prompt builder are handed in. This module knows nothing about rewards.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save

from generation.likelihood import completion_features
from models.base import model_key
from models.choices import LoadOptions, attention_settings
from models.distributed import Shards
from models.hardware import choose_dtype, speed_up_generation
from models.loading import load_model, load_tokenizer
from preferences.cuts import COMPLETION_TOKENS, drop_equal_pairs, encode_completions
from utils.atomic import atomic_write
from utils.config import home_path
from utils.jsonl import sha256_value
from utils.locks import cache_lock
from utils.progress import progress, track


@dataclass(frozen=True)
class PromptSource:
    """One template: its hash, and `builder(tokenizer, max_tokens=...)`, which has `prefix` and `build`."""

    template_hash: str
    builder: Callable[..., Any]


def as_completions(preferences: list[dict]) -> list[dict]:
    """Completion rows of the pairs: the chosen one of pair i at 2i, its rejected one at 2i + 1.

    A row is {"id", "question", "evidence_chunks", "completion"}.
    """
    rows = []
    for row in preferences:
        for side in ("chosen", "rejected"):
            rows.append(
                {
                    "id": f"{row['id']}:{side}",
                    "question": row["question"],
                    "evidence_chunks": row["evidence_chunks"],
                    "completion": row[side][0]["content"],
                }
            )
    return rows


def distinct_pairs(preferences: list[dict], config: dict) -> tuple[list[dict], Counter]:
    """`drop_equal_pairs` with the tokenizer of the base model."""
    tokenizer = load_tokenizer(config["base_model"], config["trust_remote_code"], config["max_seq_length"])
    return drop_equal_pairs(preferences, tokenizer)


def features_path(rows: list[dict], config: dict, template_hash: str) -> Path:
    """The cache file of these rows: its name is a hash of all that changes their features."""
    settings = {name: config[name] for name in ("max_seq_length", "load_in_8bit")}
    settings["template"] = template_hash
    # What the model is, not where: its folder may move, and another model may take its place.
    settings["base_key"] = model_key(config["base_model"])
    settings["precision"] = str(choose_dtype())
    settings |= attention_settings(config["attn_implementation"])
    keys = [[row["question"], row["evidence_chunks"], row["completion"]] for row in rows]
    name = sha256_value([settings, keys])[:16]
    return home_path(config["output_dir"]) / "features" / f"{name}.safetensors"


def load_features(
    rows: list[dict], config: dict, prompts: PromptSource, shards: Shards
) -> dict[str, torch.Tensor]:
    """The features of n completion rows, from the cache or from one pass of the frozen base model.

    Returns "features" (n, hidden); "mean_logp" (n,), the mean log-probability per token; "n_tokens" (n,),
    without the end-of-text token; "is_cut" (n,), of the completion; "is_prompt_cut" (n,), of its evidence.
    """
    path = features_path(rows, config, prompts.template_hash)
    if shards.share(path.is_file()):
        return load_file(path)
    with shards.hold(cache_lock(path)):
        # Another run may have read the same completions while this one waited.
        if shards.share(path.is_file()):
            return load_file(path)
        return _read_completions(path, rows, config, prompts, shards)


def _read_completions(
    path: Path, rows: list[dict], config: dict, prompts: PromptSource, shards: Shards
) -> dict[str, torch.Tensor]:
    """One pass of the frozen base model over the completions, which the first process writes to `path`."""
    tokenizer = load_tokenizer(config["base_model"], config["trust_remote_code"], config["max_seq_length"])
    builder = prompts.builder(tokenizer, max_tokens=config["max_seq_length"] - COMPLETION_TOKENS)
    built = [builder.build(row) for row in track(rows, "reading prompts", "completion")]
    suffixes = [prompt.suffix for prompt in built]
    completions, is_cut = encode_completions(tokenizer, rows)
    options = LoadOptions(
        load_in_8bit=config["load_in_8bit"],
        attention=config["attn_implementation"],
        trust_remote_code=config["trust_remote_code"],
    )
    model = speed_up_generation(load_model(config["base_model"], options), options.attention)

    # Completions of one prompt (chosen and rejected) stay in one process, where they share one pass over it.
    of_prompt: dict[tuple, list[int]] = {}
    for i, suffix in enumerate(suffixes):
        of_prompt.setdefault(tuple(suffix), []).append(i)
    mine = [i for group in shards.mine(list(of_prompt.values())) for i in group]
    batches = completion_features(
        model,
        builder.prefix,
        [suffixes[i] for i in mine],
        [completions[i] for i in mine],
        tokenizer.pad_token_id,
        config["eval_batch_size"],
    )
    read = []
    with progress(len(mine), "reading completions", "completion") as bar:
        for batch in batches:
            read += [(mine[place], hidden, mean_logp) for place, hidden, mean_logp in batch]
            bar.update(len(batch))
    # Batches are sorted by length, and each process has its share of the prompts.
    read = sorted(shards.gather(read), key=lambda item: item[0])
    found = {
        "features": torch.stack([hidden for _, hidden, _ in read]),
        "mean_logp": torch.tensor([mean_logp for *_, mean_logp in read]),
        "n_tokens": torch.tensor([len(ids) - 1 for ids in completions], dtype=torch.float32),
        "is_cut": torch.tensor(is_cut),
        "is_prompt_cut": torch.tensor(
            [prompt.chunks != row["evidence_chunks"] for prompt, row in zip(built, rows)]
        ),
    }
    if shards.is_main:
        with atomic_write(path, "wb") as handle:
            handle.write(save(found))
    return found
