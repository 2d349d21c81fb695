"""Keys and values of prompts: a prefix computed once, copies of it for a batch, and room for what is generated."""

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer

# Columns added when a cache is full; every step of a completion fills a few.
_ROOM = 64


class RoomyLayer(DynamicLayer):
    """A `DynamicLayer` that writes into spare columns, where the original copies all keys and values at every step."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append (batch, n_heads, n_new, dim); returns all keys and values so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.n_filled = 0
            self.stored = [key_states[:, :, :0], value_states[:, :, :0]]
        start = self.n_filled
        end = self.n_filled + key_states.shape[-2]
        for i, new in enumerate((key_states, value_states)):
            if self.stored[i].shape[-2] < end:
                larger = new.new_empty(*new.shape[:2], end + _ROOM, new.shape[3])
                larger[:, :, :start] = self.stored[i][:, :, :start]
                self.stored[i] = larger
            self.stored[i][:, :, start:end] = new
        self.n_filled = end
        self.keys, self.values = (stored[:, :, :end] for stored in self.stored)
        return self.keys, self.values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order; a row may be named several times."""
        self.stored = [stored[indices] for stored in self.stored]
        self.keys, self.values = (stored[:, :, : self.n_filled] for stored in self.stored)


def takes_holes(model) -> bool:
    """True when every layer keeps plain keys and values, so that positions may be masked out afterwards."""
    return all(
        type(layer) in (DynamicLayer, DynamicSlidingWindowLayer)
        for layer in DynamicCache(config=model.config).layers
    )


def attention_window(model) -> int:
    """Positions that every layer sees: the sliding window, or more than any prompt has."""
    return getattr(model.config, "sliding_window", None) or 1 << 30


def prefix_cache(model, prefix: list[int]) -> DynamicCache:
    """Keys and values of a prefix, computed once for a model, batch of one."""
    ids = torch.tensor([prefix], device=model.device)
    no_logits = torch.empty(0, dtype=torch.long, device=model.device)
    return model(
        input_ids=ids,
        past_key_values=DynamicCache(config=model.config),
        use_cache=True,
        logits_to_keep=no_logits,
    ).past_key_values


def expand_cache(model, cache: DynamicCache, n_rows: int) -> DynamicCache:
    """A copy of a one-row cache for `n_rows` rows."""
    copied = DynamicCache(config=model.config)
    for i, layer in enumerate(cache.layers):
        copied.update(layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1), i)
    return copied


def roomy_cache(model, cache: DynamicCache | None, n_rows: int) -> DynamicCache:
    """A cache with room to grow that starts with `n_rows` copies of a one-row cache, or empty. No layer of it forgets: a sliding
    window must be wider than what it will hold."""
    roomy = DynamicCache()
    roomy.layers = [RoomyLayer() for _ in DynamicCache(config=model.config).layers]
    if cache is not None:
        for i, layer in enumerate(cache.layers):
            roomy.update(layer.keys.expand(n_rows, -1, -1, -1), layer.values.expand(n_rows, -1, -1, -1), i)
    return roomy
