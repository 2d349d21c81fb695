"""Reading a model without decoding: probabilities of label tokens, and features of given completions. What texts share is read once."""

from collections.abc import Hashable, Iterator

import torch

from generation.batches import last_positions, pad_left, plan_batches, positions_behind
from generation.cache import attention_window, prefix_cache, roomy_cache, takes_holes


def _common_length(rows: list[list[int]]) -> int:
    """Length of the longest common beginning."""
    # The first and the last in order differ as early as any two do.
    low = min(rows)
    high = max(rows)
    return next((i for i, (a, b) in enumerate(zip(low, high)) if a != b), min(len(low), len(high)))


def _read(
    model, past, mask: torch.Tensor, rows: list[list[int]], pad_id: int, n_kept: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One pass over left-padded rows behind a cache: (ids, mask of everything so far, logits of the last `n_kept` positions)."""
    ids, new_mask = pad_left(rows, pad_id, model.device)
    mask = torch.cat([mask, new_mask], dim=1)
    inputs = {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": positions_behind(mask, ids.shape[1]),
        "past_key_values": past,
        "use_cache": past is not None,
    }
    return ids, mask, model(**inputs, logits_to_keep=last_positions(ids, n_kept)).logits


@torch.inference_mode()
def read_last(
    model, rows: list[list[int]], n_last: list[int], groups: list[Hashable], pad_id: int, batch_size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Batches of (indices, their last ids, logits of the last positions (n, n_kept, vocab)), where n_kept covers `n_last` of each row.

    Three passes at most: what all rows begin with, once; what the rows of a group begin with, once a group; the rest, at most
    `batch_size` rows at once. In the cache: `[common][pad][head of the group][pad][tail of the row]`.
    """
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    # A sliding window counts padding as positions: what could pass over one is read whole, without a cache.
    sharing = takes_holes(model) and 2 * max(map(len, rows)) <= attention_window(model)
    spare = min(len(row) - n for row, n in zip(rows, n_last))
    n_common = min(_common_length(rows), spare) if sharing else 0
    common = prefix_cache(model, rows[0][:n_common]) if n_common else None
    units = [
        group[start : start + batch_size]
        for group in members.values()
        for start in range(0, len(group), batch_size)
    ]
    lengths = [max(len(rows[i]) for i in unit) for unit in units]
    for batch in plan_batches(lengths, batch_size, n_rows=[len(unit) for unit in units]):
        n_heads = [
            min(_common_length([rows[i] for i in units[k]]), *(len(rows[i]) - n_last[i] for i in units[k]))
            if sharing
            else 0
            for k in batch
        ]
        heads = [rows[units[k][0]][n_common:n] for k, n in zip(batch, n_heads)]
        past = roomy_cache(model, common, len(heads)) if sharing else None
        mask = torch.ones(len(heads), n_common, dtype=torch.long, device=model.device)
        if any(heads):
            _, mask, _ = _read(model, past, mask, heads, pad_id, 1)
        owners = torch.tensor([place for place, k in enumerate(batch) for _ in units[k]], device=model.device)
        if past is not None and mask.shape[1] and len(owners) > len(heads):
            past.batch_select_indices(owners)
        indices = [i for k in batch for i in units[k]]
        tails = [rows[i][max(n, n_common) :] for k, n in zip(batch, n_heads) for i in units[k]]
        ids, _, logits = _read(model, past, mask[owners], tails, pad_id, max(n_last[i] for i in indices))
        yield indices, ids[:, -logits.shape[1] :], logits


def next_token_logps(
    model, prompts: list[list[int]], pad_id: int, batch_size: int, groups: list[Hashable] | None = None
) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Batches of (index, log-probabilities of the next token, (vocab,), float32 on CPU). Prompts of one group share their beginning."""
    for indices, _, logits in read_last(
        model, prompts, [1] * len(prompts), groups or list(range(len(prompts))), pad_id, batch_size
    ):
        yield list(zip(indices, logits[:, -1].float().log_softmax(-1).cpu()))


def completion_features(
    model,
    prefix: list[int],
    suffixes: list[list[int]],
    completions: list[list[int]],
    pad_id: int,
    batch_size: int,
) -> Iterator[list[tuple[int, torch.Tensor, float]]]:
    """Batches of (index, hidden state of the last completion token (hidden,), mean log-probability of the completion tokens).

    Completions of one prompt share its reading. The hidden state is what the output layer reads.
    """
    seen = {}
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: seen.update(hidden=inputs[0])
    )
    rows = [prefix + suffix + completion for suffix, completion in zip(suffixes, completions)]
    # The position before a completion's first token predicts it.
    n_last = [len(completion) + 1 for completion in completions]
    try:
        for indices, ids, logits in read_last(
            model, rows, n_last, [tuple(suffix) for suffix in suffixes], pad_id, batch_size
        ):
            logps = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            means = [float(logps[place, -len(completions[i]) :].mean()) for place, i in enumerate(indices)]
            # Left padding: the last position of every row is the last completion token.
            yield list(zip(indices, seen["hidden"][:, -1].float().cpu(), means))
    finally:
        hook.remove()
