"""Keys and values of prompts: a prefix computed once, copied for a batch, with room for new tokens.

Nothing here chooses tokens.
"""

from typing import Any

import torch
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer, DynamicSlidingWindowLayer
from transformers.utils.generic import is_flash_attention_requested

from generation.transfers import on_device
from utils.errors import UsageError

# Columns added when a cache is full; every pass of a completion fills a few.
_ROOM = 64
# What configs call the number of positions that a layer sees (GPT-Neo, the last one).
_WINDOWS = ("sliding_window", "attention_chunk_size", "window_size")
_NO_WINDOW = 1 << 30


class RoomyLayer(DynamicLayer):
    """A `DynamicLayer` that writes into spare columns; the original copies everything in every pass."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args, **kwargs
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Append keys and values, (batch, n_heads, n_new, dim) each; returns all so far."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
            self.n_filled = 0
            self.stored = [key_states[:, :, :0], value_states[:, :, :0]]
        start = self.n_filled
        end = self.n_filled + key_states.shape[-2]
        for i, new in enumerate((key_states, value_states)):
            if self.stored[i].shape[-2] < end:
                # Uninitialized memory is safe: only filled columns are ever shown.
                larger = new.new_empty(*new.shape[:2], end + _ROOM, new.shape[3])
                larger[:, :, :start] = self.stored[i][:, :, :start]
                self.stored[i] = larger
            self.stored[i][:, :, start:end] = new
        self.n_filled = end
        return self._show_filled()

    def _show_filled(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Views of the filled columns, which attention reads and transformers measures."""
        keys, values = (stored[:, :, : self.n_filled] for stored in self.stored)
        self.keys = keys
        self.values = values
        return keys, values

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        """Keep these rows, in this order; an index may be repeated."""
        self.stored = [stored[indices] for stored in self.stored]
        self._show_filled()


def takes_holes(model) -> bool:
    """True when every layer keeps plain keys and values, so that positions can be masked out later."""
    # Other layers, recurrent ones for example, mix positions into a state from which none can be taken out.
    layers = DynamicCache(config=getattr(model, "module", model).config).layers
    return all(type(layer) in (DynamicLayer, DynamicSlidingWindowLayer) for layer in layers)


def attention_window(model) -> int:
    """The number of columns that every layer sees: the sliding window, or more than any prompt has."""
    # DDP hides the model's attributes; the config of a model that reads images too has one of its text model.
    config = getattr(model, "module", model).config.get_text_config()
    # Other implementations count masked columns, but its kernels never see them.
    if is_flash_attention_requested(config):
        return _NO_WINDOW
    kinds = getattr(config, "layer_types", None)
    if kinds and all(kind == "full_attention" for kind in kinds):
        return _NO_WINDOW
    windows = [getattr(config, name, None) for name in _WINDOWS]
    return min([window for window in windows if isinstance(window, int) and window > 0], default=_NO_WINDOW)


def prefix_cache(model, prefix: list[int]) -> DynamicCache:
    """Keys and values of a prefix (token ids), one row. UsageError for a model that keeps none.

    Layers with a sliding window keep those of all its tokens, as others do.
    """
    ids = on_device([prefix], model.device)
    cache = DynamicCache(config=model.config)
    # A sliding layer would forget what is out of its window, and roomy layers must all have the same length.
    if takes_holes(model):
        cache.layers = [DynamicLayer() for _ in cache.layers]
    # The output layer is the widest of the model and is not needed here.
    no_logits = torch.empty(0, dtype=torch.long, device=model.device)
    output = model(
        input_ids=ids,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=no_logits,
    )
    if getattr(output, "past_key_values", None) is None:
        raise UsageError(
            f"{model.config.model_type} models keep no keys and values of the tokens before; "
            "choose a base model with attention and a cache"
        )
    return output.past_key_values


def expand_cache(model, cache: DynamicCache, n_rows: int) -> DynamicCache:
    """A copy of a one-row cache for `n_rows` rows."""
    copied = DynamicCache(config=model.config)
    _copy_into(copied, cache, n_rows)
    return copied


def roomy_cache(model, cache: DynamicCache | None, n_rows: int) -> DynamicCache:
    """A cache with room to grow that starts with `n_rows` copies of a one-row cache, or empty.

    None of its layers forgets, so a sliding window must be wider than all that will be stored
    (`attention_window`).
    """
    roomy = DynamicCache()
    roomy.layers = [RoomyLayer() for _ in DynamicCache(config=model.config).layers]
    if cache is not None:
        _copy_into(roomy, cache, n_rows)
    return roomy


def _copy_into(target: DynamicCache, cache: DynamicCache, n_rows: int) -> None:
    """Append `n_rows` copies of a one-row cache; gradients reach the original."""
    layers: Any = cache.layers
    for i, layer in enumerate(layers):
        keys = layer.keys.expand(n_rows, -1, -1, -1)
        values = layer.values.expand(n_rows, -1, -1, -1)
        target.update(keys, values, i)
