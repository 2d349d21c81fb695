"""Completions with rewards: N per prompt of one model, each scored by a reward model.

Samples are drawn once and kept beside the results until these are written, so that a killed run resumes.
The prompt builders are handed in. This module knows nothing about gold.
"""

import argparse
import functools
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from evaluation.best_of import pick_completions
from evaluation.predictions import log_key
from generation.answering import sft_and_base
from models.choices import load_options
from models.distributed import ShardLog, Shards
from preferences.candidates import Generator, generate_candidates
from preferences.completion_reader import template_source
from preferences.inputs import check_whole_head
from preferences.reward_config import DEFAULTS
from preferences.scored import head_key
from preferences.scoring import score_completions
from utils.config import home_path, input_path
from utils.jsonl import read_jsonl, sha256_value, write_jsonl


def head_settings(folder: str | None) -> dict[str, str]:
    """The part of an evaluation's settings that its reward model decides; empty without one."""
    if folder is None:
        return {}
    check_whole_head(input_path(folder))
    return {"reward_key": head_key(folder)}


def _draw(
    generator: Generator, samples: list[dict], settings: dict, folder: Path, shards: Shards
) -> list[dict]:
    """The rows of `generate_candidates`, from the disk where a killed run has drawn them already."""
    path = folder / f"{sha256_value(settings)[:12]}.jsonl"
    if not shards.share(path.is_file()):
        generate_candidates(generator, samples, settings, ShardLog(path, settings, shards))
    return [row for _, row in read_jsonl(path)]


def _completion_rows(candidates: dict[str, list[dict]], samples: list[dict]) -> list[dict]:
    """The candidates as rows of `score_completions`, in the order of the samples."""
    rows = []
    for sample in samples:
        for row in candidates[sample["id"]]:
            # Citations are numbers of the chunks that the prompt showed.
            chunks = [sample["evidence_chunks"][i] for i in row["shown"]]
            rows.append(
                {
                    "id": sample["id"],
                    "question": sample["question"],
                    "evidence_chunks": chunks,
                    "completion": row["completion"],
                }
            )
    return rows


def best_of(
    args: argparse.Namespace,
    samples: list[dict],
    greedy: list[dict],
    settings: dict,
    prompt_builder: Callable[..., Any],
    shards: Shards,
) -> list[dict]:
    """The prediction rows of every pick of --best-of (`evaluation/best_of.py`).

    `greedy`: prediction rows, of which those of "sft" are candidates too. `settings`: those that decide the
    checkpoint's completions. `prompt_builder(tokenizer, template=..., max_tokens=...)` has `build`.
    """
    output = home_path(args.output)
    folder = output.with_name(f".{output.stem}_best_of")
    drawing = log_key(settings) | {"n_generations": args.best_of - 1, "top_p": 1.0, "top_k": 0}
    options = load_options(args, max_length=settings["max_prompt_tokens"] + args.max_new_tokens)
    with sft_and_base(str(input_path(settings["model_dir"])), args.base_model, options) as models:
        max_tokens = models.prompt_limit(settings["max_prompt_tokens"], args.max_new_tokens)
        build = prompt_builder(models.tokenizer, settings["template_text"], max_tokens).build
        generator = Generator("sft", models.model, models.tokenizer, build, args.batch_size)
        drawn = _draw(generator, samples, drawing, folder, shards)
        del generator

    candidates = {row["id"]: [row] for row in greedy if row["model"] == "sft"}
    for row in drawn:
        candidates[row["id"]].append({name: value for name, value in row.items() if name != "n"})

    prompts_of = functools.partial(template_source, prompt_builder=prompt_builder)
    reading = {"base_model": args.model_path, "output_dir": str(folder), "eval_batch_size": args.batch_size}
    config = DEFAULTS | reading | {"attn_implementation": args.attn_impl or "auto"}
    rows = _completion_rows(candidates, samples)
    scored = score_completions(rows, input_path(args.reward_model), config, prompts_of, shards)
    rewards: dict[str, list[float]] = {}
    for row in scored:
        rewards.setdefault(row["id"], []).append(row["reward"])
    if shards.is_main:
        kept = [row | {"reward": found["reward"]} for row, found in zip(rows, scored)]
        write_jsonl(output.with_name(f"{output.stem}_candidates.jsonl"), kept)
        shutil.rmtree(folder, ignore_errors=True)
    return pick_completions(candidates, rewards, samples, args.seed)
