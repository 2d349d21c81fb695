"""Batched generation: token ids in, token ids and log-probabilities out.

A guide drafts the tokens that probably come next. One pass reads a row's last token and its whole draft, and
the draft is kept as far as the model chooses the same tokens (speculative decoding; Leviathan et al., 2023):
drafts change the speed and never a token. The engine knows token budgets, drafts and stop conditions, and
nothing about the text.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import DynamicCache

from generation.batch_queue import BatchQueue
from generation.batches import (
    hide_last,
    last_positions,
    pad_left,
    place_rows,
    positions_behind,
    share_prompts,
)
from generation.cache import attention_window, prefix_cache, roomy_cache, takes_holes
from generation.choice import Bias, Choice
from generation.rows import Generated, Guide, Row, draft_next, settle
from generation.sampling import Sampling
from generation.transfers import LateLogps, on_device
from models.footprint import LONGEST_DRAFT
from models.memory import batch_tokens
from utils.tokens import end_id


@dataclass(frozen=True)
class GenerationSettings:
    """How completions are generated. `batch_size` changes memory and speed, never a token."""

    # Rows that run together; fewer where `batch_tokens` of models/memory.py is reached first.
    batch_size: int
    # Tokens after which a completion is cut.
    max_new_tokens: int
    sampling: Sampling = Sampling()
    # One seed per row; empty: the seed of the sampling plus the row's index.
    seeds: Sequence[int] = ()
    # One bias per row, or None for a row without; empty: none at all.
    biases: Sequence[Bias | None] = ()
    # Rows of `predict` that are generated as if there were no others, in their order; 0: all together. A run
    # that is killed and repeats the portions that it lacks has the last digits of an undisturbed one.
    portion: int = 0
    # Row -> the token ids of its completion, of rows that an earlier run has generated. They are not made
    # again, but count in the plan of the batches and in the drafts, so that the others get the last digits
    # of an undisturbed run. None: the run cannot be resumed. Not together with `portion`.
    known: Mapping[int, list[int]] | None = None


@dataclass(frozen=True)
class Job:
    """Settings and caches that all batches of one call share."""

    model: Any
    # The token ids that every prompt starts with, and their keys and values, one row; None if not computed.
    prefix: list[int]
    cache: DynamicCache | None
    pad_id: int
    eos_ids: set[int]
    settings: GenerationSettings


def _first_pass(
    job: Job, suffixes: list[list[int]], rows: list[Row], owners: list[int], drafting: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (n_suffixes, width) and mask (n_suffixes, n_cached + width) of the pass that reads the prompts.

    Sets `row.draft` to the draft that this pass reads after the row's suffix.
    """
    starts: list[list[int]] = [[] for _ in suffixes]
    if drafting:
        for k in range(len(suffixes)):
            draft = rows[owners.index(k)].guide.draft([])
            starts[k] = draft[: job.settings.max_new_tokens - 1]
    # Rows of a suffix share its reading, and so the draft that follows it.
    for row, owner in zip(rows, owners):
        row.draft = starts[owner]
    # Without a cache to start from, the pass reads the prefix too.
    is_cached = drafting and job.cache is not None
    opening = [] if is_cached else job.prefix
    inputs = [opening + suffix + start for suffix, start in zip(suffixes, starts)]
    ids, mask = pad_left(inputs, job.pad_id, job.model.device)
    cached = mask.new_ones(len(inputs), len(job.prefix) if is_cached else 0)
    return ids, torch.cat([cached, mask], dim=1)


@torch.inference_mode()
def generate_batch(job: Job, suffixes: list[list[int]], rows: list[Row], owners: list[int]) -> None:
    """Fill `rows[i].done` with a completion of the prefix and `suffixes[owners[i]]`.

    A suffix is read once for all its rows. With a cache of the prefix the batch is `[prefix][pad][suffix]`,
    else `[pad][prefix][suffix]`. Each pass reads a row's last token and its draft, padded on the left.
    Padding and the wrong part of a draft stay in the cache as holes that the mask hides. Finished rows leave
    the batch where the cache has rows that can be taken out, and else are read on for nothing.
    """
    model = job.model
    settings = job.settings
    # A sliding window counts holes as positions: where it could move past one, nothing is shared or drafted.
    window = attention_window(model)
    longest = max(map(len, suffixes))
    is_plain = takes_holes(model)
    drafting = is_plain and len(job.prefix) + longest + settings.max_new_tokens <= window
    ids, mask = _first_pass(job, suffixes, rows, owners, drafting)
    if drafting:
        past = roomy_cache(model, job.cache, len(suffixes))
    else:
        past = DynamicCache(config=model.config)
    # The row of the logits and of the cache that each row continues: at first, that of its suffix.
    source = owners
    late = LateLogps()
    while True:
        n_read = 1 + max(len(row.draft) for row in rows)
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions_behind(mask, ids.shape[1]),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=last_positions(ids, n_read),
        ).logits  # (n_suffixes in the first pass, then n_rows; n_read; vocab)
        if source != list(range(len(logits))):
            logits = logits[on_device(source, model.device)]
        choice = Choice(logits, settings.sampling)
        n_kept = settle(rows, choice, settings.max_new_tokens, job.eos_ids, late)
        kept = {i: n for i, n in enumerate(n_kept) if n is not None}
        if not kept:
            late.fill()
            return
        alive = list(kept)

        # From here on every row has its own row of the cache, and finished rows lose theirs.
        source = [source[i] for i in alive]
        if is_plain and source != list(range(len(mask))):
            index = on_device(source, model.device)
            past.batch_select_indices(index)
            mask = mask[index]
            source = list(range(len(alive)))
        # Without plain layers there are no drafts.
        if is_plain:
            mask = hide_last(mask, [len(rows[i].draft) - kept[i] for i in alive])
        rows = [rows[i] for i in alive]

        draft_next(rows, settings.max_new_tokens, window - mask.shape[1] if drafting else 0)
        inputs = place_rows([row.next_ids for row in rows], source, len(mask), job.pad_id)
        ids, new_mask = pad_left(inputs, job.pad_id, model.device)
        mask = torch.cat([mask, new_mask], dim=1)


def _make_job(model, tokenizer, prefix: list[int], settings: GenerationSettings) -> Job:
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    eos_ids = {tokenizer.eos_token_id, end_id(tokenizer), *(eos if isinstance(eos, list) else [eos])} - {None}
    with torch.inference_mode():
        cache = prefix_cache(model, prefix) if len(prefix) > 1 else None
    return Job(
        model=model,
        prefix=prefix,
        cache=cache,
        # Padding is masked everywhere, so any id serves where the tokenizer has none.
        pad_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0,
        eos_ids=eos_ids,
        settings=settings,
    )


def _new_row(i: int, guide: Guide, job: Job) -> Row:
    sampling = job.settings.sampling
    bias = job.settings.biases[i] if job.settings.biases else None
    if sampling.temperature == 0:
        return Row(guide, bias=bias)
    seed = job.settings.seeds[i] if job.settings.seeds else sampling.seed + i
    return Row(guide, torch.Generator(job.model.device).manual_seed(seed), bias)


def generate(
    model,
    tokenizer,
    suffixes: list[list[int]],
    guide: Callable[[int], Guide],
    prefix: list[int],
    settings: GenerationSettings,
) -> Iterator[list[tuple[int, Generated]]]:
    """Batches of (index into `suffixes`, completion of prefix + suffix), longest prompts first.

    Equal suffixes are read once. `guide(i)` is called when row i starts. Out of memory halves the tokens of
    this and of all later batches; OutOfMemory if a single row does not fit.
    """
    job = _make_job(model, tokenizer, prefix, settings)
    lengths = [len(prefix) + len(suffix) + settings.max_new_tokens for suffix in suffixes]
    # A state of a recurrent layer cannot be given to several rows.
    units = [[i] for i in range(len(suffixes))]
    if takes_holes(model):
        units = share_prompts(suffixes, settings.batch_size)
    max_tokens = batch_tokens(model, max(lengths, default=1), min(settings.max_new_tokens, LONGEST_DRAFT))
    queue = BatchQueue(units, lengths, settings.batch_size, max_tokens)

    known = settings.known or {}

    def complete(batch: list[list[int]]) -> list[tuple[int, Generated]]:
        planned = [i for unit in batch for i in unit]
        units = [[i for i in unit if i not in known] for unit in batch]
        units = [unit for unit in units if unit]
        done = {i: Generated(list(known[i])) for i in planned if i in known}
        indices = [i for unit in units for i in unit]
        rows = [_new_row(i, guide(i), job) for i in indices]
        owners = [k for k, unit in enumerate(units) for _ in unit]
        if rows:
            generate_batch(job, [suffixes[unit[0]] for unit in units], rows, owners)
        done |= {i: row.done for i, row in zip(indices, rows)}
        return [(i, done[i]) for i in planned]

    yield from queue.run(complete)
