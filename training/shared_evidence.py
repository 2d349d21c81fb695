"""Rows with the same evidence in one pass: what they begin with is read once, as the prefix of a template is.

It knows token ids and columns, not what they say. Losses and gradients are those of rows read one by one.
"""

from collections.abc import Callable

import torch

from generation.cache import attention_window
from training.logits import is_packed, logits_after_prefix, tree_logits


def _n_common(first: list[int], second: list[int]) -> int:
    """How many tokens two rows have in common at their beginning; one of each is left over at least."""
    n_most = min(len(first), len(second)) - 1
    for i in range(n_most):
        if first[i] != second[i]:
            return i
    return n_most


def group_cost(model, prefix: list[int]) -> int:
    """Tokens that one more group of a batch costs: none in a common pass, else those of the prefix."""
    return 0 if is_packed(logits_after_prefix(model, share_prefix=True)) else len(prefix)


def plan_groups(rows: list[list[int]], n_prefix: int) -> list[tuple[int, int]]:
    """(number of rows, tokens that all of them begin with) of each group of neighbors that share a pass.

    A group reads `n_prefix` tokens (`group_cost`), then the common beginning once, then the rest of each row,
    padded to the longest. The groups are those that read the fewest tokens in all.
    """
    # best[end]: tokens of the cheapest groups of the first `end` rows, the last of these groups, its tokens.
    best: list[tuple[int, int, int]] = [(0, 0, 0)]
    for end in range(1, len(rows) + 1):
        choices = []
        longest = 0
        n_shared = len(rows[end - 1]) - 1
        for start in range(end - 1, -1, -1):
            longest = max(longest, len(rows[start]))
            if start < end - 1:
                n_shared = min(n_shared, _n_common(rows[start], rows[start + 1]))
            n_rows = end - start
            # A row alone shares nothing.
            n_common = n_shared if n_rows > 1 else 0
            n_tokens = n_prefix + n_common + n_rows * (longest - n_common)
            choices.append((best[start][0] + n_tokens, n_rows, n_common))
        best.append(min(choices))
    groups = []
    end = len(rows)
    while end:
        _, n_rows, n_common = best[end]
        groups.append((n_rows, n_common))
        end -= n_rows
    return groups[::-1]


def group_columns(rows: list[list[int]], n_prefix: int) -> dict[str, torch.Tensor]:
    """What `grouped_logits` reads: for each row the number of its group, and that of its shared tokens."""
    groups = []
    shared = []
    for number, (n_rows, n_shared) in enumerate(plan_groups(rows, n_prefix)):
        groups += [number] * n_rows
        shared += [n_shared] * n_rows
    return {"group": torch.tensor(groups), "n_shared": torch.tensor(shared)}


def grouped_logits(
    logits_of: Callable,
    model,
    prefix: list[int],
    inputs: dict[str, torch.Tensor],
    n_labels: int,
    wanted: torch.Tensor | None = None,
) -> torch.Tensor:
    """Logits at the last `n_labels` positions of each row, or the `wanted` of these: see training/logits.py.

    inputs: "input_ids" and "attention_mask" (batch, seq_len), left-padded and without the prefix, and the
    columns of `group_columns`, (batch,) each. The groups are neighbors. Our CPU attention takes all of them
    in one pass; other models take one group after another, by `logits_of` (training/logits.py).
    """
    if not inputs["n_shared"].any():
        ids = inputs["input_ids"]
        return logits_of(model, prefix, ids, inputs["attention_mask"], n_labels, wanted=wanted)
    # A sliding window that is wide enough for the longest row hides nothing of it.
    fits_window = len(prefix) + inputs["input_ids"].shape[1] <= attention_window(model)
    if is_packed(logits_of) and fits_window:
        return _tree_logits(model, prefix, inputs, n_labels, wanted)
    parts = []
    for number in range(int(inputs["group"][-1]) + 1):
        rows = inputs["group"] == number
        ids = inputs["input_ids"][rows]  # (n_rows, seq_len)
        mask = inputs["attention_mask"][rows]
        n_shared = int(inputs["n_shared"][rows][0])
        # Where each row begins in its columns, and where the part begins that it does not share.
        starts = ids.shape[1] - mask.sum(1)  # (n_rows,)
        first = int(starts[0])
        shared = ids[0, first : first + n_shared].tolist()
        columns = torch.arange(ids.shape[1], device=ids.device)
        mask = mask * (columns >= (starts + n_shared)[:, None])
        # Labels of another group may begin before this group's rows do.
        n_columns = max(int(mask.sum(1).max()), n_labels)
        own = None if wanted is None else wanted[rows]
        ids = ids[:, -n_columns:]
        parts.append(logits_of(model, prefix + shared, ids, mask[:, -n_columns:], n_labels, wanted=own))
    return torch.cat(parts)


def _tree_logits(
    model,
    prefix: list[int],
    inputs: dict[str, torch.Tensor],
    n_labels: int,
    wanted: torch.Tensor | None,
) -> torch.Tensor:
    """`grouped_logits` in one pass over [prefix][shared][row][row]...[shared][row]..., without padding.

    A token sees what comes before it in its own row, in what its group shares, and in the prefix.
    """
    ids = list(prefix)
    positions = list(range(len(prefix)))
    # Of each token, its group and its row; -1 where it belongs to all of them.
    groups = [-1] * len(prefix)
    rows = [-1] * len(prefix)
    ends = []

    def add(tokens: list[int], start: int, group: int, row: int) -> None:
        ids.extend(tokens)
        positions.extend(range(start, start + len(tokens)))
        groups.extend([group] * len(tokens))
        rows.extend([row] * len(tokens))

    columns = zip(inputs["group"].tolist(), inputs["n_shared"].tolist())
    for row, (group, n_shared) in enumerate(columns):
        tokens = inputs["input_ids"][row][inputs["attention_mask"][row].bool()].tolist()
        if n_shared and group != groups[-1]:
            add(tokens[:n_shared], len(prefix), group, -1)
        add(tokens[n_shared:], len(prefix) + n_shared, group, row)
        ends.append(len(ids))

    def sees(owner: list[int]) -> torch.Tensor:
        of = torch.tensor(owner)
        return (of[None] == -1) | (of[None] == of[:, None])  # (n_tokens that see, n_tokens seen)

    seen = (sees(groups) & sees(rows)).tril()
    mask = torch.zeros(seen.shape).masked_fill_(~seen, torch.finfo(torch.float32).min)
    # A row shorter than `n_labels` has no labels before its first token.
    kept = torch.tensor(ends)[:, None] - n_labels + torch.arange(n_labels)  # (n_rows, n_labels)
    return tree_logits(
        model,
        kept.clamp(min=0),
        wanted,
        list(zip(groups, rows)),
        input_ids=torch.tensor(ids)[None],
        position_ids=torch.tensor(positions)[None],
        attention_mask=mask[None, None],
        use_cache=False,
    )
