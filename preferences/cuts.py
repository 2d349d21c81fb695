"""What does not fit into a reward model's sequence: completions that are cut, pairs that the cut makes equal.

It knows limits in tokens; it knows nothing about models or rewards.
"""

from collections import Counter

import torch

from preferences.reward_config import COMPLETION_TOKENS
from utils.errors import DataError
from utils.runs import note
from utils.tokens import encode_completion, end_id


def encode_completions(tokenizer, rows: list[dict]) -> tuple[list[list[int]], list[bool]]:
    """(token ids of each completion with the token that ends it, whether the completion was cut)."""
    completions = []
    is_cut = []
    for row in rows:
        ids = encode_completion(tokenizer, row["completion"])
        is_cut.append(len(ids) > COMPLETION_TOKENS - 1)
        # An empty completion is still one token long: its end.
        completions.append(ids[: COMPLETION_TOKENS - 1] + [end_id(tokenizer)])
    return completions, is_cut


def encode_sides(tokenizer, row: dict) -> tuple[list[list[int]], list[bool]]:
    """`encode_completions` of the chosen and the rejected side of a preference row."""
    sides = [{"completion": row[side][0]["content"]} for side in ("chosen", "rejected")]
    return encode_completions(tokenizer, sides)


def drop_equal_pairs(preferences: list[dict], tokenizer) -> tuple[list[dict], Counter]:
    """The pairs whose completions differ in what the head reads of them, and the number of others by reason.

    DataError when none is left.
    """
    kept = []
    drops: Counter = Counter()
    for row in preferences:
        (chosen, rejected), is_cut = encode_sides(tokenizer, row)
        if chosen != rejected:
            kept.append(row)
        elif any(is_cut):
            drops[f"equal after the cut at {COMPLETION_TOKENS - 1} tokens"] += 1
        else:
            drops["equal completions"] += 1
    if not kept:
        reasons = ", ".join(f"{n} {reason}" for reason, n in drops.items())
        raise DataError(
            f"no pair of the preferences is left ({reasons}): a head cannot tell equal completions apart; "
            "make others with a smaller --max-new-tokens"
        )
    return kept, drops


def count_cut(found: dict[str, torch.Tensor], key: str = "is_cut") -> int | None:
    """Number of cut completions, or of prompts ("is_prompt_cut"); None (unknown) for an older cache file."""
    return int(found[key].sum()) if key in found else None


def note_cut(found: dict[str, torch.Tensor]) -> None:
    """Name the completions and prompts that the head does not read whole."""
    n_rows = len(found["n_tokens"])
    if n_cut := count_cut(found):
        note(f"cut {n_cut} of {n_rows} completions after {COMPLETION_TOKENS - 1} tokens")
    if n_cut := count_cut(found, "is_prompt_cut"):
        # What is left is numbered anew, so citations may point to other chunks than they did.
        note(
            f"cut the evidence of {n_cut} of {n_rows} completions to fit max_seq_length; raise it to read all"
        )
