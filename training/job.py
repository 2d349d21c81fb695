"""One training run before its objective: settings, prompts, samples, rows, val answers, and the run itself.

Every training stage uses it. It knows neither the loss nor the labels: they come with the trainer and the
rows.
"""

import contextlib
import functools
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evidence.reserved import ids_text
from models.distributed import Shards
from models.untrusted import UnpicklingError
from training.averaging import end_with_average
from training.card import SftCard
from training.checkpoints import RunFiles
from training.evidence_versions import gather_evidence
from training.progress import StepProgress
from training.remedies import memory_errors
from training.rows import COMPLETION_TOKENS, Versions, encode_epochs, encode_rows
from training.sampler import RowOrder
from training.shared_evidence import group_cost
from training.steps import opening_rows, steps_and_epochs
from training.stopping import NoFurtherStep, NothingLeft, interruption
from training.trainer import CompletionTrainer
from training.validation import answer_samples, selection_metrics
from utils.errors import DataError, UsageError
from utils.jsonl import write_text
from utils.runs import format_drops, note
from utils.schema import pick_samples


@dataclass(frozen=True)
class TrainingJob:
    """All parts of a run except its model."""

    # The YAML with its overrides, as in training/sft_config.py.
    config: dict
    output_dir: Path
    # A prompt_schema.PromptBuilder, handed in with the hash of its template: packages do not import scripts.
    builder: Any
    template_hash: str
    card: SftCard
    # "train" and "val".
    samples: dict[str, list[dict]]
    shards: Shards

    def group_cost(self, model) -> int | None:
        """Tokens that one more group of rows with the same evidence costs a batch; None: none is shared."""
        return group_cost(model, self.builder.prefix) if self.config["data"]["share_evidence"] else None

    def pick_val(self, n_wanted: int | None) -> list[dict]:
        """At most `n_wanted` val samples, the same at every call; all for None."""
        return pick_samples(self.samples["val"], n_wanted, self.config["training"]["seed"])

    def answer(self, model, samples: list[dict], name: str) -> list[dict]:
        """Greedy completions of `samples` as prediction rows; `name` labels the progress bar."""
        batch_size = 4 * self.config["training"]["per_device_eval_batch_size"]
        return answer_samples(model, self.builder, samples, name, batch_size, COMPLETION_TOKENS)

    def answer_meter(self) -> Callable | None:
        """A function from the model to the metrics of its val answers; None if the config generates none.

        UsageError for a metric of unanswerable samples where there are none: it would choose no checkpoint.
        """
        n_samples = self.config["data"]["max_generated_val_samples"]
        if not n_samples:
            return None
        samples = self.pick_val(n_samples)
        metric = self.config["training"]["metric_for_best"]
        if metric == "eval_refusal_f1" and len({sample["answerable"] for sample in samples}) < 2:
            lacking = "unanswerable" if samples[0]["answerable"] else "answerable"
            raise UsageError(
                f"training.metric_for_best: {metric} needs {lacking} samples, and none of the "
                f"{len(samples)} of val is one; choose eval_net_score, or read more of val"
            )

        def measure(model) -> dict[str, float | None]:
            return selection_metrics(self.answer(model, samples, "val"), samples)

        return measure


@dataclass(frozen=True)
class Rows:
    """Encoded samples. `blocks` has the training rows once per epoch, each time with reordered chunks.

    Behind them come the rows with short evidence of the first `n_short` epochs; `short_rows` says how many of
    each epoch are used.
    """

    blocks: list[dict]
    n_blocks: int
    # Optimizer steps of the whole run.
    n_steps: int
    val: list[dict]
    # Dropped training samples by reason.
    drops: Counter
    n_short: int = 0
    short_rows: tuple[int, ...] = ()

    @property
    def train(self) -> list[dict]:
        """The rows of one epoch."""
        return self.blocks[: len(self.blocks) // (self.n_blocks + self.n_short)]

    def order(self, data: dict) -> RowOrder:
        """How the epochs order them, by the YAML's `data` block."""
        adjacent = data["twin_pairs"] == "adjacent"
        return RowOrder(
            adjacent, data["answerable_first"], self.n_blocks, self.n_short, short_rows=self.short_rows
        )


def encode(job: TrainingJob, complete: Callable[..., list[int]]) -> Rows:
    """Training and val rows, and a note on both. `complete` gives the tokens to learn: see `encode_rows`."""
    training = job.config["training"]
    data = job.config["data"]
    n_processes = job.shards.n_processes
    encode_samples = functools.partial(
        encode_rows,
        builder=job.builder,
        complete=complete,
        max_seq_length=training["max_seq_length"],
        weights=data["weights"],
    )
    shares_evidence = data["share_evidence"]
    samples = gather_evidence(job.samples["train"]) if shares_evidence else job.samples["train"]
    # One block per epoch begun, so that no order of chunks comes twice.
    n_blocks = 1
    if data["reshuffle_chunks"]:
        _, n_epochs = steps_and_epochs(len(samples), training, n_processes)
        n_blocks = math.ceil(n_epochs)
    share = data["short_evidence_first"]
    n_short = min(n_blocks, len(opening_rows(share, len(samples), training, n_processes)))
    versions = Versions(n_blocks, n_short, shares_evidence)
    blocks, drops = encode_epochs(samples, versions, training["seed"], encode_samples)
    # Counted again: dropped rows can make the run shorter.
    n_rows = len(blocks) // (n_blocks + n_short)
    n_steps, _ = steps_and_epochs(n_rows, training, n_processes)
    short_rows = opening_rows(share, n_rows, training, n_processes) if n_short else ()
    val, val_drops = encode_samples(job.pick_val(data["max_val_samples"]))
    rows = Rows(blocks, n_blocks, n_steps, val, drops, n_short, short_rows)
    if job.shards.is_main:
        note(describe_rows(rows, len(job.builder.prefix), n_processes))
        note(f"{len(val)} val rows ({format_drops(val_drops)})")
    return rows


def describe_rows(rows: Rows, n_prefix: int, n_processes: int) -> str:
    """One line on what will be trained on."""
    n_supervised = sum(len(row["completion"]) for row in rows.train)
    n_prompt = sum(n_prefix + len(row["suffix"]) for row in rows.train)
    n_refusals = sum(not row["answerable"] for row in rows.train)
    processes = "1 process" if n_processes == 1 else f"{n_processes} processes"
    short = f"; {sum(rows.short_rows)} rows first with short evidence" if rows.n_short else ""
    return (
        f"{len(rows.train)} rows ({n_refusals} refusals), "
        f"{n_supervised:,} supervised and {n_prompt:,} prompt tokens ({n_prefix} of each row shared), "
        f"{rows.n_steps} steps on {processes} ({format_drops(rows.drops)}){short}"
    )


def write_train_ids(job: TrainingJob, rows: Rows) -> None:
    """train_ids.txt, by which later stages know what the model has seen, also that of an unfinished run."""
    if job.shards.is_main:
        write_text(job.output_dir / "train_ids.txt", ids_text(rows.train))


def _train(trainer: CompletionTrainer, checkpoint: str | None) -> float:
    """The seconds of `trainer.train`. DataError for a checkpoint whose states are not what was written."""
    try:
        return trainer.train(resume_from_checkpoint=checkpoint).metrics["train_runtime"]
    # torch reads tensors and plain values, and raises this for all else that a pickle asks for.
    except UnpicklingError as error:
        raise DataError(
            f"{checkpoint}: its optimizer, scheduler or random states are damaged, or a pickle that could "
            "run code, which is not read; delete this checkpoint and run again to resume from the one before"
        ) from error


def run_to_the_end(
    job: TrainingJob, trainer: CompletionTrainer, files: RunFiles, checkpoint: str | None, resume_command: str
) -> float:
    """Train, from `checkpoint` if it is given, and save checkpoint-final. Returns the seconds of training,
    those before the checkpoint included.

    A stop by signal raises KeyboardInterrupt, after a checkpoint, with `resume_command` as its message.
    OutOfMemory, with what to set, if a batch does not fit.
    """
    files.trainer = trainer
    steps = StepProgress(files.output_dir)
    trainer.add_callback(steps)
    trainer.add_callback(NoFurtherStep())
    seconds = 0.0
    stops = contextlib.suppress(NothingLeft)
    with memory_errors(trainer, job.config, job.output_dir), files.stops, steps, stops:
        seconds = _train(trainer, checkpoint)
    n_steps = trainer.state.global_step
    if files.is_stopped:
        raise interruption(files.stop_number, f"stopped at step {n_steps}; resume with: {resume_command}")
    if files.n_averaged:
        with memory_errors(trainer, job.config, job.output_dir):
            end_with_average(trainer, files)
    files.save_model("checkpoint-final", n_steps)
    return steps.seconds_before + seconds
