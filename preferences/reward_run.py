"""The run of train_rm.py as its directory knows it: whether it starts, is resumed, or is complete.

It knows settings and manifests, not how a head is trained.
"""

import argparse
import functools
from pathlib import Path

from models.distributed import Shards
from models.revisions import run_models
from preferences.inputs import check_head_dir
from preferences.reward_config import DEFAULTS
from preferences.reward_pairs import RewardPairs
from utils.commands import stage_command
from utils.config import home_path, settings_flags
from utils.errors import DataError
from utils.run_folders import REWARD_NAMES
from utils.runs import describe_run, hash_inputs, open_run_dir
from utils.templates import load_template, template_hash


def open_training(args: argparse.Namespace, config: dict, pairs: RewardPairs, shards: Shards) -> dict | None:
    """The manifest of a run that starts or is resumed; None, and a note of what comes next, if complete.

    UsageError for a directory made with other settings.
    """
    output_dir = home_path(config["output_dir"])
    template = {"template_hash": template_hash(load_template("sft", config["template"]))}
    settings = config | {"limit": args.limit} | template
    facts = {"n_pairs": pairs.split.sizes, "dropped": pairs.drops, "allow_test": args.allow_test}
    facts |= {"warnings": pairs.warnings, "models": run_models(config["base_model"])}
    run = describe_run(settings, hash_inputs([pairs.path]), config["seed"], **facts)
    # Runs of earlier versions do not say which text their template had.
    defaults = {**DEFAULTS, **template}
    open_run = functools.partial(open_run_dir, output_dir, run, args.overwrite, defaults, REWARD_NAMES)
    if shards.decide(open_run) != "complete":
        return run
    shards.decide(lambda: _check_heads(output_dir))
    # The newest file may be another one by then.
    named = ["--prefs", args.prefs] if args.prefs else []
    flags = [*named, *settings_flags(args.set, args.limit), "--validate-only"]
    # Weights are chosen for a trained head, so that needs no new training.
    flags += ["--tune-penalties"] if args.tune_penalties else []
    hint = f"next: {stage_command('train_rm.py', '-c', args.config, *flags)}"
    shards.say(f"{output_dir} is complete with these settings; nothing to do", hint)
    return None


def _check_heads(output_dir: Path) -> None:
    """DataError if a head of a complete run is damaged."""
    for name in ("best", "final"):
        try:
            check_head_dir(output_dir / name)
        except DataError as error:
            remedy = f"{output_dir} is complete otherwise: train it again with --overwrite"
            raise DataError(f"{error} ({remedy})") from error
