"""Batched generation: token ids in, token ids and log-probabilities out.

A guide drafts the tokens that probably come next. One pass reads a row's last token and its whole draft, and the draft is
kept as far as the model chooses the same tokens (speculative decoding; Leviathan et al., 2023), so drafts change the speed
and never a token. The engine knows token budgets, drafts and stop conditions, and nothing about the text.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import torch
from transformers import DynamicCache

from generation.batches import BatchQueue, last_positions, pad_left, positions_behind, share_prompts
from generation.cache import attention_window, prefix_cache, roomy_cache, takes_holes
from generation.sampling import Choice, Sampling


@dataclass(frozen=True)
class GenerationSettings:
    """How completions are generated. `batch_size` and `buckets` change memory and speed alone, never a token."""

    # Rows that run together; fewer where MAX_BATCH_TOKENS is reached first.
    batch_size: int
    # Tokens after which a completion is cut.
    max_new_tokens: int
    sampling: Sampling = Sampling()
    # One seed per row, so that a row's tokens do not depend on the rows beside it. Empty: the sampling's seed plus the index.
    seeds: Sequence[int] = ()
    # Prompt lengths in tokens to pad to, ascending, for compiled models; on CPU they are ignored.
    buckets: Sequence[int] = ()


class Guide(Protocol):
    """What a caller knows of one completion, given its tokens so far."""

    def draft(self, ids: list[int]) -> list[int]:
        """Tokens that probably come next. A wrong one costs time only: the pass that reads them keeps what the model chooses too."""

    def allowed(self, ids: list[int]) -> torch.Tensor | None:
        """Ids of the tokens that may come next; None for all. A single one needs no choice."""

    def stop(self, ids: list[int]) -> bool:
        """True when the completion ends with its last token."""


@dataclass
class Generated:
    """Token ids of one completion (without the EOS) and the log-probability of each (of the EOS too, when it came).

    Where `Guide.allowed` names tokens, the probabilities are over these alone.
    """

    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


@dataclass
class Row:
    """An unfinished completion. The next pass reads its last token and `draft`."""

    guide: Guide
    generator: torch.Generator | None = None
    done: Generated = field(default_factory=Generated)
    draft: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Job:
    """What all batches of one call share: the model, the beginning of every prompt, and the settings."""

    model: Any
    # Token ids that every prompt starts with, and their keys and values (one row; None when the prefix is not worth a pass).
    prefix: list[int]
    cache: DynamicCache | None
    pad_id: int
    eos_ids: set[int]
    settings: GenerationSettings


def settle(rows: list[Row], logits: torch.Tensor, job: Job) -> list[int | None]:
    """Extend each row by what its pass settles: the drafted tokens that the model chooses too, and one more.

    The logits (n_rows, n_positions, vocab) end with those after the last drafted token. Returns the number of drafted tokens
    that are kept, None for a finished row. Exact for sampled tokens too: each is drawn from the distribution after the
    tokens before it.
    """
    choice = Choice(logits, job.settings.sampling)
    kept: list[int | None] = []
    # Greedy choices get their log-probabilities at the end, all in one operation; until then their place is empty.
    places: list[tuple[int, int]] = []
    tokens: list[int] = []
    unfilled: list[tuple[list, int]] = []
    for r, row in enumerate(rows):
        ids = row.done.ids
        logps: list = row.done.logps
        first = logits.shape[1] - 1 - len(row.draft)
        n_right = 0
        while True:
            token, logp = choice.pick(r, first + n_right, row.guide.allowed(ids), row.generator)
            if logp is None:
                places.append((r, first + n_right))
                tokens.append(token)
                unfilled.append((logps, len(logps)))
            logps.append(logp)
            if token in job.eos_ids:
                kept.append(None)
                break
            ids.append(token)
            if len(ids) == job.settings.max_new_tokens or row.guide.stop(ids):
                kept.append(None)
                break
            if n_right == len(row.draft) or token != row.draft[n_right]:
                kept.append(n_right)
                break
            n_right += 1
    for (logps, place), logp in zip(unfilled, choice.logps(places, tokens)):
        logps[place] = logp
    return kept


def _first_pass(
    job: Job, suffixes: list[list[int]], rows: list[Row], owners: list[int], drafting: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """ids (n_suffixes, width) and mask (n_suffixes, n_shared + width) of the pass that reads the prompts.

    Sets `row.draft` to what that pass reads behind the row's suffix: a guess for an empty completion, the same for all rows
    of a suffix.
    """
    starts: list[list[int]] = []
    for k in range(len(suffixes)):
        first = rows[owners.index(k)]
        starts.append(first.guide.draft([])[: job.settings.max_new_tokens - 1] if drafting else [])
    for row, owner in zip(rows, owners):
        row.draft = starts[owner]
    # Without a cache to start from, the pass reads the prefix too.
    is_cached = drafting and job.cache is not None
    opening = [] if is_cached else job.prefix
    inputs = [opening + suffix + start for suffix, start in zip(suffixes, starts)]
    ids, mask = pad_left(inputs, job.pad_id, job.model.device, job.settings.buckets)
    shared = mask.new_ones(len(inputs), len(job.prefix) if is_cached else 0)
    return ids, torch.cat([shared, mask], dim=1)


@torch.inference_mode()
def generate_batch(job: Job, suffixes: list[list[int]], rows: list[Row], owners: list[int]) -> None:
    """Fill `rows[i].done` with a completion of the prefix and `suffixes[owners[i]]`. Each suffix is read once for all its rows;
    finished rows leave the batch.

    With a cache of the prefix the batch is laid out `[prefix][pad][suffix]`, else `[pad][prefix][suffix]`. Each pass reads a
    row's last token and its draft, padded on the left. Padding and the wrong part of a draft stay in the cache as holes that
    the mask hides.
    """
    model = job.model
    max_new_tokens = job.settings.max_new_tokens
    # A sliding window counts holes as positions: where it could pass over one there is neither shared prefix nor draft.
    window = attention_window(model)
    widest = max([*map(len, suffixes), *job.settings.buckets[-1:]])
    drafting = takes_holes(model) and len(job.prefix) + widest + max_new_tokens <= window
    shared = job.cache if drafting else None
    ids, mask = _first_pass(job, suffixes, rows, owners, drafting)
    past = roomy_cache(model, shared, len(suffixes)) if drafting else DynamicCache(config=model.config)
    source = torch.tensor(owners, device=model.device)
    while True:
        n_read = 1 + max(len(row.draft) for row in rows)
        logits = model(
            input_ids=ids,
            attention_mask=mask,
            position_ids=positions_behind(mask, ids.shape[1]),
            past_key_values=past,
            use_cache=True,
            logits_to_keep=last_positions(ids, n_read),
        ).logits  # (n_suffixes, then n_rows; n_read; vocab)
        if len(rows) > len(logits):
            logits = logits[source]
        kept = settle(rows, logits, job)
        alive = [i for i, n in enumerate(kept) if n is not None]
        if not alive:
            return

        # Rows that share a suffix get a row of the cache each, and finished ones lose theirs.
        if len(alive) < len(mask) or len(rows) > len(mask):
            index = source[alive]
            past.batch_select_indices(index)
            mask = mask[index]
        for place, i in enumerate(alive):
            mask[place, mask.shape[1] - len(rows[i].draft) + kept[i] :] = 0
        rows = [rows[i] for i in alive]
        source = torch.arange(len(alive), device=model.device)

        draft_next(rows, max_new_tokens, window - mask.shape[1] if drafting else 0)
        last_and_draft = [[row.done.ids[-1], *row.draft] for row in rows]
        ids, new_mask = pad_left(last_and_draft, job.pad_id, model.device)
        mask = torch.cat([mask, new_mask], dim=1)


def draft_next(rows: list[Row], max_new_tokens: int, n_columns_left: int) -> None:
    """Set the draft of each row: one token less than it may still get, and none where holes could fill the window."""
    n_left = [max_new_tokens - len(row.done.ids) for row in rows]
    for row, n in zip(rows, n_left):
        row.draft = row.guide.draft(row.done.ids)[: n - 1]
    if max(len(row.draft) for row in rows) + max(n_left) > n_columns_left:
        for row in rows:
            row.draft = []


def _make_job(model, tokenizer, prefix: list[int], settings: GenerationSettings) -> Job:
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    eos_ids = {tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}
    with torch.inference_mode():
        cache = prefix_cache(model, prefix) if len(prefix) > 1 else None
    if model.device.type != "cuda":
        settings = replace(settings, buckets=())
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
    if sampling.temperature == 0:
        return Row(guide)
    seed = job.settings.seeds[i] if job.settings.seeds else sampling.seed + i
    return Row(guide, torch.Generator(job.model.device).manual_seed(seed))


def generate(
    model,
    tokenizer,
    suffixes: list[list[int]],
    guide: Callable[[int], Guide],
    prefix: list[int],
    settings: GenerationSettings,
) -> Iterator[list[tuple[int, Generated]]]:
    """Batches of (index into `suffixes`, completion of prefix + suffix), longest prompts first. Equal suffixes are read once.

    `guide(i)` is called when row i starts. Out of memory halves the tokens of this and of all later batches and tries again;
    it is raised when a single row does not fit.
    """
    job = _make_job(model, tokenizer, prefix, settings)
    lengths = [len(prefix) + len(suffix) + settings.max_new_tokens for suffix in suffixes]
    queue = BatchQueue(share_prompts(suffixes, settings.batch_size), lengths, settings.batch_size)
    while queue:
        batch = queue.pop()
        indices = [i for unit in batch for i in unit]
        rows = [_new_row(i, guide(i), job) for i in indices]
        owners = [k for k, unit in enumerate(batch) for _ in unit]
        try:
            generate_batch(job, [suffixes[unit[0]] for unit in batch], rows, owners)
        except torch.OutOfMemoryError:
            if len(indices) == 1:
                raise
            if model.device.type == "cuda":
                torch.cuda.empty_cache()
            queue.put_back_halved(batch)
            continue
        yield [(i, row.done) for i, row in zip(indices, rows)]
