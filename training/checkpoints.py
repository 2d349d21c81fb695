"""The checkpoint directories of a run as it goes (written, rotated, best), and its stops (signal, patience).

It knows when a checkpoint is written, not what is in it; `training/whole.py` tells which can be trusted.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from models.distributed import Shards
from training.card import AVERAGED
from training.logged import is_metric
from training.sft_config import LOSS
from training.stopping import NothingLeft, StopSignals
from training.whole import BEST, CARD, is_whole, mark_whole, numbered_checkpoints, save_points
from utils.errors import StageError
from utils.jsonl import finite, write_text
from utils.own_files import CHECKPOINT
from utils.replacing import put_in_place
from utils.runs import note
from utils.shapes import Maybe, read_shaped


class RunFiles(TrainerCallback):
    """Marks and rotates checkpoints, and keeps the best by `metric`.

    `patience`: stop after this many evaluations without a gain (None: never). `stops` end the run after a
    step. `checkpoint_facts` go into the manifest of every checkpoint; `card` makes the text of its README.md
    from the directory and the manifest.
    """

    def __init__(
        self,
        output_dir: Path,
        max_checkpoints: int,
        checkpoint_facts: dict,
        metric: str = LOSS,
        patience: int | None = None,
        card: Callable[[Path, dict], str] | None = None,
    ):
        self.output_dir = output_dir
        self.max_checkpoints = max_checkpoints
        self.facts = checkpoint_facts
        self.metric = metric
        self.patience = patience
        self.card = card
        self.trainer: Any = None  # set once it exists
        best = output_dir / BEST
        self.best: float | None = None
        if is_whole(best):
            self.best = read_shaped(best / "run.json", {**CHECKPOINT, metric: Maybe(float)})[metric]
        self.evaluated_step = -1
        self.stops = StopSignals()
        self.is_stopped = False  # by a signal
        self.stop_number = 0  # of that signal, in any process
        self.n_averaged = 0  # save points whose weights the end of the run needs
        self.shards = Shards()

    def _note(self, text: str) -> None:
        if self.shards.is_main:
            note(text)

    # --- the best checkpoint

    def is_better(self, value: float) -> bool:
        """True if `value` beats the best so far. Not finite is never better: a loss can become NaN."""
        if not math.isfinite(value):
            return False
        if self.best is None:
            return True
        return value < self.best if self.metric == LOSS else value > self.best

    def save_model(self, name: str, step: int) -> None:
        """Replace `output_dir/name`, once its successor is whole. Every process calls it: of sharded weights
        each has a part."""
        place = self.output_dir / name
        partial = self.output_dir / f".{name}.partial"
        if self.trainer.is_world_process_zero():
            shutil.rmtree(partial, ignore_errors=True)
        self.trainer.save_model(str(partial))
        if self.trainer.is_world_process_zero():
            self.complete(partial, step)
            put_in_place(partial, place)

    def measured(self, step: int) -> dict[str, float | None]:
        """What the last evaluation of a step measured; nothing where there was none."""
        # From the log, which a resumed run has of the evaluations before it.
        for log in reversed(self.trainer.state.log_history):
            if log["step"] == step and LOSS in log:
                return {name: finite(log[name]) for name in log if is_metric(name)}
        return {}

    def complete(self, directory: Path, step: int, **facts) -> None:
        """Write the card and the manifest of a checkpoint: the facts of the run, of the step, and more."""
        facts = {**self.facts, "step": step, **self.measured(step), **facts}
        if self.card:
            write_text(directory / CARD, self.card(directory, facts))
        mark_whole(directory, facts)

    def _is_out_of_patience(self, log_history: list[dict]) -> bool:
        # From the log alone, so that a resumed run counts like one that was never cut.
        values = [log[self.metric] for log in log_history if log.get(self.metric) is not None]
        numbers = [value for value in values if math.isfinite(value)]
        if self.patience is None or not numbers:
            return False
        best = min(numbers) if self.metric == LOSS else max(numbers)
        if len(values) - 1 - values.index(best) < self.patience:
            return False
        self._note(
            f"stopping early: {self.patience} evaluations without a better {self.metric} than {best:.4g}"
        )
        return True

    # --- what Trainer calls

    def on_train_begin(self, args, state, control, **kwargs):
        # A run that was cut behind its last evaluation has nothing left either.
        if AVERAGED not in self.facts and self._is_out_of_patience(state.log_history):
            raise NothingLeft

    def on_epoch_begin(self, args, state, control, **kwargs):
        # Trainer's own call misses the sampler if several processes resume in the middle of an epoch.
        self.trainer.sampler.set_epoch(int(state.epoch or 0))
        # A stop saves its step, and leaves the evaluation of that step to the run that resumes.
        if is_evaluation_owed(args, state):
            self.trainer.evaluate()
            if control.should_training_stop:
                raise NothingLeft

    def on_epoch_end(self, args, state, control, **kwargs):
        # Trainer also comes here when a stop cuts an epoch.
        is_due = not self.is_stopped and state.global_step != self.evaluated_step
        control.should_evaluate = is_due
        control.should_save = is_due
        return control

    def on_step_end(self, args, state, control, **kwargs):
        is_last = state.global_step >= state.max_steps
        if is_last:
            control.should_evaluate = True
            control.should_save = True
        # A signal can reach processes in different steps, or only one of them. All stop in the same step, or
        # they would wait for each other.
        self.stop_number = max((number or 0 for number in self.shards.gather([self.stops.number])), default=0)
        self.is_stopped = self.stop_number > 0
        if self.is_stopped:
            control.should_save = True
            control.should_training_stop = True
            # Whoever stops a run does not want to wait for an evaluation: `on_epoch_begin` makes up for it.
            control.should_evaluate = is_last
        return control

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.evaluated_step = state.global_step
        value = metrics.get(self.metric)
        if not math.isfinite(metrics[LOSS]):
            self._note(f"warning: {LOSS} is not a number at step {state.global_step}; {_remedy(args)}")
        if value is not None and self.is_better(value):
            self.best = value
            self.save_model(BEST, state.global_step)
        if AVERAGED not in self.facts and self._is_out_of_patience(state.log_history):
            control.should_training_stop = True
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        # Later a single loss may overflow and training recover. All processes log the same mean.
        losses = [log["loss"] for log in state.log_history if "loss" in log]
        if losses and "loss" in (logs or {}) and not any(map(math.isfinite, losses)):
            # Trainer logs the first step, whose loss is that of the model as it was loaded.
            if state.global_step <= 1 and not args.fp16:
                raise StageError(
                    "the training loss is not a number at step 1, before anything was learned: the weights "
                    "of the model are damaged, or the attention fails on this device; copy or download the "
                    "model again, or try attn_implementation: eager with --overwrite"
                )
            raise StageError(
                f"the training loss is not a number at step {state.global_step}; {_remedy(args)}, with "
                "--overwrite, as the settings change"
            )

    def on_save(self, args, state, control, **kwargs):
        # All processes have written their part (random states) before the manifest says so.
        self.trainer.accelerator.wait_for_everyone()
        if not state.is_world_process_zero:
            return
        self.complete(self.output_dir / f"checkpoint-{state.global_step}", state.global_step)
        whole = numbered_checkpoints(self.output_dir)
        kept = save_points(whole, args.save_steps, state.max_steps, self.n_averaged)
        for old in set(whole[: -self.max_checkpoints]).difference(kept):
            # The manifest first: a cut while deleting leaves no directory that looks complete.
            (old / "run.json").unlink()
            shutil.rmtree(old)


# --- logs


def _remedy(args) -> str:
    """What to change where a loss is not a number; `args`: those of Trainer."""
    if args.fp16:
        return "passes are in float16, which may have overflowed: set bf16: false (float32)"
    return "lower training.learning_rate"


def is_evaluation_owed(args, state) -> bool:
    """Whether the step that a run resumes from is due for an evaluation of which its log has nothing."""
    step = state.global_step
    is_end_of_epoch = float(state.epoch or 0).is_integer()
    if step == 0 or not (is_end_of_epoch or step % args.eval_steps == 0):
        return False
    return not any(log["step"] == step and LOSS in log for log in state.log_history)
