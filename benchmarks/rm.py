"""Our reward training against TRL's RewardTrainer with a frozen base: speed, and accuracy on held-out pairs.

Reads preferences of make_prefs.py, or makes pairs of samples: a gold completion over each made rejection.
Prints a table and writes no file. Both sides get the same base model, token ids, batch size, learning rate
and number of epochs; warm-up, margins and weights of pairs are each side's own. TRL reads every pair in every
epoch and trains its linear head on the last state; ours reads every completion once, which counts in its
time, and trains its head on that. Loading the model counts for neither. Systems take turns within a round,
ratios are taken within a round; the table shows medians, and of the accuracy the mean.
TRL's side needs `pip install trl==1.16.0`; without it, only our own runs.

    python benchmarks/rm.py --model embedded
    python benchmarks/rm.py --model embedded --train-pairs 8 --test-pairs 8
"""

import argparse
import functools
import importlib.util
import random
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn.utils.rnn import pad_sequence

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import train_rm
from benchmarks.bundled import samples_of
from benchmarks.device import clock, device_name
from models.hardware import has_cuda
from models.loading import resolve_model
from preferences.completion_reader import CompletionReader, PromptSource
from preferences.contrasts import contrasts
from preferences.cuts import encode_completions
from preferences.features import as_completions
from preferences.head_training import pair_facts
from preferences.pairs import pair_metrics
from preferences.reward import load_head
from preferences.reward_config import DEFAULTS
from prompt_schema import PromptBuilder, load_template
from utils.completions import gold_completion
from utils.config import input_path
from utils.runs import note
from utils.schema import read_preferences

# Completions that are read at once, so that those of one prompt share its pass: as load_features does.
_PAIRS_PER_PORTION = 64
_PAIRS_PER_QUESTION = 2


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    add = parser.add_argument
    add("--model", required=True, help="the base model: hub id, folder, embedded")
    add("--prefs", help="a preferences file (default: pairs made of --data)")
    add("--data", help="a sample file for made pairs (default: the bundled samples)")
    add("--train-pairs", type=int, default=32, help="pairs that both sides learn from")
    add("--test-pairs", type=int, default=32, help="pairs of other questions, for the accuracy")
    add("--epochs", type=int, default=3)
    add("--batch-size", type=int, default=8, help="pairs per step")
    add("--learning-rate", type=float, default=1e-3)
    add("--max-seq-length", type=int, default=1024, help="tokens of prompt and completion")
    add("--rounds", type=int, default=1, help="repetitions with other seeds; medians are shown")
    return parser


# --- the pairs


def made_pairs(samples: list[dict]) -> list[dict]:
    """Preference rows of samples: the gold completion over made rejections, two per question.

    With all of them, a few questions would make all pairs, and our side reads a question's prompt once.
    """
    rows = []
    for number, sample in enumerate(samples):
        shown = list(range(len(sample["evidence_chunks"])))
        gold = gold_completion(sample, shown)
        made = list(contrasts(sample, shown, random.Random(sample["id"]), []).items())
        # Other kinds for other questions.
        first = number % max(len(made), 1)
        for name, text in (made[first:] + made[:first])[:_PAIRS_PER_QUESTION]:
            facts = {key: sample[key] for key in ("question", "evidence_chunks", "group")}
            sides = {"chosen": [{"content": gold}], "rejected": [{"content": text}]}
            rows.append({"id": f"{sample['id']}#{name}", **facts, **sides, "margin": 0.25})
    return rows


def split_pairs(rows: list[dict], n_train: int, n_test: int) -> tuple[list[dict], list[dict]]:
    """The first pairs to train on, then pairs of other groups. Exits if there are too few."""
    train = rows[:n_train]
    seen = {row["group"] for row in train}
    test = [row for row in rows[n_train:] if row["group"] not in seen][:n_test]
    if len(train) < n_train or len(test) < n_test:
        sys.exit(f"there are {len(train)} and {len(test)} pairs; lower --train-pairs and --test-pairs")
    return train, test


@dataclass(frozen=True)
class Bench:
    """What both sides get: the pairs, and the config of train_rm.py with the shared settings."""

    train: list[dict]
    test: list[dict]
    config: dict

    def reader(self) -> CompletionReader:
        """The frozen model with its prompts."""
        source = functools.partial(PromptBuilder, template=load_template("sft", "default"))
        return CompletionReader.load(self.config, PromptSource("", source))


# --- ours


def features_of(reader: CompletionReader, pairs: list[dict]) -> torch.Tensor:
    """The features of both completions of each pair, (2 n_pairs, n_features)."""
    found = []
    for start in range(0, len(pairs), _PAIRS_PER_PORTION):
        rows = as_completions(pairs[start : start + _PAIRS_PER_PORTION])
        found += [row["features"] for row in reader.read(rows)]
    return torch.stack(found)


def run_ours(bench: Bench) -> dict:
    """Seconds of reading and training, and the accuracy of the last head, without penalties."""
    reader = bench.reader()
    n_pairs = len(bench.train)
    started = clock()
    features = features_of(reader, bench.train)
    read = clock()
    facts = pair_facts(bench.train, np.zeros(2 * n_pairs), bench.config)
    # The trainer measures itself on val pairs. TRL has none, so these are no further pairs to read.
    split = {"train": list(range(n_pairs)), "val": list(range(n_pairs)), "test": []}
    with tempfile.TemporaryDirectory() as folder:
        train_rm.train(bench.config, features, facts, split, Path(folder))
        ended = clock()
        head, _ = load_head(Path(folder) / "final")
    with torch.inference_mode():
        scores = head(features_of(reader, bench.test)).numpy()
    return {"seconds": ended - started, "reading": read - started, **accuracy(scores)}


def accuracy(scores: np.ndarray) -> dict[str, float]:
    """Share of pairs whose chosen completion has the higher score; the two alternate."""
    return {"accuracy": pair_metrics(scores[0::2], scores[1::2])["accuracy"]}


# --- TRL


def token_rows(reader: CompletionReader, pairs: list[dict]) -> list[list[int]]:
    """The ids that our reader reads, prompt and completion, of both sides of each pair."""
    rows = as_completions(pairs)
    completions, _ = encode_completions(reader.tokenizer, rows)
    return [reader.builder.build(row).ids + ids for row, ids in zip(rows, completions)]


def load_scorer(bench: Bench, tokenizer, dtype: torch.dtype):
    """The base with a linear head on its last state, which alone is trained."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(bench.config["seed"])
    name = resolve_model(bench.config["base_model"])
    model = AutoModelForSequenceClassification.from_pretrained(name, num_labels=1, dtype=dtype)
    model.config.pad_token_id = tokenizer.pad_token_id
    model.requires_grad_(False)
    # In float32 as TRL's own heads: small steps would be lost in half precision.
    model.score.float().requires_grad_(True)
    return model


def make_trainer(bench: Bench, model, tokenizer, rows: list[list[int]], folder: str):
    """TRL's trainer over the token ids."""
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import RewardConfig, RewardTrainer

    config = bench.config
    pairs = [{"chosen_ids": a, "rejected_ids": b} for a, b in zip(rows[0::2], rows[1::2])]
    args = RewardConfig(
        output_dir=folder,
        per_device_train_batch_size=config["batch_size"],
        num_train_epochs=config["num_epochs"],
        learning_rate=config["learning_rate"],
        weight_decay=config["weight_decay"],
        lr_scheduler_type="cosine",
        center_rewards_coefficient=config["centering"],
        seed=config["seed"],
        # No row is left out, and the frozen base has no activations to recompute.
        max_length=None,
        gradient_checkpointing=False,
        # The head is in float32, whatever the base is.
        bf16=model.dtype == torch.bfloat16,
        use_cpu=not has_cuda(),
        report_to="none",
        save_strategy="no",
        disable_tqdm=True,
    )
    trainer = RewardTrainer(
        model=model, args=args, train_dataset=Dataset.from_list(pairs), processing_class=tokenizer
    )
    # It prints losses to stdout, which is for the table.
    trainer.remove_callback(PrinterCallback)
    return trainer


def scores_of(model, rows: list[list[int]], pad_id: int, n_at_once: int) -> np.ndarray:
    """The scores of token rows by a sequence classifier, longest rows first."""
    order = sorted(range(len(rows)), key=lambda i: -len(rows[i]))
    scores = np.zeros(len(rows))
    for start in range(0, len(order), n_at_once):
        part = order[start : start + n_at_once]
        # Padded on the right, as TRL's collator does.
        ids = pad_sequence([torch.tensor(rows[i]) for i in part], batch_first=True, padding_value=pad_id)
        last = torch.tensor([len(rows[i]) - 1 for i in part])
        mask = torch.arange(ids.shape[1]) <= last[:, None]
        inputs = {"input_ids": ids.to(model.device), "attention_mask": mask.long().to(model.device)}
        with torch.inference_mode():
            states = model.base_model(**inputs, use_cache=False)[0]
            ends = states[torch.arange(len(part)), last].float()
            scores[part] = model.score(ends)[:, 0].cpu().numpy()
    return scores


def run_trl(bench: Bench) -> dict:
    """Seconds of `trainer.train()`, and the accuracy after it."""
    reader = bench.reader()
    tokenizer = reader.tokenizer
    train_rows = token_rows(reader, bench.train)
    test_rows = token_rows(reader, bench.test)
    dtype = reader.model.dtype
    # Both models at once may not fit.
    del reader
    model = load_scorer(bench, tokenizer, dtype)
    with tempfile.TemporaryDirectory() as folder:
        trainer = make_trainer(bench, model, tokenizer, train_rows, folder)
        started = clock()
        trainer.train()
        ended = clock()
    scores = scores_of(model.eval(), test_rows, tokenizer.pad_token_id, bench.config["batch_size"])
    return {"seconds": ended - started, **accuracy(scores)}


# --- rounds and table


def run_rounds(args: argparse.Namespace, train: list[dict], test: list[dict]) -> dict[str, list[dict]]:
    """The results of each system, one per round."""
    systems = {"trl": run_trl, "ours": run_ours}
    if importlib.util.find_spec("trl") is None:
        note("trl is not installed; running our own side only")
        del systems["trl"]
    found: dict[str, list[dict]] = {name: [] for name in systems}
    for number in range(args.rounds):
        config = DEFAULTS | {
            "base_model": args.model,
            "max_seq_length": args.max_seq_length,
            "learning_rate": args.learning_rate,
            "batch_size": args.batch_size,
            # Completions per pass: as many as TRL has in one.
            "eval_batch_size": 2 * args.batch_size,
            "num_epochs": args.epochs,
            "seed": 42 + number,
        }
        bench = Bench(train, test, config)
        for name, run in systems.items():
            found[name].append(run(bench))
            note(f"round {number + 1}: {name} {found[name][-1]}")
    return found


def print_table(found: dict[str, list[dict]], n_pairs: int) -> None:
    """Pairs/s over the whole training, the ratio to TRL in the same rounds, and the accuracy."""
    print("| system | pairs/s | ratio | accuracy on held-out pairs |")
    print("|---|---|---|---|")
    for name, runs in found.items():
        rate = n_pairs / statistics.median(run["seconds"] for run in runs)
        base = found.get("trl", runs)
        ratio = statistics.median(other["seconds"] / run["seconds"] for run, other in zip(runs, base))
        right = statistics.mean(run["accuracy"] for run in runs)
        print(f"| {name} | {rate:.3f} | {ratio:.2f} | {right:.3f} |")


def n_questions(rows: list[dict]) -> int:
    return len({row["id"].rpartition("#")[0] for row in rows})


def main(args: argparse.Namespace) -> None:
    rows = read_preferences(input_path(args.prefs)) if args.prefs else made_pairs(samples_of(args.data))
    train, test = split_pairs(rows, args.train_pairs, args.test_pairs)
    print(
        f"{args.model}: {len(train)} pairs of {n_questions(train)} questions, {args.epochs} epochs in "
        f"batches of {args.batch_size}; {len(test)} pairs of {n_questions(test)} questions held out; "
        f"{device_name()}\n",
        flush=True,
    )
    print_table(run_rounds(args, train, test), len(train))


if __name__ == "__main__":
    main(build_parser().parse_args())
