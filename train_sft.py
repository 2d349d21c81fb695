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
import os
import random
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training
from torch import nn
from transformers import PrinterCallback, Trainer, TrainingArguments, set_seed

from prompt_schema import PromptBuilder, gold_is_shown, load_template, template_hash
from utils.answering import predict
from utils.batching import TwinSampler
from utils.calibration import fit_isotonic
from utils.checkpoints import RunFiles, numbered_checkpoints
from utils.completions import gold_completion, map_citations, parse_completion
from utils.config import home_path, input_path, load_config
from utils.errors import DataError, StageError, UsageError, run_main
from utils.fast_lora import speed_up_lora
from utils.generation import expand_cache, last_positions, pad_left, prefix_cache
from utils.jsonl import write_json, write_text
from utils.metrics import is_right_answer
from utils.models import choose_dtype, load_model, load_tokenizer, merge_for_speed, model_revision
from utils.plan import count_rows, estimate, warn_missing_model
from utils.report import plot_curves, sft_model_card
from utils.runs import close_run_dir, describe_run, format_drops, format_seconds, hash_inputs, open_run_dir
from utils.schema import pick_balanced, pick_samples, read_samples, shuffle_chunks
from utils.tokens import encode_completion

# Tokens kept free for the completion; 120 characters of answer and the JSON around them take fewer.
COMPLETION_TOKENS = 96
DEFAULTS = {
    "model_name": "google/gemma-2-9b",
    "output_dir": "checkpoints/sft/model",
    "load_in_4bit": False,
    "load_in_8bit": False,
    "bf16": True,
    "trust_remote_code": False,
    "attn_implementation": "auto",
    "lora": {
        "r": 16,
        "alpha": 32,
        "dropout": 0.05,
        "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        "first_layer": 0,
    },
    "training": {
        "per_device_train_batch_size": 1,
        "per_device_eval_batch_size": 2,
        "gradient_accumulation_steps": 16,
        "learning_rate": 2e-4,
        "num_train_epochs": 1.0,
        "max_steps": -1,
        "max_seq_length": 2048,
        "warmup_ratio": 0.03,
        "weight_decay": 0.0,
        "lr_scheduler_type": "cosine",
        "logging_steps": 10,
        "eval_steps": 100,
        "save_steps": 100,
        "save_total_limit": 2,
        "gradient_checkpointing": True,
        "seed": 42,
    },
    "data": {
        "train_path": "data/processed/train.jsonl",
        "val_path": "data/processed/val.jsonl",
        "template": "default",
        "max_samples": None,
        "max_val_samples": None,
        "max_calibration_samples": 200,
        "twin_pairs": "adjacent",
        "unanswerable_fraction": None,
        "answerable_first": 0.0,
        "reshuffle_chunks": True,
    },
}


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False)
    parser.add_argument("-c", "--config", required=True, help="YAML config; configs/sft_gemma2.yaml explains every key")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override a YAML key, e.g. training.seed=1 (repeatable)")
    parser.add_argument("--resume", action="store_true", help="go on from the newest complete checkpoint; exit 3 when there is none")
    parser.add_argument("--limit", "--max-samples", type=int, help="train on at most this many samples (overrides data.max_samples)")
    parser.add_argument("--overwrite", action="store_true", help="delete a run made with other settings and start anew")
    parser.add_argument("--dry-run", action="store_true", help="print rows, tokens, time and memory, and write nothing")
    return parser


# --- rows


def encode_rows(samples: list[dict], builder: PromptBuilder, tokenizer, max_seq_length: int) -> tuple[list[dict], Counter]:
    """Rows {"id", "suffix", "completion", "unit", "answerable"} with token ids (the prefix is common), and what was dropped and why."""
    rows, drops = [], Counter()
    for sample in samples:
        prompt = builder.build(sample)
        if not gold_is_shown(sample, prompt):
            drops["support cut to fit max_seq_length"] += 1
            continue
        completion = encode_completion(tokenizer, gold_completion(sample, prompt.shown)) + [tokenizer.eos_token_id]
        if len(prompt.ids) + len(completion) > max_seq_length:
            drops["completion does not fit max_seq_length"] += 1
            continue
        unit = sample["metadata"].get("twin_of") or sample["id"]
        rows.append({"id": sample["id"], "suffix": prompt.suffix, "completion": completion, "unit": unit, "answerable": sample["answerable"]})
    if not rows:
        raise DataError(f"no row with a supervised token is left ({dict(drops)}); raise training.max_seq_length")
    return rows, drops


def encode_epochs(samples: list[dict], n_epochs: int, seed: int, encode: Callable) -> tuple[list[dict], Counter]:
    """The rows of every epoch, block after block: from the second on with the chunks of each sample in a new order.

    A sample dropped in one order (its support cut) is dropped in all, so that the blocks stay alike.
    """
    rng, blocks = random.Random(seed), []
    for epoch in range(n_epochs):
        rows, drops = encode(samples if epoch == 0 else [shuffle_chunks(sample, rng) for sample in samples])
        blocks.append({row["id"]: row for row in rows})
    kept = [sample_id for sample_id in blocks[0] if all(sample_id in block for block in blocks)]
    return [block[sample_id] for block in blocks for sample_id in kept], drops


def make_collator(pad_id: int):
    """Rows -> {"input_ids", "attention_mask"} (batch, seq_len), left-padded, and "labels" (batch, n_labels) of the last positions."""

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        input_ids, mask = pad_left([row["suffix"] + row["completion"] for row in rows], pad_id, "cpu")
        # One more label than tokens of the longest completion: the position before its first token predicts it.
        n_labels = max(len(row["completion"]) for row in rows) + 1
        labels = torch.tensor([[-100] * (n_labels - len(row["completion"])) + row["completion"] for row in rows])
        return {"input_ids": input_ids, "attention_mask": mask, "labels": labels}

    return collate


# --- the loss


class SFTTrainer(Trainer):
    """`transformers.Trainer` with the loss of this stage: cross-entropy of the completion tokens, logits computed only where they are needed."""

    def __init__(self, *args, prefix: list[int], share_prefix: bool, data: dict, n_blocks: int = 1, **kwargs):
        super().__init__(*args, **kwargs)
        self.prefix, self.share_prefix, self.data, self.n_blocks = prefix, share_prefix, data, n_blocks
        self.model_accepts_loss_kwargs = True

    def _get_train_sampler(self, train_dataset=None):
        rows = train_dataset if train_dataset is not None else self.train_dataset
        rows = rows.select(range(len(rows) // self.n_blocks))
        units = rows["unit"] if self.data["twin_pairs"] == "adjacent" else rows["id"]
        lengths = [len(suffix) + len(completion) for suffix, completion in zip(rows["suffix"], rows["completion"])]
        n_first = round(self.data["answerable_first"] * len(rows))
        return TwinSampler(list(units), lengths, list(rows["answerable"]), n_first, self.args.seed, self.n_blocks)

    def completion_logits(self, model, inputs: dict) -> torch.Tensor:
        """Logits of the last `labels.shape[1]` positions: (batch, n_labels, vocab).

        The shared prefix runs once, with gradient, and its keys and values serve every row of the batch.
        """
        input_ids, mask, n_labels = inputs["input_ids"], inputs["attention_mask"], inputs["labels"].shape[1]
        n_rows, n_prefix = len(input_ids), len(self.prefix)
        prefix = torch.tensor([self.prefix], device=input_ids.device)
        mask = torch.cat([mask.new_ones(n_rows, n_prefix), mask], dim=1)  # (batch, n_prefix + seq_len)
        positions = (mask.cumsum(1) - 1).clamp(min=0)
        if not self.share_prefix:
            input_ids = torch.cat([prefix.expand(n_rows, -1), input_ids], dim=1)
            kept = last_positions(input_ids, n_labels)
            return model(input_ids=input_ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=kept).logits
        past, kept = expand_cache(model, prefix_cache(model, self.prefix), n_rows), last_positions(input_ids, n_labels)
        positions = positions[:, n_prefix:]
        return model(input_ids=input_ids, attention_mask=mask, position_ids=positions, past_key_values=past, use_cache=True, logits_to_keep=kept).logits

    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        """Mean negative log-likelihood of the completion tokens, each predicted from the position before it (labels -100 are ignored)."""
        logits, labels = self.completion_logits(model, inputs), inputs["labels"]
        if (labels[:, 1:] == -100).all():
            raise StageError("a batch has no supervised token; raise training.max_seq_length")
        total = nn.functional.cross_entropy(logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum")
        if num_items_in_batch is None:
            loss = total / (labels != -100).sum()
        else:
            # Over all rows of an optimiser step, on all processes; DDP averages gradients, so its mean is undone here.
            loss = total / num_items_in_batch * (self.accelerator.num_processes if self.args.average_tokens_across_devices else 1)
        return (loss, {"logits": logits}) if return_outputs else loss

    def _save(self, output_dir=None, state_dict=None):
        """Adapter and tokenizer alone: no `training_args.bin` (a pickle with the hub token in clear text), no look-up of the base on the hub."""
        self.model.save_pretrained(output_dir, state_dict=state_dict, save_embedding_layers=False)
        self.processing_class.save_pretrained(output_dir)

    def prediction_step(self, model, inputs, prediction_loss_only, ignore_keys=None):
        inputs = self._prepare_inputs(inputs)
        with torch.no_grad():
            return self.compute_loss(model, inputs).detach(), None, None


# --- training


def load_trainable(config: dict):
    """The base model with LoRA adapters in float32; only they take gradients."""
    load = {key: config[key] for key in ("bf16", "load_in_4bit", "load_in_8bit", "trust_remote_code")}
    model = load_model(config["model_name"], attention=config["attn_implementation"], **load)
    checkpointing = config["training"]["gradient_checkpointing"]
    if config["load_in_4bit"] or config["load_in_8bit"]:
        model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=checkpointing)
    lora = config["lora"]
    first = lora["first_layer"]
    layers = list(range(first, model.config.num_hidden_layers)) if first else None
    adapter = LoraConfig(
        r=lora["r"], lora_alpha=lora["alpha"], lora_dropout=lora["dropout"], target_modules=lora["target_modules"],
        layers_to_transform=layers, task_type="CAUSAL_LM",
    )  # fmt: skip
    try:
        model = get_peft_model(model, adapter)
    except ValueError as error:
        raise UsageError(f"lora.target_modules do not fit {config['model_name']}: {error}") from error
    speed_up_lora(model)
    model.peft_config["default"].base_model_name_or_path = config["model_name"]
    if checkpointing:
        model.enable_input_require_grads()
    return model


def training_arguments(config: dict, output_dir: Path, n_steps: int) -> TrainingArguments:
    training, dtype, on_cuda = config["training"], choose_dtype(config["bf16"]), torch.cuda.is_available()
    same = ("per_device_train_batch_size", "per_device_eval_batch_size", "gradient_accumulation_steps", "learning_rate", "num_train_epochs",
            "max_steps", "weight_decay", "lr_scheduler_type", "logging_steps", "eval_steps", "save_steps",
            "gradient_checkpointing", "seed")  # fmt: skip
    return TrainingArguments(
        output_dir=str(output_dir),
        **{key: training[key] for key in same},
        warmup_steps=math.ceil(n_steps * training["warmup_ratio"]),
        gradient_checkpointing_kwargs={"use_reentrant": False},
        eval_strategy="steps",
        save_strategy="steps",
        bf16=dtype == torch.bfloat16,
        fp16=dtype == torch.float16,
        use_cpu=not on_cuda,
        dataloader_pin_memory=on_cuda,
        remove_unused_columns=False,
        label_names=["labels"],
        report_to="none",
        disable_tqdm=True,
        log_level="error",
    )


def count_steps(n_rows: int, training: dict, n_processes: int) -> int:
    """Optimiser steps of the whole run."""
    per_step = training["per_device_train_batch_size"] * training["gradient_accumulation_steps"] * n_processes
    return training["max_steps"] if training["max_steps"] > 0 else math.ceil(math.ceil(n_rows / per_step) * training["num_train_epochs"])


def calibrate(model, tokenizer, builder: PromptBuilder, samples: list[dict], batch_size: int) -> dict:
    """Isotonic fit of 'right with support' on the answer's probability, over generated val answers."""
    by_id = {sample["id"]: sample for sample in samples}
    prompts = [builder.build(sample) for sample in samples]
    answers = []
    for batch in predict(model, tokenizer, prompts, list(by_id), name="calibration", batch_size=batch_size, max_new_tokens=COMPLETION_TOKENS):
        for row in batch:
            parsed = map_citations(parse_completion(row["completion"], len(row["shown"])), row["shown"])
            if parsed.is_answer:
                right = is_right_answer(parsed, by_id[row["id"]])
                answers.append({"id": row["id"], "probability": row["probability"], "stated": parsed.confidence, "right": right})
    n_right = sum(answer["right"] for answer in answers)
    return {
        "n_samples": len(samples),
        "n_answers": len(answers),
        "accuracy": n_right / len(answers) if answers else None,
        "isotonic": fit_isotonic([answer["probability"] for answer in answers], [answer["right"] for answer in answers]),
        "answers": answers,
    }


def train(config: dict, args: argparse.Namespace, tokenizer, samples: dict[str, list[dict]], template: str, state: str) -> tuple[dict, Counter]:
    """Fine-tune, save and calibrate. Returns the facts of the run and the dropped rows."""
    training, output_dir = config["training"], home_path(config["output_dir"])
    builder = PromptBuilder(tokenizer, template, training["max_seq_length"] - COMPLETION_TOKENS)
    encode = functools.partial(encode_rows, builder=builder, tokenizer=tokenizer, max_seq_length=training["max_seq_length"])
    n_blocks = math.ceil(training["num_train_epochs"]) if config["data"]["reshuffle_chunks"] else 1
    blocks, drops = encode_epochs(samples["train"], n_blocks, training["seed"], encode)
    rows, val_rows = blocks[: len(blocks) // n_blocks], encode(samples["val"])[0]
    n_supervised = sum(len(row["completion"]) for row in rows)
    n_prompt = sum(len(row["suffix"]) + len(builder.prefix) for row in rows)
    n_steps = count_steps(len(rows), training, int(os.environ.get("WORLD_SIZE", 1)))
    print(f"{len(rows)} rows, {n_supervised:,} supervised and {n_prompt:,} prompt tokens, {n_steps} steps ({format_drops(drops)})", flush=True)
    set_seed(training["seed"])
    model = load_trainable(config)
    facts = {"template": config["data"]["template"], "template_hash": template_hash(template), "base_model": config["model_name"],
             "base_revision": model_revision(model), "max_prompt_tokens": builder.max_tokens}  # fmt: skip

    files = RunFiles(output_dir, training["save_total_limit"], facts)
    trainer = SFTTrainer(
        model=model,
        args=training_arguments(config, output_dir, n_steps),
        train_dataset=Dataset.from_list(blocks),
        eval_dataset=Dataset.from_list(val_rows),
        data_collator=make_collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        callbacks=[files],
        prefix=builder.prefix,
        # A cache does not go with recomputed activations, nor two forward passes a step with DDP.
        share_prefix=not training["gradient_checkpointing"] and int(os.environ.get("WORLD_SIZE", 1)) == 1,
        data=config["data"],
        n_blocks=n_blocks,
    )
    trainer.remove_callback(PrinterCallback)
    files.trainer = trainer
    checkpoints = numbered_checkpoints(output_dir) if state == "resume" or args.resume else []
    if args.resume and not checkpoints:
        raise DataError(f"{output_dir}: no complete checkpoint to resume from; run without --resume")
    if checkpoints:
        print(f"resuming from {checkpoints[-1]}", flush=True)
    result = trainer.train(resume_from_checkpoint=str(checkpoints[-1]) if checkpoints else None)
    if not trainer.is_world_process_zero():
        return facts, drops
    files.save_model("checkpoint-final", {"step": trainer.state.global_step})
    write_text(output_dir / "train_ids.txt", "".join(row["id"] + "\n" for row in rows))
    history = {
        "train_losses": [{"step": log["step"], "loss": log["loss"]} for log in trainer.state.log_history if "loss" in log],
        "eval_metrics": [{"step": log["step"], "eval_loss": log["eval_loss"]} for log in trainer.state.log_history if "eval_loss" in log],
        "config": config,
    }
    write_json(output_dir / "training_history.json", history)
    curves = {"train": [(x["step"], x["loss"]) for x in history["train_losses"]], "val": [(x["step"], x["eval_loss"]) for x in history["eval_metrics"]]}
    plot_curves(output_dir / "loss_curve.png", {"Loss on completion tokens": curves})
    chosen = pick_samples(samples["val"], config["data"]["max_calibration_samples"], training["seed"])
    calibration = calibrate(
        merge_for_speed(trainer.accelerator.unwrap_model(trainer.model).eval()), tokenizer, builder, chosen, 4 * training["per_device_eval_batch_size"]
    )
    write_json(output_dir / "calibration.json", calibration)
    final = {**facts, "n_rows": len(rows), "n_steps": trainer.state.global_step, "n_supervised_tokens": n_supervised,
             "train_seconds": round(result.metrics["train_runtime"], 1), "best_eval_loss": files.best}  # fmt: skip
    write_text(output_dir / "README.md", sft_model_card(config, final, calibration))
    return final, drops


def read_split(config: dict, split: str, limit: int | None) -> list[dict]:
    """The samples of a split; training rows with the wanted share of unanswerable ones."""
    samples, seed = read_samples(input_path(config["data"][f"{split}_path"])), config["training"]["seed"]
    fraction = config["data"]["unanswerable_fraction"]
    return pick_balanced(samples, limit, fraction, seed) if fraction and split == "train" else pick_samples(samples, limit, seed)


def print_plan(config: dict, template: str) -> None:
    data, training = config["data"], config["training"]
    warn_missing_model(config["model_name"])
    counted = count_rows(input_path(data["train_path"]), data["max_samples"])
    count_rows(input_path(data["val_path"]), data["max_val_samples"])
    if counted:
        n_rows, n_tokens = counted
        n_tokens = int(training["num_train_epochs"] * (n_tokens + n_rows * (len(template) / 4 + 25)))
        print(f"would train on {n_rows} rows, about {n_tokens:,} tokens, {count_steps(n_rows, training, 1)} steps")
        # Forward, backward to the activations, and recomputation with gradient checkpointing.
        bits = 4 if config["load_in_4bit"] else 8 if config["load_in_8bit"] else 16
        print(estimate(config["model_name"], n_tokens, 3 if training["gradient_checkpointing"] else 2, bits))
    print(f"would write {home_path(config['output_dir'])}/ with at most {training['save_total_limit'] + 2} adapters of a few to a few hundred MB")


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    config = load_config(args.config, DEFAULTS, args.set)
    if args.limit:
        config["data"]["max_samples"] = args.limit
    if config["data"]["twin_pairs"] not in ("adjacent", "shuffled"):
        raise UsageError(f"data.twin_pairs: expected adjacent or shuffled, found {config['data']['twin_pairs']!r}")
    for key in ("unanswerable_fraction", "answerable_first"):
        if not 0 <= float(config["data"][key] or 0) < 1:
            raise UsageError(f"data.{key}: expected a share below 1, found {config['data'][key]!r}")
    template, output_dir = load_template("sft", config["data"]["template"]), home_path(config["output_dir"])
    if args.dry_run:
        print_plan(config, template)
        return
    started = time.monotonic()
    limits = {"train": config["data"]["max_samples"], "val": config["data"]["max_val_samples"]}
    samples = {split: read_split(config, split, limit) for split, limit in limits.items()}
    inputs = hash_inputs([input_path(config["data"][f"{split}_path"]) for split in samples])
    run = describe_run({**config, "template_hash": template_hash(template)}, inputs, config["training"]["seed"])
    # Before anything is written: a model that cannot be reached fails here.
    tokenizer = load_tokenizer(config["model_name"], config["trust_remote_code"])
    is_main = int(os.environ.get("RANK", 0)) == 0
    state = open_run_dir(output_dir, run, args.overwrite) if is_main else "resume"
    if state == "complete":
        print(f"{output_dir} is complete with these settings; nothing to do. Next: evaluate {output_dir / 'checkpoint-best'}")
        return
    facts, drops = train(config, args, tokenizer, samples, template, state)
    if is_main:
        close_run_dir(output_dir, run, **facts)
        elapsed = format_seconds(time.monotonic() - started)
        print(f"wrote {output_dir / 'checkpoint-best'} and checkpoint-final after {facts['n_steps']} steps ({format_drops(drops)}) in {elapsed}")
        print(f"next: python evaluate_sft_fast_robust.py --model-path {config['output_dir']}/checkpoint-best --base-model {config['model_name']} "
              "--test-data data/processed/test.jsonl --compare-baseline --output eval_results.json")  # fmt: skip


if __name__ == "__main__":
    run_main(main)
