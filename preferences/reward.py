"""The reward: a head on frozen features, minus penalties that keep it from being gamed.

    reward = (head score - mean) / std - sum of weight x penalty

mean and std are those of the head's scores on the training completions. The penalties need the completion
and the evidence alone: they are the same at use as in validation, and never part of the loss. This module
knows nothing about gold answers, pairs or training.
"""

import hashlib
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import nn
from torch.nn.functional import gelu

from models.base import model_weights
from models.revisions import cached_revision
from preferences.inputs import HEAD_HASH, check_head_dir
from preferences.reward_config import FEATURE_KEYS
from preferences.support import answer_in_chunks
from utils.atomic import atomic_write
from utils.completions import parse_completion
from utils.config import portable_path
from utils.jsonl import write_json
from utils.own_files import HEAD
from utils.schema import is_label_answer
from utils.shapes import lenient, read_shaped

PENALTIES = ("citation", "confidence", "length", "overcitation", "span", "refusal")

# --- the head


class RewardHead(nn.Module):
    """score = w . x, or w . gelu(V x) with a hidden layer; x = (features - mean) / std, of one completion."""

    # Of the training features. Buffers, not parameters: saved with the weights, never trained.
    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, n_features: int, width: int = 0):
        super().__init__()
        self.hidden = nn.Linear(n_features, width, bias=False) if width else None
        self.linear = nn.Linear(width or n_features, 1, bias=False)
        # From zero, the first loss is log 2 and no direction is preferred before the data speaks.
        nn.init.zeros_(self.linear.weight)
        self.register_buffer("mean", torch.zeros(n_features))
        self.register_buffer("std", torch.ones(n_features))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, n_features) -> (n,)."""
        x = (features - self.mean) / self.std
        return self.linear(x if self.hidden is None else gelu(self.hidden(x)))[:, 0]


def save_head(folder: Path, head: RewardHead, config: dict) -> None:
    """Write reward_head.safetensors and config.json to `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    # No metadata is written, so the file is byte-identical across runs.
    weights = save(head.state_dict())
    with atomic_write(folder / "reward_head.safetensors", "wb") as handle:
        handle.write(weights)
    # Two files are not replaced in one step: the hash tells a head with the scale of another one.
    write_json(folder / "config.json", config | {HEAD_HASH: hashlib.sha256(weights).hexdigest()})


def load_head(folder: Path) -> tuple[RewardHead, dict]:
    """The head in eval mode, and its config.json. DataError when `folder` does not contain a reward model."""
    check_head_dir(folder)
    state = load_file(folder / "reward_head.safetensors")
    width = state["hidden.weight"].shape[0] if "hidden.weight" in state else 0
    head = RewardHead(len(state["mean"]), width)
    head.load_state_dict(state)
    return head.eval(), read_shaped(folder / "config.json", lenient(HEAD))


def head_config(config: dict, scale: dict[str, float], metrics: dict) -> dict:
    """The config.json of a head: everything that is needed to score a completion with it."""
    return {
        "base_model": portable_path(config["base_model"]),
        # A head fits the features of these weights alone.
        "base_weights": model_weights(config["base_model"]),
        "base_revision": cached_revision(config["base_model"]),
        "template": config["template"],
        # The text behind that name may be edited.
        "template_hash": config.get("template_hash"),
        "max_seq_length": config["max_seq_length"],
        "load_in_8bit": config["load_in_8bit"],
        **{name: config[name] for name in (*FEATURE_KEYS, "head_width")},
        # Above 0, the base model is an adapter that was trained for this head.
        "lora_r": config["lora"]["r"],
        "penalty_weights": weights_of(config),
        "score_scale": scale,
        "metrics": metrics,
    }


# --- the penalties


def _stated_confidence(parsed) -> float:
    """The confidence of a parsed completion, 0 without one; 1 for what is none, such as 95."""
    if parsed.confidence is not None:
        return parsed.confidence
    return float(any(error.startswith("confidence is not") for error in parsed.errors))


def penalties(parsed, chunks: list[dict], n_tokens: int) -> dict[str, float]:
    """The penalties of a parsed completion, each in 0..1. Without an answer all are 1.

    With k valid citations among n chunks:

    citation      share of the citations that are out of range
    confidence    the stated confidence of a refusal, or of an answer without a valid citation; else 0
    length        clip((n_tokens - 64) / 64, 0, 1)
    overcitation  max(0, k - 3) / max(1, n - 3)
    span          1 when no cited chunk contains the answer; 0 for refusals, yes/no and label answers
    refusal       1 for a refusal; its weight, 0 by default, moves the reward between answers and refusals
    """
    if parsed.answer is None:
        return dict.fromkeys(PENALTIES, 1.0)
    cited = parsed.citations
    n_chunks = len(chunks)
    # A parsed citation that is not a number is -1, so out of range.
    valid = [c for c in cited if 0 <= c < n_chunks]
    unsupported_claim = parsed.is_refusal or not valid
    # A class is not a span of the evidence: "yes" need not occur in a chunk.
    needs_span = not parsed.is_refusal and not is_label_answer(parsed.answer)
    return {
        "citation": (len(cited) - len(valid)) / len(cited) if cited else 0.0,
        "confidence": _stated_confidence(parsed) if unsupported_claim else 0.0,
        "length": min(1.0, max(0.0, (n_tokens - 64) / 64)),
        "overcitation": min(1.0, max(0, len(set(valid)) - 3) / max(1, n_chunks - 3)),
        "span": float(needs_span and not answer_in_chunks(parsed.answer, [chunks[c] for c in valid])),
        "refusal": float(parsed.is_refusal),
    }


def penalty_table(rows: list[dict], n_tokens: torch.Tensor) -> list[dict[str, float]]:
    """The penalties of each completion row; `n_tokens` (n,) are their lengths."""
    table = []
    for row, length in zip(rows, n_tokens):
        parsed = parse_completion(row["completion"], len(row["evidence_chunks"]))
        table.append(penalties(parsed, row["evidence_chunks"], int(length)))
    return table


def weights_of(config: dict) -> dict[str, float]:
    """The penalty weights of a train_rm.py config, by penalty."""
    return {name: config[f"{name}_penalty_weight"] for name in PENALTIES}


def total_penalty(values: dict[str, float], weights: dict[str, float]) -> float:
    """Weighted sum of the penalties of one completion."""
    # Heads of older versions have no weight of a later penalty.
    return sum(weights.get(name, 0.0) * values[name] for name in PENALTIES)


def penalty_totals(table: list[dict[str, float]], weights: dict[str, float]) -> np.ndarray:
    """Weighted sums of a penalty table, (n,)."""
    return np.array([total_penalty(values, weights) for values in table])


# --- the reward


def score_scale(head: RewardHead, features: torch.Tensor) -> dict[str, float]:
    """Mean and standard deviation of the head's scores on the training completions (n, hidden)."""
    with torch.no_grad():
        scores = head(features)
    # A head without training scores everything 0, and the reward divides by this scale.
    return {"mean": float(scores.mean()), "std": float(scores.std()) or 1.0}


def rewards(
    head: RewardHead, features: torch.Tensor, penalty_sums: np.ndarray, scale: dict[str, float]
) -> np.ndarray:
    """reward = standardized head score - weighted penalties: (n, hidden) and (n,) -> (n,)."""
    with torch.no_grad():
        scores = head(features).numpy()
    return (scores - scale["mean"]) / scale["std"] - penalty_sums


def score_rows(rows: list[dict], found: dict[str, torch.Tensor], head: RewardHead, saved: dict) -> list[dict]:
    """{"id", "reward", "head_score", "penalties"} of each completion row; `saved` is the head's config.json.

    "head_score" is standardized, so the reward is that minus the weighted penalties.
    """
    table = penalty_table(rows, found["n_tokens"])
    sums = penalty_totals(table, saved["penalty_weights"])
    totals = rewards(head, found["features"], sums, saved["score_scale"])
    scored = []
    for row, reward, penalty_sum, values in zip(rows, totals, sums, table):
        head_score = float(reward + penalty_sum)
        scored.append(
            {"id": row["id"], "reward": float(reward), "head_score": head_score, "penalties": values}
        )
    return scored
