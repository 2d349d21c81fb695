"""The reward: a linear head on frozen features, and the five penalties that keep it from being gamed."""

import re
from pathlib import Path

import torch
from safetensors.torch import load_file, save
from torch import nn

from utils.errors import DataError
from utils.jsonl import atomic_write, read_json, write_json
from utils.schema import is_label_answer
from utils.text import contains_tokens, tokenize

PENALTIES = ("citation", "confidence", "length", "overcitation", "span")
_MONTHS = {
    name: str(i)
    for i, name in enumerate(
        "january february march april may june july august september october november december".split(), 1
    )
}


class RewardHead(nn.Module):
    """score = w . (features - mean) / std: one number a completion. Starts at zero; mean and std are those of the training features."""

    def __init__(self, hidden_size: int):
        super().__init__()
        self.linear = nn.Linear(hidden_size, 1, bias=False)
        nn.init.zeros_(self.linear.weight)
        self.register_buffer("mean", torch.zeros(hidden_size))
        self.register_buffer("std", torch.ones(hidden_size))

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        """(n, hidden) -> (n,)."""
        return self.linear((features - self.mean) / self.std)[:, 0]


def save_head(folder: Path, head: RewardHead, config: dict) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    # One metadata key at most keeps the file byte-identical from run to run; there is none here.
    with atomic_write(folder / "reward_head.safetensors", "wb") as handle:
        handle.write(save(head.state_dict()))
    write_json(folder / "config.json", config)


def load_head(folder: Path) -> tuple[RewardHead, dict]:
    """The head and its config.json. DataError when the directory is no reward model."""
    if not (folder / "config.json").is_file() or not (folder / "reward_head.safetensors").is_file():
        raise DataError(
            f"{folder}: no reward model (reward_head.safetensors, config.json); train one with train_rm.py"
        )
    state = load_file(folder / "reward_head.safetensors")
    head = RewardHead(state["linear.weight"].shape[1])
    head.load_state_dict(state)
    return head.eval(), read_json(folder / "config.json")


def _comparable_tokens(text: str) -> list[str]:
    """Tokens with month names as numbers and leading zeros dropped, so that numbers and dates compare."""
    return [_MONTHS.get(token, re.sub(r"^0+(?=\d)", "", token)) for token in tokenize(text)]


def answer_in_chunks(answer: str, chunks: list[dict]) -> bool:
    wanted = _comparable_tokens(answer)
    return any(
        contains_tokens(_comparable_tokens(f"{chunk['title']}. {chunk['text']}"), wanted) for chunk in chunks
    )


def penalties(parsed, chunks: list[dict], n_tokens: int) -> dict[str, float]:
    """The five penalties of a completion, each in 0..1, from the parsed completion and the evidence alone. Unparsable: 1 on all.

    citation = share of cited ids out of range; overcitation = max(0, k - 3) / max(1, n - 3); length = clip((tokens - 64) / 64, 0, 1);
    confidence = the stated confidence on a refusal or without a valid citation; span = no cited chunk holds the answer
    (0 for refusals and for yes/no or label answers).
    """
    if parsed.answer is None:
        return dict.fromkeys(PENALTIES, 1.0)
    cited = parsed.citations
    n_chunks = len(chunks)
    valid = [c for c in cited if 0 <= c < n_chunks]
    unsupported_claim = parsed.is_refusal or not valid
    needs_span = not parsed.is_refusal and not is_label_answer(parsed.answer)
    return {
        "citation": (len(cited) - len(valid)) / len(cited) if cited else 0.0,
        "confidence": (parsed.confidence or 0.0) if unsupported_claim else 0.0,
        "length": min(1.0, max(0.0, (n_tokens - 64) / 64)),
        "overcitation": min(1.0, max(0, len(set(valid)) - 3) / max(1, n_chunks - 3)),
        "span": float(needs_span and not answer_in_chunks(parsed.answer, [chunks[c] for c in valid])),
    }


def total_penalty(values: dict[str, float], weights: dict[str, float]) -> float:
    """Weighted sum of the penalties."""
    return sum(weights[name] * values[name] for name in PENALTIES)
