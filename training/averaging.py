"""The weights that a run ends with: optionally the mean of those at its last save points.

The mean of the weights at the last points of one run often generalizes better than each of them (Izmailov et
al., 2018, "Averaging weights leads to wider optima"; of the last checkpoints: Kaddour, 2022). They are read
from the checkpoints, so that a resumed run averages what a run that was never cut does. This module knows
checkpoints and weights, not what was learned.
"""

from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from models.distributed import note_in_first_process
from training.card import AVERAGED
from training.checkpoints import RunFiles
from training.logged import AVERAGED_LOG
from training.trainer import CompletionTrainer
from training.whole import numbered_checkpoints, save_points, step_of
from utils.errors import StageError


def mean_weights(checkpoints: list[Path]) -> dict[str, torch.Tensor]:
    """The uniform mean of the weights in these checkpoints, by their names in the files.

    StageError where they are not: every process of a launch reads them.
    """
    total: dict[str, torch.Tensor] = {}
    dtypes: dict[str, torch.dtype] = {}
    for checkpoint in checkpoints:
        paths = sorted(checkpoint.glob("*.safetensors"))
        if not paths:
            # The mean would be of fewer, divided by all.
            raise StageError(
                f"training.average_last: {checkpoint} has no weights; it must be on a disk that every "
                "process sees; rerun with --resume once it shows them"
            )
        for path in paths:
            for name, weight in load_file(path).items():
                # Sums in float32 would lose digits, and their order would show.
                total[name] = total.get(name, 0) + weight.double()
                dtypes[name] = weight.dtype
    return {name: (weight / len(checkpoints)).to(dtypes[name]) for name, weight in total.items()}


def load_weights(model, weights: dict[str, torch.Tensor]) -> None:
    """Give the weights of a checkpoint to the model that wrote it. StageError for a name that it lacks."""
    loaded: Any
    if isinstance(model, PeftModel):
        loaded = set_peft_model_state_dict(model, weights)
    else:
        # A tied output layer is not in the files.
        loaded = model.load_state_dict(weights, strict=False)
    if loaded.unexpected_keys:
        name = loaded.unexpected_keys[0]
        raise StageError(
            f"training.average_last: the model has no weights named {name}, as checkpoints have, "
            "so they cannot be averaged; set it to 0"
        )


def end_with_average(trainer: CompletionTrainer, files: RunFiles) -> None:
    """Give the model the mean of its weights at the last `files.n_averaged` save points, and evaluate it.

    It becomes checkpoint-best if its metric is better than that of every evaluation before.
    """
    whole = numbered_checkpoints(files.output_dir)
    points = save_points(whole, trainer.args.save_steps, trainer.state.max_steps, files.n_averaged)
    # All processes decide alike: the evaluation needs all of them.
    points = files.shards.share(points)
    if len(points) < 2:
        note_in_first_process([f"average_last: {len(points)} save point, so nothing is averaged"])
        return
    steps = [step_of(path) for path in points]
    files.facts = {**files.facts, AVERAGED: steps}
    load_weights(trainer.accelerator.unwrap_model(trainer.model), mean_weights(points))
    note_in_first_process([f"averaged the weights of steps {', '.join(map(str, steps))}"])
    trainer.evaluate()
    # The history has two evaluations of the last step.
    trainer.state.log_history[-1][AVERAGED_LOG] = len(points)
