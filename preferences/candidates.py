"""Candidates: both models' completions of the same prompts, generated once for all judges.

The prompt builder and the template are handed in. This module knows nothing about judges, scores or gold
answers.
"""

import itertools
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from generation.answering import predict
from generation.engine import GenerationSettings
from generation.sampling import Sampling
from models.directories import adapter_base, check_adapter_dir
from models.distributed import ShardLog
from models.hardware import choose_dtype
from preferences.cache import GENERATION_DEFAULTS
from utils.config import input_path
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, sha256_file, sha256_value
from utils.progress import track
from utils.runs import hash_inputs
from utils.schema import pick_samples, read_samples


@dataclass(frozen=True)
class Generator:
    """A loaded model. `name` is "sft" or "base"; `build` makes the prompt of a sample."""

    name: str
    model: Any
    tokenizer: Any
    build: Callable[[dict], Any]
    batch_size: int


def generation_settings(flags: dict, load_template: Callable[[str], str]) -> dict:
    """Everything that changes the texts, from the flags and the checkpoint; its hash names the cache.

    UsageError when no base model is known, DataError when checkpoint or data are missing.
    """
    checkpoint = check_adapter_dir(flags["sft_model"])
    manifest = Path(checkpoint) / "run.json"
    trained = read_json(manifest) if manifest.is_file() else {}
    settings = {}
    for name, default in GENERATION_DEFAULTS.items():
        settings[name] = default if flags[name] is None else flags[name]
    # A checkpoint answers best in the format that it was trained on.
    settings["template"] = settings["template"] or trained.get("template", "default")
    base = flags["base_model"] or adapter_base(checkpoint)
    if base is None:
        raise UsageError("--base-model is needed: the checkpoint names none")
    data_path = input_path(flags["data_path"])
    if not data_path.is_file():
        raise DataError(f"{data_path}: no such file; run build_data.py or correct --data-path")
    return settings | {
        "data_sha256": sha256_file(data_path),
        "sft_model": flags["sft_model"],
        "sft_hashes": hash_inputs([Path(checkpoint)])[checkpoint],
        "base_model": base,
        "template_text": load_template(settings["template"]),
        # Rounding differs by precision, and with it the sampled tokens.
        "precision": str(choose_dtype()),
    }


def draw_samples(settings: dict, data_path: Path) -> list[dict]:
    """The samples that the settings choose from a data file, in file order. DataError when none is left."""
    samples = read_samples(data_path)
    if settings["unseen_only"]:
        ids_path = input_path(settings["sft_model"]).parent / "train_ids.txt"
        if not ids_path.is_file():
            raise DataError(f"{ids_path}: no such file; --unseen-only needs the ids that train_sft.py writes")
        # One id per line.
        seen = set(ids_path.read_text(encoding="utf-8").split("\n"))
        samples = [sample for sample in samples if sample["id"] not in seen]
    if not samples:
        raise DataError(f"{data_path}: the model was trained on every sample; drop --unseen-only")
    return pick_samples(samples, settings["max_samples"], settings["seed"])


def n_candidates(settings: dict) -> int:
    """Candidates per model and sample."""
    # At temperature 0 each repetition is the same text.
    return settings["n_generations"] if settings["temperature"] > 0 else 1


def generate_candidates(generator: Generator, samples: list[dict], settings: dict, log: ShardLog) -> None:
    """Write this process's share of one model's candidates, without those that are in the log already.

    Rows are those of `predict` plus "n", the number of the candidate. Candidates of one sample share one
    pass over its prompt.
    """
    done = {(row["id"], row["n"]) for row in log.rows()}
    wanted = itertools.product(log.shards.mine(samples), range(n_candidates(settings)))
    todo = [(sample, n) for sample, n in wanted if (sample["id"], n) not in done]
    built = {sample["id"]: generator.build(sample) for sample, _ in track(todo, "reading prompts", "prompt")}
    prompts: dict[Hashable, Any] = {(sample["id"], n): built[sample["id"]] for sample, n in todo}
    # Each candidate has its own random stream, so its text is the same in every batch, on any number of
    # processes and after a restart.
    seeds = []
    for sample, n in todo:
        digest = sha256_value([settings["seed"], generator.name, sample["id"], n])
        seeds.append(int(digest[:8], 16))
    generation = GenerationSettings(
        batch_size=generator.batch_size,
        max_new_tokens=settings["max_new_tokens"],
        sampling=Sampling(settings["temperature"], settings["top_p"], settings["top_k"]),
        seeds=seeds,
    )
    for batch in predict(generator.model, generator.tokenizer, prompts, generator.name, generation):
        rows = []
        for row in batch:
            sample_id, n = row["id"]
            rows.append({**row, "id": sample_id, "n": n})
        log.add(rows)
    # Batches are sorted by length and processes take turns; the file has the order of the samples.
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    log.finish(lambda row: (place[row["id"]], row["n"]))
