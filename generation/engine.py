"""Batched generation: token ids in, token ids and log-probabilities out. It knows budgets, drafts and stop tests, not what is said."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from transformers import DynamicCache

from generation.cache import expand_cache, prefix_cache, roomy_cache, takes_holes
from generation.sampling import Choice, Sampling

# Other modules take the first two from here.
__all__ = [
    "expand_cache",
    "prefix_cache",
    "generate",
    "generate_batch",
    "last_positions",
    "pad_left",
    "plan_batches",
    "Generated",
    "Guide",
    "Sampling",
]

# Tokens that a batch may hold, padding and completions included, however many rows --batch-size allows.
MAX_BATCH_TOKENS = 1 << 16


class Guide(Protocol):
    """What a caller knows of one completion, given its tokens so far."""

    def draft(self, ids: list[int]) -> list[int]:
        """Tokens that probably come next. One pass reads them all and keeps those that the model says too: a wrong one costs time only."""

    def allowed(self, ids: list[int]) -> torch.Tensor | None:
        """Ids of the tokens that may come next; None for all. A single one needs no choice."""

    def stop(self, ids: list[int]) -> bool:
        """True when the completion ends with its last token."""


@dataclass
class Generated:
    """Token ids of one completion (without the EOS) and the log-probability of each (the EOS too, when it came).

    Where `Guide.allowed` names tokens, the probabilities are over these alone.
    """

    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


@dataclass
class Row:
    """One completion on its way. The next pass reads its last token and `draft`."""

    guide: Guide
    generator: torch.Generator | None = None
    done: Generated = field(default_factory=Generated)
    draft: list[int] = field(default_factory=list)


def plan_batches(
    lengths: list[int], batch_size: int, max_tokens: int = MAX_BATCH_TOKENS, n_rows: list[int] | None = None
) -> list[list[int]]:
    """Indices in batches of at most `batch_size` rows and `max_tokens` tokens with padding; one index at least.

    Longest first: a batch pads little, and memory peaks at once. `n_rows[i]` is the number of rows of index i (one, if not given).
    """
    batches = []
    n_filled = 0
    for i in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        n_new = n_rows[i] if n_rows else 1
        if (
            not batches
            or n_filled + n_new > batch_size
            or (n_filled + n_new) * lengths[batches[-1][0]] > max_tokens
        ):
            batches.append([])
            n_filled = 0
        batches[-1].append(i)
        n_filled += n_new
    return batches


def pad_left(
    rows: list[list[int]], pad_id: int, device, buckets: Sequence[int] = ()
) -> tuple[torch.Tensor, torch.Tensor]:
    """(ids, mask), both (n_rows, width): the longest row, or the next bucket length.

    Left padding: the last position of every row is the token to continue from.
    """
    longest = max(map(len, rows))
    width = min((bucket for bucket in buckets if bucket >= longest), default=longest)
    ids = torch.tensor([[pad_id] * (width - len(row)) + row for row in rows], device=device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=device)
    return ids, mask


def last_positions(ids: torch.Tensor, n_kept: int) -> torch.Tensor:
    """`logits_to_keep` for the last `n_kept` positions of `ids` (batch, seq_len).

    As indices, not as a number: the model then copies these hidden states, where a number gives it a strided view, for
    which the CPU's matmul copies the whole output matrix once per row (15% of a training step here).
    """
    return torch.arange(ids.shape[1] - n_kept, ids.shape[1], device=ids.device)


def compile_for_speed(model):
    """`--fast`: `torch.compile` on CUDA; on CPU a line that says what happens instead."""
    if model.device.type != "cuda":
        print(
            "fast: on CPU batches are sorted by length, as always; buckets and compilation are for CUDA",
            flush=True,
        )
        return model
    model.forward = torch.compile(model.forward, dynamic=True)
    return model


def settle(
    rows: list[Row], logits: torch.Tensor, eos_ids: set[int], max_new_tokens: int, sampling: Sampling
) -> list[int | None]:
    """Extend each row by what its pass settles: the drafted tokens that the model says too, and one more.

    The logits (n_rows, n_positions, vocab) end with those after the last drafted token. Returns how many drafted tokens are kept,
    None for a row that is finished. Exact for drawn tokens too: each is drawn from the distribution after the tokens before it.
    """
    choice = Choice(logits, sampling)
    kept = []
    places = []
    tokens = []
    holders = []
    for r, row in enumerate(rows):
        ids = row.done.ids
        logps = row.done.logps
        first = logits.shape[1] - 1 - len(row.draft)
        n_right = 0
        while True:
            token, logp = choice.pick(r, first + n_right, row.guide.allowed(ids), row.generator)
            if logp is None:
                places.append((r, first + n_right))
                tokens.append(token)
                holders.append((logps, len(logps)))
            logps.append(logp)
            if token in eos_ids:
                kept.append(None)
                break
            ids.append(token)
            if len(ids) == max_new_tokens or row.guide.stop(ids):
                kept.append(None)
                break
            if n_right == len(row.draft) or token != row.draft[n_right]:
                kept.append(n_right)
                break
            n_right += 1
    for (logps, place), logp in zip(holders, choice.logps(places, tokens)):
        logps[place] = logp
    return kept


@torch.inference_mode()
def generate_batch(
    model,
    suffixes: list[list[int]],
    rows: list[Row],
    owners: list[int],
    *,
    prefix: list[int],
    cache: DynamicCache | None,
    max_new_tokens: int,
    pad_id: int,
    eos_ids: set[int],
    sampling: Sampling,
    buckets: Sequence[int] = (),
) -> None:
    """Fill `rows[i].done` with a completion of `prefix + suffixes[owners[i]]`. A suffix is read once for all its rows; finished rows leave.

    With a cache of the prefix the batch is laid out `[prefix][pad][suffix]`, else `[pad][prefix][suffix]`. Each pass reads a row's last
    token and its draft, padded on the left; padding and what was wrong in a draft stay in the cache as holes that the mask hides.
    """
    # A sliding window counts holes as positions: where it could pass over one there is neither shared prefix nor draft.
    window = getattr(model.config, "sliding_window", None) or 1 << 30
    drafting = (
        takes_holes(model)
        and len(prefix) + max([*map(len, suffixes), *buckets[-1:]]) + max_new_tokens <= window
    )
    shared = cache if drafting else None
    starts = [
        rows[owners.index(i)].guide.draft([])[: max_new_tokens - 1] if drafting else []
        for i in range(len(suffixes))
    ]
    for row, owner in zip(rows, owners):
        row.draft = starts[owner]
    inputs = [(suffix if shared else prefix + suffix) + start for suffix, start in zip(suffixes, starts)]
    ids, mask = pad_left(inputs, pad_id, model.device, buckets)  # (n_suffixes, seq_len)
    mask = torch.cat([mask.new_ones(len(inputs), len(prefix) if shared else 0), mask], dim=1)
    past = roomy_cache(model, shared, len(inputs)) if drafting else DynamicCache(config=model.config)
    source = torch.tensor(owners, device=model.device)
    while True:
        n_read = 1 + max(len(row.draft) for row in rows)
        positions = (mask.cumsum(1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=last_positions(ids, n_read),
        ).logits  # (n_suffixes, then n_rows; n_read; vocab)
        if len(rows) > len(logits):
            logits = logits[source]
        kept = settle(rows, logits, eos_ids, max_new_tokens, sampling)
        alive = [i for i, n in enumerate(kept) if n is not None]
        if not alive:
            return
        if len(alive) < len(mask) or len(rows) > len(mask):
            index = source[alive]
            past.batch_select_indices(index)
            mask = mask[index]
        for place, i in enumerate(alive):
            mask[place, mask.shape[1] - len(rows[i].draft) + kept[i] :] = 0
        rows = [rows[i] for i in alive]
        source = torch.arange(len(alive), device=model.device)
        draft_next(rows, max_new_tokens, window - mask.shape[1] if drafting else 0)
        ids, new_mask = pad_left([[row.done.ids[-1], *row.draft] for row in rows], pad_id, model.device)
        mask = torch.cat([mask, new_mask], dim=1)


def draft_next(rows: list[Row], max_new_tokens: int, n_columns_left: int) -> None:
    """Set the draft of each row: at most the tokens it may still get but one, and none when holes could fill the window."""
    n_left = [max_new_tokens - len(row.done.ids) for row in rows]
    for row, n in zip(rows, n_left):
        row.draft = row.guide.draft(row.done.ids)[: n - 1]
    if max(len(row.draft) for row in rows) + max(n_left) > n_columns_left:
        for row in rows:
            row.draft = []


def _share_prompts(suffixes: list[list[int]], batch_size: int) -> list[list[int]]:
    """Indices of equal suffixes together, at most `batch_size` of them."""
    same: dict[tuple, list[int]] = {}
    for i, suffix in enumerate(suffixes):
        same.setdefault(tuple(suffix), []).append(i)
    return [
        group[start : start + batch_size]
        for group in same.values()
        for start in range(0, len(group), batch_size)
    ]


def generate(
    model,
    tokenizer,
    suffixes: list[list[int]],
    guide: Callable[[int], Guide],
    *,
    prefix: list[int],
    batch_size: int,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    seeds: Sequence[int] = (),
    buckets: Sequence[int] = (),
) -> Iterator[list[tuple[int, Generated]]]:
    """Batches of (index into `suffixes`, completion), longest prompts first. Equal suffixes share their reading.

    `guide(i)` is made when row i starts. `seeds[i]` fixes what row i draws, whatever stands beside it (default: the sampling's seed plus i).
    Out of memory halves the tokens of a batch, this one's and all later ones', and goes on.
    """
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    eos_ids = {tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    with torch.inference_mode():
        cache = prefix_cache(model, prefix) if len(prefix) > 1 else None
    max_tokens = MAX_BATCH_TOKENS
    units = _share_prompts(suffixes, batch_size)

    def plan(units: list[list[int]]) -> list[list[list[int]]]:
        batches = plan_batches(
            [length(unit) for unit in units], batch_size, max_tokens, [len(unit) for unit in units]
        )
        return [[units[k] for k in batch] for batch in batches]

    def length(unit: list[int]) -> int:
        return len(prefix) + len(suffixes[unit[0]]) + max_new_tokens

    def new_row(i: int) -> Row:
        seed = seeds[i] if seeds else sampling.seed + i
        return Row(
            guide(i), torch.Generator(model.device).manual_seed(seed) if sampling.temperature > 0 else None
        )

    waiting = plan(units)
    while waiting:
        batch = waiting.pop(0)
        indices = [i for unit in batch for i in unit]
        rows = [new_row(i) for i in indices]
        owners = [k for k, unit in enumerate(batch) for _ in unit]
        try:
            generate_batch(
                model,
                [suffixes[unit[0]] for unit in batch],
                rows,
                owners,
                prefix=prefix,
                cache=cache,
                max_new_tokens=max_new_tokens,
                pad_id=pad_id,
                eos_ids=eos_ids,
                sampling=sampling,
                buckets=buckets if model.device.type == "cuda" else (),
            )
        except torch.OutOfMemoryError:
            if len(indices) == 1:
                raise
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
            half = len(indices) // 2
            max_tokens = half * length(batch[0])
            units = [
                unit[start : start + half]
                for part in [batch, *waiting]
                for unit in part
                for start in range(0, len(unit), half)
            ]
            waiting = plan(units)
            continue
        yield [(i, row.done) for i, row in zip(indices, rows)]
