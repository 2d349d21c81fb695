"""checkpoint-best as one model that needs no adapter, proven to answer as the checkpoint does.

An export is complete or absent: it gets its name after its answers were compared. The prompt builder is
handed in. This module knows files and models, not what an answer means.
"""

import functools
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from generation.answering import load_generator
from models.loading import LoadOptions, load_tokenizer
from models.memory import release_memory
from models.special_tokens import save_end
from training.adapters import merge_checkpoint
from training.card import SftCard, kind_of, local_place
from training.gguf import read_gguf, write_gguf
from training.parity import N_PROMPTS, Differs, check_parity
from training.rows import COMPLETION_TOKENS
from training.validation import answer_samples
from training.whole import CARD, checkpoint_damage
from utils.config import home_path, input_path
from utils.errors import DataError, UsageError
from utils.jsonl import write_text
from utils.outputs import check_empty_folder
from utils.own_files import CHECKPOINT
from utils.runs import note
from utils.schema import pick_samples, read_samples
from utils.shapes import read_shaped
from utils.tokens import set_prompt_ids

# Prompts on which the logits before and after merging are compared.
_N_LOGITS = 16


@dataclass(frozen=True)
class Export:
    """One checkpoint to export. `build(tokenizer)` makes a prompt builder."""

    config: dict
    card: SftCard
    build: Any

    @property
    def checkpoint(self) -> Path:
        """checkpoint-best of the run. DataError if it is missing or torn."""
        checkpoint = home_path(self.config["output_dir"]) / "checkpoint-best"
        if problem := checkpoint_damage(checkpoint):
            remedy = "run the training with this config first"
            raise DataError(
                f"{checkpoint}: no complete checkpoint to merge, export or calibrate ({problem}); {remedy}"
            )
        return checkpoint

    @property
    def options(self) -> LoadOptions:
        trusted = self.config["trust_remote_code"]
        return LoadOptions(bf16=False, trust_remote_code=trusted, base_model=self.config["model_name"])

    @functools.cached_property
    def samples(self) -> list[dict]:
        """The val samples whose answers are compared, the same at every call."""
        val = read_samples(input_path(self.config["data"]["val_path"]))
        return pick_samples(val, N_PROMPTS, self.config["training"]["seed"])

    @functools.cached_property
    def expected(self) -> list[dict]:
        """What the checkpoint answers in float32, where rounding decides nothing."""
        return self.answers(str(self.checkpoint), self.options, "checkpoint")

    def answers(self, model_dir: str, options: LoadOptions, name: str) -> list[dict]:
        """Greedy answers of a model to the compared prompts, which its own tokenizer encodes."""
        tokenizer = load_tokenizer(model_dir, options.trust_remote_code)
        # A GGUF file has no place for it.
        builder = self.build(set_prompt_ids(tokenizer, self.config["data"]["prompt_ids"]))
        model = load_generator(model_dir, options)
        batch_size = 4 * self.config["training"]["per_device_eval_batch_size"]
        rows = answer_samples(model, builder, self.samples, name, batch_size, COMPLETION_TOKENS)
        del model
        release_memory()
        return rows

    def merge(self, target: Path) -> dict:
        """Write the merged model to `target`. StageError, and nothing written, if it answers otherwise."""
        checkpoint = self.checkpoint
        check_empty_folder(target, "--merge")
        if kind_of(checkpoint) == "model":
            raise UsageError(f"{checkpoint}: this is a full model, so there is nothing to merge")
        # Before the merge: two models at once may not fit the device.
        expected = self.expected

        def finish(partial: Path) -> dict:
            self.card.tokenizer.save_pretrained(partial)
            save_end(partial, self.card.tokenizer)
            parity = check_parity(expected, self.exported_answers(partial, "merged"), f"--merge {target}")
            place = local_place(self.config["model_name"], partial)
            facts = read_shaped(checkpoint / "run.json", CHECKPOINT)
            write_text(partial / CARD, self.card.text(facts, "model", place))
            return parity

        return self.in_smallest_type(lambda dtype: self.merge_as(dtype, target, finish))

    def merge_as(self, dtype: torch.dtype, target: Path, finish: Callable[[Path], dict]) -> dict:
        """Write the merged weights in this type; see `merge_checkpoint`."""
        builder = self.build(self.card.tokenizer)
        prompts = [builder.build(sample).ids for sample in self.samples[:_N_LOGITS]]
        return merge_checkpoint(self.checkpoint, target, prompts, self.options, dtype, finish)

    def exported_answers(self, folder: Path, name: str) -> list[dict]:
        """Answers of an exported model, computed in float32 from its weights as they are."""
        options = LoadOptions(bf16=False, trust_remote_code=self.config["trust_remote_code"])
        return self.answers(str(folder), options, name)

    def in_smallest_type(self, write: Callable[[torch.dtype], dict]) -> dict:
        """`write` in bfloat16 or, where its rounding changes too many answers, in float32."""
        try:
            return write(torch.bfloat16)
        except Differs as error:
            note(f"bfloat16: {error}")
        # Behind the block, in which the error keeps what the first attempt loaded.
        note("writing float32 instead, twice as large")
        return write(torch.float32)


def export_gguf(job: Export, target: Path) -> dict:
    """Write the model as a GGUF file. StageError, and no file, if it answers otherwise once read back."""
    expected = job.expected
    partial = target.with_name(f".{target.name}.partial")

    def add_tokenizer(folder: Path) -> dict:
        job.card.tokenizer.save_pretrained(folder)
        return {}

    def write(dtype: torch.dtype) -> dict:
        with tempfile.TemporaryDirectory(dir=target.parent) as name:
            folder = job.checkpoint
            if kind_of(folder) == "adapter":
                folder = Path(name) / "merged"
                job.merge_as(dtype, folder, add_tokenizer)
            write_gguf(folder, partial, dtype)
            read_gguf(partial, Path(name) / "back", dtype)
            found = job.exported_answers(Path(name) / "back", "gguf")
            return check_parity(expected, found, f"--export {target}")

    try:
        parity = job.in_smallest_type(write)
        partial.rename(target)
    finally:
        partial.unlink(missing_ok=True)
    return parity


def describe_parity(comparison: dict) -> str:
    """What was compared, for the line that says what was written."""
    same = f"{comparison['same_answers']:.0%} of {comparison['n_prompts']} answers and citations the same"
    if not comparison["n_answers"]:
        same = f"none of {comparison['n_prompts']} completions of the checkpoint has an answer to compare"
    gap = comparison.get("max_logit_gap_float32")
    return same if gap is None else f"{same}, largest logit gap {gap:.2g} in float32"
