"""`transformers.Trainer` that may read all rows of an optimizer step in few passes, packed to a token limit.

It decides when and with which rows a pass runs; the loss of a pass is its subclass's. Memory follows the
token limit alone, speed does too, and the batch size only says how many rows a step has.
"""

from dataclasses import dataclass
from typing import Any

import torch
from transformers import Trainer, TrainingArguments

from generation.cache import attention_window
from training.logits import keeps_rows_apart
from training.packing import at_least, join, plan_passes, plan_shared_passes, take
from utils.errors import UsageError

# Tokens that are read to see whether a model keeps packed rows apart.
_N_TRIED = 32


@dataclass
class StepArguments(TrainingArguments):
    """The arguments of transformers, and the number of tokens that a pass may read; None: a batch a pass."""

    tokens_per_pass: int | None = None


class PackedStepTrainer(Trainer):
    """Batches wait until the step's last one; then the rows of all of them run, packed.

    Without `tokens_per_pass` in its arguments it is `transformers.Trainer`.
    """

    # transformers allows None; here it is given.
    model: Any
    # Of each row, what comes first and is not in the batch; whether a pass reads it once.
    prefix: list[int]
    share_prefix: bool
    tokens_per_pass: int | None = None

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.tokens_per_pass = getattr(self.args, "tokens_per_pass", None)
        self.waiting: list[dict] = []
        self.is_checked = False

    def training_step(self, model, inputs, num_items_in_batch=None):
        if self.tokens_per_pass is None:
            return super().training_step(model, inputs, num_items_in_batch)
        self.waiting.append(self._prepare_inputs(inputs))
        # Trainer counts batches, so those that wait stay batches, without a loss.
        if not self.accelerator.sync_gradients:
            return torch.zeros((), device=self.args.device)
        rows = join(self.waiting)
        self.waiting = []
        loss = torch.zeros((), device=self.args.device)
        *first, last = self._passes(model, rows)
        for part in first:
            # Gradients of all processes are added up once per step, behind its last pass.
            with self.accelerator.no_sync(model):
                loss += super().training_step(model, take(rows, part), num_items_in_batch)
        return loss + super().training_step(model, take(rows, last), num_items_in_batch)

    def _passes(self, model, rows: dict) -> list[list[int]]:
        """The rows of a step, by pass. All processes have the same number of passes."""
        max_tokens: Any = self.tokens_per_pass
        n_prefix = len(self.prefix)
        lengths = rows["attention_mask"].sum(1).tolist()
        # Where a window is narrower than a row, each row has its own prefix (training/logits.py).
        if self.share_prefix and n_prefix + max(lengths) <= attention_window(model):
            passes = plan_shared_passes(lengths, max_tokens, n_prefix)
        else:
            self._check_model(model, rows)
            passes = plan_passes([n_prefix + length for length in lengths], max_tokens)
        if self.accelerator.num_processes == 1:
            return passes
        # With sharded weights, all processes take part in a pass: one with fewer would leave them waiting.
        n_passes = self.accelerator.gather(torch.tensor([len(passes)], device=self.args.device))
        return at_least(passes, int(n_passes.max()))

    def _check_model(self, model, rows: dict) -> None:
        """UsageError for a model that would mix the rows of a packed pass; the first time only."""
        if self.is_checked:
            return
        self.is_checked = True
        # Rounding: half precision and quantized layers give other digits in passes of other sizes.
        is_rough = self.args.bf16 or self.args.fp16 or getattr(self.model, "is_quantized", False)
        with self.compute_loss_context_manager():
            keeps = keeps_rows_apart(model, rows["input_ids"][0, -_N_TRIED:], 0.1 if is_rough else 1e-3)
        if not keeps:
            raise UsageError(
                f"training.tokens_per_pass: {self.model.config.model_type} models read on from one packed "
                "row into the next; set it to null"
            )
