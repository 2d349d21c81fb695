"""Scores of completions with gradients: a base model with an adapter, and a direction trained with it.

    score = v . rms_norm(h),   h the state of the completion's last token before the output layer

Completions of one prompt share a pass over it. This module knows nothing about losses or files.
"""

from dataclasses import dataclass

import torch
from torch import nn

from generation.batches import positions_behind
from generation.cache import attention_window, expand_cache, prefix_cache, takes_holes
from generation.readings import HiddenStates
from preferences.cuts import encode_sides
from preferences.feature_store import prompt_key


@dataclass
class PromptPairs:
    """The pairs of one prompt: token ids of it and of its distinct completions, which the pairs name.

    `chosen`, `rejected`: the place of a pair's completion; `rows`: the pair's place among the preferences.
    """

    prompt: list[int]
    completions: list[list[int]]
    chosen: list[int]
    rejected: list[int]
    rows: list[int]

    def add(self, row: int, chosen: list[int], rejected: list[int]) -> None:
        """One more pair, of these token ids."""
        for ids, places in ((chosen, self.chosen), (rejected, self.rejected)):
            if ids not in self.completions:
                self.completions.append(ids)
            places.append(self.completions.index(ids))
        self.rows.append(row)


def pairs_by_prompt(preferences: list[dict], rows: list[int], tokenizer, builder) -> list[PromptPairs]:
    """The preferences at these places, by prompt, in the order in which the prompts appear."""
    found: dict[str, PromptPairs] = {}
    for i in rows:
        row = preferences[i]
        (chosen, rejected), _ = encode_sides(tokenizer, row)
        key = prompt_key(row)
        if key not in found:
            prompt = builder.prefix + builder.build(row).suffix
            found[key] = PromptPairs(prompt, [], [], [], [])
        found[key].add(i, chosen, rejected)
    return list(found.values())


class AdapterScorer:
    """`scores` of a model whose trained weights are `parameters`; `direction` is v, (hidden,)."""

    def __init__(self, model, pad_id: int):
        self.model = model
        self.pad_id = pad_id
        hidden = model.get_output_embeddings().weight.shape[1]
        # From zero, as the head: the first loss is log 2, and no direction is preferred.
        self.direction = nn.Parameter(torch.zeros(hidden, device=model.device))
        self.reads_prefix = takes_holes(model)

    def parameters(self) -> list[nn.Parameter]:
        """The adapter's weights and the direction."""
        return [*(weight for weight in self.model.parameters() if weight.requires_grad), self.direction]

    def scores(self, prompt: list[int], completions: list[list[int]]) -> torch.Tensor:
        """The score of each completion behind this prompt: (n_completions,), float32."""
        longest = max(map(len, completions))
        # A cache forgets what is out of a sliding window, and other layers keep no keys and values.
        if self.reads_prefix and len(prompt) + longest <= attention_window(self.model):
            states = self._last_states(prompt, completions)
        else:
            states = self._last_states([], [prompt + completion for completion in completions])
        normed = nn.functional.rms_norm(states.float(), states.shape[-1:])
        return normed @ self.direction

    def _last_states(self, prompt: list[int], rows: list[list[int]]) -> torch.Tensor:
        """States of the last token of each row behind a common prompt: (n_rows, hidden)."""
        device = self.model.device
        longest = max(map(len, rows))
        # Padding behind a row is never seen by it, whatever the model's windows and positions are.
        ids = torch.tensor([row + [self.pad_id] * (longest - len(row)) for row in rows], device=device)
        lengths = torch.tensor([len(row) for row in rows], device=device)
        mask = (torch.arange(longest, device=device) < lengths[:, None]).long()  # (n_rows, longest)
        mask = torch.cat([mask.new_ones(len(rows), len(prompt)), mask], dim=1)
        cache = expand_cache(self.model, prefix_cache(self.model, prompt), len(rows)) if prompt else None
        # Logits of a few positions alone: the output layer is the widest, and only its input is wanted.
        wanted, places = (lengths - 1).unique(return_inverse=True)
        with HiddenStates(self.model, [1.0], len(wanted)) as kept:
            self.model(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions_behind(mask, longest),
                past_key_values=cache,
                use_cache=cache is not None,
                logits_to_keep=wanted,
            )
        return kept.states[1.0][torch.arange(len(rows), device=device), places]
