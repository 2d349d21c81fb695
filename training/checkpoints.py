"""The checkpoint directories of a run (complete or ignored, rotated, best), and its stops (signal, patience).

It knows when a checkpoint is written and whether it can be trusted, not what is in it.
"""

import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from models.distributed import Shards, note_in_first_process
from training.card import AVERAGED
from training.sft_config import LOSS
from training.stopping import StopSignals
from utils.atomic import sync_file
from utils.errors import DataError
from utils.jsonl import finite, read_json, write_json, write_text
from utils.runs import note

# No part of what makes a checkpoint complete: it may be written again, with more metrics.
CARD = "README.md"


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
        best = output_dir / "checkpoint-best" / "run.json"
        self.best: float | None = read_json(best)[metric] if best.is_file() else None
        self.evaluated_step = -1
        # What the evaluation of that step measured.
        self.measured: dict[str, float | None] = {}
        self.stops = StopSignals(self._note)
        self.is_stopped = False  # by a signal
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
        """Write `output_dir/name`, manifest last. Every process calls it: sharded weights come from all."""
        self.trainer.save_model(str(self.output_dir / name))
        if self.trainer.is_world_process_zero():
            self.complete(self.output_dir / name, step)

    def complete(self, directory: Path, step: int, **facts) -> None:
        """Write the card and the manifest of a checkpoint: the facts of the run, of the step, and more."""
        measured = self.measured if step == self.evaluated_step else {}
        facts = {**self.facts, "step": step, **measured, **facts}
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

    def on_epoch_begin(self, args, state, control, **kwargs):
        # Trainer's own call misses the sampler if several processes resume in the middle of an epoch.
        self.trainer.sampler.set_epoch(int(state.epoch or 0))

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
        self.is_stopped = any(self.shards.gather([self.stops.number]))
        if self.is_stopped:
            control.should_save = True
            control.should_training_stop = True
            # Whoever stops a run does not want to wait for an evaluation.
            control.should_evaluate = is_last
        return control

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.evaluated_step = state.global_step
        names = [name for name in metrics if name.startswith("eval_") and not is_timing(name)]
        self.measured = {name: finite(metrics[name]) for name in names}
        value = metrics.get(self.metric)
        if not math.isfinite(metrics[LOSS]):
            self._note(
                f"warning: {LOSS} is not a number at step {state.global_step}; lower training.learning_rate"
            )
        if value is not None and self.is_better(value):
            self.best = value
            self.save_model("checkpoint-best", state.global_step)
        if AVERAGED not in self.facts and self._is_out_of_patience(state.log_history):
            control.should_training_stop = True
        return control

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


# --- complete and torn directories

# The Trainer's own checkpoints are not atomic: a torn newest one raises, and a missing optimizer.pt resumes
# in silence with a fresh optimizer. So a manifest with the size of every file is written last, and decides.


def is_timing(name: str) -> bool:
    """True for a name in Trainer's logs that measures the machine."""
    return name.endswith(("runtime", "_second"))


def mark_whole(directory: Path, facts: dict) -> None:
    """Write the manifest of a checkpoint, with the sizes of its files, after these have reached the disk."""
    sizes = {}
    for path in sorted(p for p in directory.iterdir() if p.is_file() and p.name not in ("run.json", CARD)):
        with open(path, "rb") as handle:
            sync_file(handle)
        sizes[path.name] = path.stat().st_size
    write_json(directory / "run.json", {**facts, "files": sizes, "status": "complete"})


def is_whole(directory: Path) -> bool:
    """True if the manifest exists, and every file that it names has the size that it names."""
    if not (directory / "run.json").is_file():
        return False
    sizes = read_json(directory / "run.json").get("files", {})
    paths = {directory / name: size for name, size in sizes.items() if name != CARD}
    return all(path.is_file() and path.stat().st_size == size for path, size in paths.items())


def step_of(directory: Path) -> int:
    """The step of a numbered checkpoint; -1 for another one."""
    number = directory.name.removeprefix("checkpoint-")
    return int(number) if number.isdigit() else -1


def numbered_checkpoints(output_dir: Path) -> list[Path]:
    """Complete `checkpoint-<step>` directories, oldest first; torn ones are ignored."""
    numbered = [path for path in output_dir.glob("checkpoint-*") if step_of(path) >= 0]
    return sorted(filter(is_whole, numbered), key=step_of)


def save_points(checkpoints: list[Path], save_steps: float, last_step: int, n_wanted: int) -> list[Path]:
    """The last `n_wanted` checkpoints at planned steps; where a run was stopped does not count."""
    planned = [path for path in checkpoints if step_of(path) % save_steps == 0 or step_of(path) == last_step]
    return planned[-n_wanted:] if n_wanted else []


def newest_checkpoint(output_dir: Path, wanted: bool, must_exist: bool) -> str | None:
    """The latest complete checkpoint to resume from, with a note; None to start from the beginning.

    DataError if there is none and it `must_exist`.
    """
    checkpoints = numbered_checkpoints(output_dir) if wanted else []
    if not checkpoints:
        if must_exist:
            raise DataError(f"{output_dir}: no complete checkpoint to resume from; run without --resume")
        return None
    note_in_first_process([f"resuming from {checkpoints[-1]}"])
    return str(checkpoints[-1])
