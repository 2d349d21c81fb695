"""Checks of the files, models and templates that make_prefs.py and train_rm.py are given.

They run before the model libraries are imported, so a wrong file is named at once.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from models.base import base_for
from models.directories import check_adapter_dir, check_model_name
from models.folders import header_problem
from utils.arguments import refuse_given
from utils.config import home_path, input_path, nearest
from utils.errors import DataError, UsageError
from utils.input_files import home_hint
from utils.jsonl import sha256_file
from utils.outputs import check_empty_folder, check_folder_output
from utils.own_files import HEAD, PREFERENCE_STATS
from utils.recognition import check_kind
from utils.run_folders import REWARD_NAMES, check_new_folder
from utils.schema import check_rows, read_completion_rows, read_preferences, read_questions
from utils.shapes import lenient, read_shaped
from utils.templates import load_template, template_hash


def check_inputs(args: argparse.Namespace) -> None:
    """DataError or UsageError for the first input of make_prefs.py that is not what its flag needs."""
    check_rows(input_path(args.data_path), read_questions)
    if args.phase == "judge" and args.cache_sig:
        _check_cache(home_path(args.prefs_dir) / "cache", args.cache_sig)
    # Judging needs none of the models that generated.
    if args.phase != "generate":
        if args.judge_model and args.judge == "reward":
            check_whole_head(input_path(args.judge_model))
        elif args.judge_model:
            check_model_name(args.judge_model, "--judge-model DIR")
        load_template("judge", args.judge_template)
    if args.phase != "judge":
        checkpoint = check_adapter_dir(args.sft_model)
        if args.template:
            load_template("sft", args.template)
        if args.base_model:
            check_model_name(args.base_model)
        if "policy" in (args.models or "") and not args.policy_model:
            raise UsageError(f"--models {args.models}: name the policy with --policy-model")
        if args.policy_model:
            check_adapter_dir(args.policy_model)
        # Last: to compare two models may take seconds.
        base_for(checkpoint, args.base_model)


# What --import and --export read beside their own files.
_READ_BY_EXCHANGE = (
    "import_file",
    "export",
    "prefs",
    "prefs_dir",
    "skip_bad",
    "max_samples",
    "seed",
    "dry_run",
)


def check_exchange(args: argparse.Namespace, default_of: Callable[[str], Any]) -> bool:
    """Whether make_prefs.py is to import or export alone. DataError or UsageError for what does not fit.

    `default_of`: a flag's name -> what it is where it was not given.
    """
    if args.skip_bad and not args.import_file:
        raise UsageError("--skip-bad is about the rows of --import; name a file with --import")
    if args.prefs and not args.export:
        raise UsageError("--prefs names the file of --export; say the form with --export")
    if args.import_file or args.export:
        way = "--import" if args.import_file else "--export"
        unread = [name for name in vars(args) if name not in _READ_BY_EXCHANGE]
        refuse_given(args, default_of, unread, f"{way} neither generates nor judges")
    if args.import_file:
        check_kind(input_path(args.import_file), "pairs")
        if not args.dry_run:
            check_folder_output(home_path(args.prefs_dir))
    return bool(args.import_file or args.export)


def _check_cache(folder: Path, signature: str) -> None:
    """DataError when there is no cache of this signature."""
    present = sorted(path.parent.name for path in folder.glob("[!.]*/manifest.json"))
    if signature not in present:
        near = nearest(signature, present) if present else "; run --phase generate first"
        raise DataError(f"--cache-sig {signature}: no such cache in {folder}{near}")


def _created(path: Path) -> float:
    """When a preferences file was written, as its statistics say: the times of copied files say nothing."""
    stats = path.with_name(path.name.replace("preferences_", "preference_stats_", 1)).with_suffix(".json")
    created = read_shaped(stats, lenient(PREFERENCE_STATS)).get("created") if stats.is_file() else None
    return path.stat().st_mtime if created is None else created


def preference_files(prefs_dir: Path) -> list[Path]:
    """The preferences files in a folder, the newest last. DataError when there is none."""
    # The name breaks ties, so that two files of the same second have one order.
    found = sorted(prefs_dir.glob("preferences_*.jsonl"), key=lambda path: (_created(path), path.name))
    if not found:
        remedy = "run make_prefs.py first, or name a file with --prefs"
        if prefs_dir.is_file():
            remedy = "it is a file; name it with --prefs"
        elif hint := home_hint(prefs_dir):
            remedy = hint
        raise DataError(f"{prefs_dir}: no preferences_*.jsonl; {remedy}")
    return found


# The key of a head's config.json with the hash of its weights.
HEAD_HASH = "weights_sha256"


def find_head(name: str, output_dir: Path) -> Path:
    """The directory of a head: "best" and "final" are in `output_dir`, anything else is a path."""
    return output_dir / name if name in ("best", "final") else input_path(name)


def check_head_dir(folder: Path) -> None:
    """DataError when `folder` does not contain a complete reward model."""
    config = folder / "config.json"
    weights = folder / "reward_head.safetensors"
    if not config.is_file() or not weights.is_file():
        # The run's directory instead of one of its heads, or a head that this run does not have.
        inside = sorted(path.parent for path in folder.glob("*/reward_head.safetensors"))
        beside = sorted(path.parent for path in folder.parent.glob("*/reward_head.safetensors"))
        present = ", ".join(map(str, inside or beside))
        remedy = f"name one of {present}" if present else "train one with train_rm.py"
        if (folder / "adapter_config.json").is_file():
            remedy = f"it is a checkpoint of train_sft.py; {remedy}"
        raise DataError(f"{folder}: no reward model (reward_head.safetensors, config.json); {remedy}")
    if problem := header_problem(weights):
        raise DataError(f"{weights}: {problem}")
    # Heads of earlier versions have none.
    wanted = read_shaped(config, lenient(HEAD)).get(HEAD_HASH)
    if wanted and sha256_file(weights) != wanted:
        raise DataError(f"{weights}: is not what {config} was written with; train the reward model again")


def check_whole_head(folder: Path) -> None:
    """DataError when `folder` does not contain a reward model whose config has every key.

    UsageError if the template that it was trained with has another text by now.
    """
    check_head_dir(folder)
    saved = read_shaped(folder / "config.json", HEAD, "train the reward model again")
    name = saved["template"]
    # Heads of earlier versions do not say which text it had.
    wanted = saved.get("template_hash")
    if wanted and template_hash(load_template("sft", name)) != wanted:
        raise UsageError(
            f"{folder}: was trained with another text of the SFT template {name!r} "
            f"({input_path('prompts')}/sft_{name}.txt); bring that text back, or train the reward model again"
        )


# What a head reads if it is one product with the last state of a completion.
_EXPORTABLE = {"head_width": 0, "feature_layers": [1.0], "pooling": ["last"], "logprob_features": False}


def check_exportable(settings: dict) -> None:
    """UsageError for a head that is no sequence classifier, by its config.json or the YAML that makes it."""
    for key, wanted in {**_EXPORTABLE, "load_in_8bit": False}.items():
        found = settings.get(key, wanted)
        if found != wanted:
            what = "multiplies the last token's state of the last layer"
            if key == "load_in_8bit":
                what = "is written with the base model's own weights"
            raise UsageError(
                f"--export-hf: {key} is {json.dumps(found)}, but a sequence classifier of transformers "
                f"{what}; train a head with {key}: {json.dumps(wanted)}"
            )


def _check_export(args: argparse.Namespace, config: dict) -> None:
    target = home_path(args.export_hf)
    check_folder_output(target)
    check_empty_folder(target, "--export-hf")
    check_exportable(config)
    if args.validate_only:
        folder = find_head(args.checkpoint, home_path(config["output_dir"]))
        check_exportable(read_shaped(folder / "config.json", lenient(HEAD)))


def check_training_folder(args: argparse.Namespace, config: dict) -> None:
    """UsageError if a head would be trained into a folder with something else in it."""
    if not (args.score or args.validate_only):
        check_new_folder(home_path(config["output_dir"]), REWARD_NAMES)


def check_reward_inputs(args: argparse.Namespace, config: dict) -> None:
    """DataError or UsageError for the first input of train_rm.py that is not what its flag or key needs."""
    check_training_folder(args, config)
    if args.score and args.tune_penalties:
        raise UsageError("--tune-penalties: weights are chosen on pairs; leave --score out, then score")
    if args.score and args.export_hf:
        raise UsageError("--export-hf: scores nothing; leave --score out")
    for flag in ("push_to_hub", "validate_only", "limit", "prefs"):
        if args.score and getattr(args, flag):
            name = "--" + flag.replace("_", "-")
            raise UsageError(f"{name}: --score reads one file and writes its rewards; leave {name} out")
    if args.score:
        check_rows(input_path(args.score), read_completion_rows)
    else:
        prefs_path = input_path(args.prefs) if args.prefs else preference_files(home_path(args.prefs_dir))[-1]
        check_rows(prefs_path, read_preferences)
    if args.score or args.validate_only:
        check_whole_head(find_head(args.checkpoint, home_path(config["output_dir"])))
    check_model_name(config["base_model"], "--set base_model=DIR")
    load_template("sft", config["template"])
    if args.export_hf:
        _check_export(args, config)
