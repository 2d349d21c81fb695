"""Reading a model without decoding: passes over given texts, and the probabilities of their next token.

Beginnings that texts share are read once. Nothing here knows what the texts are used for.
"""

from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from transformers import DynamicCache

from generation.batch_queue import BatchQueue
from generation.batches import last_positions, pad_left, positions_behind, split_units
from generation.cache import attention_window, prefix_cache, roomy_cache, takes_holes
from generation.transfers import on_device
from models.memory import batch_tokens
from models.positions import check_text_length

Found = TypeVar("Found")


@dataclass(frozen=True)
class Job:
    """What all batches of one call share."""

    model: Any
    rows: list[list[int]]
    # Of row i, the last `n_last[i]` positions are read.
    n_last: list[int]
    pad_id: int
    # The number of columns up to which rows may continue a cache; 0 for a model whose caches take no holes.
    window: int
    # The length of the beginning that all rows share, and its keys and values.
    n_common: int
    common: DynamicCache | None


@dataclass(frozen=True)
class Parts:
    """A batch as it is read: the heads, one per unit, then the tails, one per row."""

    heads: list[list[int]]
    tails: list[list[int]]
    # Of each row, its index and the place of the head that it continues.
    indices: list[int]
    places: list[int]


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


def make_job(model, rows: list[list[int]], n_last: list[int], pad_id: int) -> Job:
    check_text_length(model, max(map(len, rows)))
    window = attention_window(model) if takes_holes(model) else 0
    n_common = _head_length(rows, n_last)
    # A beginning that fills the window would leave no room for what continues it.
    if n_common >= window:
        n_common = 0
    common = prefix_cache(model, rows[0][:n_common]) if n_common else None
    return Job(model, rows, n_last, pad_id, window, n_common, common)


def _shared_parts(job: Job, units: list[list[int]]) -> Parts:
    """What the rows of each unit share is its head; both parts begin behind what all rows share."""
    parts = Parts([], [], [], [])
    for place, unit in enumerate(units):
        of_unit = [job.rows[i] for i in unit]
        n_head = max(_head_length(of_unit, [job.n_last[i] for i in unit]), job.n_common)
        parts.heads.append(of_unit[0][job.n_common : n_head])
        parts.tails.extend(row[n_head:] for row in of_unit)
        parts.indices.extend(unit)
        parts.places.extend([place] * len(unit))
    return parts


def _read_shared(job: Job, parts: Parts) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and logits of the tails, in two passes at most: all heads, then all tails.

    In the cache: `[common][pad][head of the unit][pad][tail of the row]`.
    """
    model = job.model
    past = roomy_cache(model, job.common, len(parts.heads))
    mask = torch.ones(len(parts.heads), job.n_common, dtype=torch.long, device=model.device)
    if any(parts.heads):
        _, mask, _ = _read(model, past, mask, parts.heads, job.pad_id, 1)
    owners = on_device(parts.places, model.device)
    # An empty cache has no rows to copy.
    if mask.shape[1] and len(owners) > len(parts.heads):
        past.batch_select_indices(owners)
    n_kept = max(job.n_last[i] for i in parts.indices)
    ids, _, logits = _read(model, past, mask[owners], parts.tails, job.pad_id, n_kept)
    return ids, logits


def _read_whole(job: Job, indices: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    """Ids and logits of rows that share nothing."""
    rows = [job.rows[i] for i in indices]
    mask = torch.ones(len(rows), 0, dtype=torch.long, device=job.model.device)
    n_kept = max(job.n_last[i] for i in indices)
    ids, _, logits = _read(job.model, None, mask, rows, job.pad_id, n_kept)
    return ids, logits


def _read_batch(job: Job, units: list[list[int]]) -> tuple[list[int], torch.Tensor, torch.Tensor]:
    """(indices, last ids, logits) of a batch; the last `n_last[i]` positions of row i are among them.

    Ids are (n, n_kept), logits (n, n_kept, vocab).
    """
    parts = _shared_parts(job, units)
    # A sliding window counts padding as positions: rows that it could move past are read whole, without a
    # cache.
    n_columns = job.n_common + max(map(len, parts.heads)) + max(map(len, parts.tails))
    if n_columns <= job.window:
        ids, logits = _read_shared(job, parts)
    else:
        ids, logits = _read_whole(job, parts.indices)
    return parts.indices, ids[:, -logits.shape[1] :], logits


@torch.inference_mode()
def read_all(
    job: Job,
    groups: list[Hashable],
    batch_size: int,
    measure: Callable[[list[int], torch.Tensor, torch.Tensor], Found],
) -> Iterator[Found]:
    """What `measure` makes of each batch: indices, last ids and logits, as `_read_batch` returns them.

    Rows of a group share a pass over their beginning. Out of memory halves this and all later batches.
    """
    lengths = [len(row) for row in job.rows]
    max_tokens = batch_tokens(job.model, max(lengths), max(job.n_last))
    queue = BatchQueue(_group_units(groups, batch_size), lengths, batch_size, max_tokens)
    yield from queue.run(lambda units: measure(*_read_batch(job, units)))


@torch.inference_mode()
def next_token_logps(
    model, prompts: list[list[int]], pad_id: int, batch_size: int, groups: list[Hashable] | None = None
) -> Iterator[list[tuple[int, torch.Tensor]]]:
    """Batches of (index, log-probabilities of the next token (vocab,), float32 on CPU).

    `groups[i]` is the group of prompt i: prompts of one group share their beginning, which is read once.
    """
    if not groups:
        groups = list(range(len(prompts)))

    def measure(indices, ids, logits) -> list[tuple[int, torch.Tensor]]:
        logps = logits[:, -1].float().log_softmax(-1)
        return list(zip(indices, logps.cpu()))

    job = make_job(model, prompts, [1] * len(prompts), pad_id)
    yield from read_all(job, groups, batch_size, measure)
