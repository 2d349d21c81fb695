"""Progress of a training run: its steps, their validation passes, and a line at each logging step.

It shows what Trainer logs, also in the run.json of the unfinished run, and decides nothing.
"""

import time
from pathlib import Path
from typing import Any

from transformers import TrainerCallback
from transformers.trainer_callback import ExportableState

from training.logged import is_metric
from training.sft_config import LOSS
from utils.json_values import is_number
from utils.jsonl import finite
from utils.progress import progress
from utils.runs import format_seconds, note, write_progress


def seconds_before(state) -> float:
    """The seconds of training in front of the checkpoint that a run resumes from; 0 where none says so.

    `state`: that of Trainer as it was read from the checkpoint.
    """
    saved = (getattr(state, "stateful_callbacks", None) or {}).get(StepProgress.__name__)
    found = saved.get("attributes", {}).get("seconds") if isinstance(saved, dict) else None
    # Checkpoints of earlier versions have none.
    return float(found) if found is not None and is_number(found) else 0.0


class StepProgress(TrainerCallback, ExportableState):
    """Shows steps and validation batches while it is entered, as a context manager.

    `run_dir`: the folder whose run.json says how far the run is; None: none says so.
    """

    def __init__(self, run_dir: Path | None = None):
        self.run_dir = run_dir
        self.steps: Any = None
        self.validation: Any = None
        self.started = 0.0
        # Those of the runs that this one resumes. Trainer saves them with the state of a checkpoint.
        self.seconds_before = 0.0
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

    def state(self) -> dict:
        """What Trainer saves with a checkpoint: the seconds of all runs up to it."""
        elapsed = time.monotonic() - self.started if self.started else 0.0
        return {"args": {}, "attributes": {"seconds": round(self.seconds_before + elapsed, 1)}}

    def times(self, step: int, n_steps: int) -> tuple[float, float | None]:
        """Elapsed seconds of this process and, from its own pace, those left; None before its first step."""
        elapsed = time.monotonic() - self.started
        n_done = step - self.first_step
        return elapsed, elapsed / n_done * (n_steps - step) if n_done else None

    # --- what Trainer calls

    def on_train_begin(self, args, state, control, **kwargs):
        self.seconds_before = seconds_before(state)
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
        names = ["loss", "accuracy", "gain", "grad_norm", "learning_rate"]
        names += filter(is_metric, logs)
        shown = [f"{name} {float(logs[name]):.4g}" for name in names if logs.get(name) is not None]
        if logs.get("tokens_per_second") is not None:
            shown.append(f"{logs['tokens_per_second']:,.0f} tokens/s")
        if logs.get("peak_memory_gb") is not None:
            shown.append(f"peak memory {logs['peak_memory_gb']:.1f} GB")
        elapsed, left = self.times(state.global_step, state.max_steps)
        time_text = format_seconds(elapsed) + ("" if left is None else f", {format_seconds(left)} left")
        note(f"step {state.global_step}/{state.max_steps}: {', '.join(shown)} ({time_text})")
        if self.run_dir and "loss" in logs:
            said = ("loss", "tokens_per_second", "peak_memory_gb")
            measured = {name: finite(logs[name]) for name in said if logs.get(name) is not None}
            seconds = {"seconds": round(elapsed), "seconds_left": None if left is None else round(left)}
            place = {"step": state.global_step, "n_steps": state.max_steps}
            write_progress(self.run_dir, {**place, **measured, **seconds})
