"""Names in the Trainer's log of an evaluation: which of them are metrics."""

# Of how many save points the evaluated weights are the mean.
AVERAGED_LOG = "eval_averaged"


def is_timing(name: str) -> bool:
    """True for a name in Trainer's logs that measures the machine."""
    return name.endswith(("runtime", "_second"))


def is_metric(name: str) -> bool:
    """True for what an evaluation measured of the model."""
    return name.startswith("eval_") and name != AVERAGED_LOG and not is_timing(name)
