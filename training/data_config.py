"""Checks of the YAML's `data` block, before torch is imported: which rows are trained on, and in which order.

It knows what a key may be, not what is in the files.
"""

from utils.config_values import check_count
from utils.errors import UsageError
from utils.json_values import is_number

# Counts that 0 switches off. For other counts, 0 could be read as none or as all.
_MAY_BE_ZERO = ("max_generated_val_samples",)


def check_data(config: dict, defaults: dict) -> None:
    """UsageError for a value of the right type that makes no sense, alone or with other keys.

    `defaults`: those of the `data` block. Where one is null, a YAML may have null too.
    """
    data = config["data"]
    for key in data:
        if key.startswith("max_"):
            least = 0 if key in _MAY_BE_ZERO else 1
            check_count(f"data.{key}", data[key], least, or_null=defaults[key] is None)
    for key, known in {"twin_pairs": ("adjacent", "shuffled"), "prompt_ids": ("whole", "pieces")}.items():
        if data[key] not in known:
            raise UsageError(f"data.{key}: expected {' or '.join(known)}, found {data[key]!r}")
    if data["answerable_first"] and data["twin_pairs"] == "shuffled":
        raise UsageError(
            "data.answerable_first: rows without a twin are known by their unit, which data.twin_pairs: "
            "shuffled takes apart; set one of them otherwise"
        )
    for key in ("unanswerable_fraction", "answerable_first", "short_evidence_first"):
        if data[key] is not None and not (is_number(data[key]) and 0 <= data[key] < 1):
            raise UsageError(f"data.{key}: expected a share from 0 to below 1, found {data[key]!r}")
    # A weight of 0 is allowed: its rows still count in the denominator of the loss.
    for key, value in data["weights"].items():
        if not is_number(value) or value < 0:
            raise UsageError(f"data.weights.{key}: expected a number from 0 on, found {value!r}")
    _check_made(data)
    if data["share_evidence"]:
        _check_sharing(config)


def made_files(data: dict) -> list[str]:
    """The files that `made_path` names: none for null, else one or a list of them."""
    named = data["made_path"]
    if named is None:
        return []
    return named if isinstance(named, list) else [named]


def _check_made(data: dict) -> None:
    files = made_files(data)
    if not all(isinstance(name, str) and name for name in files):
        raise UsageError(
            f"data.made_path: expected null, a file or a list of files, found {data['made_path']!r:.60}"
        )
    # Its rows would count twice.
    if len({*files, data["train_path"]}) <= len(files):
        raise UsageError("data.made_path: names a file twice, or data.train_path; name each file once")
    if not 0 < data["made_share"] <= 1:
        raise UsageError(
            f"data.made_share: expected a share above 0, up to 1, found {data['made_share']}; "
            "for none, set data.made_path to null"
        )


def _check_sharing(config: dict) -> None:
    """UsageError for keys with which rows of one evidence could not share its computation."""
    needed = {
        # Recomputed layers cannot read the keys and values of a prefix.
        "training.gradient_checkpointing": (config["training"]["gradient_checkpointing"], False, "false"),
        "training.tokens_per_pass": (config["training"]["tokens_per_pass"], None, "null"),
        "data.twin_pairs": (config["data"]["twin_pairs"], "adjacent", "adjacent"),
    }
    for name, (found, wanted, written) in needed.items():
        if found != wanted:
            raise UsageError(f"data.share_evidence needs {name}: {written}, found {found!r}")
