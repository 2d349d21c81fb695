"""What an SFT run leaves for people: its history with curves, and the model card."""

from pathlib import Path

from evaluation.plots import plot_curves
from evaluation.tables import format_number
from training.checkpoints import LOSS
from utils.jsonl import finite, write_json
from utils.metrics import SELECTION_METRICS


def write_history(log_history: list[dict], config: dict, output_dir: Path) -> dict:
    """training_history.json and loss_curve.png from the trainer's log."""
    history = {
        "train_losses": [
            {"step": log["step"], "loss": finite(log["loss"])} for log in log_history if "loss" in log
        ],
        "eval_metrics": [
            {key: finite(log[key]) for key in log if key == "step" or key.startswith("eval_")}
            for log in log_history
            if LOSS in log
        ],
        "config": config,
    }
    write_json(output_dir / "training_history.json", history)
    curves = {
        "train": [(x["step"], x["loss"]) for x in history["train_losses"]],
        "val": [(x["step"], x[LOSS]) for x in history["eval_metrics"]],
    }
    panels = {"Loss on completion tokens": curves}
    generated = {
        name: [(x["step"], x[name]) for x in history["eval_metrics"] if x.get(name) is not None]
        for name in SELECTION_METRICS
    }
    if any(generated.values()):
        panels["Generated val answers"] = generated
    plot_curves(output_dir / "loss_curve.png", panels)
    return history


def base_terms(model_name: str) -> str:
    """The terms that a base model hands on to what is trained from it."""
    terms = {
        "embedded": "Apache-2.0 (SmolLM2-135M-Instruct)",
        "google/gemma": "the Gemma Terms of Use and its prohibited-use policy",
    }
    return next(
        (text for start, text in terms.items() if model_name.startswith(start)),
        f"the licence of {model_name} (see its model card)",
    )


def licences(samples: list[dict]) -> dict[str, str]:
    """Licence by source, as the samples state it."""
    return {sample["source"]: sample["metadata"].get("licence", "not stated") for sample in samples}


def sft_model_card(config: dict, facts: dict, calibration: dict) -> str:
    """README.md of an SFT run: what it is, how it was made, its val figures, data and licences."""
    lora = config["lora"]
    training = config["training"]
    full = config["full_finetuning"]
    kind = "all weights trained" if full else f"LoRA, r {lora['r']}, alpha {lora['alpha']}"
    val = "\n".join(
        f"| {name.removeprefix('eval_')} | {format_number(value)} |" for name, value in facts["val"].items()
    )
    data = "\n".join(f"- {source}: {licence}" for source, licence in sorted(facts["licences"].items()))
    return f"""---
{"" if full else "library_name: peft"}
base_model: {config["model_name"]}
tags: [grounded-question-answering, citations, refusal{"" if full else ", lora"}]
---
# Grounded answers with citations, from {config["model_name"]}

Answers a question from numbered evidence as `{{"answer", "citations", "confidence"}}`, and answers
`[INSUFFICIENT_EVIDENCE]` when the evidence does not hold the answer. Made by `train_sft.py`; every setting is in `run.json`.

| | |
|---|---|
| training rows, optimiser steps | {facts["n_rows"]}, {facts["n_steps"]} |
| supervised tokens | {facts["n_supervised_tokens"]} |
| method, learning rate | {kind}, {training["learning_rate"]} |
| best {facts["metric_for_best"]} | {format_number(facts["best"])} |

`checkpoint-best` has the best {facts["metric_for_best"]} on val, `checkpoint-final` is the last step.

## Last step on {calibration["n_samples"]} val samples

| metric | value |
|---|---|
{val}
| answers right with support | {format_number(calibration["accuracy"])} of {calibration["n_answers"]} |

Val chose the checkpoint, so these are no test figures: reported numbers come from `evaluate_sft_fast_robust.py`.

## Data and licences

{data}

The base model's terms go with the weights: {base_terms(config["model_name"])}.
"""
