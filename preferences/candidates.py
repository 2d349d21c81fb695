"""Candidates: completions of the same prompts by one model or several, generated once for all judges.

The prompt builder and the template are handed in. This module knows nothing about judges, scores or gold
answers.
"""

import argparse
import contextlib
import functools
import itertools
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.reserved import ids_problem, refuse_test_data, train_ids
from generation.answering import SftAndBase, predict
from generation.decisions import decision_biases
from generation.engine import GenerationSettings
from generation.sampling import Sampling
from generation.throughput import Throughput
from models.distributed import ShardLog, Shards, drop_partials, note_in_first_process
from preferences.cache import MODELS, cache_key
from preferences.candidate_settings import n_candidates
from utils.config import input_path
from utils.decisions import decisions_of
from utils.errors import DataError
from utils.jsonl import sha256_value
from utils.progress import track
from utils.schema import pick_samples, read_questions

# Samples whose candidates are generated and written together: an interrupted run loses at most these.
SAMPLES_PER_PORTION = 64


@dataclass(frozen=True)
class Generator:
    """A loaded model. `name` is one of MODELS; `build` makes the prompt of a sample."""

    name: str
    model: Any
    tokenizer: Any
    build: Callable[[dict], Any]
    batch_size: int


def check_data(args: argparse.Namespace, check: Callable[[argparse.Namespace, list[dict]], None]) -> dict:
    """Facts for the manifest: whether the data may be test data, and a warning if it is.

    UsageError for test data without --allow-test: a model that learns from it cannot be tested on it.
    `check(args, rows)` says what else the flags need of the rows.
    """
    data_path = input_path(args.data_path)
    rows = read_questions(data_path) if data_path.is_file() else []
    check(args, rows)
    warning = refuse_test_data(data_path, rows, args.allow_test, args.sft_model)
    warnings = [warning] if warning else []
    note_in_first_process(warnings)
    return {"allow_test": args.allow_test, "warnings": warnings}


def draw_samples(settings: dict, data_path: Path) -> list[dict]:
    """The samples that the settings choose from a data file, in file order. DataError when none is left."""
    samples = read_questions(data_path)
    if settings["unseen_only"]:
        seen = train_ids(settings["sft_model"])
        if seen and (problem := ids_problem(settings["sft_model"])):
            raise DataError(f"{settings['sft_model']}: {problem}; copy the file from where the run is whole")
        if not seen:
            raise DataError(
                f"{settings['sft_model']}: no train_ids.txt in it or beside it; --unseen-only needs the ids "
                "that train_sft.py writes"
            )
        samples = [sample for sample in samples if sample["id"] not in seen]
    if not samples:
        raise DataError(f"{data_path}: the model was trained on every sample; drop --unseen-only")
    return pick_samples(samples, settings["max_samples"], settings["seed"])


def generate_candidates(generator: Generator, samples: list[dict], settings: dict, log: ShardLog) -> dict:
    """Write this process's share of one model's candidates, without those that are in the log already.

    Rows are those of `predict` plus "n", the number of the candidate. Candidates of one sample share one
    pass over its prompt. Portions depend on nothing before them, so a run that was killed ends with the rows
    of an undisturbed one. Returns time and throughput.
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
    decisions = decisions_of(settings, generator.name)
    asked = [sample for sample, _ in todo]
    portion = SAMPLES_PER_PORTION * n_candidates(settings)
    generation = GenerationSettings(
        batch_size=generator.batch_size,
        max_new_tokens=settings["max_new_tokens"],
        sampling=Sampling(settings["temperature"], settings["top_p"], settings["top_k"]),
        seeds=seeds,
        biases=decision_biases(generator.tokenizer, decisions, asked, prompts.values()),
        portion=portion,
    )
    speed = Throughput(prompts, log.shards.n_processes)
    rows: list[dict] = []
    for batch in predict(generator.model, generator.tokenizer, prompts, generator.name, generation):
        for row in batch:
            sample_id, n = row["id"]
            rows.append({**row, "id": sample_id, "n": n})
        speed.add(batch)
        if len(rows) == portion:
            log.add(rows)
            rows = []
    # The last portion may be smaller.
    log.add(rows)
    facts = speed.facts()
    # Batches are sorted by length and processes take turns; the file has the order of the samples.
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    log.finish(lambda row: (place[row["id"]], row["n"]))
    return facts


@dataclass(frozen=True)
class CacheJob:
    """What a cache directory is filled with, and how."""

    cache: Path
    samples: list[dict]
    settings: dict
    batch_size: int
    shards: Shards


def fill_cache(models: SftAndBase, builder: Callable[..., Any], job: CacheJob) -> dict[str, dict]:
    """Write the candidates of the models that the settings name.

    `builder(tokenizer, max_tokens=n)` makes a model's prompts. Returns time and throughput by model.
    """
    times = {}
    policy = str(input_path(job.settings.get("policy_model", "")))
    uses: dict[str, Callable[[], contextlib.AbstractContextManager[None]]] = {
        "sft": models.sft,
        "base": models.base,
        "policy": functools.partial(_loaded, models, policy),
    }
    for name in MODELS:
        if name not in job.settings["models"].split(","):
            continue
        path = job.cache / f"gens_{name}.jsonl"
        is_there = job.shards.share(path.is_file())
        if is_there and job.shards.is_main:
            drop_partials(path)
        if is_there and name != "base":
            continue
        # The base model is loaded in any case: its revision goes into the manifest.
        with uses[name]():
            if not is_there:
                times[name] = _fill_from(models, name, builder, job)
    return times


@contextlib.contextmanager
def _loaded(models: SftAndBase, checkpoint: str) -> Iterator[None]:
    """Within it, `models.model` is another checkpoint, in place of both, with the base that it names."""
    models.load(checkpoint)
    yield


def _fill_from(models: SftAndBase, name: str, builder: Callable[..., Any], job: CacheJob) -> dict:
    """Write the candidates of the model in use. Returns time and throughput."""
    # A function of its own: its variables would keep this model while the next one is loaded.
    tokenizer = models.tokenizer
    settings = job.settings
    max_tokens = models.prompt_limit(settings["max_input_tokens"], settings["max_new_tokens"])
    build = builder(tokenizer, max_tokens=max_tokens).build
    generator = Generator(name, models.model, tokenizer, build, job.batch_size)
    log = ShardLog(job.cache / f"gens_{name}.jsonl", cache_key(job.settings), job.shards)
    return generate_candidates(generator, job.samples, job.settings, log)
