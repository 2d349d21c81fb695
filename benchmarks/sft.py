"""A training step against TRL's SFTTrainer: tokens/s, peak memory and loss on the same rows in the same order.

Reads a sample file; writes nothing but a table. Each run is a process of its own; systems take turns within a round, ratios are
taken within a round, medians are shown. Every round has another seed, so other first weights and, beyond 64 questions, another order;
the loss is compared as the mean over rounds with its standard error. `pip install trl==1.16.0` for the comparison (left out where it is missing).

    python benchmarks/sft.py --data data/processed/train.jsonl
    python benchmarks/sft.py --data data/processed/train.jsonl --rows 48 --max-seq-length 512
    python benchmarks/sft.py --data data/processed/train.jsonl --set training.learning_rate=2e-4
"""

import argparse
import importlib.util
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch.utils.data import SequentialSampler

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train_sft
from models import cpu_layers
from models.loading import load_tokenizer
from prompt_schema import PromptBuilder, load_template
from training.adapters import load_trainable, training_arguments
from training.rows import TwinSampler
from utils.config import input_path, load_config
from utils.schema import read_samples

ROOT = Path(__file__).resolve().parent.parent


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "-c",
        "--config",
        default=str(ROOT / "configs/demo/sft.yaml"),
        help="model, LoRA, batch size and rate are taken from it",
    )
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one value of the config, as in train_sft.py",
    )
    parser.add_argument("--data", required=True, help="a sample file")
    parser.add_argument("--rows", type=int, default=104, help="training rows, one epoch")
    parser.add_argument("--max-seq-length", type=int, default=1024, help="longest row in tokens")
    parser.add_argument(
        "--chunks",
        type=int,
        help="show so many evidence chunks, those of other samples behind a sample's own",
    )
    parser.add_argument("--rounds", type=int, default=3, help="repetitions; medians are shown")
    parser.add_argument(
        "--systems",
        default="trl,ours",
        help="of trl, trl_eager (its other attention: how far rounding alone moves the loss), "
        "plain (none of our own layers, no shared prefix), ours; ratios are to the first",
    )
    parser.add_argument(
        "--seed", type=int, default=42, help="of the first round; each further one takes the next"
    )
    parser.add_argument(
        "--one", help="run one system in this process and print JSON (used by the script itself)"
    )
    return parser


def make_rows(config: dict, tokenizer, args: argparse.Namespace) -> tuple[list[dict], list[int]]:
    """Rows in the order of an epoch, and the prefix that they share."""
    samples = read_samples(input_path(args.data))
    if args.chunks:
        pool = [chunk for sample in samples for chunk in sample["evidence_chunks"]]
        for i, sample in enumerate(samples):
            sample["evidence_chunks"] = (
                sample["evidence_chunks"] + [pool[(7 * i + k) % len(pool)] for k in range(args.chunks)]
            )[: args.chunks]
    builder = PromptBuilder(
        tokenizer, load_template("sft", "default"), args.max_seq_length - train_sft.COMPLETION_TOKENS
    )
    rows, _ = train_sft.encode_rows(samples, builder, tokenizer, args.max_seq_length)
    rows = rows[: args.rows]
    lengths = [len(row["suffix"]) for row in rows]
    order = TwinSampler(
        [row["unit"] for row in rows],
        lengths,
        [row["answerable"] for row in rows],
        0,
        config["training"]["seed"],
    )
    return [rows[i] for i in order], builder.prefix


class InOrder:
    """A trainer that takes the rows as they come."""

    def _get_train_sampler(self, train_dataset=None):
        return SequentialSampler(train_dataset if train_dataset is not None else self.train_dataset)


def run_ours(
    config: dict, tokenizer, rows: list[dict], prefix: list[int], folder: Path, n_steps: int, plain: bool
):
    from datasets import Dataset

    class Ours(InOrder, train_sft.SFTTrainer):
        pass

    if plain:
        cpu_layers.speed_up_layers = lambda model: None
        config = {**config, "attn_implementation": "sdpa"}
    args = training_arguments(config, folder, n_steps)
    args.eval_strategy = args.save_strategy = "no"
    trainer = Ours(
        model=load_trainable(config),
        args=args,
        train_dataset=Dataset.from_list(rows),
        data_collator=train_sft.make_collator(tokenizer.pad_token_id),
        processing_class=tokenizer,
        prefix=prefix,
        share_prefix=not plain,
        data=config["data"],
        n_blocks=1,
        measure_answers=None,
    )
    return trainer


def run_trl(
    config: dict, tokenizer, rows: list[dict], prefix: list[int], folder: Path, n_steps: int, attention: str
):
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    from models.loading import LoadOptions, load_model

    class Theirs(InOrder, SFTTrainer):
        pass

    ids = [{"input_ids": prefix + row["suffix"] + row["completion"]} for row in rows]
    masks = [[0] * (len(prefix) + len(row["suffix"])) + [1] * len(row["completion"]) for row in rows]
    data = Dataset.from_list([{**row, "completion_mask": mask} for row, mask in zip(ids, masks)])
    ours = training_arguments(config, folder, n_steps)
    lora = config["lora"]
    same = (
        "per_device_train_batch_size",
        "gradient_accumulation_steps",
        "learning_rate",
        "num_train_epochs",
        "weight_decay",
        "lr_scheduler_type",
        "warmup_steps",
        "bf16",
        "seed",
        "logging_steps",
    )
    args = SFTConfig(
        output_dir=str(folder),
        **{key: getattr(ours, key) for key in same},
        completion_only_loss=True,
        max_length=None,
        report_to="none",
        gradient_checkpointing=False,
        use_cpu=not torch.cuda.is_available(),
        save_strategy="no",
        disable_tqdm=True,
    )
    adapter = LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        target_modules=lora["target_modules"],
        task_type="CAUSAL_LM",
    )
    model = load_model(config["model_name"], LoadOptions(bf16=config["bf16"], attention=attention))
    return Theirs(model=model, args=args, train_dataset=data, processing_class=tokenizer, peft_config=adapter)


def run_one(args: argparse.Namespace) -> dict:
    """Train once with one system: tokens/s over the whole loop, peak memory in GB, mean loss of the last quarter of the steps."""
    fixed = [
        f"training.seed={args.seed}",
        "training.logging_steps=1",
        "training.num_train_epochs=1",
        "training.max_steps=-1",
    ]
    config = load_config(args.config, train_sft.DEFAULTS, [*args.set, *fixed])
    tokenizer = load_tokenizer(config["model_name"])
    rows, prefix = make_rows(config, tokenizer, args)
    n_tokens = sum(len(prefix) + len(row["suffix"]) + len(row["completion"]) for row in rows)
    makers = {
        "trl": (run_trl, {"attention": "auto"}),
        "trl_eager": (run_trl, {"attention": "eager"}),
        "plain": (run_ours, {"plain": True}),
        "ours": (run_ours, {"plain": False}),
    }
    make, options = makers[args.one]
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(config["training"]["seed"])
        n_steps = -(-len(rows) // config["training"]["per_device_train_batch_size"])
        trainer = make(config, tokenizer, rows, prefix, Path(folder), n_steps, **options)
        started = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - started
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    tail = losses[-max(1, len(losses) // 4) :]
    return {
        "tokens_per_s": n_tokens / seconds,
        "peak_gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "first_loss": losses[0],
        "final_loss": sum(tail) / len(tail),
        "n_rows": len(rows),
        "tokens_per_row": n_tokens / len(rows),
    }


def main(args: argparse.Namespace) -> None:
    if args.one:
        print("\n" + json.dumps(run_one(args)))
        return
    systems = args.systems.split(",")
    if importlib.util.find_spec("trl") is None and any(name.startswith("trl") for name in systems):
        print("trl is not installed; left out", file=sys.stderr)
        systems = [name for name in systems if not name.startswith("trl")]
    found: dict[str, list[dict]] = {name: [] for name in systems}
    flags = [
        "-c",
        args.config,
        "--data",
        args.data,
        "--rows",
        str(args.rows),
        "--max-seq-length",
        str(args.max_seq_length),
    ]
    flags += ["--chunks", str(args.chunks)] if args.chunks else []
    flags += [part for value in args.set for part in ("--set", value)]
    for seed in range(args.seed, args.seed + args.rounds):
        for name in systems:
            done = subprocess.run(
                [sys.executable, __file__, *flags, "--seed", str(seed), "--one", name],
                check=True,
                stdout=subprocess.PIPE,
                text=True,
            )
            found[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
            print(f"{name}: {found[name][-1]}", file=sys.stderr, flush=True)
    first = found[systems[0]][0]
    print(
        f"{first['n_rows']} rows of {first['tokens_per_row']:.0f} tokens, {torch.get_num_threads()} threads, median of {args.rounds}\n"
    )
    print(
        "| system | tokens/s | times the first | peak GB | share of the first | first loss | final loss | against the first |"
    )
    print("|---|---|---|---|---|---|---|---|")
    base = found[systems[0]]
    for name, runs in found.items():
        middle = {key: statistics.median(run[key] for run in runs) for key in runs[0]}
        speed, memory = (
            statistics.median(run[key] / other[key] for run, other in zip(runs, base))
            for key in ("tokens_per_s", "peak_gb")
        )
        moved = [100 * (run["final_loss"] / other["final_loss"] - 1) for run, other in zip(runs, base)]
        error = statistics.stdev(moved) / len(moved) ** 0.5 if len(moved) > 1 else float("nan")
        print(
            f"| {name} | {middle['tokens_per_s']:.0f} | {speed:.2f} | {middle['peak_gb']:.1f} | {memory:.2f} "
            f"| {middle['first_loss']:.4f} | {middle['final_loss']:.4f} | {statistics.mean(moved):+.1f}% ± {error:.1f} |"
        )


if __name__ == "__main__":
    main(build_parser().parse_args())
