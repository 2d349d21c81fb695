"""Our training steps against TRL's SFTTrainer: tokens/s, peak memory and loss on the same rows in one order.

Reads a sample file and prints a table; writes no file. Each run is a separate process. Systems take turns
within a round, ratios are computed within a round, and the table shows medians. Each round has another seed,
so other first weights and, with more rows than are sorted by length together, another order; the loss is
compared as the mean over rounds with its standard error. The comparison needs `pip install trl==1.16.0`;
without it, only our own systems run.

On a GPU as on a CPU: memory is that of the device, and gradient checkpointing, 4 and 8 bits are those of the
YAML for both, each by its own means. The speed is that of the steps after the first, which warms up.

    python benchmarks/sft.py --data data/processed/train.jsonl
    python benchmarks/sft.py --data data/processed/train.jsonl --rows 48 --max-seq-length 512
    python benchmarks/sft.py --data data/processed/train.jsonl --set training.learning_rate=2e-4
    python benchmarks/sft.py -c configs/sft_gemma2.yaml --data data/processed/train.jsonl --rows 128
"""

import argparse
import importlib.util
import json
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import SequentialSampler
from transformers import TrainerCallback

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train_sft
from benchmarks.device import clock, device_name
from models import cpu_layers
from models.choices import LoadOptions
from models.distributed import Shards
from models.hardware import has_cuda
from models.loading import load_model, load_tokenizer
from models.peak_memory import peak_memory_gb
from prompt_schema import PromptBuilder, load_template
from training.adapters import load_trainable
from training.job import Rows, TrainingJob
from training.rows import COMPLETION_TOKENS, encode_rows
from training.sampler import RowOrder, TwinSampler, rows_to_sort
from training.sft_config import DEFAULTS
from training.steps import steps_and_epochs
from training.trainer import training_arguments
from utils.config import input_path, load_config
from utils.schema import read_samples

ROOT = Path(__file__).resolve().parent.parent

# Settings that SFTConfig has under the same name, so that both trainers do the same.
SAME_ARGUMENTS = (
    "per_device_train_batch_size",
    "gradient_accumulation_steps",
    "learning_rate",
    "num_train_epochs",
    "weight_decay",
    "lr_scheduler_type",
    "warmup_steps",
    "bf16",
    "fp16",
    "optim",
    "max_grad_norm",
    "seed",
    "logging_steps",
)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    config_help = "model, LoRA, batch size and learning rate come from this YAML"
    add("-c", "--config", default=str(ROOT / "configs/demo/sft.yaml"), help=config_help)
    set_help = "override a key of the YAML, as in train_sft.py"
    add("--set", action="append", default=[], metavar="KEY=VALUE", help=set_help)
    add("--data", required=True, help="a sample file")
    add("--rows", type=int, default=104, help="training rows, one epoch")
    add("--max-seq-length", type=int, default=1024, help="longest row in tokens")
    chunks_help = "show this many evidence chunks; those of other samples come after a sample's own"
    add("--chunks", type=int, help=chunks_help)
    add("--rounds", type=int, default=3, help="repetitions; the table shows medians")
    systems_help = (
        "of trl, trl_eager (its other attention: how far rounding alone moves the loss), trl_liger, "
        "plain (none of our own layers, no shared prefix), ours; ratios are to the first"
    )
    add("--systems", default="trl,ours", help=systems_help)
    add("--seed", type=int, default=42, help="of the first round; each further round takes the next")
    add("--one", help="run one system in this process and print JSON (the script calls itself so)")
    return parser


# --- one system, in a separate process


@dataclass(frozen=True)
class Bench:
    """Config, tokenizer and training rows that both trainers get, in the same order."""

    config: dict
    tokenizer: Any
    rows: list[dict]
    prefix: list[int]  # token ids that start every row
    folder: Path

    @property
    def n_steps(self) -> int:
        return steps_and_epochs(len(self.rows), self.config["training"], 1)[0]

    @property
    def rows_per_step(self) -> int:
        training = self.config["training"]
        return training["per_device_train_batch_size"] * training["gradient_accumulation_steps"]

    def count_tokens(self, rows: list[dict]) -> int:
        return sum(len(self.prefix) + len(row["suffix"]) + len(row["completion"]) for row in rows)


def add_chunks(samples: list[dict], n_chunks: int) -> None:
    """Give every sample exactly `n_chunks` chunks, the further ones from other samples."""
    # Chunks of other questions: long evidence as a retriever returns it, without support for this one.
    pool = []
    for sample in samples:
        pool += sample["evidence_chunks"]
    for i, sample in enumerate(samples):
        others = [pool[(7 * i + k) % len(pool)] for k in range(n_chunks)]
        sample["evidence_chunks"] = (sample["evidence_chunks"] + others)[:n_chunks]


def make_bench(
    config: dict, samples: list[dict], n_rows: int, max_seq_length: int, folder: Path
) -> tuple[Bench, PromptBuilder]:
    """The first rows of the samples in the order of an epoch, and the builder of their prompts."""
    tokenizer = load_tokenizer(config["model_name"])
    builder = PromptBuilder(tokenizer, load_template("sft", "default"), max_seq_length - COMPLETION_TOKENS)
    rows, _ = encode_rows(samples, builder, train_sft.gold_ids, max_seq_length)
    rows = rows[:n_rows]
    training = config["training"]
    batches = (training["per_device_train_batch_size"], training["gradient_accumulation_steps"])
    # Our own sampler orders the rows for every system, twins adjacent and short rows together.
    order = TwinSampler(
        units=[row["unit"] for row in rows],
        lengths=[len(row["suffix"]) for row in rows],
        answerable=[row["answerable"] for row in rows],
        seed=training["seed"],
        order=RowOrder(sort_within=rows_to_sort(*batches, 1)),
    )
    return Bench(config, tokenizer, [rows[i] for i in order], builder.prefix, folder), builder


def keep_order(trainer: Any) -> Any:
    """A trainer that takes the rows as they come, and does nothing but train."""
    trainer._get_train_sampler = lambda rows=None: SequentialSampler(trainer.train_dataset)
    trainer.args.eval_strategy = "no"
    trainer.args.save_strategy = "no"
    return trainer


def make_ours(bench: Bench, plain: bool):
    """The trainer of train_sft.py; `plain`: with none of our own layers and no shared prefix."""
    config = bench.config
    # `load_trainable` looks the kernels up here; sdpa, as named rather than "auto", keeps our attention away.
    if plain:
        cpu_layers.speed_up_layers = lambda model: None
        config = {**config, "attn_implementation": "sdpa"}
    # What only evaluations and checkpoints need is left out.
    nothing: Any = None
    job = TrainingJob(config, bench.folder, bench, "", nothing, {}, Shards())
    files: Any = TrainerCallback()
    rows = Rows(bench.rows, 1, bench.n_steps, [], Counter())
    trainer = train_sft.make_trainer(job, rows, load_trainable(config), files)
    trainer.share_prefix = trainer.share_prefix and not plain
    return keep_order(trainer)


def make_trl(bench: Bench, attention: str | None = None, liger: bool = False):
    """TRL's trainer with the settings of the YAML; what the YAML does not name is TRL's default."""
    from datasets import Dataset
    from peft import LoraConfig
    from trl import SFTConfig, SFTTrainer

    # TRL gets our token ids, so that templates and tokenization cannot differ.
    data = []
    for row in bench.rows:
        prompt = bench.prefix + row["suffix"]
        mask = [0] * len(prompt) + [1] * len(row["completion"])
        data.append({"input_ids": prompt + row["completion"], "completion_mask": mask})
    config = bench.config
    ours = training_arguments(config, bench.folder, bench.n_steps)
    args = SFTConfig(
        output_dir=str(bench.folder),
        **{key: getattr(ours, key) for key in SAME_ARGUMENTS},
        # The same labels as ours, and no row cut: TRL's default cuts the end, which is the answer.
        completion_only_loss=True,
        max_length=None,
        report_to="none",
        # How activations are recomputed is TRL's own choice, as are the bfloat16 adapters of 4-bit models.
        gradient_checkpointing=bool(config["training"]["gradient_checkpointing"]),
        use_liger_kernel=liger,
        use_cpu=not has_cuda(),
        save_strategy="no",
        disable_tqdm=True,
    )
    lora = config["lora"]
    adapter = LoraConfig(
        r=lora["r"],
        lora_alpha=lora["alpha"],
        lora_dropout=lora["dropout"],
        use_rslora=lora["use_rslora"],
        target_modules=lora["target_modules"],
        task_type="CAUSAL_LM",
    )
    options = LoadOptions(
        bf16=config["bf16"],
        load_in_4bit=config["load_in_4bit"],
        load_in_8bit=config["load_in_8bit"],
        attention=attention or config["attn_implementation"],
    )
    trainer = SFTTrainer(
        model=load_model(config["model_name"], options),
        args=args,
        train_dataset=Dataset.from_list(data),
        processing_class=bench.tokenizer,
        peft_config=adapter,
    )
    return keep_order(trainer)


SYSTEMS: dict[str, Callable] = {
    "trl": make_trl,
    "trl_eager": lambda bench: make_trl(bench, attention="eager"),
    "trl_liger": lambda bench: make_trl(bench, liger=True),
    "plain": lambda bench: make_ours(bench, plain=True),
    "ours": lambda bench: make_ours(bench, plain=False),
}


class StepClock(TrainerCallback):
    """When each optimizer step ended."""

    def __init__(self):
        self.ends: list[float] = []

    def on_step_end(self, args, state, control, **kwargs):
        self.ends.append(clock())


def measure(trainer, bench: Bench) -> dict:
    """Train one epoch. Returns tokens/s, peak memory in GB, and losses.

    The speed is that of the steps after the first; the final loss is the mean over the last quarter of them.
    """
    steps = StepClock()
    trainer.add_callback(steps)
    trainer.train()
    losses = [log["loss"] for log in trainer.state.log_history if "loss" in log]
    last_quarter = losses[-max(1, len(losses) // 4) :]
    n_tokens = bench.count_tokens(bench.rows[bench.rows_per_step :])
    return {
        "tokens_per_s": n_tokens / (steps.ends[-1] - steps.ends[0]),
        "peak_gb": peak_memory_gb(),
        "first_loss": losses[0],
        "final_loss": sum(last_quarter) / len(last_quarter),
        "n_rows": len(bench.rows),
        "tokens_per_row": bench.count_tokens(bench.rows) / len(bench.rows),
    }


def run_one(args: argparse.Namespace) -> dict:
    """Train once with one system, in this process. Returns what `measure` does."""
    # One epoch, all losses logged, no answers generated, whatever the YAML says.
    fixed = [
        f"training.seed={args.seed}",
        "training.logging_steps=1",
        "training.num_train_epochs=1",
        "training.max_steps=-1",
        "data.max_generated_val_samples=0",
    ]
    config = load_config(args.config, DEFAULTS, [*args.set, *fixed])
    samples = read_samples(input_path(args.data))
    if args.chunks:
        add_chunks(samples, args.chunks)
    with tempfile.TemporaryDirectory() as folder:
        bench, _ = make_bench(config, samples, args.rows, args.max_seq_length, Path(folder))
        if bench.n_steps < 2:
            sys.exit(f"{len(bench.rows)} rows are one step, and the first only warms up; raise --rows")
        # Before the trainer builds the model: the first weights of the adapter are random.
        torch.manual_seed(args.seed)
        return measure(SYSTEMS[args.one](bench), bench)


# --- rounds of all systems, and the table


def same_flags(args: argparse.Namespace) -> list[str]:
    """The flags that every process of a comparison gets."""
    flags = ["-c", args.config, "--data", args.data, "--rows", str(args.rows)]
    flags += ["--max-seq-length", str(args.max_seq_length)]
    if args.chunks:
        flags += ["--chunks", str(args.chunks)]
    for override in args.set:
        flags += ["--set", override]
    return flags


def available(names: list[str]) -> list[str]:
    if importlib.util.find_spec("trl") is not None or not any(name.startswith("trl") for name in names):
        return names
    print("trl is not installed; running our own systems only", file=sys.stderr)
    return [name for name in names if not name.startswith("trl")]


def run_rounds(args: argparse.Namespace, systems: list[str]) -> dict[str, list[dict]]:
    """The results of each system, one per round."""
    found: dict[str, list[dict]] = {name: [] for name in systems}
    flags = same_flags(args)
    for seed in range(args.seed, args.seed + args.rounds):
        # In turns, so that a slow minute of the machine hits all systems.
        for name in systems:
            command = [sys.executable, __file__, *flags, "--seed", str(seed), "--one", name]
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
            result = json.loads(done.stdout.strip().splitlines()[-1])
            found[name].append(result)
            print(f"{name}: {result}", file=sys.stderr, flush=True)
    return found


def table_row(name: str, runs: list[dict], base: list[dict]) -> str:
    """One line of the table; ratios are to `base`, the first system in the same rounds."""

    def middle(key: str) -> float:
        return statistics.median(run[key] for run in runs)

    def ratio(key: str) -> float:
        return statistics.median(run[key] / other[key] for run, other in zip(runs, base))

    # Per round, as seeds differ between rounds and not between systems.
    moved = [100 * (run["final_loss"] / other["final_loss"] - 1) for run, other in zip(runs, base)]
    error = statistics.stdev(moved) / len(moved) ** 0.5 if len(moved) > 1 else float("nan")
    cells = [
        name,
        f"{middle('tokens_per_s'):.0f}",
        f"{ratio('tokens_per_s'):.2f}",
        f"{middle('peak_gb'):.1f}",
        f"{ratio('peak_gb'):.2f}",
        f"{middle('first_loss'):.4f}",
        f"{middle('final_loss'):.4f}",
        f"{statistics.mean(moved):+.1f}% ± {error:.1f}",
    ]
    return f"| {' | '.join(cells)} |"


def main(args: argparse.Namespace) -> None:
    if args.one:
        # On a new line: libraries may have left an unfinished one.
        print("\n" + json.dumps(run_one(args)))
        return
    systems = available(args.systems.split(","))
    found = run_rounds(args, systems)
    base = found[systems[0]]
    print(
        f"{base[0]['n_rows']} rows of {base[0]['tokens_per_row']:.0f} tokens, "
        f"{device_name()}, median of {args.rounds}\n"
    )
    columns = ["system", "tokens/s", "times the first", "peak GB", "share of the first"]
    columns += ["first loss", "final loss", "against the first"]
    print(f"| {' | '.join(columns)} |")
    print("|---" * len(columns) + "|")
    for name, runs in found.items():
        print(table_row(name, runs, base))


if __name__ == "__main__":
    main(build_parser().parse_args())
