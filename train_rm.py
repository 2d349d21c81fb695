"""Reward model: preferences -> a Bradley-Terry head on the frozen base model, with anti-gaming penalties at use.

Reads a preferences file of make_prefs.py (default: the newest). Writes output_dir/{best,final}/ (reward_head.safetensors, config.json),
features/ (a cache), training_history.json, validation.json, curves.png and run.json.

    python train_rm.py -c configs/rm.yaml
    python train_rm.py -c configs/rm.yaml --validate-only --checkpoint best
    python train_rm.py -c configs/demo/rm.yaml --score demo/prefs/completions.jsonl
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch.nn.functional import logsigmoid
from transformers import get_cosine_schedule_with_warmup

from evaluation.plots import plot_curves
from evaluation.tables import format_number, format_table
from generation.likelihood import completion_features
from models.distributed import Shards, progress
from models.estimate import estimate, warn_missing_model
from models.hardware import speed_up_generation
from models.loading import LoadOptions, load_model, load_tokenizer
from preferences.pairs import baseline_scores, interval, pair_metrics
from preferences.reward import PENALTIES, RewardHead, load_head, penalties, save_head, total_penalty
from prompt_schema import PromptBuilder, load_template, template_hash
from utils.completions import parse_completion
from utils.config import home_path, input_path, load_config
from utils.errors import DataError, UsageError, run_main
from utils.jsonl import atomic_write, read_jsonl, sha256_value, write_json, write_jsonl
from utils.runs import close_run_dir, describe_run, format_seconds, hash_inputs, open_run_dir
from utils.schema import read_preferences
from utils.tokens import encode_completion

DEFAULTS = {
    "base_model": "google/gemma-2-9b",
    "output_dir": "checkpoints/rm",
    "learning_rate": 5e-6,
    "batch_size": 16,
    "eval_batch_size": 32,
    "num_epochs": 3,
    "warmup_ratio": 0.1,
    "weight_decay": 0.01,
    "max_seq_length": 2048,
    "gradient_accumulation_steps": 1,
    "eval_steps": 100,
    "save_steps": 200,
    "logging_steps": 10,
    "load_in_8bit": False,
    "seed": 42,
    "citation_penalty_weight": 0.2,
    "confidence_penalty_weight": 0.1,
    "length_penalty_weight": 0.05,
    "overcitation_penalty_weight": 0.15,
    "span_penalty_weight": 0.25,
    "val_fraction": 0.15,
    "test_fraction": 0.15,
    "template": "default",
    "attn_implementation": "auto",
    "trust_remote_code": False,
}
COMPLETION_TOKENS = 160


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument(
        "-c", "--config", required=True, help="YAML config; configs/rm.yaml explains every key"
    )
    parser.add_argument(
        "--prefs",
        metavar="FILE",
        help="preferences file (default: the newest preferences_*.jsonl of --prefs-dir)",
    )
    parser.add_argument("--prefs-dir", default="prefs", help="folder of make_prefs.py (default: prefs)")
    parser.add_argument(
        "--validate-only", action="store_true", help="compute validation.json for a trained head and stop"
    )
    parser.add_argument(
        "--checkpoint",
        default="best",
        help="best, final or a directory: the head for --validate-only and --score",
    )
    parser.add_argument(
        "--score",
        metavar="FILE",
        help="write rewards for rows {id, question, evidence_chunks, completion} beside FILE",
    )
    parser.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="override a YAML key (repeatable)"
    )
    parser.add_argument("--limit", type=int, help="use at most this many preference rows")
    parser.add_argument("--overwrite", action="store_true", help="replace a run made with other settings")
    parser.add_argument("--dry-run", action="store_true", help="print the plan and write nothing")
    return parser


# --- features


def weights_of(config: dict) -> dict[str, float]:
    return {name: config[f"{name}_penalty_weight"] for name in PENALTIES}


def as_completions(preferences: list[dict]) -> list[dict]:
    """Chosen and rejected of each preference as rows {"id", "question", "evidence_chunks", "completion"}: 2i and 2i + 1."""
    return [
        {
            "id": f"{row['id']}:{side}",
            "question": row["question"],
            "evidence_chunks": row["evidence_chunks"],
            "completion": row[side][0]["content"],
        }
        for row in preferences
        for side in ("chosen", "rejected")
    ]


def load_features(rows: list[dict], config: dict, shards: Shards) -> dict[str, torch.Tensor]:
    """{"features": (n, hidden), "mean_logp": (n,), "n_tokens": (n,)} of completion rows, from the frozen base model or its cache."""
    keys = [[row["question"], row["evidence_chunks"], row["completion"]] for row in rows]
    template = load_template("sft", config["template"])
    settings = {name: config[name] for name in ("base_model", "max_seq_length", "load_in_8bit")} | {
        "template": template_hash(template)
    }
    path = home_path(config["output_dir"]) / "features" / f"{sha256_value([settings, keys])[:16]}.safetensors"
    if shards.share(path.is_file()):
        return load_file(path)
    tokenizer = load_tokenizer(config["base_model"], config["trust_remote_code"])
    builder = PromptBuilder(tokenizer, template, config["max_seq_length"] - COMPLETION_TOKENS)
    suffixes = [
        builder.build(
            {"id": row["id"], "question": row["question"], "evidence_chunks": row["evidence_chunks"]}
        ).suffix
        for row in rows
    ]
    # An empty completion is still one token long: the end of the text.
    completions = [
        encode_completion(tokenizer, row["completion"])[: COMPLETION_TOKENS - 1] + [tokenizer.eos_token_id]
        for row in rows
    ]
    options = LoadOptions(
        load_in_8bit=config["load_in_8bit"],
        attention=config["attn_implementation"],
        trust_remote_code=config["trust_remote_code"],
    )
    model = speed_up_generation(load_model(config["base_model"], options), options.attention)
    # Completions of one prompt (chosen and rejected) stay in one process, where they share its reading.
    of_prompt: dict[tuple, list[int]] = {}
    for i, suffix in enumerate(suffixes):
        of_prompt.setdefault(tuple(suffix), []).append(i)
    mine = [i for group in shards.mine(list(of_prompt.values())) for i in group]
    read = []
    with progress(len(mine), "reading completions", "completion") as bar:
        for batch in completion_features(
            model,
            builder.prefix,
            [suffixes[i] for i in mine],
            [completions[i] for i in mine],
            tokenizer.pad_token_id,
            config["eval_batch_size"],
        ):
            read += [(mine[place], hidden, mean_logp) for place, hidden, mean_logp in batch]
            bar.update(len(batch))
    read = sorted(shards.gather(read), key=lambda item: item[0])
    found = {
        "features": torch.stack([hidden for _, hidden, _ in read]),
        "mean_logp": torch.tensor([mean_logp for *_, mean_logp in read]),
        "n_tokens": torch.tensor([len(c) - 1 for c in completions], dtype=torch.float32),
    }
    if shards.is_main:
        with atomic_write(path, "wb") as handle:
            handle.write(save(found))
    return found


def penalty_table(rows: list[dict], n_tokens: torch.Tensor) -> list[dict[str, float]]:
    parsed = [parse_completion(row["completion"], len(row["evidence_chunks"])) for row in rows]
    return [penalties(p, row["evidence_chunks"], int(n)) for p, row, n in zip(parsed, rows, n_tokens)]


# --- training


def split_groups(preferences: list[dict], config: dict) -> dict[str, list[int]]:
    """Indices of train, val and test pairs; a group stands on one side."""
    groups = sorted({row["group"] for row in preferences})
    np.random.default_rng(config["seed"]).shuffle(groups)
    quota = {
        "test": config["test_fraction"] * len(preferences),
        "val": config["val_fraction"] * len(preferences),
    }
    members: dict[str, list[int]] = {}
    for i, row in enumerate(preferences):
        members.setdefault(row["group"], []).append(i)
    split: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for group in groups:
        side = next(
            (side for side in ("test", "val") if len(split[side]) + len(members[group]) <= quota[side] + 0.5),
            "train",
        )
        split[side] += members[group]
    if not all(split.values()):
        sizes = {side: len(rows) for side, rows in split.items()}
        raise DataError(
            f"{len(preferences)} pairs in {len(groups)} groups split into {sizes}; make more pairs with make_prefs.py --max-samples"
        )
    return {side: sorted(rows) for side, rows in split.items()}


def bradley_terry_loss(chosen: torch.Tensor, rejected: torch.Tensor) -> torch.Tensor:
    """-log sigmoid(s_chosen - s_rejected), mean over pairs (Bradley and Terry, 1952). Both (n,)."""
    return -logsigmoid(chosen - rejected).mean()


def rewards(
    head: RewardHead, features: torch.Tensor, penalty_sums: np.ndarray, scale: dict[str, float]
) -> np.ndarray:
    """reward = standardised head score - weighted penalties: (n,)."""
    with torch.no_grad():
        scores = head(features).numpy()
    return (scores - scale["mean"]) / scale["std"] - penalty_sums


def score_scale(head: RewardHead, features: torch.Tensor) -> dict[str, float]:
    """Mean and standard deviation of the head's scores on the training completions."""
    with torch.no_grad():
        scores = head(features)
    return {"mean": float(scores.mean()), "std": float(scores.std()) or 1.0}


def train(
    config: dict,
    features: torch.Tensor,
    penalty_sums: np.ndarray,
    split: dict[str, list[int]],
    output_dir: Path,
) -> dict:
    """Fit the head; the checkpoint with the best val ROC-AUC (then loss) becomes best/. Returns the history."""
    torch.manual_seed(config["seed"])
    # (n_pairs, hidden)
    chosen = features[0::2]
    rejected = features[1::2]
    train_rows = torch.tensor(split["train"])
    val_rows = torch.tensor(split["val"])
    pooled = torch.cat([chosen[train_rows], rejected[train_rows]])
    head = RewardHead(features.shape[1])
    head.mean = pooled.mean(0)
    head.std = pooled.std(0).clamp(min=1e-6)
    optimizer = torch.optim.AdamW(
        head.linear.parameters(), lr=config["learning_rate"], weight_decay=config["weight_decay"]
    )
    per_step = config["batch_size"] * config["gradient_accumulation_steps"]
    n_steps = -(-len(train_rows) // per_step) * config["num_epochs"]
    schedule = get_cosine_schedule_with_warmup(optimizer, int(n_steps * config["warmup_ratio"]), n_steps)
    history = {"train_losses": [], "eval_metrics": [], "config": config}
    best = (-1.0, 0.0)
    step = 0

    def evaluate(epoch: float) -> None:
        nonlocal best
        with torch.no_grad():
            loss = float(bradley_terry_loss(head(chosen[val_rows]), head(rejected[val_rows])))
        scale = score_scale(head, pooled)
        sides = [
            rewards(head, side[val_rows], penalty_sums[k::2][split["val"]], scale)
            for k, side in enumerate((chosen, rejected))
        ]
        metrics = {"step": step, "epoch": round(epoch, 3), "loss": loss, **pair_metrics(*sides)}
        history["eval_metrics"].append(metrics)
        if (metrics["roc_auc"], -loss) > best:
            best = (metrics["roc_auc"], -loss)
            save_head(output_dir / "best", head, head_config(config, scale, metrics))

    for epoch in range(config["num_epochs"]):
        order = train_rows[torch.randperm(len(train_rows))]
        for start in range(0, len(order), per_step):
            batch = order[start : start + per_step]
            # The features are cached, so a whole optimiser step is one batch.
            loss = bradley_terry_loss(head(chosen[batch]), head(rejected[batch]))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            step += 1
            history["train_losses"].append(loss.item())
            if step % config["logging_steps"] == 0:
                print(f"step {step}/{n_steps}: loss {loss.item():.4f}", flush=True)
            if step % config["save_steps"] == 0:
                scale = score_scale(head, pooled)
                save_head(output_dir / f"checkpoint-{step}", head, head_config(config, scale, {"step": step}))
            if step % config["eval_steps"] == 0:
                evaluate(epoch + (start + len(batch)) / len(order))
        evaluate(epoch + 1)
    save_head(
        output_dir / "final",
        head,
        head_config(config, score_scale(head, pooled), history["eval_metrics"][-1]),
    )
    return history


def head_config(config: dict, scale: dict[str, float], metrics: dict) -> dict:
    return {
        "base_model": config["base_model"],
        "template": config["template"],
        "max_seq_length": config["max_seq_length"],
        "penalty_weights": weights_of(config),
        "score_scale": scale,
        "metrics": metrics,
    }


# --- validation


def validate(
    config: dict,
    checkpoint: Path,
    preferences: list[dict],
    rows: list[dict],
    found: dict,
    split: dict[str, list[int]],
) -> dict:
    """Test figures of one head beside the baselines."""
    head, saved = load_head(checkpoint)
    table = penalty_table(rows, found["n_tokens"])
    penalty_sums = np.array([total_penalty(values, saved["penalty_weights"]) for values in table])
    test = split["test"]
    groups = [preferences[i]["group"] for i in split["test"]]
    with torch.no_grad():
        head_scores = head(found["features"]).numpy()
    scored = {
        "reward": rewards(head, found["features"], penalty_sums, saved["score_scale"]),
        "head_only": head_scores,
        **baseline_scores(rows, found, penalty_sums, split),
    }
    figures = {}
    for name, scores in scored.items():
        chosen = scores[0::2][test]
        rejected = scores[1::2][test]
        figures[name] = pair_metrics(chosen, rejected) | {
            "ci95": interval(chosen, rejected, groups, config["seed"])
        }
    mean_penalties = {
        side: {name: float(np.mean([table[2 * i + k][name] for i in test])) for name in PENALTIES}
        for k, side in enumerate(("chosen", "rejected"))
    }
    return {
        "checkpoint": str(checkpoint),
        "n_test_pairs": len(test),
        "n_test_groups": len(set(groups)),
        "test": figures,
        "mean_penalties": mean_penalties,
    }


def print_validation(figures: dict) -> None:
    def cell(metrics: dict, name: str) -> str:
        span = metrics["ci95"][name]
        return format_number(metrics[name]) + (f" [{span[0]:.2f}, {span[1]:.2f}]" if span else "")

    body = [
        [name, cell(metrics, "accuracy"), cell(metrics, "roc_auc")]
        for name, metrics in figures["test"].items()
    ]
    print(format_table([f"{figures['n_test_pairs']} test pairs", "accuracy", "roc_auc"], body))


# --- the run


def find_preferences(args: argparse.Namespace) -> Path:
    """--prefs, else the newest preferences file, named in the log."""
    if args.prefs:
        return input_path(args.prefs)
    folder = home_path(args.prefs_dir)
    found = sorted(folder.glob("preferences_*.jsonl"), key=lambda path: (path.stat().st_mtime, path.name))
    if not found:
        raise DataError(
            f"{folder}: no preferences_*.jsonl; run make_prefs.py first, or name a file with --prefs"
        )
    print(f"preferences: {found[-1]}" + (f" (newest of {len(found)})" if len(found) > 1 else ""))
    return found[-1]


def find_checkpoint(output_dir: Path, name: str) -> Path:
    return output_dir / name if name in ("best", "final") else input_path(name)


def score_file(args: argparse.Namespace, config: dict, output_dir: Path, shards: Shards) -> None:
    """`--score`: reward, head score and penalties of each row of a file."""
    path = input_path(args.score)
    rows = [row for _, row in read_jsonl(path)]
    for number, row in enumerate(rows, 1):
        missing = [field for field in ("id", "question", "evidence_chunks", "completion") if field not in row]
        if missing:
            raise DataError(
                f"{path}:{number}: row lacks {', '.join(missing)}; needed are id, question, evidence_chunks, completion"
            )
    if not rows:
        raise DataError(f"{path}: holds no rows")
    head, saved = load_head(find_checkpoint(output_dir, args.checkpoint))
    found = load_features(
        rows, {**config, **{key: saved[key] for key in ("base_model", "template", "max_seq_length")}}, shards
    )
    if not shards.is_main:
        return
    table = penalty_table(rows, found["n_tokens"])
    sums = np.array([total_penalty(values, saved["penalty_weights"]) for values in table])
    scores = rewards(head, found["features"], sums, saved["score_scale"])
    target = path.with_name(f"{path.stem}_scores.jsonl")
    write_jsonl(
        target,
        [
            {"id": row["id"], "reward": float(r), "head_score": float(r + s), "penalties": p}
            for row, r, s, p in zip(rows, scores, sums, table)
        ],
    )
    print(f"wrote {len(rows)} rewards to {target}")


def print_plan(args: argparse.Namespace, config: dict) -> None:
    warn_missing_model(config["base_model"])
    try:
        preferences = read_preferences(find_preferences(args))[: args.limit]
    except DataError as error:
        print(f"warning: {error}")
        preferences = []
    if preferences:
        n_tokens = sum(len(row["prompt"][0]["content"]) // 2 + 60 for row in preferences)
        print(
            f"would read {2 * len(preferences)} completions, about {n_tokens:,} tokens, then train a head in seconds"
        )
        print(estimate(config["base_model"], n_tokens, 1, 8 if config["load_in_8bit"] else 16))
    print(f"would write {home_path(config['output_dir'])}/ (features: 4 bytes x hidden size a completion)")


def main(argv: list[str] | None) -> None:
    args = build_parser().parse_args(argv)
    config = load_config(args.config, DEFAULTS, args.set)
    if (
        not 0 < config["val_fraction"] < 1
        or not 0 < config["test_fraction"] < 1
        or config["val_fraction"] + config["test_fraction"] >= 1
    ):
        raise UsageError("val_fraction and test_fraction must be above 0 and add up to less than 1")
    output_dir = home_path(config["output_dir"])
    if args.dry_run:
        print_plan(args, config)
        return
    shards = Shards()
    if args.score:
        score_file(args, config, output_dir, shards)
        return
    started = time.monotonic()
    prefs_path = find_preferences(args)
    preferences = read_preferences(prefs_path)[: args.limit]
    split = split_groups(preferences, config)
    rows = as_completions(preferences)
    if args.validate_only:
        checkpoint = find_checkpoint(output_dir, args.checkpoint)
        load_head(checkpoint)
    else:
        checkpoint = output_dir / "best"
        run = describe_run(
            config | {"limit": args.limit},
            hash_inputs([prefs_path]),
            config["seed"],
            n_pairs={side: len(i) for side, i in split.items()},
        )
        if (
            shards.share(open_run_dir(output_dir, run, args.overwrite) if shards.is_main else None)
            == "complete"
        ):
            print(
                f"{output_dir} is complete with these settings; nothing to do. Next: python train_rm.py -c {args.config} --validate-only"
            )
            return
    found = load_features(rows, config, shards)
    if not shards.is_main:
        return
    if not args.validate_only:
        sums = np.array(
            [total_penalty(values, weights_of(config)) for values in penalty_table(rows, found["n_tokens"])]
        )
        history = train(config, found["features"], sums, split, output_dir)
        write_json(output_dir / "training_history.json", history)
        losses = [(i, loss) for i, loss in enumerate(history["train_losses"], 1)]
        val = {
            name: [(m["step"], m[name]) for m in history["eval_metrics"]]
            for name in ("loss", "roc_auc", "accuracy")
        }
        plot_curves(
            output_dir / "curves.png",
            {
                "Bradley-Terry loss": {"train": losses, "val": val["loss"]},
                "Validation pairs": {k: val[k] for k in ("roc_auc", "accuracy")},
            },
        )
    figures = validate(config, checkpoint, preferences, rows, found, split)
    write_json(output_dir / "validation.json", figures)
    print_validation(figures)
    if not args.validate_only:
        close_run_dir(output_dir, run)
    sizes = ", ".join(f"{side} {len(pairs)}" for side, pairs in split.items())
    print(f"wrote {output_dir} ({sizes} pairs, dropped 0) in {format_seconds(time.monotonic() - started)}")


if __name__ == "__main__":
    run_main(main)
