"""The checkpoint directories of a training run: whole or ignored, rotated, the best one kept; stops asked for by signal or patience."""

import math
import os
import shutil
import signal
from pathlib import Path

from transformers import TrainerCallback

from models.distributed import Shards
from utils.errors import DataError
from utils.jsonl import finite, read_json, write_json

LOSS = "eval_loss"


class RunFiles(TrainerCallback):
    """Checkpoints marked whole and rotated, the best one kept by `metric`, and one progress line per logging step.

    `patience`: stop after this many evaluations without a gain (None: never). SIGINT and SIGTERM end the step, save and stop;
    a second signal stops at once.
    """

    def __init__(
        self,
        output_dir: Path,
        max_checkpoints: int,
        checkpoint_facts: dict,
        metric: str = LOSS,
        patience: int | None = None,
    ):
        self.output_dir = output_dir
        self.max_checkpoints = max_checkpoints
        self.facts = checkpoint_facts
        self.metric = metric
        self.patience = patience
        self.trainer = None  # set once it exists
        best = output_dir / "checkpoint-best" / "run.json"
        self.best = read_json(best)[metric] if best.is_file() else None
        self.evaluated_step = -1
        self.stop_signal = None
        self.shards = Shards()
        self.is_stopped = False  # by a signal

    def __enter__(self):
        def on_signal(number, frame):
            if self.stop_signal:
                raise KeyboardInterrupt
            self.stop_signal = number
            if self.shards.is_main:
                print("stopping after this step, with a checkpoint; once more stops at once", flush=True)

        self._handlers = {
            number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
        }
        return self

    def __exit__(self, *exc):
        for number, handler in self._handlers.items():
            signal.signal(number, handler)

    def is_better(self, value: float) -> bool:
        return math.isfinite(value) and (
            self.best is None or (value < self.best if self.metric == LOSS else value > self.best)
        )

    def save_model(self, name: str, facts: dict) -> None:
        """`output_dir/name` with its manifest written last. Every process calls it: sharded weights are gathered from all."""
        self.trainer.save_model(str(self.output_dir / name))
        if self.trainer.is_world_process_zero():
            mark_whole(self.output_dir / name, {**self.facts, **facts})

    def on_epoch_begin(self, args, state, control, **kwargs):
        # Trainer's own call does not reach the sampler of a run that several processes resume in the middle of an epoch.
        self.trainer.sampler.set_epoch(int(state.epoch or 0))

    def on_epoch_end(self, args, state, control, **kwargs):
        # Trainer also comes here when a stop cuts an epoch.
        control.should_evaluate = control.should_save = (
            not self.is_stopped and state.global_step != self.evaluated_step
        )
        return control

    def on_step_end(self, args, state, control, **kwargs):
        is_last = state.global_step >= state.max_steps
        if is_last:
            control.should_evaluate = control.should_save = True
        # A signal can reach processes in different steps, or one of them alone: all stop in the same step, else they wait for each other.
        self.is_stopped = any(self.shards.gather([self.stop_signal]))
        if self.is_stopped:
            control.should_save = control.should_training_stop = True
            control.should_evaluate = is_last
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and ("loss" in logs or LOSS in logs):
            names = [
                "loss",
                "grad_norm",
                "learning_rate",
                *(
                    key
                    for key in logs
                    if key.startswith("eval_") and not key.endswith(("runtime", "_second"))
                ),
            ]
            text = ", ".join(f"{key} {float(logs[key]):.4g}" for key in names if logs.get(key) is not None)
            print(f"step {state.global_step}/{state.max_steps}: {text}", flush=True)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.evaluated_step = state.global_step
        value = metrics.get(self.metric)
        if not math.isfinite(metrics[LOSS]) and self.shards.is_main:
            print(
                f"warning: {LOSS} is not a number at step {state.global_step}; lower training.learning_rate",
                flush=True,
            )
        if value is not None and self.is_better(value):
            self.best = value
            self.save_model(
                "checkpoint-best",
                {"step": state.global_step, LOSS: finite(metrics[LOSS]), self.metric: value},
            )
        # From the log alone, so that a resumed run counts as one that was never cut.
        values = [log[self.metric] for log in state.log_history if log.get(self.metric) is not None]
        numbers = [value for value in values if math.isfinite(value)]
        if self.patience is not None and numbers:
            best = min(numbers) if self.metric == LOSS else max(numbers)
            if len(values) - 1 - values.index(best) >= self.patience:
                control.should_training_stop = True
                if self.shards.is_main:
                    print(
                        f"stopping early: {self.patience} evaluations without a better {self.metric} than {best:.4g}",
                        flush=True,
                    )
        return control

    def on_save(self, args, state, control, **kwargs):
        # All processes have written their part (random states) before the manifest says so.
        self.trainer.accelerator.wait_for_everyone()
        if state.is_world_process_zero:
            mark_whole(
                self.output_dir / f"checkpoint-{state.global_step}", {**self.facts, "step": state.global_step}
            )
            for old in numbered_checkpoints(self.output_dir)[: -self.max_checkpoints]:
                (old / "run.json").unlink()  # a cut while deleting leaves no directory that looks whole
                shutil.rmtree(old)


def mark_whole(directory: Path, facts: dict) -> None:
    """Write the manifest of a checkpoint last, after its files have reached the disk, with their sizes."""
    sizes = {}
    for path in sorted(p for p in directory.iterdir() if p.is_file() and p.name != "run.json"):
        with open(path, "rb") as handle:
            os.fsync(handle.fileno())
        sizes[path.name] = path.stat().st_size
    write_json(directory / "run.json", {**facts, "files": sizes, "status": "complete"})


def is_whole(directory: Path) -> bool:
    """The manifest is there and every file it names has its size."""
    if not (directory / "run.json").is_file():
        return False
    sizes = read_json(directory / "run.json").get("files", {})
    return all(
        (directory / name).is_file() and (directory / name).stat().st_size == size
        for name, size in sizes.items()
    )


def numbered_checkpoints(output_dir: Path) -> list[Path]:
    """Whole `checkpoint-<step>` directories, oldest first; torn ones are ignored."""
    found = [
        p
        for p in output_dir.glob("checkpoint-*")
        if p.name.removeprefix("checkpoint-").isdigit() and is_whole(p)
    ]
    return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")))


def newest_checkpoint(output_dir: Path, wanted: bool, must_exist: bool) -> str | None:
    """The newest whole checkpoint to resume from, named aloud; None to start anew."""
    checkpoints = numbered_checkpoints(output_dir) if wanted else []
    if not checkpoints:
        if must_exist:
            raise DataError(f"{output_dir}: no complete checkpoint to resume from; run without --resume")
        return None
    if Shards().is_main:
        print(f"resuming from {checkpoints[-1]}", flush=True)
    return str(checkpoints[-1])
