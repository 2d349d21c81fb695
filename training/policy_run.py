"""A policy run beside its objective: its pairs, the facts of its checkpoints, and the samples it has seen.

It knows the records of a run, not how it is trained.
"""

from collections.abc import Callable

import numpy as np

from evidence.reserved import ids_problem, train_ids
from models.distributed import note_in_first_process
from training.job import Rows, TrainingJob
from training.pair_rows import check_kinds, encode_pairs, hold_out, keep_best_once, number_rows, pick_pairs
from training.policy_config import sft_facts
from training.run_report import run_precision
from training.steps import steps_and_epochs
from utils.config import portable_path
from utils.jsonl import write_text
from utils.pair_rules import kind_of
from utils.runs import format_drops, note

# What an SFT checkpoint says of its prompts, its base and its data is true of the policy too.
_INHERITED = (
    "template",
    "base_model",
    "base_revision",
    "base_weights",
    "max_prompt_tokens",
    "evidence",
    "sources",
)
_WORDS = {
    "dpo": "direct preference optimization (DPO)",
    "ipo": "identity preference optimization (IPO)",
    "rejection": "cross-entropy on the best of several candidates (rejection sampling)",
}


def describe_objective(config: dict) -> str:
    """What was learned, in a sentence of the model card."""
    objective = config["objective"]
    text = f"The SFT model was trained further by {_WORDS[objective['loss']]} on pairs of completions"
    if objective["loss"] != "rejection":
        text += f", with beta {objective['beta']}"
        text += ", per token" if objective["length_normalized"] else ""
    if objective["sft_weight"]:
        text += f", and the cross-entropy of the chosen ones with weight {objective['sft_weight']}"
    return f"{text}."


def describe_pairs(rows: Rows) -> str:
    """One line on what will be trained on."""
    n_prompts = len({row["unit"] for row in rows.train})
    n_tokens = sum(len(row["completion"]) + len(row["rejected"]) for row in rows.train)
    return (
        f"{len(rows.train)} pairs of {n_prompts} prompts, {n_tokens:,} tokens of completions; "
        f"{len(rows.val)} pairs held out; {rows.n_steps} steps ({format_drops(rows.drops)})"
    )


def kind_factors(preferences: list[dict], factors: dict[str, float]) -> np.ndarray:
    """The factor of each pair's kind, (n_pairs,), 1 where none is given."""
    return np.array([factors.get(kind_of(row), 1.0) for row in preferences])


def encode_preferences(
    job: TrainingJob, preferences: list[dict], balance: Callable[[list[dict], list[str]], np.ndarray]
) -> Rows:
    """Training rows and held-out ones, by the YAML's `data` block, and a note on both.

    `balance` of (preferences, `data.pair_weights`) gives the weight of each.
    """
    config = job.config
    data = config["data"]
    seed = config["training"]["seed"]
    kept, drops = pick_pairs(preferences, data, seed)
    check_kinds(kept, data["kind_weights"])
    # Before some are held out and all are weighed: what does not fit is in no part.
    encoded, fitting, dropped = encode_pairs(kept, job.builder, config["training"]["max_seq_length"])
    drops += dropped
    parts = []
    for places in hold_out(fitting, data["val_fraction"], seed):
        part = [fitting[i] for i in places]
        weights = balance(part, data["pair_weights"]) * kind_factors(part, data["kind_weights"])
        weights = weights / max(weights.mean(), 1e-9)
        rows = [{**encoded[i], "weight": float(weight)} for i, weight in zip(places, weights)]
        if config["objective"]["loss"] == "rejection":
            rows, dropped = keep_best_once(rows)
            drops += dropped
        parts.append(rows)
    train, held = parts
    number_rows(train, held)
    n_steps, _ = steps_and_epochs(len(train), config["training"], job.shards.n_processes)
    found = Rows(train, 1, n_steps, held, drops)
    note_in_first_process([describe_pairs(found)])
    return found


def policy_facts(job: TrainingJob, n_val_answers: int) -> dict:
    """What the run.json of every checkpoint says: how it must be prompted, and what it came from."""
    checkpoint = job.config["sft_model"]
    facts = sft_facts(checkpoint, job.config["base_model"])
    return {
        **{key: facts[key] for key in _INHERITED if key in facts},
        "template_hash": job.template_hash,
        "precision": run_precision(job.config),
        "n_val_rows": n_val_answers,
        "trained_further": portable_path(checkpoint),
        "objective": job.config["objective"],
    }


def write_seen_ids(job: TrainingJob, rows: Rows) -> None:
    """train_ids.txt: the samples of the SFT model, and those of the pairs."""
    if not job.shards.is_main:
        return
    checkpoint = job.config["sft_model"]
    if problem := ids_problem(checkpoint):
        note(f"{checkpoint}: {problem}, so that of the policy lacks samples of the SFT model")
    seen = train_ids(checkpoint) | {row["id"] for row in rows.train}
    write_text(job.output_dir / "train_ids.txt", "".join(f"{name}\n" for name in sorted(seen - {""})))
