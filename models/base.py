"""The base model of a checkpoint: the one that it was trained on, wherever it is now.

An adapter on another base than its own gives nonsense and no error, so bases are compared by their weights
(models/fingerprint.py). Reads files alone: no model library is imported, so a wrong base is told at once.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

from models.directories import adapter_base, check_adapter_dir, is_path
from models.embedded import embedded_dir
from models.embedded_models import EMBEDDED_MODELS
from models.fingerprint import files_hash, other_ends, weights_hash
from models.hub_cache import cached_dir
from utils.config import input_path
from utils.errors import DataError, UsageError
from utils.hub_names import split_revision
from utils.jsonl import sha256_value
from utils.own_files import CHECKPOINT
from utils.runs import note
from utils.shapes import manifest_in


@dataclass(frozen=True)
class TrainedOn:
    """What a checkpoint says about its base."""

    name: str
    # Their hash; in checkpoints of an earlier version None, and `was_local` is False.
    weights: str | None
    was_local: bool
    # The commit of a base from the hub, if it was recorded.
    revision: str | None = None


def trained_on(checkpoint: str | Path) -> TrainedOn | None:
    """The base model in a checkpoint's files; None for a model that train_sft.py did not write."""
    run = manifest_in(Path(checkpoint), CHECKPOINT)
    # A merged or fully trained checkpoint has a base too, which its manifest alone names.
    name = adapter_base(str(checkpoint)) or run.get("base_model")
    if name is None:
        return None
    weights = run.get("base_weights")
    revision = run.get("base_revision")
    return TrainedOn(name, weights, weights is not None and revision is None, revision)


def local_dir(name: str) -> Path | None:
    """The directory of a model on this machine, outside the hub's cache; None for a hub id.

    DataError for a path without a model's directory.
    """
    if name in EMBEDDED_MODELS:
        return embedded_dir(name)
    path = input_path(name)
    if path.is_dir():
        return path
    if is_path(name):
        raise DataError(f"{path}: no such model directory; correct the path")
    return None


def model_weights(name: str) -> str | None:
    """Hash of a model's weights; None where they are not on this machine. DataError for a missing path."""
    directory = local_dir(name) or cached_dir(name)
    return weights_hash(directory) if directory else None


def model_key(name: str, base_model: str | None = None) -> str:
    """What stands for a model in the key of a cache: the hash of its files, or the id of a hub model.

    An adapter counts with its base, for which `base_model` can be named.
    """
    directory = local_dir(name)
    if directory is None:
        return name
    key = files_hash(directory)
    if adapter_base(str(directory)) is None:
        return key
    return sha256_value([key, model_key(base_for(str(directory), base_model) or "")])


def added_ends(name: str, base_model: str | None = None) -> list[int]:
    """`other_ends` of a local model, which for an adapter are those of its base; empty for a hub model."""
    directory = local_dir(name)
    if directory is not None and adapter_base(str(directory)) is not None:
        base = base_for(str(directory), base_model)
        directory = local_dir(base) if base else None
    return other_ends(directory) if directory else []


def _weights_if_found(name: str) -> str | None:
    try:
        return model_weights(name)
    except DataError:
        return None


def is_same_model(given: str, base: TrainedOn) -> bool | None:
    """Whether a model is the base of a checkpoint; None if nothing on this machine can tell.

    DataError if `given` is a path without a model.
    """
    expected = base.weights or _weights_if_found(base.name)
    found = model_weights(given)
    if expected and found:
        return expected == found
    if given == base.name:
        return True
    own_id = split_revision(base.name)[0]
    # Of two commits only the weights tell, and these are not all here.
    if split_revision(given)[0] == own_id:
        return None
    # Two ids of the hub are two models, unless their weights say that they are one.
    is_hub = own_id.count("/") == 1 and not base.was_local and not input_path(base.name).exists()
    return False if is_hub and local_dir(given) is None else None


def own_base(checkpoint: str, base: TrainedOn, flag: str = "--base-model") -> str:
    """The base that a checkpoint names. DataError if it is no longer there, or no longer the same model."""
    remedy = f"name the place where it is now with {flag}"
    missing = f"{checkpoint}: its base model {base.name} is no longer there; {remedy}"
    try:
        directory = local_dir(base.name)
    except DataError as error:
        raise DataError(missing) from error
    # Checkpoints that were trained with transformers 5 lack the commit of a hub model, whose weights tell.
    if directory is None and base.was_local and not _is_here(base):
        raise DataError(missing)
    if directory and base.weights and weights_hash(directory) != base.weights:
        raise DataError(
            f"{checkpoint}: {base.name} has other weights than the base model it was trained on; {remedy}"
        )
    return base.name


def _is_here(base: TrainedOn) -> bool:
    found = _weights_if_found(base.name)
    return found is not None and base.weights in (None, found)


def base_of_flags(args: argparse.Namespace) -> str | None:
    """`base_for` of --model-path and --base-model. DataError if --model-path is no checkpoint."""
    # A plan may be made before the checkpoint exists.
    if args.dry_run and not input_path(args.model_path).exists():
        return args.base_model
    return base_for(check_adapter_dir(args.model_path), args.base_model)


def check_loaded_base(checkpoint: str, used: str) -> None:
    """UsageError if `used`, now on this machine, is not the checkpoint's base; a note if nothing tells."""
    base = trained_on(checkpoint)
    if base is None:
        return
    is_same = is_same_model(used, base)
    if is_same is False:
        raise other_base(checkpoint, base, used)
    if is_same is None:
        note(f"using {used} as the base of {checkpoint}; {base.name} is not here to compare it with")


def other_base(checkpoint: str, base: TrainedOn, given: str, flag: str = "--base-model ") -> UsageError:
    """The error that says that `given` is another model, or has other weights by now, and what to name.

    `flag`: what a name follows.
    """
    if given == base.name:
        remedy = f"name its former copy with {flag.strip(' =')}"
        if base.revision:
            remedy = f"name that commit: {flag}{split_revision(given)[0]}@{base.revision}"
        return UsageError(f"{given}: has other weights than when {checkpoint} was trained on it; {remedy}")
    return UsageError(
        f"{flag}{given}: {checkpoint} was trained on {base.name}, which is another model; "
        f"leave {flag.strip(' =')} out, or name that one"
    )


def base_for(checkpoint: str, given: str | None, flag: str = "--base-model") -> str | None:
    """The base model to use with a checkpoint: the one it was trained on, at `given` if that is not None.

    None if neither is known. UsageError if `given`, the value of `flag`, is another model; DataError if a
    base is missing.
    """
    base = trained_on(checkpoint)
    if base is None:
        return given
    if given is None:
        # A full model runs without its base, which may be missing.
        return own_base(checkpoint, base, flag) if adapter_base(checkpoint) else base.name
    is_same = is_same_model(given, base)
    # Unknown, but its own base is here: there is no reason to risk another.
    if is_same is False or (is_same is None and _is_here(base)):
        raise other_base(checkpoint, base, given)
    # Unknown is not refused: a model that has yet to come from the hub is compared when it is loaded.
    return given
