"""`--merge`, `--export` and `--calibrate`, which train nothing: what they go with, and their plan.

No model library is imported, so that wrong flags are named at once.
"""

import argparse

from models.estimate import planned_samples
from utils.config import home_path, input_path
from utils.errors import UsageError

_MODES = ("merge", "export", "calibrate")


def modes_of(args: argparse.Namespace) -> list[str]:
    """The flags given that use a finished run; of the stages that have them."""
    return [name for name in _MODES if getattr(args, name, None)]


def check_modes(args: argparse.Namespace) -> None:
    """UsageError for flags of a training beside those that train nothing, and for `--public` alone."""
    modes = modes_of(args)
    if getattr(args, "push_to_hub", None) and modes:
        raise UsageError("--push-to-hub uploads a training; leave --merge, --export and --calibrate out")
    if getattr(args, "public", False) and not args.push_to_hub:
        raise UsageError("--public says how --push-to-hub uploads; name a repository with --push-to-hub")
    if args.resume and modes:
        raise UsageError(f"--resume goes on with a training, and --{modes[0]} trains nothing; leave one out")


def print_modes_plan(args: argparse.Namespace, config: dict) -> None:
    """`--dry-run` with a flag that uses a finished run: what would be read, answered and written."""
    folder = home_path(config["output_dir"])
    checkpoint = folder / "checkpoint-best"
    if not checkpoint.is_dir():
        print(f"warning: {checkpoint} does not exist yet; the training with this config writes it")
    samples = planned_samples(input_path(config["data"]["val_path"])) or []
    modes = modes_of(args)
    if "calibrate" in modes:
        n = min(len(samples), config["data"]["max_calibration_samples"])
        target = folder / "calibration.json"
        print(f"would answer {n} val samples with each decision, and add the fit to {target}")
    if "export" in modes:
        print(f"would write {folder / 'checkpoint-best.gguf'}, and compare its answers with the checkpoint's")
    if "merge" in modes:
        print(f"would write {home_path(args.merge)}, and compare its answers with the checkpoint's")
