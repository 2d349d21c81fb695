"""SFT: samples -> a model that answers in JSON with citations, trained with loss on the completion only.

Reads the YAML config, its data.train_path and data.val_path (from build_data.py), and prompts/ if it exists.
Writes to output_dir: checkpoint-<step>/, checkpoint-best/, checkpoint-final/, training_history.json,
loss_curve.png, calibration.json, train_ids.txt, README.md and run.json.

    python train_sft.py -c configs/sft_gemma2.yaml
    python train_sft.py -c configs/demo/sft.yaml --set training.learning_rate=5e-4 --dry-run
"""

import argparse
import functools
import time
from collections import Counter
from collections.abc import Callable

from training.inputs import check_export, check_inputs
from training.modes import check_modes, modes_of, print_modes_plan
from training.sft_config import DEFAULTS, OF_OLDER_RUNS, check_config
from utils.arguments import stage_parser, whole_number
from utils.commands import stage_command
from utils.config import errors_of, home_path, load_config, settings_flags
from utils.errors import StageError
from utils.hub import check_hub_access, check_repo_id
from utils.outputs import check_folder_output
from utils.run_folders import TRAINED_NAMES
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    files = parser.add_argument_group("files")
    config_help = "YAML config; configs/sft_gemma2.yaml explains every key"
    files.add_argument("-c", "--config", required=True, help=config_help)
    allow_help = "train on test data too, which is refused otherwise; recorded in run.json"
    files.add_argument("--allow-test", action="store_true", help=allow_help)
    merge_help = "write checkpoint-best, merged into its base in bfloat16, to DIR; train nothing"
    files.add_argument("--merge", metavar="DIR", help=merge_help)
    export_help = "write checkpoint-best as checkpoint-best.gguf (Llama architecture); train nothing"
    files.add_argument("--export", choices=["gguf"], help=export_help)
    calibrate_help = "fit refusals and verdicts of checkpoint-best to val, for --decisions; train nothing"
    files.add_argument("--calibrate", action="store_true", help=calibrate_help)
    push_help = "upload checkpoint-best with its card to this id of the model hub, also of a finished run"
    files.add_argument("--push-to-hub", type=check_repo_id, metavar="OWNER/NAME", help=push_help)
    public_help = "with --push-to-hub: anybody may see the repository (default: only you)"
    files.add_argument("--public", action="store_true", help=public_help)

    limits = parser.add_argument_group("limits")
    limit_help = "train on at most N samples (overrides data.max_samples; 0: all)"
    limits.add_argument("--limit", "--max-samples", type=whole_number, metavar="N", help=limit_help)

    run = parser.add_argument_group("run")
    set_help = "override a YAML key, e.g. training.seed=1 (repeatable)"
    run.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    resume_help = "resume from the latest complete checkpoint; exit 3 if there is none"
    run.add_argument("--resume", action="store_true", help=resume_help)
    overwrite_help = "start over: delete a finished run or another one; with --calibrate, fit anew"
    run.add_argument("--overwrite", action="store_true", help=overwrite_help)
    dry_run_help = "print rows, tokens, time and memory, and write nothing"
    run.add_argument("--dry-run", action="store_true", help=dry_run_help)
    return parser


def read_settings(argv: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """(the flags, the YAML with the flags applied). UsageError for unknown keys and impossible values."""
    args = build_parser().parse_args(argv)
    config = load_config(args.config, DEFAULTS, args.set)
    if args.limit is not None:
        config["data"]["max_samples"] = args.limit or None
    with errors_of(args.config, args.set):
        check_config(config)
    check_modes(args)
    if not args.dry_run:
        check_folder_output(home_path(args.merge or config["output_dir"]))
        check_inputs(config, merges=bool(modes_of(args)))
        if args.export:
            check_export()
    return args, config


if __name__ == "__main__":
    before_imports(lambda: read_settings(None), trains=True)

import torch
from datasets import Dataset
from transformers import set_seed

from generation.batches import pad_left
from models.distributed import Shards, hold_output, note_in_first_process
from models.loading import load_tokenizer
from models.revisions import run_models
from prompt_schema import Prompt, PromptBuilder, load_template, template_hash
from reporting.pipeline import refresh_report
from training.adapters import load_trainable
from training.card import SftCard
from training.checkpoints import RunFiles
from training.export import Export
from training.finished import use_finished_run
from training.job import Rows, TrainingJob, encode, run_to_the_end, write_train_ids
from training.likelihood import completion_nll
from training.plan import evaluate_command, print_plan
from training.publish import publish
from training.rows import COMPLETION_TOKENS
from training.run_report import checkpoint_facts, run_files, write_report
from training.selection import read_run_samples
from training.shared_evidence import group_columns
from training.skeleton import thin_labels
from training.trainer import CompletionTrainer, training_arguments
from training.whole import check_finished, newest_checkpoint
from utils.completions import gold_completion
from utils.runs import (
    close_run_dir,
    describe_run,
    format_drops,
    format_seconds,
    hash_inputs,
    note,
    open_run_dir,
)
from utils.tokens import encode_completion, end_id, set_prompt_ids

# --- what is learned: the labels


def n_unlabeled(labels: list[int]) -> int:
    """The number of tokens before the first label."""
    return next((i for i, label in enumerate(labels) if label != -100), len(labels))


def gold_ids(tokenizer, sample: dict, prompt: Prompt) -> list[int]:
    """Token ids of the gold completion and its end; it cites chunks by the numbers that the prompt shows."""
    text = gold_completion(sample, prompt.shown)
    return [*encode_completion(tokenizer, text), end_id(tokenizer)]


def make_collator(
    pad_id: int, group_cost: int | None = None
) -> Callable[[list[dict]], dict[str, torch.Tensor]]:
    """A function from rows to a batch, in which only completion tokens have labels: those of the rows.

    "input_ids" and "attention_mask" (batch, seq_len), left-padded; "labels" (batch, n_labels), for the last
    `n_labels` positions, -100 before a completion; "weights" (batch,). With `group_cost` (in tokens)
    also the columns of `group_columns`, by which rows share their evidence.
    """

    def collate(rows: list[dict]) -> dict[str, torch.Tensor]:
        input_ids, mask = pad_left([row["suffix"] + row["completion"] for row in rows], pad_id, "cpu")
        learned = [row["labels"][n_unlabeled(row["labels"]) :] for row in rows]
        # One more than the longest: the position before predicts the first label.
        n_labels = max(map(len, learned)) + 1
        labels = [[-100] * (n_labels - len(own)) + own for own in learned]
        batch = {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": torch.tensor(labels),
            "weights": torch.tensor([row["weight"] for row in rows]),
        }
        # All of a completion stays behind: its labels need its positions.
        suffixes = [row["suffix"] for row in rows]
        return batch | ({} if group_cost is None else group_columns(suffixes, group_cost))

    return collate


# --- the loss


class SFTTrainer(CompletionTrainer):
    """The loss of this stage: cross-entropy of the completion tokens."""

    def row_losses(self, model, inputs: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """(weighted negative log-likelihood of each row's completion, its number of tokens), both (batch,).

            loss_i = w_i sum_t -log p(y_it | prompt_i, y_i<t)

        Each token is predicted from the position before it; labels of -100 are ignored. `weights` w scale the
        loss alone: `compute_loss` divides the sum of all rows by the plain count of their tokens.
        """
        labels = inputs["labels"]  # (batch, n_labels)
        if not (labels[:, 1:] != -100).any():
            raise StageError("a batch has no supervised token; raise training.max_seq_length")
        logits_of = functools.partial(self.completion_logits, model, inputs)
        nll, _ = completion_nll(model, logits_of, labels)
        return nll * inputs["weights"], (labels != -100).sum(1)


# --- training


def make_trainer(job: TrainingJob, rows: Rows, model, files: RunFiles) -> SFTTrainer:
    tokenizer = job.builder.tokenizer
    # Gradient checkpointing cannot use a KV cache, and DDP allows only one forward pass per step.
    share_prefix = not job.config["training"]["gradient_checkpointing"] and job.shards.n_processes == 1
    return SFTTrainer(
        model=model,
        args=training_arguments(job.config, job.output_dir, rows.n_steps),
        train_dataset=Dataset.from_list(rows.blocks),
        eval_dataset=Dataset.from_list(rows.val),
        data_collator=make_collator(tokenizer.pad_token_id, job.group_cost(model)),
        processing_class=tokenizer,
        callbacks=[files],
        prefix=job.builder.prefix,
        share_prefix=share_prefix,
        order=rows.order(job.config["data"]),
        measure_answers=job.answer_meter(),
    )


def train(job: TrainingJob, checkpoint: str | None, resume_command: str) -> tuple[dict, Counter]:
    """Fine-tune, save and calibrate. Returns the facts of the run, and its dropped samples by reason."""
    rows = encode(job, gold_ids)
    training = job.config["training"]
    n_taken = thin_labels(rows.blocks, rows.train, training["skeleton_share"], training["seed"])
    if n_taken:
        note_in_first_process([f"{n_taken:,} tokens of the JSON around the answers have no label"])
    # Before the model is built: the first weights of its adapter are random.
    set_seed(training["seed"])
    model = load_trainable(job.config)
    files = run_files(job, checkpoint_facts(job, rows), RunFiles)
    trainer = make_trainer(job, rows, model, files)
    write_train_ids(job, rows)
    seconds = run_to_the_end(job, trainer, files, checkpoint, resume_command)
    return write_report(job, rows, trainer, files, seconds), rows.drops


# --- the run


def resume_command(args: argparse.Namespace) -> str:
    flags = [*settings_flags(args.set, args.limit), *(["--allow-test"] if args.allow_test else [])]
    return stage_command("train_sft.py", "-c", args.config, *flags, "--resume", launch=True)


def finish(args: argparse.Namespace, card: SftCard) -> None:
    """After a finished run: the next command, the report and, if asked for, the upload."""
    config = card.config
    checkpoint = f"{config['output_dir']}/checkpoint-best"
    compared = ("--base-model", config["model_name"], "--compare-baseline")
    note(f"next: {evaluate_command(config, checkpoint, 'eval_results.json', *compared)}")
    refresh_report()
    if args.push_to_hub:
        publish(card, args.push_to_hub, args.public)


def main(argv: list[str] | None) -> None:
    args, config = read_settings(argv)
    template = load_template("sft", config["data"]["template"])
    if args.dry_run:
        print_modes_plan(args, config) if modes_of(args) else print_plan(config, template, args.allow_test)
        return
    with hold_output(home_path(args.merge or config["output_dir"])) as shards:
        # Before anything is written: a model that cannot be reached fails here, and so does the hub.
        max_length = config["training"]["max_seq_length"]
        tokenizer = load_tokenizer(config["model_name"], config["trust_remote_code"], max_length)
        set_prompt_ids(tokenizer, config["data"]["prompt_ids"])
        if args.push_to_hub:
            check_hub_access(args.push_to_hub)
        card = SftCard(config, template, tokenizer)
        build = functools.partial(PromptBuilder, template=template, max_tokens=max_length - COMPLETION_TOKENS)
        if modes_of(args):
            use_finished_run(args, Export(config, card, build))
        else:
            run_training(args, card, build(tokenizer), shards)


def run_training(args: argparse.Namespace, card: SftCard, builder: PromptBuilder, shards: Shards) -> None:
    """Train into output_dir, unless it is complete with these settings."""
    config = card.config
    started = time.monotonic()
    output_dir = home_path(config["output_dir"])
    data = read_run_samples(config, args.allow_test)
    note_in_first_process([*data.warnings, *data.notes])
    settings = {**config, "template_hash": template_hash(card.template)}
    models = run_models(config["model_name"])
    facts = {"allow_test": args.allow_test, "warnings": data.warnings, "models": models}
    run = describe_run(settings, hash_inputs(data.paths), config["training"]["seed"], **facts)
    state = shards.decide(lambda: open_run_dir(output_dir, run, args.overwrite, OF_OLDER_RUNS, TRAINED_NAMES))
    if state == "complete":
        shards.decide(lambda: check_finished(output_dir))
        if shards.is_main:
            print(f"{output_dir} is complete with these settings; nothing to do")
            finish(args, card)
        return

    is_wanted = state == "resume" or args.resume
    checkpoint = shards.decide(lambda: newest_checkpoint(output_dir, is_wanted, must_exist=args.resume))
    job = TrainingJob(config, output_dir, builder, settings["template_hash"], card, data.samples, shards)
    results, drops = train(job, checkpoint, resume_command(args))
    if shards.is_main:
        close_run_dir(output_dir, run, **results)
        elapsed = format_seconds(time.monotonic() - started)
        print(
            f"wrote {output_dir / 'checkpoint-best'} and checkpoint-final after {results['n_steps']} steps "
            f"({format_drops(drops)}) in {elapsed}"
        )
        finish(args, card)


if __name__ == "__main__":
    run_main(main)
