"""How many optimizer steps a run takes. It knows numbers of rows, not what trains."""

import math


def steps_and_epochs(n_rows: int, training: dict, n_processes: int) -> tuple[int, float]:
    """Optimizer steps of the whole run, and how many epochs these are; `max_steps` overrides the epochs."""
    rows_per_step = (
        training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * n_processes
    )
    per_epoch = math.ceil(max(n_rows, 1) / rows_per_step)
    n_steps = math.ceil(per_epoch * training["num_train_epochs"])
    if training["max_steps"] > 0:
        n_steps = training["max_steps"]
    return n_steps, n_steps / per_epoch
