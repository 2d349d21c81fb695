"""Features of completions: what a frozen model's states and probabilities say of them, read once and kept.

The model is never trained, so its features never change and a head trains on them in seconds. A completion
is read behind its whole prompt; with `logprob_features`, its answer also behind the chunks that it cites
alone, and behind no evidence: support makes a grounded answer likelier. The template's hash and the prompt
builder are handed in. This module knows nothing about rewards.
"""

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch

from models.base import model_key, trained_on
from models.choices import attention_settings
from models.distributed import Shards
from models.hardware import choose_dtype
from models.loading import load_tokenizer
from models.revisions import cached_revision
from preferences.completion_reader import CompletionReader, PromptSource
from preferences.cuts import drop_equal_pairs
from preferences.feature_store import FeatureStore, prompt_key, row_key
from preferences.reward_config import DEFAULTS, FEATURE_KEYS
from utils.batched import batched
from utils.config import home_path, input_path
from utils.jsonl import sha256_value
from utils.locks import cache_lock
from utils.progress import progress

# Prompts whose completions are in one file of features: an interrupted run loses at most these.
_PROMPTS_PER_FILE = 64
# Prompts that a process reads between two lines of progress.
_PROMPTS_PER_READ = 8


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


def _signature(config: dict, template_hash: str) -> str:
    """A hash of all that changes the features of a completion."""
    names = ("max_seq_length", "load_in_8bit", "feature_layers", "pooling", "logprob_features")
    settings = {name: config[name] for name in names}
    settings["template"] = template_hash
    # What the model is, not where: its folder may move, and another model may take its place.
    settings["base_key"] = model_key(config["base_model"])
    # A name of the hub stands for other weights after a push.
    if revision := cached_revision(config["base_model"]):
        settings["base_revision"] = revision
    settings["precision"] = str(choose_dtype())
    settings |= attention_settings(config["attn_implementation"])
    return sha256_value(settings)[:16]


def features_folder(config: dict, template_hash: str) -> Path:
    """The folder of `FeatureStore` with the features of these settings."""
    return home_path(config["output_dir"]) / "features" / _signature(config, template_hash)


def load_features(
    rows: list[dict], config: dict, prompts: PromptSource, shards: Shards
) -> dict[str, torch.Tensor]:
    """The features of n completion rows, from the disk or from passes of the frozen model.

    Returns "features" (n, n_features); "mean_logp" (n,), the mean log-probability per token; "n_tokens" (n,),
    without the end-of-text token; "is_cut" (n,), of the completion; "is_prompt_cut" (n,), of its evidence.
    """
    folder = features_folder(config, prompts.template_hash)
    keys = [row_key(row) for row in rows]
    with shards.hold(cache_lock(folder)):
        store = FeatureStore(folder)
        missing = shards.share(_missing(store, keys))
        if missing:
            _read_missing(store, [rows[i] for i in missing], config, prompts, shards)
        # Only now: the first process has written them all.
        shards.wait()
        store.look_for(keys)
        return store.read(keys)


def answerer_features(
    config: dict, prompts: PromptSource, shards: Shards
) -> Callable[[list[dict]], dict[str, torch.Tensor]] | None:
    """`load_features` by the SFT model; None if `base_model` is no checkpoint of train_sft.py.

    With `lora`, that is another model than the one whose features the head reads.
    """
    if not trained_on(input_path(config["base_model"])):
        return None
    # Without an adapter all features are there already. With one, log-probabilities are all that is wanted.
    if config["lora"]["r"]:
        config = config | {key: DEFAULTS[key] for key in FEATURE_KEYS}
    return functools.partial(load_features, config=config, prompts=prompts, shards=shards)


def _missing(store: FeatureStore, keys: list[str]) -> list[int]:
    """The first places of the completions that are not stored."""
    first = {key: i for i, key in reversed(list(enumerate(keys))) if key not in store}
    return sorted(first.values())


def _read_missing(
    store: FeatureStore, rows: list[dict], config: dict, prompts: PromptSource, shards: Shards
) -> None:
    """Read the completions in fixed portions, each of which the first process writes as one file."""
    reader = CompletionReader.load(config, prompts)
    # Completions of one prompt (chosen and rejected) share one pass over it.
    of_prompt: dict[str, list[dict]] = {}
    for row in rows:
        of_prompt.setdefault(prompt_key(row), []).append(row)
    groups = list(of_prompt.values())
    with progress(len(rows), "reading completions", "completion") as bar:
        for portion in batched(groups, _PROMPTS_PER_FILE):
            read: dict[str, dict[str, torch.Tensor]] = {}
            for part in batched(portion, _PROMPTS_PER_READ * shards.n_processes):
                mine = list(itertools.chain.from_iterable(shards.mine(part)))
                found = dict(shards.gather(list(zip(map(row_key, mine), reader.read(mine)))))
                read |= found
                bar.update(len(found))
            # In the order of the portion, whatever process read them.
            keys = [row_key(row) for row in itertools.chain.from_iterable(portion)]
            if shards.is_main:
                store.add(keys, _stacked([read[key] for key in keys]))


def _stacked(rows: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """One tensor per name, whose first dimension is the row."""
    found: dict[str, list[torch.Tensor]] = {}
    for row in rows:
        for name, tensor in row.items():
            found.setdefault(name, []).append(tensor)
    return {name: torch.stack(tensors) for name, tensors in found.items()}
