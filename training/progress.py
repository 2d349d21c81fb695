"""Progress of a training run: its steps, their validation passes, and a line at each logging step.

It shows what Trainer logs and decides nothing.
"""

import time
from typing import Any

from transformers import TrainerCallback

from training.checkpoints import is_timing
from training.sft_config import LOSS
from utils.progress import progress
from utils.runs import format_seconds, note


class StepProgress(TrainerCallback):
    """Shows steps and validation batches while it is entered, as a context manager."""

    def __init__(self):
        self.steps: Any = None
        self.validation: Any = None
        self.started = 0.0
        # A resumed run does not start at step 0.
        self.first_step = 0
        self.last_step = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        # Trainer calls nothing at the end of a run that an exception cuts.
        for bar in (self.validation, self.steps):
            if bar:
                bar.close()

    def time_text(self, step: int, n_steps: int) -> str:
        """Elapsed time of this process and, from its own pace, the time left."""
        elapsed = time.monotonic() - self.started
        text = format_seconds(elapsed)
        n_done = step - self.first_step
        if n_done:
            text += f", {format_seconds(elapsed / n_done * (n_steps - step))} left"
        return text

    # --- what Trainer calls

    def on_train_begin(self, args, state, control, **kwargs):
        self.started = time.monotonic()
        self.first_step = state.global_step
        self.last_step = state.global_step
        self.steps = progress(state.max_steps, "training", "step", initial=state.global_step)

    def on_step_end(self, args, state, control, **kwargs):
        self.steps.update(state.global_step - self.last_step)
        self.last_step = state.global_step

    def on_prediction_step(self, args, state, control, eval_dataloader=None, **kwargs):
        if self.validation is None:
            self.validation = progress(len(eval_dataloader), "validation loss", "batch", delay=1)
        self.validation.update(1)

    def on_evaluate(self, args, state, control, **kwargs):
        if self.validation:
            self.validation.close()
        self.validation = None

    def on_log(self, args, state, control, logs=None, **kwargs):
        if not (state.is_world_process_zero and logs and ("loss" in logs or LOSS in logs)):
            return
        names = ["loss", "grad_norm", "learning_rate"]
        names += [name for name in logs if name.startswith("eval_") and not is_timing(name)]
        shown = [f"{name} {float(logs[name]):.4g}" for name in names if logs.get(name) is not None]
        time_text = self.time_text(state.global_step, state.max_steps)
        note(f"step {state.global_step}/{state.max_steps}: {', '.join(shown)} ({time_text})")
