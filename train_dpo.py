"""Policy: preferences -> the SFT model, trained further to prefer the chosen completion of each pair.

Reads the YAML config, its sft_model (a checkpoint of train_sft.py or of an earlier round), its data.val_path,
and a preferences file of make_prefs.py (default: the newest). Writes to output_dir what train_sft.py writes,
and reference.safetensors, the log-probabilities of the completions before the first step.

    python train_dpo.py -c configs/dpo.yaml
    python train_dpo.py -c configs/demo/loop.yaml --set objective.loss=rejection --dry-run
"""

import argparse
import functools
import time
from collections import Counter

from preferences.inputs import preference_files
from training.modes import check_modes, modes_of
from training.policy_config import (
    OF_OLDER_ROUNDS,
    POLICY_DEFAULTS,
    check_policy_config,
    run_config,
    sft_facts,
)
from utils.arguments import stage_parser, whole_number
from utils.commands import stage_command
from utils.config import errors_of, home_path, input_path, load_config, portable_path, settings_flags
from utils.outputs import check_folder_output
from utils.run_folders import TRAINED_NAMES, check_new_folder
from utils.schema import check_rows, read_preferences, read_samples
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    add("-c", "--config", required=True, help="YAML config; configs/dpo.yaml explains every key")
    add("--prefs", metavar="FILE", help="preferences file (default: the newest of --prefs-dir)")
    add("--prefs-dir", default="prefs", help="folder of make_prefs.py (default: prefs)")
    allow_help = "take preferences of test data too, which are refused otherwise; recorded in run.json"
    add("--allow-test", action="store_true", help=allow_help)
    merge_help = "write checkpoint-best, merged into its base in bfloat16, to DIR; train nothing"
    add("--merge", metavar="DIR", help=merge_help)
    calibrate_help = "fit refusals and verdicts of checkpoint-best to val, for --decisions; train nothing"
    add("--calibrate", action="store_true", help=calibrate_help)

    add = parser.add_argument_group("limits").add_argument
    limit_help = "train on at most N pairs (overrides data.max_pairs; 0: all)"
    add("--limit", type=whole_number, metavar="N", help=limit_help)

    add = parser.add_argument_group("run").add_argument
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a YAML key (repeatable)")
    add(
        "--resume",
        action="store_true",
        help="resume from the latest complete checkpoint; exit 3 if there is none",
    )
    overwrite_help = "start over: delete a finished run or another one; with --calibrate, fit anew"
    add("--overwrite", action="store_true", help=overwrite_help)
    add("--dry-run", action="store_true", help="print pairs, tokens, time and memory, and write nothing")
    return parser


def read_settings(argv: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """(the flags, the settings of the whole run). UsageError for unknown keys and impossible values."""
    args = build_parser().parse_args(argv)
    config = load_config(args.config, POLICY_DEFAULTS, args.set)
    if args.limit is not None:
        config["data"]["max_pairs"] = args.limit or None
    with errors_of(args.config, args.set):
        check_policy_config(config)
    check_modes(args)
    config = run_config(config, sft_facts(config["sft_model"], config["base_model"], is_plan=args.dry_run))
    if not modes_of(args):
        check_new_folder(home_path(config["output_dir"]), TRAINED_NAMES)
    if args.dry_run:
        return args, config
    check_rows(input_path(config["data"]["val_path"]), read_samples)
    check_folder_output(home_path(args.merge or config["output_dir"]))
    if modes_of(args):
        return args, config
    named = input_path(args.prefs) if args.prefs else preference_files(home_path(args.prefs_dir))[-1]
    check_rows(named, read_preferences)
    return args, config


if __name__ == "__main__":
    before_imports(lambda: read_settings(None), trains=True)

import torch
from datasets import Dataset
from torch.nn.functional import logsigmoid
from transformers import set_seed

from evidence.reserved import shared_val_warning
from models.distributed import Shards, hold_output, note_in_first_process
from models.loading import load_tokenizer
from models.revisions import run_models
from preferences.head_training import balanced_weights
from preferences.pairs import check_preferences, find_preferences
from prompt_schema import PromptBuilder, load_template, template_hash
from reporting.pipeline import refresh_report
from training.adapters import load_policy
from training.card import SftCard
from training.export import Export
from training.finished import use_finished_run
from training.job import Rows, TrainingJob, run_to_the_end
from training.pair_trainer import PairLogps, PairTrainer, make_pair_collator
from training.plan import evaluate_command
from training.policy_files import PolicyFiles
from training.policy_plan import print_policy_plan
from training.policy_run import (
    describe_objective,
    encode_preferences,
    policy_facts,
    write_seen_ids,
)
from training.rows import COMPLETION_TOKENS
from training.run_report import run_files, write_report
from training.sampler import RowOrder
from training.trainer import training_arguments
from training.whole import check_finished, newest_checkpoint
from utils.runs import (
    close_run_dir,
    describe_run,
    format_drops,
    format_seconds,
    hash_inputs,
    note,
    open_run_dir,
)

# --- the losses


def dpo_loss(ratios: torch.Tensor, chosen_nll: torch.Tensor, beta: float) -> torch.Tensor:
    """-log sigmoid(beta (h_chosen - h_rejected)), (n_pairs,). Rafailov et al., 2023."""
    return -logsigmoid(beta * (ratios[:, 0] - ratios[:, 1]))


def ipo_loss(ratios: torch.Tensor, chosen_nll: torch.Tensor, beta: float) -> torch.Tensor:
    """(h_chosen - h_rejected - 1 / (2 beta))^2, (n_pairs,). Azar et al., 2023."""
    return (ratios[:, 0] - ratios[:, 1] - 1 / (2 * beta)) ** 2


def rejection_loss(ratios: torch.Tensor, chosen_nll: torch.Tensor, beta: float) -> torch.Tensor:
    """-log pi(chosen) per token, (n_pairs,): SFT on the best candidates. Yuan et al., 2023 (RFT)."""
    return chosen_nll


# Each takes h = log pi(y|x) - log pi_ref(y|x) of both sides, (n_pairs, 2), and the chosen side's
# -log pi(y|x) per token, (n_pairs,).
LOSSES = {"dpo": dpo_loss, "ipo": ipo_loss, "rejection": rejection_loss}


def policy_loss(logps: PairLogps, objective: dict) -> torch.Tensor:
    """L(h) + sft_weight * -log pi(chosen) per token, (n_pairs,), with the L of `objective.loss`.

    With `length_normalized`, h is per token too, so that a longer completion has no stronger voice.
    """
    ratios = logps.policy - logps.reference
    if objective["length_normalized"]:
        ratios = ratios / logps.n_tokens
    chosen_nll = -logps.policy[:, 0] / logps.n_tokens[:, 0]
    losses = LOSSES[objective["loss"]](ratios, chosen_nll, objective["beta"])
    return losses + objective["sft_weight"] * chosen_nll


class PolicyTrainer(PairTrainer):
    """The losses of this stage."""

    objective: dict

    def pair_losses(self, logps: PairLogps) -> torch.Tensor:
        return policy_loss(logps, self.objective)


# --- training


def make_trainer(job: TrainingJob, rows: Rows, model, files: PolicyFiles) -> PolicyTrainer:
    tokenizer = job.builder.tokenizer
    # Gradient checkpointing cannot use a KV cache, and DDP allows only one forward pass per step.
    share_prefix = not job.config["training"]["gradient_checkpointing"] and job.shards.n_processes == 1
    # The loss of rejection sampling reads the chosen side alone, and compares it with nothing.
    has_reference = job.config["objective"]["loss"] != "rejection"
    columns = ("completion", "rejected") if has_reference else ("completion",)
    trainer = PolicyTrainer(
        model=model,
        args=training_arguments(job.config, job.output_dir, rows.n_steps),
        train_dataset=Dataset.from_list(rows.blocks),
        eval_dataset=Dataset.from_list(rows.val),
        data_collator=make_pair_collator(tokenizer.pad_token_id, columns, job.group_cost(model)),
        processing_class=tokenizer,
        callbacks=[files],
        prefix=job.builder.prefix,
        share_prefix=share_prefix,
        order=RowOrder(twins_adjacent=True),
        measure_answers=job.answer_meter(),
        reference_path=job.output_dir / "reference.safetensors" if has_reference else None,
    )
    trainer.objective = job.config["objective"]
    return trainer


def train(
    job: TrainingJob, preferences: list[dict], checkpoint: str | None, resume_command: str
) -> tuple[dict, Counter]:
    """Train, save and calibrate. Returns the facts of the run, and its dropped pairs by reason."""
    rows = encode_preferences(job, preferences, balanced_weights)
    set_seed(job.config["training"]["seed"])
    model = load_policy(job.config, job.config["sft_model"])
    facts = policy_facts(job, len(job.pick_val(job.config["data"]["max_generated_val_samples"])))
    files = run_files(job, facts, PolicyFiles)
    files.keep = job.config["keep"]
    trainer = make_trainer(job, rows, model, files)
    # The model before the first step is the one to beat.
    trainer.args.eval_on_start = checkpoint is None
    write_seen_ids(job, rows)
    seconds = run_to_the_end(job, trainer, files, checkpoint, resume_command)
    return write_report(job, rows, trainer, files, seconds) | files.verdict(), rows.drops


# --- the run


def resume_command(args: argparse.Namespace) -> str:
    # By its name: preferences that are made meanwhile would be the newest.
    flags = ["--prefs", portable_path(find_preferences(args.prefs, args.prefs_dir))]
    flags += [*settings_flags(args.set, args.limit), *(["--allow-test"] if args.allow_test else [])]
    return stage_command("train_dpo.py", "-c", args.config, *flags, "--resume", launch=True)


def next_command(config: dict) -> str:
    checkpoint = f"{config['output_dir']}/checkpoint-best"
    return f"next: {evaluate_command(config, checkpoint, 'eval_policy.json')}"


def main(argv: list[str] | None) -> None:
    args, config = read_settings(argv)
    template = load_template("sft", config["data"]["template"])
    if args.dry_run:
        print_policy_plan(args, config, functools.partial(find_preferences, args.prefs, args.prefs_dir))
        return
    with hold_output(home_path(args.merge or config["output_dir"])) as shards:
        max_tokens = config["training"]["max_seq_length"] - COMPLETION_TOKENS
        tokenizer = load_tokenizer(config["sft_model"], config["trust_remote_code"])
        card = SftCard(config, template, tokenizer, describe_objective(config))
        build = functools.partial(PromptBuilder, template=template, max_tokens=max_tokens)
        if modes_of(args):
            use_finished_run(args, Export(config, card, build))
        else:
            run_training(args, card, build(tokenizer), shards)


def run_training(args: argparse.Namespace, card: SftCard, builder: PromptBuilder, shards: Shards) -> None:
    """Train into output_dir, unless it is complete with these settings."""
    config = card.config
    started = time.monotonic()
    output_dir = home_path(config["output_dir"])
    prefs_path = find_preferences(args.prefs, args.prefs_dir)
    preferences = read_preferences(prefs_path)
    warnings = check_preferences(prefs_path, preferences, args.allow_test)
    val_path = input_path(config["data"]["val_path"])
    samples = {"val": read_samples(val_path)}
    of_pairs = [{"id": row["sample_id"]} for row in preferences]
    warnings += [text for text in [shared_val_warning(of_pairs, samples["val"])] if text]
    note_in_first_process(warnings)
    settings = {**config, "template_hash": template_hash(card.template)}
    models = run_models(config["sft_model"], config["base_model"])
    facts = {"allow_test": args.allow_test, "warnings": warnings, "models": models}
    run = describe_run(settings, hash_inputs([prefs_path, val_path]), config["training"]["seed"], **facts)
    open_run = functools.partial(
        open_run_dir, output_dir, run, args.overwrite, OF_OLDER_ROUNDS, TRAINED_NAMES
    )
    state = shards.decide(open_run)
    if state == "complete":
        shards.decide(lambda: check_finished(output_dir))
        shards.say(f"{output_dir} is complete with these settings; nothing to do", next_command(config))
        if shards.is_main:
            refresh_report()
        return

    is_wanted = state == "resume" or args.resume
    checkpoint = shards.decide(lambda: newest_checkpoint(output_dir, is_wanted, must_exist=args.resume))
    job = TrainingJob(config, output_dir, builder, settings["template_hash"], card, samples, shards)
    results, drops = train(job, preferences, checkpoint, resume_command(args))
    if shards.is_main:
        close_run_dir(output_dir, run, **results)
        elapsed = format_seconds(time.monotonic() - started)
        print(
            f"wrote {output_dir / 'checkpoint-best'} and checkpoint-final after {results['n_steps']} steps "
            f"({format_drops(drops)}) in {elapsed}"
        )
        note(next_command(config))
        refresh_report()


if __name__ == "__main__":
    run_main(main)
