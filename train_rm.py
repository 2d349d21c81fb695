"""Reward model: preferences -> a Bradley-Terry head on the frozen base model, with penalties against gaming.

Reads a preferences file of make_prefs.py (default: the newest). Writes output_dir/{best,final}/
(reward_head.safetensors, config.json), features/ (a cache), split.json, training_history.json,
validation.json, curves.png, calibration.png and run.json. --score writes FILE_scores.jsonl beside FILE.

    python train_rm.py -c configs/rm.yaml
    python train_rm.py -c configs/rm.yaml --validate-only --checkpoint best
    python train_rm.py -c configs/demo/rm.yaml --score demo/prefs/completions.jsonl
"""

import argparse
import functools
import time
from pathlib import Path

from models.choices import add_attention_flag
from preferences.inputs import check_reward_inputs, find_head
from preferences.reward_config import load_reward_config, reading_of
from utils.arguments import sample_limit, stage_parser
from utils.config import home_path, input_path
from utils.hub import check_hub_access, check_repo_id
from utils.outputs import check_folder_output
from utils.startup import before_imports, run_main


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument_group("files").add_argument
    add("-c", "--config", required=True, help="YAML file; configs/rm.yaml explains every key")
    add("--prefs", metavar="FILE", help="preferences file (default: the newest of --prefs-dir)")
    allow = "take preferences of test data too, which are refused otherwise; recorded in run.json"
    add("--allow-test", action="store_true", help=allow)
    add("--prefs-dir", default="prefs", help="folder of make_prefs.py (default: prefs)")
    score = "write the rewards of rows {id, question, evidence_chunks, completion} beside FILE, and stop"
    add("--score", metavar="FILE", help=score)

    model = parser.add_argument_group("model")
    add = model.add_argument
    add_attention_flag(model, default=None)
    checkpoint = "head for --validate-only and --score: best, final or a directory (default: best)"
    add("--checkpoint", default="best", help=checkpoint)

    export = "write the head with its base model to DIR, for AutoModelForSequenceClassification"
    add("--export-hf", metavar="DIR", help=export)
    push = "upload best/ with its card to this id of the model hub, also of a finished run"
    add("--push-to-hub", type=check_repo_id, metavar="OWNER/NAME", help=push)
    public = "with --push-to-hub: anybody may see the repository (default: only you)"
    add("--public", action="store_true", help=public)

    add = parser.add_argument_group("limits").add_argument
    limit = "use at most the first N preference rows (0: all)"
    add("--limit", type=sample_limit, metavar="N", help=limit)

    add = parser.add_argument_group("run").add_argument
    add("--set", action="append", default=[], metavar="KEY=VALUE", help="override a YAML key (repeatable)")
    add("--validate-only", action="store_true", help="write validation.json of a trained head")
    tune = "choose the penalty weights that rank the val pairs best; with --validate-only of a trained head"
    add("--tune-penalties", action="store_true", help=tune)
    overwrite = "delete a finished run, or one with different settings, and start over"
    add("--overwrite", action="store_true", help=overwrite)
    add("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


def read_settings(argv: list[str] | None) -> tuple[argparse.Namespace, dict]:
    """(the flags, the YAML with --set applied). UsageError for unknown keys and impossible values."""
    args = build_parser().parse_args(argv)
    # The flag is short for the YAML key, so run.json and printed commands know one of them alone.
    if args.attn_impl:
        args.set = [*args.set, f"attn_implementation={args.attn_impl}"]
    config = load_reward_config(args.config, args.set)
    if not args.dry_run:
        check_folder_output(home_path(config["output_dir"]))
        check_reward_inputs(args, config)
    return args, config


if __name__ == "__main__":
    before_imports(lambda: read_settings(None), trains=True)

import torch
from torch.nn.functional import logsigmoid
from transformers import get_cosine_schedule_with_warmup

from models.distributed import Shards, hold_output
from models.loading import load_tokenizer
from models.revisions import hub_revisions
from preferences.adapter_training import train_adapter, with_adapter
from preferences.card import write_reward_cards
from preferences.completion_reader import PromptSource, template_source
from preferences.cuts import note_cut
from preferences.features import answerer_features, as_completions, load_features
from preferences.head_base import check_head_base
from preferences.head_training import HeadTraining, PairFacts, one_thread, pair_facts
from preferences.penalty_tuning import record_tuning, tune_heads
from preferences.plan import print_reward_plan
from preferences.publish import hand_out
from preferences.reward import load_head, penalty_table, penalty_totals, weights_of
from preferences.reward_pairs import RewardPairs, read_pairs, record_split
from preferences.reward_report import print_validation, validate, write_history, write_validation
from preferences.reward_run import open_training
from preferences.scoring import score_file
from prompt_schema import PromptBuilder, load_template
from reporting.pipeline import refresh_report
from utils.progress import track
from utils.runs import close_run_dir, format_drops, format_seconds, note

# --- the loss and its training


def bradley_terry_loss(
    chosen: torch.Tensor,
    rejected: torch.Tensor,
    margins: torch.Tensor,
    weights: torch.Tensor,
    centering: float,
) -> torch.Tensor:
    """w (-log sigmoid(s_chosen - s_rejected - m) + c (s_chosen + s_rejected)^2), mean over pairs.

    All are (n_pairs,) but c. Bradley and Terry, 1952; the margin m is that of Touvron et al., 2023 (Llama 2),
    and the second term, which keeps scores around 0, that of Eisenstein et al., 2023.
    """
    losses = -logsigmoid(chosen - rejected - margins) + centering * (chosen + rejected) ** 2
    return (weights * losses).mean()


@one_thread()
def train(
    config: dict,
    features: torch.Tensor,
    pairs: PairFacts,
    split: dict[str, list[int]],
    output_dir: Path,
) -> dict:
    """Fit a head on features (2 n_pairs, n_features); save best/, final/, checkpoint-N/ in `output_dir`.

    Penalties count in the val metrics, never in the loss. Returns the training history.
    """
    torch.manual_seed(config["seed"])
    pair_loss = functools.partial(bradley_terry_loss, centering=config["centering"])
    training = HeadTraining(config, features, pairs, split, output_dir, pair_loss)
    train_rows = training.train_rows
    optimizer = torch.optim.AdamW(
        training.head.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"]
    )
    # The last step of an epoch may have fewer pairs, but it counts.
    per_step = config["batch_size"] * config["gradient_accumulation_steps"]
    n_steps = -(-len(train_rows) // per_step) * config["num_epochs"]
    schedule = get_cosine_schedule_with_warmup(optimizer, int(n_steps * config["warmup_ratio"]), n_steps)
    step = 0
    for epoch in track(range(config["num_epochs"]), "training the head", "epoch"):
        order = train_rows[torch.randperm(len(train_rows))]
        for start in range(0, len(order), per_step):
            batch = order[start : start + per_step]
            # The features are cached, so the rows of a whole optimizer step fit into one batch.
            loss = training.loss(batch)
            optimizer.zero_grad()
            loss.backward()
            training.record(loss.item(), schedule.get_last_lr()[0])
            optimizer.step()
            schedule.step()
            step += 1
            if step % config["logging_steps"] == 0:
                note(f"step {step}/{n_steps}: loss {loss.item():.4f}")
            if step % config["save_steps"] == 0:
                training.save(f"checkpoint-{step}", {"step": step})
            if step % config["eval_steps"] == 0:
                training.evaluate(step, epoch + (start + len(batch)) / len(order))
        # At the end of each epoch too: a small run may never reach eval_steps.
        training.evaluate(step, epoch + 1)
    training.save("final", training.history["eval_metrics"][-1])
    return training.history


# --- the run


# Template name -> its prompts.
prompt_source = functools.partial(template_source, prompt_builder=PromptBuilder)


def fit(config: dict, pairs: RewardPairs, prompts: PromptSource, shards: Shards) -> dict[str, torch.Tensor]:
    """Train the adapter, if `lora` asks for one, then the head; write them, the split and the history.

    Returns what `load_features` found.
    """
    output_dir = home_path(config["output_dir"])
    sides = pairs.split.sides
    if shards.is_main and config["lora"]["r"]:
        pair_loss = functools.partial(bradley_terry_loss, centering=config["centering"])
        train_adapter(config, pairs.rows, sides["train"], prompts, pair_loss)
    # Several processes share the reading; the head trains in seconds, so one process does it.
    shards.wait()
    config = with_adapter(config) | {"template_hash": prompts.template_hash}
    rows = as_completions(pairs.rows)
    found = load_features(rows, config, prompts, shards)
    if shards.is_main:
        # Before there is a head, so that none is without it.
        record_split(output_dir, pairs, config)
        sums = penalty_totals(penalty_table(rows, found["n_tokens"]), weights_of(config))
        history = train(config, found["features"], pair_facts(pairs.rows, sums, config), sides, output_dir)
        write_history(output_dir, history, pairs.split.sizes)
    shards.wait()
    return found


def run_stage(args: argparse.Namespace, config: dict, shards: Shards) -> None:
    """Train a head, unless --validate-only, and validate it."""
    started = time.monotonic()
    output_dir = home_path(config["output_dir"])
    pairs = read_pairs(args, config)
    run = None
    if args.validate_only:
        checkpoint = find_head(args.checkpoint, output_dir)
        # A missing head is an error now, not after the minutes that the features may take.
        _, saved = load_head(checkpoint)
        check_head_base(checkpoint, saved, with_adapter(config)["base_model"])
        config = config | reading_of(saved)
        heads = [checkpoint]
    else:
        run = open_training(args, config, pairs, shards)
        heads = [output_dir / "best", output_dir / "final"]
    prompts = prompt_source(config["template"])
    template = load_template("sft", config["template"])
    if not run and not args.validate_only:
        if shards.is_main:
            refresh_report()
            hand_out(args, config, heads[0], pairs.rows, prompts, template)
        return
    as_answerer = answerer_features(config, prompts, shards)
    read = functools.partial(load_features, config=with_adapter(config), prompts=prompts, shards=shards)
    found = fit(config, pairs, prompts, shards) if run else read(as_completions(pairs.rows))
    config = with_adapter(config)
    tunings = {}
    if shards.is_main:
        note_cut(found)
    if args.tune_penalties and shards.is_main:
        tunings = tune_heads(heads, pairs.rows, pairs.split.sides["val"], found, weights_of(config))
    shards.wait()
    figures = validate(heads[0], pairs, read, config["seed"], as_answerer)
    if not shards.is_main:
        return
    write_validation(output_dir, figures)
    print_validation(figures)
    if run or tunings:
        tokenizer = load_tokenizer(config["base_model"], config["trust_remote_code"])
        write_reward_cards(heads, figures, pairs.rows, tokenizer, template)
    if run:
        close_run_dir(output_dir, run, revisions=hub_revisions(config["base_model"]))
    record_tuning(heads[0].parent, tunings)
    sizes = ", ".join(f"{side} {n}" for side, n in pairs.split.sizes.items())
    counts = f"{sizes} pairs, {format_drops(pairs.drops)}"
    print(f"wrote {output_dir} ({counts}) in {format_seconds(time.monotonic() - started)}")
    refresh_report()
    hand_out(args, config, heads[0], pairs.rows, prompts, template)


def main(argv: list[str] | None) -> None:
    args, config = read_settings(argv)
    if args.dry_run:
        print_reward_plan(args, config)
        return
    output = home_path(config["output_dir"])
    if args.score:
        path = input_path(args.score)
        output = path.with_name(f"{path.stem}_scores.jsonl")
    with hold_output(output) as shards:
        # Before the minutes that features may take.
        if args.push_to_hub:
            check_hub_access(args.push_to_hub)
        if args.score:
            head = find_head(args.checkpoint, home_path(config["output_dir"]))
            score_file(path, output, head, config, prompt_source, shards)
        else:
            run_stage(args, config, shards)


if __name__ == "__main__":
    run_main(main)
