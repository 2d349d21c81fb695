"""Which models a run was made with, for its manifest: local ones by a key, those of the hub by their commit.

A hub id names other weights whenever its owner pushes; the commit does not. Reads files alone.
"""

import contextlib

from models.base import local_dir, model_key, model_weights, trained_on
from models.hub_cache import cached_dir
from utils.config import input_path, portable_path
from utils.errors import DataError


def cached_revision(name: str) -> str | None:
    """The commit of a hub model's copy on this machine; None for a local model, and without a copy."""
    directory = None if local_dir(name) else cached_dir(name)
    return directory.name if directory else None


def base_facts(name: str) -> dict[str, str | None]:
    """The keys of a checkpoint's manifest by which its base, which is loaded, is known in another place.

    `base_revision`: the commit of a hub model, None for local weights.
    """
    # Not from the model: transformers 5 no longer keeps the commit in its config.
    return {
        "base_model": portable_path(name),
        "base_revision": cached_revision(name),
        "base_weights": model_weights(name),
    }


def run_models(name: str, base_model: str | None = None) -> dict[str, str]:
    """Place -> what stands for the model: the key of a local one, the commit of a copy from the hub.

    A run that is resumed compares them, so it does not go on with weights that were pushed in between.
    `base_model`: where the base of an adapter is now.
    """
    key = model_key(name, base_model) if local_dir(name) else cached_revision(name)
    return {portable_path(name): key} if key else {}


def hub_revisions(*names: str | None) -> dict[str, str]:
    """Hub id -> commit, of these models and of the bases of checkpoints; without those that are not here."""
    found = {}
    for name in filter(None, names):
        base = trained_on(input_path(name))
        # A merged checkpoint may outlive its base.
        with contextlib.suppress(DataError):
            hub_name = base.name if base else name
            if revision := cached_revision(hub_name):
                found[hub_name] = revision
    return found
