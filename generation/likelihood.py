"""Reading a model without decoding: probabilities of the next token, and features of given completions.

Beginnings that texts share are read once. Nothing here knows what the texts are used for.
"""

from collections.abc import Hashable, Iterator

import torch

from generation.batches import last_positions, pad_left, plan_batches, positions_behind, split_units
from generation.cache import attention_window, prefix_cache, roomy_cache, takes_holes


def _common_length(rows: list[list[int]]) -> int:
    """Length of the longest common beginning."""
    # The first and the last in order differ as early as any two do.
    low = min(rows)
    high = max(rows)
    for i, (a, b) in enumerate(zip(low, high)):
        if a != b:
            return i
    return min(len(low), len(high))


def _head_length(rows: list[list[int]], n_last: list[int]) -> int:
    """Length of the longest common beginning without the last `n_last[i]` positions of any row."""
    spare = [len(row) - n for row, n in zip(rows, n_last)]
    return min(_common_length(rows), *spare)


def _longest(rows: list[list[int]], indices: list[int]) -> int:
    return max(len(rows[i]) for i in indices)


def _group_units(groups: list[Hashable], batch_size: int) -> list[list[int]]:
    """Units of at most `batch_size` indices of one group."""
    members: dict[Hashable, list[int]] = {}
    for i, group in enumerate(groups):
        members.setdefault(group, []).append(i)
    return split_units(list(members.values()), batch_size)


def _read(
    model, past, mask: torch.Tensor, rows: list[list[int]], pad_id: int, n_kept: int
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """One pass over left-padded rows that continue a cache (None: without one).

    Returns their ids, the mask of everything so far, and the logits of the last `n_kept` positions.
    """
    ids, new_mask = pad_left(rows, pad_id, model.device)
    mask = torch.cat([mask, new_mask], dim=1)
    logits = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions_behind(mask, ids.shape[1]),
        past_key_values=past,
        use_cache=past is not None,
        logits_to_keep=last_positions(ids, n_kept),
    ).logits
    return ids, mask, logits


@torch.inference_mode()
def read_last(
    model, rows: list[list[int]], n_last: list[int], groups: list[Hashable], pad_id: int, batch_size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Batches of (indices, last ids, logits); the last `n_last[i]` positions of row i are among them.

    Ids are (n, n_kept), logits (n, n_kept, vocab). Three passes at most: the beginning of all rows, once; the
    beginning of the rows of a group, once per group; the rest, at most `batch_size` rows at once. In the
    cache: `[common][pad][head of the group][pad][tail of the row]`.
    """
    # A sliding window counts padding as positions: rows that it could move past are read whole, without a
    # cache.
    sharing = takes_holes(model) and 2 * max(map(len, rows)) <= attention_window(model)
    n_common = _head_length(rows, n_last) if sharing else 0
    common = prefix_cache(model, rows[0][:n_common]) if n_common else None
    units = _group_units(groups, batch_size)
    lengths = [_longest(rows, unit) for unit in units]
    for batch in plan_batches(lengths, batch_size, n_rows=[len(unit) for unit in units]):
        indices: list[int] = []
        heads: list[list[int]] = []
        tails: list[list[int]] = []
        # Which head each row continues.
        places: list[int] = []
        for place, k in enumerate(batch):
            unit = units[k]
            of_unit = [rows[i] for i in unit]
            n_head = _head_length(of_unit, [n_last[i] for i in unit]) if sharing else 0
            heads.append(of_unit[0][n_common:n_head])
            tails += [row[max(n_head, n_common) :] for row in of_unit]
            indices += unit
            places += [place] * len(unit)

        past = roomy_cache(model, common, len(heads)) if sharing else None
        mask = torch.ones(len(heads), n_common, dtype=torch.long, device=model.device)
        if any(heads):
            _, mask, _ = _read(model, past, mask, heads, pad_id, 1)
        owners = torch.tensor(places, device=model.device)
        # An empty cache has no rows to copy.
        if past is not None and mask.shape[1] and len(owners) > len(heads):
            past.batch_select_indices(owners)
        n_kept = max(n_last[i] for i in indices)
        ids, _, logits = _read(model, past, mask[owners], tails, pad_id, n_kept)
        yield indices, ids[:, -logits.shape[1] :], logits


def next_token_logps(
    model, prompts: list[list[int]], pad_id: int, batch_size: int, groups: list[Hashable] | None = None
) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Batches of (index, log-probabilities of the next token (vocab,), float32 on CPU).

    `groups[i]` is the group of prompt i: prompts of one group share their beginning, which is read once.
    """
    if not groups:
        groups = list(range(len(prompts)))
    n_last = [1] * len(prompts)
    for indices, _, logits in read_last(model, prompts, n_last, groups, pad_id, batch_size):
        logps = logits[:, -1].float().log_softmax(-1)
        yield list(zip(indices, logps.cpu()))


def completion_features(
    model,
    prefix: list[int],
    suffixes: list[list[int]],
    completions: list[list[int]],
    pad_id: int,
    batch_size: int,
) -> Iterator[list[tuple[int, torch.Tensor, float]]]:
    """Batches of (index, hidden state of the last token (hidden,), mean log-probability of the completion).

    Completions of one prompt (equal suffixes) share its reading. The hidden state is the input of the output
    layer.
    """
    seen: dict[str, torch.Tensor] = {}
    # Hidden states in front of the output layer, without keeping those of every layer.
    hook = model.get_output_embeddings().register_forward_pre_hook(
        lambda module, inputs: seen.update(hidden=inputs[0])
    )
    rows = [prefix + suffix + completion for suffix, completion in zip(suffixes, completions)]
    groups: list[Hashable] = [tuple(suffix) for suffix in suffixes]
    # The position before a completion's first token predicts it.
    n_last = [len(completion) + 1 for completion in completions]
    try:
        for indices, ids, logits in read_last(model, rows, n_last, groups, pad_id, batch_size):
            logps = logits[:, :-1].float().log_softmax(-1).gather(-1, ids[:, 1:, None])[..., 0]
            # Left padding: the last position of every row is the last completion token.
            hidden = seen["hidden"][:, -1].float().cpu()
            means = [float(logps[place, -len(completions[i]) :].mean()) for place, i in enumerate(indices)]
            yield list(zip(indices, hidden, means))
    finally:
        hook.remove()
