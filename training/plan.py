"""The plan of a training run, for `--dry-run`: rows, tokens, steps, time and memory.

It loads neither tokenizer nor model, so token counts are estimates.
"""

from pathlib import Path

from evidence.reserved import TEST_FILE
from models.choices import LoadOptions
from models.estimate import (
    CHARS_PER_TOKEN,
    count_tokens,
    estimate,
    longest_prompt,
    planned_samples,
    training_passes,
    warn_missing_model,
)
from models.planned_memory import planned_passes, training_memory
from models.training_footprint import Trained
from training.inputs import check_combination
from training.memory_config import layers_per_checkpoint
from training.selection import read_run_samples
from training.steps import rows_per_pass, steps_and_epochs
from utils.commands import free_results, stage_command
from utils.config import home_path, input_path
from utils.config_values import check_first_layer
from utils.run_folders import TRAINED_NAMES, check_new_folder
from utils.runs import note
from utils.templates import split_template

# Tokens of a typical completion and of the chat format around a prompt.
_OTHER_TOKENS = 25


def plan_training(config: dict, samples: list[dict], n_template_chars: int, n_prefix_chars: int) -> list[str]:
    """Two lines: rows, tokens and steps; time and memory. Prompts share the first `n_prefix_chars`."""
    training = config["training"]
    n_rows = len(samples)
    n_steps, n_epochs = steps_and_epochs(n_rows, training, 1)
    n_per_row = n_template_chars / CHARS_PER_TOKEN + _OTHER_TOKENS
    n_tokens = int(n_epochs * (count_tokens(samples) + n_rows * n_per_row))
    rows = f"would train on {n_rows} rows, about {n_tokens:,} tokens, {n_steps} steps"

    # Without gradient checkpointing, the shared prefix is computed once per pass.
    n_shared = 0
    if not training["gradient_checkpointing"]:
        n_shared = int(n_prefix_chars / CHARS_PER_TOKEN)
        n_together = rows_per_pass(training, max(1, n_tokens / max(1, n_epochs * n_rows)))
        n_tokens -= int(n_epochs * n_rows * n_shared * (1 - 1 / n_together))
    width = min(int(longest_prompt(samples) + n_per_row), training["max_seq_length"])
    n_passes = training_passes(config["full_finetuning"], checkpointed(training))
    memory = planned_training_memory(config, width, n_shared)
    n_labels = int(n_epochs * n_rows * _OTHER_TOKENS)
    return [rows, estimate(config["model_name"], n_tokens, n_labels, n_passes, memory, config["bf16"])]


def checkpointed(training: dict) -> float:
    """The share of layers that gradient checkpointing computes again."""
    n_layers = layers_per_checkpoint(training["gradient_checkpointing"])
    return 1 / n_layers if n_layers else 0.0


def planned_training_memory(config: dict, width: int, n_shared: int) -> str | None:
    """The memory of training on rows of `width` tokens, of which batches share the first `n_shared`."""
    training = config["training"]
    lora = config["lora"]
    full = config["full_finetuning"]
    options = LoadOptions(
        bf16=config["bf16"],
        load_in_4bit=config["load_in_4bit"],
        load_in_8bit=config["load_in_8bit"],
        attention=config["attn_implementation"],
    )
    passes = planned_passes(config["model_name"], options, full)
    if passes is None:
        return None
    check_first_layer(lora["first_layer"], passes.shape.n_layers, config["model_name"])
    targets = lora["target_modules"]
    if not isinstance(targets, list):
        targets = list(passes.shape.projections)
    trained = Trained(
        n_rows=rows_per_pass(training, width),
        width=width,
        n_shared=n_shared,
        n_labels=_OTHER_TOKENS,
        targets=[] if full else targets,
        r=lora["r"],
        dropout=lora["dropout"] > 0,
        n_adapted=passes.shape.n_layers - lora["first_layer"],
        checkpointed=checkpointed(training),
        accumulates=training["gradient_accumulation_steps"] > 1,
        optim_8bit="8bit" in str(training.get("optim", "")),
    )
    # `TrainingJob.answer` completes so many at once; on a GPU fewer, where the memory is short.
    n_answered = 1 if passes.on_gpu else 4 * training["per_device_eval_batch_size"]
    wanted = [config["data"][f"max_{name}_samples"] for name in ("generated_val", "calibration")]
    if None not in wanted:
        n_answered = min(n_answered, max(wanted))
    return training_memory(passes, trained, n_answered)


def print_plan(config: dict, template: str, allow_test: bool) -> None:
    """`--dry-run`: rows, tokens, time and memory, from files and names alone.

    What the run would refuse or warn about is refused or warned about here.
    """
    check_new_folder(home_path(config["output_dir"]), TRAINED_NAMES)
    check_combination(config)
    warn_missing_model(config["model_name"])
    run = read_run_samples(config, allow_test, planned_samples)
    for text in [*run.warnings, *run.notes]:
        note(text)
    if "train" in run.samples:
        prefix, _ = split_template(template)
        print("\n".join(plan_training(config, run.samples["train"], len(template), len(prefix))))
    kind = "adapters of a few to a few hundred MB"
    if config["full_finetuning"]:
        kind = "whole models of 4 bytes per parameter, and 8 more for the optimizer"
    # checkpoint-best and checkpoint-final come on top of the numbered ones.
    n_kept = config["training"]["save_total_limit"] + 2
    print(f"would write {home_path(config['output_dir'])}/ with at most {n_kept} {kind}")


def evaluate_command(config: dict, model_path: str, output: str, *flags: str) -> str:
    """The command that evaluates a model of this run on the test file beside its data, else on val.

    `output` if that file is free, else another: an evaluation with other settings would be refused.
    """
    data = config["data"]
    beside = [Path(data[key]).with_name(TEST_FILE) for key in ("train_path", "val_path")]
    found = [path for path in beside if input_path(path).is_file()]
    data_path = [*found, data["val_path"]][0]
    free = free_results(output, Path(config["output_dir"]).name)
    arguments = ["--model-path", model_path, *flags, "--test-data", data_path, "--output", free]
    return stage_command("evaluate_sft_fast_robust.py", *arguments)
