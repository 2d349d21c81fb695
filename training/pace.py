"""How fast a run trains and how much memory it takes: what log and run.json say beside the loss.

It counts the steps that this process took part in since its start or its resumption; validation and
checkpoints count for neither tokens nor seconds. It knows batches by their masks, not what is learned.
"""

import time
from typing import Any

import torch
from transformers import Trainer, TrainerCallback

from models.peak_memory import peak_memory_gb
from utils.jsonl import finite


class Pace(TrainerCallback):
    """Tokens and seconds of training steps. `n_prefix`: tokens of every row that are not in its batch."""

    def __init__(self, n_prefix: int):
        self.n_prefix = n_prefix
        # Of this process. A tensor after the first batch, which is read only where a line is logged: reading
        # it at every step would make a GPU wait.
        self.n_tokens: Any = 0
        self.seconds = 0.0
        # Both as they were at the last line.
        self.logged = (0, 0.0)
        # Until when the seconds are counted.
        self.counted_at = 0.0

    def start_step(self) -> None:
        self.counted_at = time.monotonic()

    def count(self, batches: list[dict[str, torch.Tensor]]) -> None:
        """Add the tokens of an optimizer step's batches: prompts and completions, no padding."""
        for batch in batches:
            mask = batch["attention_mask"]
            self.n_tokens = self.n_tokens + mask.sum() + self.n_prefix * len(mask)

    def count_seconds(self) -> None:
        now = time.monotonic()
        self.seconds += now - self.counted_at
        self.counted_at = now

    def on_step_end(self, args, state, control, **kwargs):
        self.count_seconds()

    def tokens_of_all(self, accelerator) -> int:
        """Tokens of all processes so far; every process calls it."""
        n_tokens = torch.as_tensor(self.n_tokens, device=accelerator.device)
        return int(accelerator.reduce(n_tokens, reduction="sum"))

    def since_last_line(self, accelerator) -> dict[str, float | None]:
        """Tokens per second since the last call, and the peak of memory so far. Every process calls it.

        Trainer has just read the loss of the step: a GPU has finished it, and the wait for that counts.
        """
        self.count_seconds()
        n_tokens = self.tokens_of_all(accelerator)
        n_before, seconds_before = self.logged
        self.logged = (n_tokens, self.seconds)
        rate = (n_tokens - n_before) / max(self.seconds - seconds_before, 1e-9)
        return {"tokens_per_second": round(rate, 1), "peak_memory_gb": peak_memory_gb()}

    def of_the_run(self, accelerator, log_history: list[dict]) -> dict[str, float | None]:
        """What run.json says of a run at its end, after `log_history`. Every process calls it."""
        rate = self.tokens_of_all(accelerator) / max(self.seconds, 1e-9)
        losses = [log["loss"] for log in log_history if "loss" in log]
        return {
            "first_loss": finite(losses[0]) if losses else None,
            "tokens_per_second": round(rate, 1),
            "peak_memory_gb": peak_memory_gb(),
        }


class PacedTrainer(Trainer):
    """Trainer whose log says how fast it is. A subclass sets `pace` and adds it to the callbacks."""

    pace: Pace

    def get_batch_samples(self, *args, **kwargs):
        # Reading the batches of a step is part of it.
        self.pace.start_step()
        batches, n_items = super().get_batch_samples(*args, **kwargs)
        self.pace.count(batches)
        return batches, n_items

    def log(self, logs: dict, *args, **kwargs) -> None:
        if "loss" in logs:
            logs = {**logs, **self.pace.since_last_line(self.accelerator)}
        super().log(logs, *args, **kwargs)
