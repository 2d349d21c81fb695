"""Which samples a run trains on: a draw from its data, and the made rows that follow it.

It reads the files that the YAML names, and knows nothing of prompts or tokens.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from training.data_config import made_files
from training.inputs import check_made_rows, check_training_data, check_weights
from utils.config import input_path
from utils.errors import DataError
from utils.runs import format_drops
from utils.schema import pick_samples, read_samples, unit_of

# --- from files


@dataclass
class RunSamples:
    """The samples of a run: "train" (with the made rows, which come last) and "val".

    `paths`: the files that they are from. `notes`: how many made rows there are, and how many were left out.
    """

    samples: dict[str, list[dict]] = field(default_factory=dict)
    paths: list[Path] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def read_run_samples(config: dict, allow_test: bool, read: Callable = read_samples) -> RunSamples:
    """The samples of the YAML's files, selected and checked. `read` may give None for a file to come.

    UsageError for training on test data, unless `allow_test`, and for weights that no sample has. DataError
    for made rows with repeated ids.
    """
    data = config["data"]
    run = RunSamples()
    for split in ("train", "val"):
        run.paths.append(input_path(data[f"{split}_path"]))
        found = read(run.paths[-1])
        run.samples |= {} if found is None else {split: found}
    if "train" not in run.samples:
        return run
    # A weight is mistyped where no row of the files has it, whatever is drawn of them.
    weighable = run.samples["train"]
    chosen = training_rows(run.samples["train"], config)
    run.samples["train"] = chosen
    run.warnings = check_training_data(config, run.samples, allow_test)
    for name in made_files(data):
        path = input_path(name)
        found = read(path) or []
        weighable = [*weighable, *found]
        made, drops = follow_origins(found, chosen, data["made_share"], config["training"]["seed"])
        refuse_repeated_ids(path, made, run.samples["train"])
        run.warnings += check_made_rows(config, path, made, allow_test)
        run.notes.append(f"{len(made):,} made rows of {path} ({format_drops(drops)})")
        run.paths.append(path)
        run.samples["train"] = [*run.samples["train"], *made]
    check_weights(data["weights"], weighable)
    return run


# --- samples of the data


def training_rows(samples: list[dict], config: dict) -> list[dict]:
    """The samples that the YAML's `data` block selects, by source, answerability and number."""
    data = config["data"]
    seed = config["training"]["seed"]
    if data["max_per_source"]:
        samples = cap_sources(samples, data["max_per_source"], seed)
    if data["unanswerable_fraction"] is not None:
        return pick_balanced(samples, data["max_samples"], data["unanswerable_fraction"], seed)
    return pick_samples(samples, data["max_samples"], seed)


def cap_sources(samples: list[dict], n_wanted: int, seed: int) -> list[dict]:
    """At most `n_wanted` samples of each source, in file order."""
    by_source: dict[str, list[dict]] = {}
    for sample in samples:
        by_source.setdefault(sample["source"], []).append(sample)
    # Each source on its own: a pick over all samples would keep the share of the largest one.
    kept: set[str] = set()
    for of_source in by_source.values():
        kept |= {sample["id"] for sample in pick_samples(of_source, n_wanted, seed)}
    return [sample for sample in samples if sample["id"] in kept]


def pick_balanced(
    samples: list[dict], n_wanted: int | None, unanswerable_fraction: float, seed: int
) -> list[dict]:
    """At most `n_wanted` samples in file order, this share of them unanswerable.

    Originals of the sampled twins come before other answerable samples, so that the contrast stays in the
    data.
    """
    rng = random.Random(seed)
    unanswerable = [sample for sample in samples if not sample["answerable"]]
    answerable = [sample for sample in samples if sample["answerable"]]
    rng.shuffle(unanswerable)
    rng.shuffle(answerable)
    # The share is kept rather than the number: too few samples of one kind make the whole set smaller.
    n_wanted = min(n_wanted or len(samples), len(samples))
    shares = ((unanswerable, unanswerable_fraction), (answerable, 1 - unanswerable_fraction))
    for of_kind, share in shares:
        n_wanted = min(n_wanted, int(len(of_kind) / share + 1e-9)) if share else n_wanted
    chosen = unanswerable[: round(n_wanted * unanswerable_fraction)]
    originals = {sample["metadata"].get("twin_of") for sample in chosen}
    answerable.sort(key=lambda sample: sample["id"] not in originals)
    chosen += answerable[: n_wanted - len(chosen)]
    if not chosen:
        raise DataError(
            f"data.unanswerable_fraction: {unanswerable_fraction} of {len(samples)} samples, of which "
            f"{len(unanswerable)} are unanswerable, leaves none; set it to null, or change the data"
        )
    kept = {sample["id"] for sample in chosen}
    return [sample for sample in samples if sample["id"] in kept]


# --- made rows


def follow_origins(
    made: list[dict], chosen: list[dict], share: float, seed: int
) -> tuple[list[dict], Counter]:
    """The made rows to train on, and the others by reason.

    A row whose origin (`metadata.made_from`) is not among the chosen samples is left out; one that names none
    is kept. Of these a `share` of the units is drawn, so that rows which differ in one word stay together.
    """
    drops: Counter = Counter()
    origins = {None, *(sample["id"] for sample in chosen)}
    rows = [row for row in made if row["metadata"].get("made_from") in origins]
    drops["origin not trained on"] = len(made) - len(rows)
    units = list(dict.fromkeys(unit_of(row) for row in rows))
    random.Random(seed).shuffle(units)
    drawn = set(units[: round(share * len(units))])
    kept = [row for row in rows if unit_of(row) in drawn]
    drops["made_share"] = len(rows) - len(kept)
    return kept, drops


def refuse_repeated_ids(path: Path, rows: list[dict], others: list[dict]) -> None:
    """DataError if a row of a file has the id of another row of the run: it would replace that row."""
    ids = {row["id"] for row in others}
    for row in rows:
        if row["id"] in ids:
            raise DataError(f"data.made_path: {path}: id {row['id']!r} is that of another training row too")
