"""`--merge`, `--export` and `--calibrate`, which train nothing: what they go with, and their plan.

No model library is imported, so that wrong flags are named at once.
"""

import argparse

from models.estimate import planned_samples
from utils.config import home_path, input_path
from utils.errors import UsageError
from utils.outputs import check_empty_folder, check_folder_output

_MODES = ("merge", "export", "calibrate")


def modes_of(args: argparse.Namespace) -> list[str]:
    """The flags given that use a finished run; of the stages that have them."""
    return [name for name in _MODES if getattr(args, name, None) not in (None, False)]


def check_modes(args: argparse.Namespace) -> None:
    """UsageError for flags of a training beside those that train nothing, and for `--public` alone."""
    modes = modes_of(args)
    if getattr(args, "push_to_hub", None) and modes:
        raise UsageError("--push-to-hub uploads a training; leave --merge, --export and --calibrate out")
    if getattr(args, "public", False) and not args.push_to_hub:
        raise UsageError("--public says how --push-to-hub uploads; name a repository with --push-to-hub")
    if not modes:
        return
    if args.resume:
        raise UsageError(f"--resume goes on with a training, and --{modes[0]} trains nothing; leave one out")
    if args.merge is not None:
        if not args.merge:
            raise UsageError("--merge needs the name of a folder, found an empty one")
        check_folder_output(home_path(args.merge))
        check_empty_folder(home_path(args.merge), "--merge")
    for name in ("limit", "allow_test"):
        if getattr(args, name, None):
            flag = name.replace("_", "-")
            raise UsageError(f"--{flag} is of a training, and --{modes[0]} trains nothing; leave it out")
    if args.overwrite and "calibrate" not in modes:
        raise UsageError(f"--overwrite is of trainings and --calibrate; leave it out beside --{modes[0]}")


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
