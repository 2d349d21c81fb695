"""`CompletionTrainer` for pairs: log-probabilities of both completions, and those that a reference gave them.

Both completions of a pair, and all pairs of a prompt that are in one batch, share one reading of it, with
gradient (training/shared_evidence.py). The loss is the stage's; this module knows no objective.
"""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from safetensors.torch import load_file, save
from torch.utils.data import DataLoader
from transformers import TrainerCallback

from generation.batches import pad_left
from models.distributed import Shards
from models.folders import header_problem
from training.likelihood import completion_nll
from training.shared_evidence import group_columns
from training.trainer import CompletionTrainer
from utils.atomic import atomic_write
from utils.errors import DataError
from utils.launch import trains_sharded
from utils.progress import progress


@dataclass(frozen=True)
class PairLogps:
    """What is known of a batch of pairs, each (n_pairs, n_sides): the sides are chosen and rejected.

    `policy` and `reference` are sums of log-probabilities over the tokens of a completion, of which there are
    `n_tokens`; `reference` needs no gradient.
    """

    policy: torch.Tensor
    reference: torch.Tensor
    n_tokens: torch.Tensor


def make_pair_collator(
    pad_id: int, columns: tuple[str, ...], group_cost: int | None = None
) -> Callable[[list[dict]], dict[str, torch.Tensor]]:
    """A function from rows of `encode_pairs` to a batch with the completions of these `columns`, row by row.

    "input_ids" and "attention_mask" (n_pairs * n_sides, seq_len), left-padded; "labels", all ids of the
    completions, for the last positions, -100 before them; "weights" and "places" (n_pairs,). With
    `group_cost` (in tokens) also the columns of `group_columns`.
    """

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        suffixes = [row["suffix"] for row in rows for _ in columns]
        completions = [row[column] for row in rows for column in columns]
        ids = [suffix + completion for suffix, completion in zip(suffixes, completions)]
        input_ids, mask = pad_left(ids, pad_id, "cpu")
        # One more than the longest: the position before predicts the first label.
        n_labels = max(map(len, completions)) + 1
        labels = [[-100] * (n_labels - len(own)) + own for own in completions]
        batch = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": torch.tensor(labels),
            "weights": torch.tensor([row["weight"] for row in rows]),
            "places": torch.tensor([row["place"] for row in rows]),
        }
        return batch | ({} if group_cost is None else group_columns(suffixes, group_cost))

    return collate


class PairTrainer(CompletionTrainer):
    """A subclass defines `pair_losses(logps)`, (n_pairs,), of a `PairLogps`.

    `reference_path`: where the log-probabilities of the reference are, or will be written: of the model as it
    is before the first step; None for a loss that has no reference. Rows are those of `encode_pairs`, with
    their places.
    """

    # transformers allows None; here it is given.
    eval_dataset: Any

    def __init__(self, *args, reference_path: Path | None, **kwargs):
        super().__init__(*args, **kwargs)
        self.reference_path = reference_path
        # (n_rows, n_sides), of training rows and then those of val; read before the first step.
        self.reference: torch.Tensor | None = None
        # Of each pair since the last line of the log: whether it was ranked right, and by how much.
        self.ranked: list[torch.Tensor] = []
        self.add_callback(_ReadsReference(self))

    def pair_losses(self, logps: PairLogps) -> torch.Tensor:
        """The loss of each pair, (n_pairs,), without its weight."""
        raise NotImplementedError

    def completion_logps(self, model, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(sum of log p of each completion's tokens, number of these), both (n_pairs, n_sides).

        log p(y | x) = sum_t log p(y_t | x, y_<t)
        """
        logits_of = functools.partial(self.completion_logits, model, inputs)
        nll, n_tokens = completion_nll(model, logits_of, inputs["labels"])  # (n_completions,) each
        n_pairs = len(inputs["weights"])
        return -nll.view(n_pairs, -1), n_tokens.view(n_pairs, -1)

    def row_losses(self, model, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(weighted loss of each pair, 1 for each), both (n_pairs,)."""
        policy, n_tokens = self.completion_logps(model, inputs)
        assert self.reference is not None, "read by _ReadsReference"
        reference = self.reference.to(policy.device)[inputs["places"]]
        losses = self.pair_losses(PairLogps(policy, reference, n_tokens)) * inputs["weights"]
        if model.training and policy.shape[1] > 1:
            gains = (policy - reference).detach() / n_tokens
            self.ranked.append(gains[:, 0] - gains[:, 1])
        return losses, torch.ones_like(inputs["places"])

    def row_lengths(self, rows) -> list[int]:
        """Tokens of each pair without the prefix, for batches that pad little."""
        pairs = zip(rows["suffix"], rows["completion"], rows["rejected"])
        return [len(suffix) + len(chosen) + len(rejected) for suffix, chosen, rejected in pairs]

    def _get_num_items_in_batch(self, batch_samples: list, device):
        # Trainer counts labels, but the loss is a mean over pairs: one label for each.
        counted = []
        for batch in batch_samples:
            labels = torch.tensor([[-100, 0]] * len(batch["places"]), device=batch["places"].device)
            counted.append({"labels": labels})
        return super()._get_num_items_in_batch(counted, device)

    def log(self, logs: dict, *args, **kwargs) -> None:
        """Beside the loss, of this process: the share of pairs ranked right, and their gain per token."""
        if "loss" in logs and self.ranked:
            gains = torch.cat(self.ranked)
            self.ranked = []
            logs = {
                **logs,
                "accuracy": round((gains > 0).float().mean().item(), 4),
                "gain": round(gains.mean().item(), 6),
            }
        super().log(logs, *args, **kwargs)

    # --- the reference

    def read_reference(self) -> None:
        """The reference of all rows, from its file or, before the first step, from the model itself."""
        if self.reference_path is None:
            n_rows = len(self.train_dataset) + len(self.eval_dataset)
            self.reference = torch.zeros(n_rows, 1)
            return
        problem = header_problem(self.reference_path) if self.reference_path.is_file() else "is missing"
        if problem:
            if self.state.global_step:
                raise DataError(
                    f"{self.reference_path}: {problem}; the model is no longer what it was, so start over "
                    "with --overwrite"
                )
            self._write_reference(self.reference_path)
        self.reference = load_file(self.reference_path)["logps"]

    @torch.no_grad()
    def _write_reference(self, path: Path) -> None:
        rows = [*self.train_dataset, *self.eval_dataset]
        shards = Shards()
        # With sharded weights every process takes part in each pass.
        own = rows if trains_sharded() else shards.mine(rows)
        found: dict[int, list[float]] = {}
        model = self.model_wrapped
        was_training = model.training
        model.eval()
        # A loader draws a number when it begins. Of its own, or the dropout of a run that finds the file
        # would differ from that of the run that wrote it.
        loader = DataLoader(
            Dataset.from_list(own),
            self.args.per_device_eval_batch_size,
            collate_fn=self.data_collator,
            generator=torch.Generator(),
        )
        with progress(len(own), "reading the reference", "pair") as bar:
            for batch in loader:
                inputs = self._prepare_inputs(batch)
                with self.compute_loss_context_manager():
                    logps, _ = self.completion_logps(model, inputs)
                found |= zip(batch["places"].tolist(), logps.float().tolist())
                bar.update(len(logps))
        model.train(was_training)
        for place, logps in shards.gather([*found.items()]):
            found[place] = logps
        if shards.is_main:
            table = torch.tensor([found[place] for place in range(len(rows))])
            with atomic_write(path, "wb") as handle:
                handle.write(save({"logps": table}))
        shards.wait()


class _ReadsReference(TrainerCallback):
    """Before the first step, when the model is on its device and, of a resumed run, at its step."""

    def __init__(self, trainer: PairTrainer):
        self.trainer = trainer

    def on_train_begin(self, args, state, control, **kwargs):
        self.trainer.read_reference()
