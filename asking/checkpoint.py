"""What a checkpoint says about itself: how its evidence was cut, its prompt's limits, its calibration.

It reads files alone, so that a wrong path is named before a model is loaded.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from evidence.chunk_sizes import DEFAULT_SIZES, ChunkSizes, sizes_in, sizes_of_build
from evidence.reserved import training_path
from utils.config import input_path
from utils.decisions import Decisions, chosen_decisions, read_calibration
from utils.own_files import CHECKPOINT
from utils.runs import note
from utils.shapes import manifest_in
from utils.templates import load_template


@dataclass(frozen=True)
class AskSettings:
    """How a checkpoint is asked: evidence cut and prompts made as in its training, and what is refused."""

    sizes: ChunkSizes
    # The text of the prompt template.
    template: str
    max_prompt_tokens: int
    # The content of the run's calibration.json, or empty.
    calibration: dict
    # Answers of lower confidence (0-1) are refused.
    min_confidence: float = 0.0
    # Biases on refusing and on verdicts; None: the checkpoint decides by itself.
    decisions: Decisions | None = None
    # Orders of the passages in which each question is answered; see evidence/orders.py.
    orders: int = 1


def _has_fit(calibration: dict) -> bool:
    """Whether a calibration.json has knots to interpolate between."""
    fit = calibration.get("isotonic")
    return isinstance(fit, dict) and bool(fit.get("x")) and len(fit["x"]) == len(fit.get("y", []))


def _sizes(model_dir: Path, facts: dict, say: Callable[[str], None]) -> ChunkSizes:
    """The chunk sizes in a checkpoint's run.json; for an older one those of its data, else the defaults."""
    recorded = sizes_in(facts.get("evidence"))
    if recorded:
        return recorded
    train_path = training_path(model_dir)
    sizes = sizes_of_build(input_path(train_path)) if train_path else None
    if sizes:
        say(f"{model_dir}: does not say how its evidence was cut; as in {train_path}: {sizes}")
        return sizes
    say(f"{model_dir}: does not say how its evidence was cut; as build_data.py's defaults: {DEFAULT_SIZES}")
    return DEFAULT_SIZES


def ask_settings(
    model_dir: Path,
    template: str | None = None,
    n_passages: int | None = None,
    min_confidence: float = 0.0,
    decisions: str | None = None,
    say: Callable[[str], None] = note,
) -> AskSettings:
    """The settings of a checkpoint directory, with what is given in place of its own.

    `say` gets a line for each thing that the checkpoint does not tell.
    """
    facts = manifest_in(model_dir, CHECKPOINT)
    sizes = _sizes(model_dir, facts, say)
    calibration = read_calibration(str(model_dir), decisions)
    if not _has_fit(calibration):
        calibration = {}
        say(f"{model_dir.parent}: no fit in calibration.json; confidences are the model's own probability")
    return AskSettings(
        sizes=replace(sizes, max_chunks=n_passages) if n_passages else sizes,
        template=load_template("sft", template or facts.get("template", "default")),
        max_prompt_tokens=facts.get("max_prompt_tokens", 4096),
        calibration=calibration,
        min_confidence=min_confidence,
        decisions=chosen_decisions(decisions, str(model_dir)),
    )
