"""Given completions as a model reads them: hidden states at some depths, and the probability of each token.

Nothing here knows what they are used for.
"""

import functools
from collections.abc import Hashable, Iterator, Sequence
from typing import NamedTuple

import torch

from generation.choice import token_logps
from generation.likelihood import make_job, read_all


class Reading(NamedTuple):
    """A completion as a model reads it, on the CPU in float32.

    `hidden` (n_depths, n_tokens, hidden) has the states at its tokens, `logps` (n_tokens,) their
    log-probabilities.
    """

    hidden: torch.Tensor
    logps: torch.Tensor


class Texts(NamedTuple):
    """Completions behind prompts, as token ids: all prompts begin with `prefix`, each ends in its suffix."""

    prefix: list[int]
    suffixes: list[list[int]]
    completions: list[list[int]]


class HiddenStates:
    """Within it, the states of the last `width` positions of each pass at some depths of a model.

    A depth is a share of the layers; 1 is the input of the output layer, behind the last norm.
    """

    def __init__(self, model, depths: Sequence[float], width: int):
        self.states: dict[float, torch.Tensor] = {}
        self._hooks = []
        self._width = width
        n_layers = model.config.get_text_config().num_hidden_layers
        for depth in depths:
            if depth == 1:
                head = model.get_output_embeddings()
                self._hooks.append(head.register_forward_pre_hook(functools.partial(self._keep_input, depth)))
                continue
            stack = next(
                m for m in model.modules() if isinstance(m, torch.nn.ModuleList) and len(m) == n_layers
            )
            layer = stack[max(round(depth * n_layers), 1) - 1]
            self._hooks.append(layer.register_forward_hook(functools.partial(self._keep_output, depth)))

    def _keep_input(self, depth: float, module, inputs) -> None:
        self._keep(depth, inputs[0])

    def _keep_output(self, depth: float, module, inputs, output) -> None:
        self._keep(depth, output[0] if isinstance(output, tuple) else output)

    def _keep(self, depth: float, states: torch.Tensor) -> None:
        # A copy: all positions would stay in memory during the next pass.
        self.states[depth] = states[:, -self._width :].clone()

    def __enter__(self) -> "HiddenStates":
        return self

    def __exit__(self, *error) -> None:
        for hook in self._hooks:
            hook.remove()


@torch.inference_mode()
def read_completions(
    model, texts: Texts, pad_id: int, batch_size: int, depths: Sequence[float] = (1.0,)
) -> Iterator[list[tuple[int, Reading]]]:
    """Batches of (index, how the model reads that completion).

    Completions of one prompt (equal suffixes) share its reading. `depths`: shares of the layers, 1.0 for the
    input of the output layer.
    """
    completions = texts.completions
    # A process of a launch may have no share of a few completions.
    if not completions:
        return
    rows = [texts.prefix + suffix + completion for suffix, completion in zip(texts.suffixes, completions)]
    groups: list[Hashable] = [tuple(suffix) for suffix in texts.suffixes]
    # The position before a completion's first token predicts it.
    n_last = [len(completion) + 1 for completion in completions]

    with HiddenStates(model, depths, max(n_last)) as kept:

        def measure(indices, ids, logits) -> list[tuple[int, Reading]]:
            found = []
            for place, i in enumerate(indices):
                # Left padding: the last position of every row is the last completion token.
                n = len(completions[i])
                # One row after another: in float32, those of a whole batch can be larger than the model.
                logps = token_logps(logits[place, -n - 1 : -1], ids[place, -n:])
                states = [kept.states[depth][place, -n:].float().cpu() for depth in depths]
                hidden = torch.stack(states) if states else torch.empty(0)
                found.append((i, Reading(hidden, logps.float().cpu())))
            return found

        job = make_job(model, rows, n_last, pad_id)
        yield from read_all(job, groups, batch_size, measure)
