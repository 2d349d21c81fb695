"""`transformers.Trainer` for losses on completions: order of rows, logits, saved files and validation.

`CompletionTrainer` is what SFT shares with later objectives; a stage adds `row_losses` and its collator.
It knows nothing about what a completion says.
"""

import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel
from transformers import PrinterCallback

from models.hardware import choose_dtype, has_cuda, say_once
from models.special_tokens import save_end
from training.checkpoints import LOSS
from training.logits import logits_after_prefix
from training.memory_config import layers_per_checkpoint
from training.pace import Pace, PacedTrainer
from training.packed_steps import PackedStepTrainer, StepArguments
from training.sampler import RowOrder, make_sampler
from training.shared_evidence import grouped_logits
from utils.runs import note

# Keys of the YAML's `training` block that TrainingArguments has under the same name.
_SAME_NAME = (
    "per_device_train_batch_size",
    "per_device_eval_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "num_train_epochs",
    "max_steps",
    "weight_decay",
    "lr_scheduler_type",
    "logging_steps",
    "eval_steps",
    "save_steps",
    "optim",
    "max_grad_norm",
    "seed",
    "report_to",
    "tokens_per_pass",
)


# --- the training arguments


def training_arguments(config: dict, output_dir: Path, n_steps: int) -> StepArguments:
    """The YAML's `training` block for `transformers.Trainer`; `n_steps` of the whole run set the warm-up."""
    training = config["training"]
    dtype = choose_dtype(config["bf16"])
    on_cuda = has_cuda()
    n_layers = layers_per_checkpoint(training["gradient_checkpointing"])
    if training["optim"].startswith("paged_") and not on_cuda:
        say_once(f"optim: {training['optim']} runs on CPU without paging, which needs a GPU")
        # bitsandbytes says it too, in two lines with a path.
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
    arguments = StepArguments(
        output_dir=str(output_dir),
        **{key: training[key] for key in _SAME_NAME},
        # The first step of a warmup has a rate of 0, so that a run of one step would learn nothing.
        warmup_steps=min(math.ceil(n_steps * training["warmup_ratio"]), n_steps - 1),
        gradient_checkpointing=n_layers > 0,
        gradient_checkpointing_kwargs={"use_reentrant": False, "every_n_layers": max(n_layers, 1)},
        # Every pass uses every trained weight, and for PEFT models Trainer would search each pass for unused
        # ones.
        ddp_find_unused_parameters=False,
        eval_strategy="steps",
        save_strategy="steps",
        # A wrong set-up shows in the first loss, and the next line may be an hour away.
        logging_first_step=True,
        # A loss that is not a number would be logged as 0, and each pass would wait to look for one.
        logging_nan_inf_filter=False,
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=not on_cuda,
        dataloader_pin_memory=on_cuda,
        # Our columns are no arguments of the model; the collator reads them.
        remove_unused_columns=False,
        label_names=["labels"],
        disable_tqdm=True,
        log_level="error",
    )
    # The library would use all GPUs in one process: DataParallel, and larger batches than the YAML gives.
    if arguments.n_gpu > 1:
        note(f"found {arguments.n_gpu} GPUs, using 1; start with `accelerate launch` to use all of them")
        arguments._n_gpu = 1
    return arguments


# --- the trainer


class CompletionTrainer(PackedStepTrainer, PacedTrainer):
    """`transformers.Trainer` whose rows are completions behind one common prefix.

    `prefix`: token ids that start every row and are not in the batch. `share_prefix`: run them once per
    batch, not once per row. `order`: how an epoch orders its rows. `measure_answers(model)`: metrics of
    generated answers, added to each evaluation. The data set has the columns that `encode_rows` makes.

    A subclass defines `row_losses`, on `completion_logits`; rows with other completions than "completion"
    also need their own `row_lengths`.
    """

    # transformers allows None for each; here all are given.
    model: Any
    processing_class: Any
    train_dataset: Any

    def __init__(
        self,
        *args,
        prefix: list[int],
        share_prefix: bool,
        order: RowOrder,
        measure_answers: Callable | None = None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        # training/progress.py shows the progress.
        self.remove_callback(PrinterCallback)
        self.prefix = prefix
        self.share_prefix = share_prefix
        self.order = order
        self.measure_answers = measure_answers
        self.pace = Pace(len(prefix))
        self.add_callback(self.pace)
        # Trainer then counts the labels of an optimizer step and hands the number to `compute_loss`.
        self.model_accepts_loss_kwargs = True

    def completion_logits(self, model, inputs: dict, wanted: torch.Tensor | None = None) -> torch.Tensor:
        """Logits at the positions of the labels: (batch, n_labels, vocab). Those at k predict label k + 1.

        With `wanted` (batch, n_labels) only those of the positions that it marks: (n_wanted, vocab).

        inputs: "input_ids" and "attention_mask" (batch, seq_len), rows left-padded and without the prefix;
        "labels" (batch, n_labels), for the last `n_labels` columns of the rows; only their number is read;
        optionally the columns of `group_columns`, for rows that share more than the prefix.
        Any model with this tokenizer will do: a reference, or the trained model with its adapter off.
        """
        # Only training passes are packed, so that evaluations have the same loss with any setting.
        pack = self.tokens_per_pass is not None and model.training
        logits_of = logits_after_prefix(model, self.share_prefix, pack)
        n_labels = inputs["labels"].shape[1]
        if self.share_prefix and "group" in inputs:
            return grouped_logits(logits_of, model, self.prefix, inputs, n_labels, wanted)
        ids = inputs["input_ids"]
        return logits_of(model, self.prefix, ids, inputs["attention_mask"], n_labels, wanted=wanted)

    def row_lengths(self, rows) -> list[int]:
        """Tokens of each row without the prefix, for batches that pad little."""
        pairs = zip(rows["suffix"], rows["completion"])
        return [len(suffix) + len(completion) for suffix, completion in pairs]

    def _get_train_sampler(self, train_dataset=None):
        rows = self.train_dataset if train_dataset is None else train_dataset
        self.sampler = make_sampler(rows, self.row_lengths, self.args, self.order)
        return self.sampler

    def _save(self, output_dir=None, state_dict=None):
        """Weights and tokenizer only: no `training_args.bin`, a pickle with the hub token in clear text."""
        # Every process comes here; under FSDP only the first has gathered the weights.
        if not self.args.should_save:
            return
        # Otherwise PEFT looks up the base on the hub to find out whether its embeddings were resized.
        options = {"save_embedding_layers": False} if isinstance(self.model, PeftModel) else {}
        self.model.save_pretrained(output_dir, state_dict=state_dict, **options)
        self.processing_class.save_pretrained(output_dir)
        save_end(Path(output_dir), self.processing_class)

    def row_losses(self, model, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(loss, number of items that it is the sum over) of each row, both (batch,)."""
        raise NotImplementedError

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """The sum of the rows' losses over their items: those of the batch or of the whole optimizer step."""
        losses, n_items = self.row_losses(model, inputs)
        if num_items_in_batch is None:
            loss = losses.sum() / n_items.sum()
        else:
            # The count covers all processes, and DDP averages their gradients: this undoes its mean.
            n_averaged = self.accelerator.num_processes if self.args.average_tokens_across_devices else 1
            loss = losses.sum() / num_items_in_batch * n_averaged
        return (loss, {}) if return_outputs else loss

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        """The loss of the batch and, in place of its logits, those of its rows with their items."""
        # The logits of an evaluation would fill the memory, and no metric reads them.
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            losses, n_items = self.row_losses(model, inputs)
        # Trainer gathers these from all processes, each row once.
        return losses.sum() / n_items.sum(), losses, n_items

    def evaluate(self, *args, **kwargs):
        """An evaluation, behind which training draws the random numbers that it would draw without one."""
        # A data loader draws one when it starts, which would give other dropout to all later steps.
        with torch.random.fork_rng([torch.cuda.current_device()] if has_cuda() else []):
            return super().evaluate(*args, **kwargs)

    def evaluation_loop(self, *args, **kwargs):
        """The loss over all items, and the metrics of generated answers if the run measures them."""
        output = super().evaluation_loop(*args, **kwargs)
        metrics: Any = output.metrics
        # Trainer's own is a mean over batches of their means: it depends on which rows share a batch.
        losses: Any = output.predictions
        n_items: Any = output.label_ids
        metrics[LOSS] = float(losses.sum(dtype="float64") / n_items.sum())
        if self.measure_answers:
            with self.accelerator.autocast():
                model = self.accelerator.unwrap_model(self.model).eval()
                metrics.update(self.measure_answers(model))
        return output
