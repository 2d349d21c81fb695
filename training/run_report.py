"""The files that describe a finished run: facts, history with curves, calibration and model card.

It knows the records of a run, not how it was trained.
"""

from dataclasses import asdict
from pathlib import Path

from evaluation.columns import format_number
from evaluation.figures import sft_charts
from evaluation.plots import plot_charts
from evidence.chunk_sizes import sizes_of_build, sizes_of_samples
from models.base import model_weights
from models.hardware import merge_for_speed
from models.loading import model_revision
from training.checkpoints import LOSS, RunFiles
from training.job import Rows, TrainingJob
from training.trainer import CompletionTrainer
from training.validation import calibration, selection_metrics
from utils.config import input_path, portable_path
from utils.jsonl import finite, write_json, write_text


def checkpoint_facts(job: TrainingJob, model) -> dict:
    """How a checkpoint must be prompted: part of every checkpoint's run.json, for the stages that load it."""
    train_path = input_path(job.config["data"]["train_path"])
    sizes = sizes_of_build(train_path) or sizes_of_samples(job.samples["train"])
    return {
        "template": job.config["data"]["template"],
        "template_hash": job.template_hash,
        "base_model": portable_path(job.config["model_name"]),
        "base_revision": model_revision(model),
        # By which the base is known again in another place.
        "base_weights": model_weights(job.config["model_name"]),
        "max_prompt_tokens": job.builder.max_tokens,
        # ask.py cuts a user's documents as the evidence of the training data was cut.
        "evidence": asdict(sizes),
    }


def write_report(
    job: TrainingJob, rows: Rows, trainer: CompletionTrainer, files: RunFiles, train_seconds: float
) -> dict:
    """Calibrate the model on val; write history, calibration, training ids and model card. Returns the facts.

    Every process calls it, as all share the generated answers; the first one writes.
    """
    n_evaluations = 0
    if job.shards.is_main:
        history = write_history(trainer.state.log_history, job.config, job.output_dir, len(rows.train))
        n_evaluations = len(history["eval_metrics"])
    # Independent of max_val_samples, which once cut the calibration to 24 samples.
    samples = job.pick_val(job.config["data"]["max_calibration_samples"])
    model = merge_for_speed(trainer.accelerator.unwrap_model(trainer.model).eval())
    answers = job.answer(model, samples, "calibration")
    facts = {
        **files.facts,
        "n_rows": len(rows.train),
        "n_steps": trainer.state.global_step,
        "n_supervised_tokens": sum(len(row["completion"]) for row in rows.train),
        "train_seconds": round(train_seconds, 1),
        "metric_for_best": files.metric,
        "best": files.best,
        "val": selection_metrics(answers, samples),
        "licences": licences(job.samples["train"]),
    }
    # Later stages read train_ids.txt to leave out what the model has seen.
    if job.shards.is_main:
        fit = calibration(answers, samples)
        write_text(job.output_dir / "train_ids.txt", "".join(row["id"] + "\n" for row in rows.train))
        write_json(job.output_dir / "calibration.json", fit)
        write_text(job.output_dir / "README.md", sft_model_card(job.config, facts, fit))
    return {**facts, "n_evaluations": n_evaluations}


# What the history keeps of each logging step: a loss that jumps has its cause in one of the others.
_STEP_METRICS = ("loss", "learning_rate", "grad_norm")


def write_history(log_history: list[dict], config: dict, output_dir: Path, n_rows: int | None = None) -> dict:
    """training_history.json and loss_curve.png from the trainer's log. Returns the history."""
    train_losses = []
    eval_metrics = []
    for log in log_history:
        # `finite`: JSON has no NaN, and a run whose loss became one keeps its history.
        if "loss" in log:
            names = [name for name in _STEP_METRICS if name in log]
            train_losses.append({"step": log["step"], **{name: finite(log[name]) for name in names}})
        if LOSS in log:
            names = [name for name in log if name == "step" or name.startswith("eval_")]
            eval_metrics.append({name: finite(log[name]) for name in names})
    history = {"train_losses": train_losses, "eval_metrics": eval_metrics, "config": config}
    write_json(output_dir / "training_history.json", history)
    plot_charts(output_dir / "loss_curve.png", sft_charts(history, n_rows))
    return history


# --- the model card

# The licence of a base model by the start of its name; a model trained from it inherits the terms.
_BASE_TERMS = {
    "embedded": "Apache-2.0 (SmolLM2-135M-Instruct)",
    "google/gemma": "the Gemma Terms of Use and its prohibited-use policy",
}


def base_terms(model_name: str) -> str:
    """The terms of the base model, which also apply to what is trained from it."""
    for start, terms in _BASE_TERMS.items():
        if model_name.startswith(start):
            return terms
    return f"the licence of {model_name} (see its model card)"


def licences(samples: list[dict]) -> dict[str, str]:
    """Licence by source, as the samples give it."""
    return {sample["source"]: sample["metadata"].get("licence", "not stated") for sample in samples}


def sft_model_card(config: dict, facts: dict, calibration: dict) -> str:
    """README.md of an SFT run: use, training, metrics on val, data and licences."""
    lora = config["lora"]
    full = config["full_finetuning"]
    kind = "all weights trained" if full else f"LoRA, r {lora['r']}, alpha {lora['alpha']}"
    # A model hub reads the lines between the dashes, and offers to load an adapter if they name peft.
    library = "" if full else "library_name: peft"
    tags = "grounded-question-answering, citations, refusal" + ("" if full else ", lora")
    names = [name.removeprefix("eval_") for name in facts["val"]]
    cells = [format_number(value) for value in facts["val"].values()]
    metrics = "\n".join(f"| {name} | {cell} |" for name, cell in zip(names, cells))
    data = "\n".join(f"- {source}: {licence}" for source, licence in sorted(facts["licences"].items()))
    return f"""---
{library}
base_model: {config["model_name"]}
tags: [{tags}]
---
# Grounded answers with citations, from {config["model_name"]}

Answers a question from numbered evidence as `{{"answer", "citations", "confidence"}}`, and answers
`[INSUFFICIENT_EVIDENCE]` if the evidence does not contain the answer.
Trained by `train_sft.py`; every setting is in `run.json`.

| | |
|---|---|
| training rows, optimizer steps | {facts["n_rows"]}, {facts["n_steps"]} |
| supervised tokens | {facts["n_supervised_tokens"]} |
| method, learning rate | {kind}, {config["training"]["learning_rate"]} |
| best {facts["metric_for_best"]} | {format_number(facts["best"])} |

`checkpoint-best` has the best {facts["metric_for_best"]} on val, `checkpoint-final` is the last step.

## Last step on {calibration["n_samples"]} val samples

| metric | value |
|---|---|
{metrics}
| answers right with support | {format_number(calibration["accuracy"])} of {calibration["n_answers"]} |

The checkpoint was selected on val, so these are not test results; `evaluate_sft_fast_robust.py` gives those.

## Data and licences

{data}

The base model's terms also apply to these weights: {base_terms(config["model_name"])}.
"""
