"""SFT: samples -> LoRA/QLoRA checkpoint that answers in JSON with citations, loss on the completion only.

Reads the YAML config and data.train_path, data.val_path (build_data.py) and prompts/ when it exists.
Writes output_dir/checkpoint-<step>/, checkpoint-best/, checkpoint-final/, training_history.json, loss_curve.png, calibration.json,
train_ids.txt, README.md and run.json.

    python train_sft.py -c configs/sft_gemma2.yaml
    python train_sft.py -c configs/demo/sft.yaml --set training.learning_rate=5e-4 --dry-run
"""

import argparse
import functools
import math
import shutil
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from peft import PeftModel
from torch import nn
from transformers import PrinterCallback, Trainer, set_seed

from generation.batches import last_positions, pad_left
from generation.cache import expand_cache, prefix_cache
from models.cpu_attention import pack_rows, takes_packed
from models.distributed import Shards
from models.estimate import (
    CHARS_PER_TOKEN,
    bits_per_weight,
    count_tokens,
    estimate,
    planned_samples,
    training_passes,
    warn_missing_model,
)
from models.hardware import merge_for_speed
from models.loading import LoadOptions, load_tokenizer, model_revision
from prompt_schema import PromptBuilder, load_template, split_template, template_hash
from training.adapters import load_trainable, steps_and_epochs, training_arguments
from training.checkpoints import RunFiles, is_whole, newest_checkpoint
from training.merge import merge_checkpoint
from training.rows import TwinSampler, encode_epochs
from training.run_report import licences, sft_model_card, write_history
from training.sft_config import DEFAULTS, check_config, check_weights, training_rows
from training.validation import answer_samples, calibration, selection_metrics
from utils.completions import gold_completion
from utils.config import home_path, input_path, load_config, settings_flags
from utils.errors import DataError, StageError, run_main
from utils.jsonl import read_json, write_json, write_text
from utils.runs import close_run_dir, describe_run, format_drops, format_seconds, hash_inputs, open_run_dir
from utils.schema import pick_samples, read_samples
from utils.tokens import encode_completion

# Tokens kept free for the completion; 120 characters of answer and the JSON around them take fewer.
COMPLETION_TOKENS = 96


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "-c", "--config", required=True, help="YAML config; configs/sft_gemma2.yaml explains every key"
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="override a YAML key, e.g. training.seed=1 (repeatable)",
    )
    parser.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest complete checkpoint; exit 3 when there is none",
    )
    parser.add_argument(
        "--merge",
        metavar="DIR",
        help="write checkpoint-best of this config with its adapter folded in, bf16 safetensors, and stop",
    )
    parser.add_argument(
        "--limit",
        "--max-samples",
        type=int,
        help="train on at most this many samples (overrides data.max_samples)",
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="delete a finished run, or one made with other settings, and start anew",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="print rows, tokens, time and memory, and write nothing"
    )
    return parser


# --- rows


def row_weight(sample: dict, weights: dict[str, float]) -> float:
    """The factor of a sample's loss: that of its source times that of its answerability, 1 where none is given."""
    return weights.get(sample["source"], 1.0) * weights.get(
        "answerable" if sample["answerable"] else "unanswerable", 1.0
    )


def encode_rows(
    samples: list[dict],
    builder: PromptBuilder,
    tokenizer,
    max_seq_length: int,
    weights: dict[str, float] | None = None,
) -> tuple[list[dict], Counter]:
    """Rows {"id", "suffix", "completion", "unit", "answerable", "weight"} with token ids (the prefix is common), and what was dropped and why."""
    rows = []
    drops = Counter()
    for sample in samples:
        prompt = builder.build(sample)
        if not prompt.shows_support(sample):
            drops["support cut to fit max_seq_length"] += 1
            continue
        completion = encode_completion(tokenizer, gold_completion(sample, prompt.shown)) + [
            tokenizer.eos_token_id
        ]
        if len(prompt.ids) + len(completion) > max_seq_length:
            drops["completion does not fit max_seq_length"] += 1
            continue
        unit = sample["metadata"].get("twin_of") or sample["id"]
        row = {
            "id": sample["id"],
            "suffix": prompt.suffix,
            "completion": completion,
            "unit": unit,
            "answerable": sample["answerable"],
        }
        rows.append({**row, "weight": row_weight(sample, weights or {})})
    if not rows:
        raise DataError(
            f"no row with a supervised token is left ({dict(drops)}); raise training.max_seq_length"
        )
    return rows, drops


def make_collator(pad_id: int):
    """Rows -> {"input_ids", "attention_mask"} (batch, seq_len), left-padded, "labels" (batch, n_labels) of the last positions, "weights" (batch,)."""

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        input_ids, mask = pad_left([row["suffix"] + row["completion"] for row in rows], pad_id, "cpu")
        # One more label than tokens of the longest completion: the position before its first token predicts it.
        n_labels = max(len(row["completion"]) for row in rows) + 1
        labels = torch.tensor(
            [[-100] * (n_labels - len(row["completion"])) + row["completion"] for row in rows]
        )
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": labels,
            "weights": torch.tensor([row["weight"] for row in rows]),
        }

    return collate


# --- the loss


class SFTTrainer(Trainer):
    """`transformers.Trainer` with the loss of this stage: cross-entropy of the completion tokens, logits computed only where they are needed."""

    def __init__(
        self,
        *args,
        prefix: list[int],
        share_prefix: bool,
        data: dict,
        n_blocks: int,
        measure_answers: Callable | None,
        **kwargs,
    ):
        super().__init__(*args, **kwargs)
        self.prefix = prefix
        self.share_prefix = share_prefix
        self.data = data
        self.n_blocks = n_blocks
        self.measure_answers = measure_answers
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, train_dataset=None):
        rows = train_dataset if train_dataset is not None else self.train_dataset
        rows = rows.select(range(len(rows) // self.n_blocks))
        units = rows["unit"] if self.data["twin_pairs"] == "adjacent" else rows["id"]
        lengths = [
            len(suffix) + len(completion) for suffix, completion in zip(rows["suffix"], rows["completion"])
        ]
        n_first = round(self.data["answerable_first"] * len(rows))
        self.sampler = TwinSampler(
            list(units), lengths, list(rows["answerable"]), n_first, self.args.seed, self.n_blocks
        )
        return self.sampler

    def completion_logits(self, model, inputs: dict) -> torch.Tensor:
        """Logits of the last `labels.shape[1]` positions: (batch, n_labels, vocab).

        The shared prefix runs once, with gradient, and its keys and values serve every row of the batch; on CPU in one pass with them.
        """
        input_ids = inputs["input_ids"]
        mask = inputs["attention_mask"]
        n_labels = inputs["labels"].shape[1]
        (n_rows, n_columns), n_prefix = input_ids.shape, len(self.prefix)
        if self.share_prefix and takes_packed(model):
            kept = (
                n_prefix
                + n_columns * torch.arange(n_rows)[:, None]
                + torch.arange(n_columns - n_labels, n_columns)
            )
            return model(
                **pack_rows(self.prefix, input_ids, mask), logits_to_keep=kept.flatten()
            ).logits.view(n_rows, n_labels, -1)
        prefix = torch.tensor([self.prefix], device=input_ids.device)
        mask = torch.cat([mask.new_ones(n_rows, n_prefix), mask], dim=1)  # (batch, n_prefix + seq_len)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        if not self.share_prefix:
            input_ids = torch.cat([prefix.expand(n_rows, -1), input_ids], dim=1)
            kept = last_positions(input_ids, n_labels)
            return model(
                input_ids=input_ids,
                attention_mask=mask,
                position_ids=positions,
                use_cache=False,
                logits_to_keep=kept,
            ).logits
        past = expand_cache(model, prefix_cache(model, self.prefix), n_rows)
        kept = last_positions(input_ids, n_labels)
        positions = positions[:, n_prefix:]
        return model(
            input_ids=input_ids,
            attention_mask=mask,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=kept,
        ).logits

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean negative log-likelihood of the completion tokens, each predicted from the position before it (labels -100 are ignored).

        A row's tokens count `weights` times above the fraction bar; below it every token counts once.
        """
        logits = self.completion_logits(model, inputs)
        labels = inputs["labels"]
        if (labels[:, 1:] == -100).all():
            raise StageError("a batch has no supervised token; raise training.max_seq_length")
        following = nn.functional.pad(
            labels[:, 1:], (0, 1), value=-100
        )  # what each position predicts; (batch, n_labels)
        nll = nn.functional.cross_entropy(
            logits.flatten(0, 1).float(), following.flatten(), ignore_index=-100, reduction="none"
        )
        total = (nll.view(labels.shape).sum(1) * inputs["weights"]).sum()
        if num_items_in_batch is None:
            loss = total / (labels != -100).sum()
        else:
            # Over all rows of an optimiser step, on all processes; DDP averages gradients, so its mean is undone here.
            loss = (
                total
                / num_items_in_batch
                * (self.accelerator.num_processes if self.args.average_tokens_across_devices else 1)
            )
        return (loss, {"logits": logits}) if return_outputs else loss

    def _save(self, output_dir=None, state_dict=None):
        """Weights and tokenizer alone: no `training_args.bin` (a pickle with the hub token in clear text), no look-up of the base on the hub."""
        if (
            not self.args.should_save
        ):  # every process comes here; under FSDP the first alone has gathered the weights
            return
        options = {"save_embedding_layers": False} if isinstance(self.model, PeftModel) else {}
        self.model.save_pretrained(output_dir, state_dict=state_dict, **options)
        self.processing_class.save_pretrained(output_dir)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            return self.compute_loss(model, inputs).detach(), None, None

    def evaluation_loop(self, *args, **kwargs):
        """The loss and, where asked for, the metrics of generated val answers beside it."""
        output = super().evaluation_loop(*args, **kwargs)
        if self.measure_answers:
            with self.accelerator.autocast():
                output.metrics.update(self.measure_answers(self.accelerator.unwrap_model(self.model).eval()))
        return output


# --- training


def print_rows(
    rows: list[dict], builder: PromptBuilder, n_steps: int, n_processes: int, drops: Counter
) -> None:
    """What will be trained on, before it starts."""
    n_supervised, n_prompt = (
        sum(n)
        for n in zip(*((len(row["completion"]), len(row["suffix"]) + len(builder.prefix)) for row in rows))
    )
    n_refusals = sum(not row["answerable"] for row in rows)
    print(
        f"{len(rows)} rows ({n_refusals} refusals), {n_supervised:,} supervised and {n_prompt:,} prompt tokens ({len(builder.prefix)} of each row "
        f"shared), {n_steps} steps on {n_processes} process{'es' if n_processes > 1 else ''} ({format_drops(drops)})",
        flush=True,
    )


def train(
    config: dict,
    args: argparse.Namespace,
    tokenizer,
    samples: dict[str, list[dict]],
    template: str,
    state: str,
) -> tuple[dict, Counter]:
    """Fine-tune, save and calibrate. Returns the facts of the run and the dropped rows."""
    training = config["training"]
    data = config["data"]
    output_dir = home_path(config["output_dir"])
    shards = Shards()
    builder = PromptBuilder(tokenizer, template, training["max_seq_length"] - COMPLETION_TOKENS)
    encode = functools.partial(
        encode_rows,
        builder=builder,
        tokenizer=tokenizer,
        max_seq_length=training["max_seq_length"],
        weights=data["weights"],
    )
    n_blocks = (
        math.ceil(steps_and_epochs(len(samples["train"]), training, shards.n_processes)[1])
        if data["reshuffle_chunks"]
        else 1
    )
    blocks, drops = encode_epochs(samples["train"], n_blocks, training["seed"], encode)
    rows = blocks[: len(blocks) // n_blocks]
    n_steps, _ = steps_and_epochs(len(rows), training, shards.n_processes)
    val, val_drops = encode(pick_samples(samples["val"], data["max_val_samples"], training["seed"]))
    if shards.is_main:
        print_rows(rows, builder, n_steps, shards.n_processes, drops)
        print(f"{len(val)} val rows ({format_drops(val_drops)})", flush=True)
    set_seed(training["seed"])
    model = load_trainable(config)
    facts = {
        "template": data["template"],
        "template_hash": template_hash(template),
        "base_model": config["model_name"],
        "base_revision": model_revision(model),
        "max_prompt_tokens": builder.max_tokens,
    }
    generate = functools.partial(
        answer_samples,
        tokenizer=tokenizer,
        builder=builder,
        batch_size=4 * training["per_device_eval_batch_size"],
        max_new_tokens=COMPLETION_TOKENS,
    )
    generated_on = (
        pick_samples(samples["val"], data["max_generated_val_samples"], training["seed"])
        if data["max_generated_val_samples"]
        else []
    )
    measure = lambda model: selection_metrics(generate(model, samples=generated_on, name="val"), generated_on)  # noqa: E731

    files = RunFiles(
        output_dir,
        training["save_total_limit"],
        facts,
        training["metric_for_best"],
        training["early_stopping_patience"],
    )
    trainer = SFTTrainer(
        model=model,
        args=training_arguments(config, output_dir, n_steps),
        train_dataset=Dataset.from_list(blocks),
        eval_dataset=Dataset.from_list(val),
        data_collator=make_collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=[files],
        prefix=builder.prefix,
        # A cache does not go with recomputed activations, nor two forward passes a step with DDP.
        share_prefix=not training["gradient_checkpointing"] and shards.n_processes == 1,
        data=data,
        n_blocks=n_blocks,
        measure_answers=measure if generated_on else None,
    )
    trainer.remove_callback(PrinterCallback)
    files.trainer = trainer
    checkpoint = newest_checkpoint(output_dir, state == "resume" or args.resume, must_exist=args.resume)
    with files:
        result = trainer.train(resume_from_checkpoint=checkpoint)
    if files.is_stopped:
        if shards.is_main:
            start = "python" if shards.n_processes == 1 else "accelerate launch ..."
            command = f"{start} train_sft.py -c {args.config} {settings_flags(args.set, args.limit)}--resume"
            print(f"stopped at step {trainer.state.global_step}; go on with: {command}", flush=True)
        raise KeyboardInterrupt
    files.save_model("checkpoint-final", {"step": trainer.state.global_step})
    history = write_history(trainer.state.log_history, config, output_dir) if shards.is_main else {}
    chosen = pick_samples(samples["val"], data["max_calibration_samples"], training["seed"])
    answers = generate(
        merge_for_speed(trainer.accelerator.unwrap_model(trainer.model).eval()),
        samples=chosen,
        name="calibration",
    )
    facts = {
        **facts,
        "n_rows": len(rows),
        "n_steps": trainer.state.global_step,
        "n_supervised_tokens": sum(len(row["completion"]) for row in rows),
        "train_seconds": round(result.metrics["train_runtime"], 1),
        "metric_for_best": files.metric,
        "best": files.best,
        "val": selection_metrics(answers, chosen),
        "licences": licences(samples["train"]),
    }
    if shards.is_main:
        write_text(output_dir / "train_ids.txt", "".join(row["id"] + "\n" for row in rows))
        write_json(output_dir / "calibration.json", calibration(answers, chosen))
        write_text(output_dir / "README.md", sft_model_card(config, facts, calibration(answers, chosen)))
    return facts | {"n_evaluations": len(history.get("eval_metrics", []))}, drops


def merge(config: dict, target: Path, template: str) -> None:
    """`--merge`: checkpoint-best as one model, after comparing logits on val prompts."""
    checkpoint = home_path(config["output_dir"]) / "checkpoint-best"
    if not is_whole(checkpoint):
        raise DataError(f"{checkpoint}: no whole checkpoint to merge; train it first with this config")
    tokenizer = load_tokenizer(config["model_name"], config["trust_remote_code"])
    builder = PromptBuilder(tokenizer, template, config["training"]["max_seq_length"] - COMPLETION_TOKENS)
    samples = pick_samples(
        read_samples(input_path(config["data"]["val_path"])), 16, config["training"]["seed"]
    )
    run = read_json(checkpoint / "run.json")
    facts = {
        key: run[key]
        for key in ("template", "template_hash", "base_model", "base_revision", "max_prompt_tokens")
    }
    prompts = [builder.build(sample).ids for sample in samples]
    figures = merge_checkpoint(checkpoint, target, tokenizer, prompts, facts, config["trust_remote_code"])
    card = checkpoint.parent / "README.md"
    if card.is_file():
        shutil.copy(card, target / "README.md")
    print(
        f"wrote {target} (largest logit gap {figures['max_logit_gap_float32']:.2g} in float32, {figures['same_next_token_bfloat16']:.0%} of "
        f"{len(samples)} next tokens the same in bfloat16)"
    )
    print(
        f"next: python evaluate_sft_fast_robust.py --model-path {target} --test-data data/processed/test.jsonl --output eval_merged.json"
    )


def print_plan(config: dict, template: str) -> None:
    data = config["data"]
    training = config["training"]
    full = config["full_finetuning"]
    warn_missing_model(config["model_name"])
    samples = planned_samples(input_path(data["train_path"]))
    planned_samples(input_path(data["val_path"]))
    if samples is not None:
        samples = training_rows(samples, config)
        n_rows = len(samples)
        n_steps, n_epochs = steps_and_epochs(n_rows, training, 1)
        n_tokens = int(n_epochs * (count_tokens(samples) + n_rows * (len(template) / CHARS_PER_TOKEN + 25)))
        print(f"would train on {n_rows} rows, about {n_tokens:,} tokens, {n_steps} steps")
        n_passes = training_passes(full, training["gradient_checkpointing"])
        if not training["gradient_checkpointing"]:  # the prefix is computed once a batch
            n_shared = len(split_template(template)[0]) / CHARS_PER_TOKEN
            n_tokens -= int(n_epochs * n_rows * n_shared * (1 - 1 / training["per_device_train_batch_size"]))
        loading = LoadOptions(
            bf16=config["bf16"], load_in_4bit=config["load_in_4bit"], load_in_8bit=config["load_in_8bit"]
        )
        bits = bits_per_weight(loading, full)
        print(estimate(config["model_name"], n_tokens, n_passes, bits, config["bf16"]))
    kind = (
        "whole models of 4 bytes a parameter, and 8 more of optimiser"
        if full
        else "adapters of a few to a few hundred MB"
    )
    print(
        f"would write {home_path(config['output_dir'])}/ with at most {training['save_total_limit'] + 2} {kind}"
    )


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    config = load_config(args.config, DEFAULTS, args.set)
    if args.limit is not None:
        config["data"]["max_samples"] = args.limit
    check_config(config)
    template = load_template("sft", config["data"]["template"])
    output_dir = home_path(config["output_dir"])
    if args.dry_run:
        print_plan(config, template)
        return
    if args.merge:
        merge(config, home_path(args.merge), template)
        return
    started = time.monotonic()
    data = config["data"]
    paths = {split: input_path(data[f"{split}_path"]) for split in ("train", "val")}
    samples = {
        "train": training_rows(read_samples(paths["train"]), config),
        "val": read_samples(paths["val"]),
    }
    check_weights(data["weights"], samples["train"])
    inputs = hash_inputs(list(paths.values()))
    run = describe_run(
        {**config, "template_hash": template_hash(template)}, inputs, config["training"]["seed"]
    )
    # Before anything is written: a model that cannot be reached fails here.
    tokenizer = load_tokenizer(config["model_name"], config["trust_remote_code"])
    shards = Shards()
    state = shards.decide(lambda: open_run_dir(output_dir, run, args.overwrite))
    if state == "complete":
        if shards.is_main:
            print(
                f"{output_dir} is complete with these settings; nothing to do. Next: evaluate {output_dir / 'checkpoint-best'}"
            )
        return
    facts, drops = train(config, args, tokenizer, samples, template, state)
    if shards.is_main:
        close_run_dir(output_dir, run, **facts)
        elapsed = format_seconds(time.monotonic() - started)
        print(
            f"wrote {output_dir / 'checkpoint-best'} and checkpoint-final after {facts['n_steps']} steps ({format_drops(drops)}) in {elapsed}"
        )
        print(
            f"next: python evaluate_sft_fast_robust.py --model-path {config['output_dir']}/checkpoint-best --base-model {config['model_name']} "
            "--test-data data/processed/test.jsonl --compare-baseline --output eval_results.json"
        )


if __name__ == "__main__":
    run_main(main)
