"""-log p of label tokens from the head of a language model, on a CPU block after block of the vocabulary.

With a vocabulary of 262,144 the logits of a step of training and their gradient are hundreds of megabytes,
which are written, converted and read several times; memory that comes fresh from the system costs more than
the products. A frozen head needs none of it: a block of logits is made twice, and fits the cache.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import cast

import torch
from torch import nn

from models.shape import OWN_ON_CPU, VOCAB_BLOCK


class _FrozenHeadLoss(torch.autograd.Function):
    """-log softmax(h W^T) at the targets: (n,), float32; h (n, dim) of the type of W (n_vocab, dim), frozen.

    The gradient is known with the loss: d loss / d h = sum_v softmax(h W^T)_v W_v - W_target.
    """

    @staticmethod
    def forward(ctx, hidden, weight, targets):
        n_rows = len(hidden)
        # Made once: fresh memory for each block would cost more than its product.
        product = hidden.new_empty(n_rows, VOCAB_BLOCK)
        wide = torch.empty(n_rows, VOCAB_BLOCK)

        def logits_of(part: torch.Tensor) -> torch.Tensor:
            n = len(part)
            # Sums below are in float32, products in the type of the weights.
            return wide[:, :n].copy_(torch.mm(hidden, part.T, out=product[:, :n]))

        total = torch.full((n_rows,), -torch.inf)
        told = torch.empty(n_rows)
        for start in range(0, len(weight), VOCAB_BLOCK):
            part = weight[start : start + VOCAB_BLOCK]
            logits = logits_of(part)  # (n_rows, n_block)
            inside = (targets >= start) & (targets < start + len(part))
            told[inside] = logits[inside, targets[inside] - start]
            largest = logits.amax(-1)
            of_part = logits.sub_(largest[:, None]).exp_().sum(-1).log_() + largest
            total = torch.logaddexp(total, of_part)
        if ctx.needs_input_grad[0]:
            grad = -weight[targets].float()  # (n_rows, dim)
            for start in range(0, len(weight), VOCAB_BLOCK):
                part = weight[start : start + VOCAB_BLOCK]
                p = logits_of(part).sub_(total[:, None]).exp_()
                grad += product[:, : len(part)].copy_(p) @ part
            ctx.save_for_backward(grad.to(hidden.dtype))
        return total - told

    @staticmethod
    def backward(ctx, grad_loss):
        (grad,) = ctx.saved_tensors
        return grad * grad_loss[:, None].to(grad.dtype), None, None


def frozen_head(model) -> nn.Linear | None:
    """The head of a model if the loss of this module fits it: known, frozen, on a CPU, whole, not adapted."""
    # DDP hides the model's attributes.
    inner = getattr(model, "module", model)
    config = inner.config.get_text_config()
    # Their logits are the product of the last hidden state and the head, and nothing else.
    is_known = config.model_type in OWN_ON_CPU and not getattr(config, "final_logit_softcapping", None)
    head = inner.get_output_embeddings()
    if not is_known or type(head) is not nn.Linear or head.bias is not None:
        return None
    weight = head.weight
    # FSDP leaves a part of it, or what is no parameter.
    is_whole = isinstance(weight, nn.Parameter) and type(weight.data) is torch.Tensor and weight.dim() == 2
    return head if is_whole and weight.device.type == "cpu" and not weight.requires_grad else None


@contextmanager
def _passed_over(head: nn.Linear) -> Iterator[None]:
    """The head returns what it is given."""
    own = vars(head)
    before = own.get("forward")
    own["forward"] = lambda hidden: hidden
    try:
        yield
    finally:
        del own["forward"]
        if before is not None:
            own["forward"] = before


def head_losses(
    head: nn.Linear, logits_of: Callable[[], torch.Tensor], targets: torch.Tensor
) -> torch.Tensor:
    """`token_losses` of models/hardware.py for a model with this `frozen_head`."""
    with _passed_over(head):
        hidden = logits_of()  # (n, dim)
    return cast(torch.Tensor, _FrozenHeadLoss.apply(hidden.to(head.weight.dtype), head.weight, targets))
