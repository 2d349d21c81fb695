"""Batched generation: token ids in, token ids and log-probabilities out. It knows budgets and stop tests, not what is said."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import torch
from transformers import DynamicCache
from transformers.generation import LogitsProcessorList, TemperatureLogitsWarper, TopKLogitsWarper, TopPLogitsWarper


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn. Temperature 0 is greedy; top_p 1 and top_k 0 leave all tokens in."""

    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0

    def warpers(self) -> LogitsProcessorList:
        warpers = LogitsProcessorList()
        if self.temperature > 0 and self.temperature != 1:
            warpers.append(TemperatureLogitsWarper(self.temperature))
        if self.top_k > 0:
            warpers.append(TopKLogitsWarper(self.top_k))
        if self.top_p < 1:
            warpers.append(TopPLogitsWarper(self.top_p))
        return warpers


@dataclass
class Generated:
    """Token ids of one completion (without the EOS) and the log-probability of each (the EOS too, when it came)."""

    ids: list[int] = field(default_factory=list)
    logps: list[float] = field(default_factory=list)


def plan_batches(lengths: list[int], batch_size: int) -> list[list[int]]:
    """Indices in batches of at most `batch_size`, longest first, so that a batch pads little and memory peaks at once."""
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    return [order[start : start + batch_size] for start in range(0, len(order), batch_size)]


def prefix_cache(model, prefix: list[int]) -> DynamicCache:
    """Keys and values of a prefix, computed once for a model, batch of one."""
    ids = torch.tensor([prefix], device=model.device)
    return model(input_ids=ids, past_key_values=DynamicCache(config=model.config), use_cache=True, logits_to_keep=1).past_key_values


def expand_cache(model, cache: DynamicCache, n_rows: int) -> DynamicCache:
    """A copy of a one-row cache for `n_rows` rows."""
    copied = DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        copied.update(layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1), i)
    return copied


def pad_left(rows: list[list[int]], pad_id: int, device, buckets: Sequence[int] = ()) -> tuple[torch.Tensor, torch.Tensor]:
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
        print("fast: on CPU batches are sorted by length, as always; buckets and compilation are for CUDA", flush=True)
        return model
    model.forward = torch.compile(model.forward, dynamic=True)
    return model


def _fits_window(model, n_positions: int) -> bool:
    """False when padding between prefix and suffix could push the prefix out of a sliding window."""
    window = getattr(model.config, "sliding_window", None)
    return window is None or n_positions <= window


@torch.inference_mode()
def generate_batch(
    model,
    suffixes: list[list[int]],
    *,
    prefix: list[int],
    cache: DynamicCache | None,
    max_new_tokens: int,
    pad_id: int,
    eos_ids: set[int],
    sampling: Sampling,
    stop: Callable[[list[int]], bool],
    generator: torch.Generator,
    buckets: Sequence[int] = (),
) -> list[Generated]:
    """Completions of `prefix + suffix` for each suffix. `stop(ids)` ends a row; finished rows leave the batch.

    With a cache of the prefix the batch is laid out `[prefix][pad][suffix]`, else `[pad][prefix][suffix]`.
    """
    width = max([*map(len, suffixes), *buckets[-1:]])
    shared = cache is not None and _fits_window(model, len(prefix) + width + max_new_tokens)
    rows = suffixes if shared else [prefix + suffix for suffix in suffixes]
    ids, mask = pad_left(rows, pad_id, model.device, buckets)  # (batch, seq_len)
    n_cached = len(prefix) if shared else 0
    mask = torch.cat([mask.new_ones(len(rows), n_cached), mask], dim=1)
    past = expand_cache(model, cache, len(rows)) if shared else DynamicCache(config=model.config)
    positions = (mask.cumsum(1) - 1).clamp(min=0)[:, n_cached:]
    done = [Generated() for _ in rows]
    alive = list(range(len(rows)))
    warpers = sampling.warpers()
    for _ in range(max_new_tokens):
        output = model(input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True, logits_to_keep=last_positions(ids, 1))
        logps = output.logits[:, -1].float().log_softmax(-1)  # (alive, vocab)
        if sampling.temperature > 0:
            chosen = torch.multinomial(warpers(ids, logps).softmax(-1), 1, generator=generator)[:, 0]
        else:
            chosen = logps.argmax(-1)
        chosen_logps = logps.gather(1, chosen[:, None])[:, 0].tolist()
        keep = []
        for place, (row, token, logp) in enumerate(zip(alive, chosen.tolist(), chosen_logps)):
            done[row].logps.append(logp)
            if token in eos_ids:
                continue
            done[row].ids.append(token)
            if not stop(done[row].ids):
                keep.append(place)
        if not keep:
            break
        if len(keep) < len(alive):
            index = torch.tensor(keep, device=model.device)
            past.batch_select_indices(index)
            chosen, mask, positions = chosen[index], mask[index], positions[index]
            alive = [alive[place] for place in keep]
        ids = chosen[:, None]
        mask = torch.cat([mask, mask.new_ones(len(keep), 1)], dim=1)
        positions = positions[:, -1:] + 1
    return done


def generate(
    model,
    tokenizer,
    suffixes: list[list[int]],
    *,
    prefix: list[int],
    batch_size: int,
    max_new_tokens: int,
    stop: Callable[[list[int]], bool],
    sampling: Sampling = Sampling(),
    buckets: Sequence[int] = (),
) -> Iterator[list[tuple[int, Generated]]]:
    """Batches of (index into `suffixes`, completion), longest prompts first. Out of memory on a GPU halves the batch and goes on."""
    eos = model.generation_config.eos_token_id if model.generation_config is not None else None
    eos_ids = {tokenizer.eos_token_id, *(eos if isinstance(eos, list) else [eos])} - {None}
    pad_id = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else 0
    with torch.inference_mode():
        cache = prefix_cache(model, prefix) if len(prefix) > 1 else None
    generator = torch.Generator(device=model.device).manual_seed(sampling.seed)
    waiting = plan_batches([len(suffix) for suffix in suffixes], batch_size)
    while waiting:
        batch = waiting.pop(0)
        try:
            completions = generate_batch(
                model, [suffixes[i] for i in batch], prefix=prefix, cache=cache, max_new_tokens=max_new_tokens,
                pad_id=pad_id, eos_ids=eos_ids, sampling=sampling, stop=stop, generator=generator,
                buckets=buckets if model.device.type == "cuda" else (),
            )  # fmt: skip
        except torch.cuda.OutOfMemoryError:
            if len(batch) == 1:
                raise
            torch.cuda.empty_cache()
            half = len(batch) // 2
            waiting[:0] = [batch[:half], batch[half:]]
            continue
        yield list(zip(batch, completions))


def json_object_end(tokenizer) -> Callable[[list[int]], bool]:
    """A stop test: the text so far holds a closed `{...}` (braces inside strings do not count)."""

    def stop(ids: list[int]) -> bool:
        # Only a token with a closing brace can end the object; decoding the rest of the time would be waste.
        if "}" not in tokenizer.decode(ids[-1:]):
            return False
        depth, in_string, escaped = 0, False, False
        for char in tokenizer.decode(ids, skip_special_tokens=True):
            if in_string:
                escaped, in_string = (char == "\\" and not escaped), not (char == '"' and not escaped)
            elif char == '"':
                in_string = depth > 0
            elif char == "{":
                depth += 1
            elif char == "}" and depth:
                depth -= 1
                if depth == 0:
                    return True
        return False

    return stop
