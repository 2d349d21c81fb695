"""The checkpoint directories of a training run: marked complete, rotated, the best one kept."""

import math
import shutil
from pathlib import Path

from transformers import TrainerCallback

from utils.jsonl import read_json, write_json


class RunFiles(TrainerCallback):
    """Checkpoints marked complete and rotated, the best one kept by validation loss, and one progress line per logging step."""

    def __init__(self, output_dir: Path, max_checkpoints: int, checkpoint_facts: dict):
        self.output_dir, self.max_checkpoints, self.facts = output_dir, max_checkpoints, checkpoint_facts
        self.trainer = None  # set once it exists
        best = output_dir / "checkpoint-best" / "run.json"
        self.best = read_json(best)["eval_loss"] if best.is_file() else math.inf
        self.evaluated_step = -1

    def save_model(self, name: str, facts: dict) -> None:
        """`output_dir/name` with its manifest written last."""
        self.trainer.save_model(str(self.output_dir / name))
        write_json(self.output_dir / name / "run.json", {**self.facts, **facts, "status": "complete"})

    def on_epoch_end(self, args, state, control, **kwargs):
        control.should_evaluate = control.should_save = state.global_step != self.evaluated_step
        return control

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= state.max_steps:
            control.should_evaluate = control.should_save = True
        return control

    def on_log(self, args, state, control, logs=None, **kwargs):
        if state.is_world_process_zero and logs and ("loss" in logs or "eval_loss" in logs):
            shown = {key: logs[key] for key in ("loss", "eval_loss", "grad_norm", "learning_rate") if key in logs}
            text = ", ".join(f"{key} {float(value):.4g}" for key, value in shown.items())
            print(f"step {state.global_step}/{state.max_steps}: {text}", flush=True)

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.evaluated_step, loss = state.global_step, metrics.get("eval_loss", math.nan)
        if state.is_world_process_zero and loss < self.best:
            self.best = loss
            self.save_model("checkpoint-best", {"step": state.global_step, "eval_loss": loss})

    def on_save(self, args, state, control, **kwargs):
        if state.is_world_process_zero:
            write_json(self.output_dir / f"checkpoint-{state.global_step}" / "run.json", {**self.facts, "status": "complete", "step": state.global_step})
            for old in numbered_checkpoints(self.output_dir)[: -self.max_checkpoints]:
                shutil.rmtree(old)


def numbered_checkpoints(output_dir: Path) -> list[Path]:
    """Complete `checkpoint-<step>` directories (their manifest is written last), oldest first."""
    found = [p for p in output_dir.glob("checkpoint-*") if p.name.removeprefix("checkpoint-").isdigit() and (p / "run.json").is_file()]
    return sorted(found, key=lambda p: int(p.name.removeprefix("checkpoint-")))
