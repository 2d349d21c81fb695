"""Answers generated on the validation set, used to select checkpoints and to fit the calibration.

It knows how answers are scored, not when a checkpoint is selected.
"""

import contextlib
from collections.abc import Iterator

from evaluation.results import score_rows
from generation.answering import predict
from generation.engine import GenerationSettings
from models.distributed import Shards
from utils.calibration import fit_isotonic
from utils.errors import NotNumbers, StageError
from utils.intervals import as_numbers, group_sums, total
from utils.launch import trains_sharded
from utils.metrics import SELECTION_METRICS, rates_from_sums
from utils.scoring import is_right_answer

# Logged beside the selection metrics: the two ways in which refusals go wrong, and what no policy may lose.
_ALSO_LOGGED = ("over_refusal_rate", "under_refusal_rate", "answered_rate", "em_answerable", "citation_f1")


def answer_samples(
    model, builder, samples: list[dict], name: str, batch_size: int, max_new_tokens: int
) -> list[dict]:
    """Greedy completions of samples as prediction rows, the same on every process, so that all decide alike.

    Processes with whole models share out the samples. With sharded weights, each forward pass needs every
    process, so all of them generate everything.
    """
    shards = Shards()
    sharded = trains_sharded()
    own = samples if sharded else shards.mine(samples)
    # Processes must not decide by their own answers: each would select and stop on different samples.
    prompts = {sample["id"]: builder.build(sample) for sample in own}
    settings = GenerationSettings(batch_size, max_new_tokens)
    rows = []
    with _logits_of_a_training():
        for batch in predict(model, builder.tokenizer, prompts, name, settings):
            rows += batch
    # All processes have generated everything here; the rows of the first one count.
    if sharded:
        return shards.share(rows)
    by_id = {row["id"]: row for row in shards.gather(rows)}
    return [by_id[sample["id"]] for sample in samples]


@contextlib.contextmanager
def _logits_of_a_training() -> Iterator[None]:
    """Has the error about logits that are no numbers name keys of the YAML: trainings have no --attn-impl."""
    try:
        yield
    except NotNumbers as error:
        raise StageError(
            "the model's logits are not numbers (NaN): training has diverged, so lower "
            "training.learning_rate (with --overwrite, as the settings change); where none was trained yet, "
            "the weights are damaged, or the attention fails on this device: try attn_implementation: eager"
        ) from error


def selection_metrics(rows: list[dict], samples: list[dict]) -> dict[str, float | None]:
    """`eval_<metric>` of generated answers: the selection metrics and those of `_ALSO_LOGGED`.

    A metric is None if the samples lack a class that it needs, such as unanswerable ones.
    """
    terms, _ = score_rows(rows, samples)
    groups = [sample["group"] for sample in samples]
    rates = as_numbers(rates_from_sums(total(group_sums(terms, groups))))
    names = [name.removeprefix("eval_") for name in SELECTION_METRICS]
    return {f"eval_{name}": rates[name] for name in [*names, *_ALSO_LOGGED]}


def calibration(rows: list[dict], samples: list[dict]) -> dict:
    """The content of calibration.json: an isotonic fit of "right with support" on the answer's probability.

    The answers that it was fitted on are part of it. Refusals and unreadable completions have no probability
    of being right, so they are left out; `n_samples` counts them.
    """
    _, parsed = score_rows(rows, samples)
    by_id = {row["id"]: row for row in rows}
    # `stated`, the confidence that the model writes, is kept for comparison; the fit uses the probability
    # alone.
    answers = []
    for completion, sample in zip(parsed, samples):
        if completion.is_answer:
            answers.append(
                {
                    "id": sample["id"],
                    "probability": by_id[sample["id"]]["probability"],
                    "stated": completion.confidence,
                    "right": is_right_answer(completion, sample),
                }
            )
    probabilities = [answer["probability"] for answer in answers]
    is_right = [answer["right"] for answer in answers]
    return {
        "n_samples": len(samples),
        "n_answers": len(answers),
        "accuracy": sum(is_right) / len(answers) if answers else None,
        "isotonic": fit_isotonic(probabilities, is_right),
        "answers": answers,
    }
