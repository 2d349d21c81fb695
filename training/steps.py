"""How many optimizer steps a run takes, how many rows a pass. It knows numbers of rows, not what trains."""

import math


def _rows_per_step(training: dict, n_processes: int) -> int:
    return training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * n_processes


def steps_and_epochs(n_rows: int, training: dict, n_processes: int) -> tuple[int, float]:
    """Optimizer steps of the whole run, and how many epochs these are; `max_steps` overrides the epochs."""
    per_epoch = math.ceil(max(n_rows, 1) / _rows_per_step(training, n_processes))
    n_steps = math.ceil(per_epoch * training["num_train_epochs"])
    if training["max_steps"] > 0:
        n_steps = training["max_steps"]
    return n_steps, n_steps / per_epoch


def opening_rows(share: float, n_rows: int, training: dict, n_processes: int) -> tuple[int, ...]:
    """Of each epoch, how many rows are in the first `share` of the run's steps; later epochs have none."""
    n_steps, n_epochs = steps_and_epochs(n_rows, training, n_processes)
    n_left = round(share * n_steps)
    per_epoch = round(n_steps / n_epochs)
    rows = []
    while n_left > 0:
        n_opening = min(n_left, per_epoch)
        # The last step of an epoch may have fewer rows.
        rows.append(min(n_opening * _rows_per_step(training, n_processes), n_rows))
        n_left -= n_opening
    return tuple(rows)


def rows_per_pass(training: dict, width: float) -> int:
    """Rows of `width` tokens that run together: a batch, or what `tokens_per_pass` takes of a step's rows."""
    n_batch = training["per_device_train_batch_size"]
    max_tokens = training["tokens_per_pass"]
    if max_tokens is None:
        return n_batch
    n_fitting = int(max_tokens // width)
    return max(1, min(n_fitting, n_batch * training["gradient_accumulation_steps"]))
