"""What the card of a reward head says of the head and of its pairs, in words.

It knows a head's config.json and preference rows, not how a card looks.
"""

from collections import Counter
from pathlib import Path

# Of `chosen_model` and `rejected_model`.
_WRITERS = {
    "sft": "the SFT model",
    "base": "its base model",
    "policy": "a policy",
    "gold": "nobody (the gold answer)",
    "made": "nobody (made of the gold answer, with one thing worse)",
    "not stated": "models that are not stated",
}


def pair_writers(preferences: list[dict]) -> list[str]:
    """Who wrote the completions of the pairs, in words."""
    names = {row[f"{side}_model"] for row in preferences for side in ("chosen", "rejected")}
    known = [words for name, words in _WRITERS.items() if name in names]
    return known + sorted(names - _WRITERS.keys())


def head_kind(saved: dict) -> str:
    """`A linear head on the frozen base model`, or what else a head with this config.json is."""
    width = saved.get("head_width")
    head = f"A head with a hidden layer of width {width}" if width else "A linear head"
    rank = saved.get("lora_r")
    # Heads of earlier versions do not say it, but their base is the adapter in the folder of their run.
    has_adapter = Path(saved["base_model"]).name == "lora" if rank is None else rank > 0
    base = (
        "the base model with an adapter that was trained for it" if has_adapter else "the frozen base model"
    )
    return f"{head} on {base}"


def pair_sources(preferences: list[dict]) -> dict[str, dict]:
    """Source -> number of pairs and licence."""
    counts = Counter(row["source"] for row in preferences)
    licences = {row["source"]: row.get("licence") or "not stated" for row in preferences}
    return {source: {"n": counts[source], "licence": licences[source]} for source in sorted(counts)}
