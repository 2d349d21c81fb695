"""The files that describe a finished run: facts, history with curves, calibration and model card.

It knows the records of a run, not how it was trained.
"""

from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

from evaluation.figures import sft_charts
from evaluation.plots import plot_charts
from evidence.chunk_sizes import sizes_of_build, sizes_of_samples
from evidence.reserved import ids_hash, ids_text
from models.choices import LoadOptions
from models.hardware import merge_for_speed, weights_precision
from models.revisions import base_facts
from training.card import AVERAGED, count_sources, kind_of, local_place
from training.checkpoints import RunFiles
from training.job import Rows, TrainingJob
from training.sft_config import LOSS
from training.trainer import CompletionTrainer
from training.validation import calibration, selection_metrics
from training.whole import CARD, is_whole
from utils.config import input_path
from utils.jsonl import finite, write_json, write_text
from utils.own_files import CHECKPOINT
from utils.public import public_value
from utils.shapes import read_shaped

Files = TypeVar("Files", bound=RunFiles)


def run_precision(config: dict) -> str:
    """The precision of the weights that a run's answers were generated with."""
    bits = {name: config[name] for name in ("load_in_4bit", "load_in_8bit")}
    return weights_precision(LoadOptions(bf16=config["bf16"], **bits))


def checkpoint_facts(job: TrainingJob, rows: Rows) -> dict:
    """What every checkpoint's run.json says, first how it must be prompted, for the stages that load it."""
    train_path = input_path(job.config["data"]["train_path"])
    sizes = sizes_of_build(train_path) or sizes_of_samples(job.samples["train"])
    return {
        "template": job.config["data"]["template"],
        "template_hash": job.template_hash,
        **base_facts(job.config["model_name"]),
        "max_prompt_tokens": job.builder.max_tokens,
        "precision": run_precision(job.config),
        # ask.py cuts a user's documents as the evidence of the training data was cut.
        "evidence": asdict(sizes),
        "n_val_rows": len(rows.val),
        "n_val_generated": len(job.pick_val(job.config["data"]["max_generated_val_samples"])),
        # Of train_ids.txt, so that a later stage knows whether it is whole.
        "train_ids": ids_hash(ids_text(rows.train)),
        "sources": count_sources(job.samples["train"]),
    }


def run_files(job: TrainingJob, facts: dict, kind: type[Files]) -> Files:
    """What writes the checkpoints of a run, each with its card; `facts` go into their manifests."""
    training = job.config["training"]

    def card(directory: Path, facts: dict) -> str:
        place = local_place(job.config["model_name"], directory)
        return job.card.text(facts, kind_of(directory), place)

    files = kind(
        job.output_dir,
        training["save_total_limit"],
        facts,
        training["metric_for_best"],
        training["early_stopping_patience"],
        card,
    )
    files.n_averaged = training["average_last"]
    return files


def n_labels(row: dict) -> int:
    """The tokens of a row that the loss is on."""
    return sum(label != -100 for label in row.get("labels", row["completion"]))


def write_report(
    job: TrainingJob, rows: Rows, trainer: CompletionTrainer, files: RunFiles, train_seconds: float
) -> dict:
    """Calibrate the model on val; write history, calibration and model card. Returns the facts.

    Every process calls it, as all share the generated answers; the first one writes.
    """
    # Before the calibration, whose answers may need more memory than training did.
    pace = trainer.pace.of_the_run(trainer.accelerator, trainer.state.log_history)
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
        "n_supervised_tokens": sum(n_labels(row) for row in rows.train),
        "train_seconds": round(train_seconds, 1),
        **pace,
        "metric_for_best": files.metric,
        "best": files.best,
        "val": selection_metrics(answers, samples),
    }
    if job.shards.is_main:
        step = trainer.state.global_step
        fit = {"precision": facts["precision"], "step": step, **calibration(answers, samples)}
        write_json(job.output_dir / "calibration.json", fit)
        val = {**facts["val"], "right_with_support": fit["accuracy"]}
        write_last_cards(job, files, trainer.state.global_step, {"val": val, "n_val_answers": len(samples)})
    return {**facts, "n_evaluations": n_evaluations}


def write_last_cards(job: TrainingJob, files: RunFiles, last_step: int, measured: dict) -> None:
    """Cards and manifests of the last step's checkpoints, with what its answers measured, and of the run."""
    for directory in sorted(job.output_dir.glob("checkpoint-*")):
        if not is_whole(directory):
            continue
        facts = read_shaped(directory / "run.json", {**CHECKPOINT, "step": int})
        # Where weights were averaged, those of the last step itself gave no answers.
        has_last_weights = facts.get(AVERAGED) == files.facts.get(AVERAGED)
        if facts["step"] == last_step and has_last_weights:
            files.complete(directory, last_step, **measured)
    best = job.output_dir / "checkpoint-best"
    # A loss that never was a number leaves no best checkpoint.
    directory = best if is_whole(best) else job.output_dir / "checkpoint-final"
    place = local_place(job.config["model_name"], job.output_dir, directory.name)
    facts = read_shaped(directory / "run.json", CHECKPOINT)
    write_text(job.output_dir / CARD, job.card.text(facts, kind_of(directory), place))


# What the history keeps of each logging step: a loss that jumps has its cause in one of the others.
_STEP_METRICS = ("loss", "learning_rate", "grad_norm", "accuracy", "gain")


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
    history = {"train_losses": train_losses, "eval_metrics": eval_metrics, "config": public_value(config)}
    write_json(output_dir / "training_history.json", history)
    plot_charts(output_dir / "loss_curve.png", sft_charts(history, n_rows))
    return history
