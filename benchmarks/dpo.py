"""Our policy steps against TRL's DPOTrainer: pairs/s, peak memory and losses on the same pairs in one order.

Reads a preferences file of make_prefs.py, or makes pairs of samples: a gold completion over each made
rejection. Prints a table and writes no file. Each run is a separate process, from the same adapter with
random weights; both sides compute the DPO loss on sums of log-probabilities, with a reference that is read
before the first step. Systems take turns within a round, ratios are taken within a round, and the table shows
medians. The speed is that of the steps after the first, which warms up; one column has the seconds of all,
with those of the reference. TRL's side needs `pip install trl==1.16.0`; without it, only our own runs.

    python benchmarks/dpo.py --model embedded
    python benchmarks/dpo.py --model embedded --pairs 16 --float32
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train_dpo
from benchmarks.bundled import samples_of
from benchmarks.device import clock, device_name
from benchmarks.rm import made_pairs
from benchmarks.sft import SAME_ARGUMENTS, StepClock
from models.choices import LoadOptions
from models.distributed import Shards
from models.hardware import has_cuda
from models.loading import load_model, load_tokenizer
from models.lora import add_lora, train_further
from models.peak_memory import peak_memory_gb
from prompt_schema import PromptBuilder, load_template
from training.adapters import load_policy
from training.job import Rows, TrainingJob
from training.pair_rows import encode_pairs, number_rows
from training.policy_config import POLICY_DEFAULTS, run_config
from training.rows import COMPLETION_TOKENS
from training.steps import steps_and_epochs
from training.trainer import training_arguments
from utils.arguments import stage_parser
from utils.config import input_path
from utils.runs import note
from utils.schema import read_preferences

BETA = 0.1
# The loss that both sides know.
_PLAIN = {"length_normalized": False, "sft_weight": 0.0}


def build_parser() -> argparse.ArgumentParser:
    parser = stage_parser(__doc__)
    add = parser.add_argument
    add("--model", required=True, help="the base model: hub id, folder, embedded")
    add("--prefs", help="a preferences file (default: pairs made of --data)")
    add("--data", help="a sample file for made pairs (default: the bundled samples)")
    add("--template", default="default", help="template of the prompts")
    add("--pairs", type=int, default=48, help="pairs, one epoch")
    add("--batch-size", type=int, default=4, help="pairs per step")
    add("--learning-rate", type=float, default=1e-4)
    add("--max-seq-length", type=int, default=1024, help="longest row in tokens")
    add("--float32", action="store_true", help="compute in float32, where the losses can be compared")
    add("--rounds", type=int, default=3, help="repetitions; the table shows medians")
    add("--one", nargs=2, metavar=("SYSTEM", "ADAPTER"), help="run one system and print JSON (its own call)")
    return parser


# --- what both sides get


def settings(args: argparse.Namespace, checkpoint: str, folder: Path) -> dict:
    """The config of train_dpo.py; what an SFT checkpoint would say is given by the flags."""
    config = {
        **POLICY_DEFAULTS,
        "sft_model": checkpoint,
        "output_dir": str(folder),
        "bf16": not args.float32,
        "objective": {**POLICY_DEFAULTS["objective"], "beta": BETA, **_PLAIN},
    }
    config["training"] = {
        **config["training"],
        "per_device_train_batch_size": args.batch_size,
        "learning_rate": args.learning_rate,
        "logging_steps": 1,
    }
    facts = {"max_prompt_tokens": args.max_seq_length - COMPLETION_TOKENS, "base_model": args.model}
    return run_config(config, {**facts, "template": args.template})


def pair_rows(args: argparse.Namespace, builder: PromptBuilder) -> list[dict]:
    """The first pairs as token ids, short ones first. Exits if there are too few."""
    given = read_preferences(input_path(args.prefs)) if args.prefs else made_pairs(samples_of(args.data))
    preferences = []
    for row in given:
        preferences.append({"sample_id": row["id"].rpartition("#")[0], "answerable": True, **row})
    found, _, _ = encode_pairs(preferences, builder, args.max_seq_length)
    if len(found) < args.pairs or args.pairs <= args.batch_size:
        sys.exit(f"{min(len(found), args.pairs)} pairs are too few for two steps; change --pairs or --data")
    rows = sorted(found[: args.pairs], key=lambda row: len(row["suffix"]))
    number_rows(rows)
    return rows


def keep_order(trainer: Any) -> Any:
    """A trainer that takes the pairs as they come, and does nothing but train."""
    trainer._get_train_sampler = lambda rows=None: SequentialSampler(trainer.train_dataset)
    trainer.args.eval_strategy = "no"
    trainer.args.save_strategy = "no"
    return trainer


# --- the systems


def make_ours(config: dict, builder: PromptBuilder, rows: list[dict], folder: Path) -> Any:
    nothing: Any = None
    job = TrainingJob(config, folder, builder, "", nothing, {"val": []}, Shards())
    n_steps, _ = steps_and_epochs(len(rows), config["training"], 1)
    model = load_policy(config, config["sft_model"])
    files: Any = TrainerCallback()
    return train_dpo.make_trainer(job, Rows(rows, 1, n_steps, [], Counter()), model, files)


def make_trl(config: dict, builder: PromptBuilder, rows: list[dict], folder: Path) -> Any:
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    class OnOurIds(DPOTrainer):
        """TRL's trainer on our token ids, so that templates and tokenization cannot differ."""

        def _prepare_dataset(self, dataset, *args, **kwargs):
            return dataset

    data = []
    for row in rows:
        prompt = builder.prefix + row["suffix"]
        data.append({"prompt_ids": prompt, "chosen_ids": row["completion"], "rejected_ids": row["rejected"]})
    n_steps, _ = steps_and_epochs(len(rows), config["training"], 1)
    ours = training_arguments(config, folder, n_steps)
    args = DPOConfig(
        output_dir=str(folder),
        **{key: getattr(ours, key) for key in SAME_ARGUMENTS},
        beta=BETA,
        precompute_ref_log_probs=True,
        max_length=None,
        gradient_checkpointing=bool(config["training"]["gradient_checkpointing"]),
        report_to="none",
        use_cpu=not has_cuda(),
        save_strategy="no",
        disable_tqdm=True,
    )
    options = LoadOptions(bf16=config["bf16"], attention=config["attn_implementation"])
    model = load_model(config["sft_model"], options)
    train_further(model)
    data_set = Dataset.from_list(data)
    return OnOurIds(model=model, args=args, train_dataset=data_set, processing_class=builder.tokenizer)


SYSTEMS = {"trl": make_trl, "ours": make_ours}


def run_one(args: argparse.Namespace) -> dict:
    """Train one epoch with one system, in this process."""
    name, checkpoint = args.one
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        config = settings(args, checkpoint, folder)
        tokenizer = load_tokenizer(checkpoint)
        template = load_template("sft", args.template)
        builder = PromptBuilder(tokenizer, template, args.max_seq_length - COMPLETION_TOKENS)
        rows = pair_rows(args, builder)
        # TRL reads its reference while it is built, ours when it begins to train.
        started = clock()
        trainer = keep_order(SYSTEMS[name](config, builder, rows, folder))
        steps = StepClock()
        trainer.add_callback(steps)
        trainer.train()
        ended = clock()
    in_steps = steps.ends[-1] - steps.ends[0]
    n_timed = len(rows) - args.batch_size
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    return {
        "pairs_per_s": n_timed / in_steps,
        "whole_s": ended - started,
        "peak_gb": peak_memory_gb(),
        "losses": losses,
    }


# --- rounds and table


def write_adapter(args: argparse.Namespace, folder: Path) -> None:
    """An adapter with random weights, so that the first steps have something to move."""
    torch.manual_seed(0)
    model = load_model(args.model, LoadOptions(bf16=False))
    model = add_lora(model, args.model, POLICY_DEFAULTS["lora"] | {"dropout": 0.0})
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 1e-3)
    model.save_pretrained(folder, save_embedding_layers=False)
    load_tokenizer(args.model).save_pretrained(folder)


def run_rounds(args: argparse.Namespace) -> dict[str, list[dict]]:
    """The results of each system, one per round."""
    systems = list(SYSTEMS)
    if importlib.util.find_spec("trl") is None:
        note("trl is not installed; running our own side only")
        systems.remove("trl")
    found: dict[str, list[dict]] = {name: [] for name in systems}
    with tempfile.TemporaryDirectory() as text:
        write_adapter(args, Path(text))
        for _ in range(args.rounds):
            for name in systems:
                command = [sys.executable, __file__, *sys.argv[1:], "--one", name, text]
                done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
                found[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
                note(f"{name}: {found[name][-1]}")
    return found


def cells_of(runs: list[dict], base: list[dict]) -> list[str]:
    """The cells of a system; ratios are to `base`, the first system in the same rounds."""

    def middle(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    def ratio(key: str) -> float:
        return statistics.median(run[key] / other[key] for run, other in zip(runs, base))

    losses = runs[0]["losses"]
    gap = max(abs(a - b) for a, b in zip(losses, base[0]["losses"]))
    return [
        f"{middle('pairs_per_s'):.3f}",
        f"{ratio('pairs_per_s'):.2f}",
        f"{middle('whole_s'):.1f}",
        f"{middle('peak_gb'):.2f}",
        f"{ratio('peak_gb'):.2f}",
        f"{losses[0]:.5f}",
        f"{losses[-1]:.5f}",
        f"{gap:.1g}",
    ]


def print_table(found: dict[str, list[dict]]) -> None:
    """Medians, ratios to the first system in the same rounds, and the largest difference of a step's loss."""
    base = next(iter(found.values()))
    columns = ["system", "pairs/s", "times the first", "seconds with the reference", "peak GB"]
    columns += ["share of the first", "first loss", "last loss", "largest difference of losses"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name, runs in found.items():
        print(f"| {' | '.join([name, *cells_of(runs, base)])} |")


def main(args: argparse.Namespace) -> None:
    if args.one:
        # On a new line: libraries may have left an unfinished one.
        print("\n" + json.dumps(run_one(args)))
        return
    found = run_rounds(args)
    precision = "float32" if args.float32 else "the device's half precision"
    print(
        f"{args.model}: {args.pairs} pairs in batches of {args.batch_size}, {precision}, {device_name()}, "
        f"median of {args.rounds}\n"
    )
    print_table(found)


if __name__ == "__main__":
    main(build_parser().parse_args())
