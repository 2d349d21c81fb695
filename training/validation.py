"""Generated val answers during and after training: what a checkpoint is chosen by, and the calibration of its answers."""

from evaluation.results import score_rows
from generation.answering import predict
from generation.engine import GenerationSettings
from models.distributed import Shards
from models.hardware import trains_sharded
from utils.calibration import fit_isotonic
from utils.intervals import as_numbers, group_sums, total
from utils.metrics import SELECTION_METRICS, rates_from_sums
from utils.scoring import is_right_answer

# Reported beside the metrics that a checkpoint may be chosen by.
_REPORTED = ("over_refusal_rate", "under_refusal_rate")


def answer_samples(
    model, tokenizer, builder, samples: list[dict], name: str, batch_size: int, max_new_tokens: int
) -> list[dict]:
    """Greedy completions of samples as prediction rows, the same on every process, so that all decide alike by them.

    Processes with whole models share the samples out; with sharded weights each pass needs all of them, and all generate everything.
    """
    shards = Shards()
    sharded = trains_sharded()
    mine = samples if sharded else shards.mine(samples)
    prompts = {sample["id"]: builder.build(sample) for sample in mine}
    batches = predict(model, tokenizer, prompts, name, GenerationSettings(batch_size, max_new_tokens))
    rows = [row for batch in batches for row in batch]
    if sharded:
        return shards.share(rows)
    by_id = {row["id"]: row for row in shards.gather(rows)}
    return [by_id[sample["id"]] for sample in samples]


def selection_metrics(rows: list[dict], samples: list[dict]) -> dict[str, float | None]:
    """`eval_<metric>` of generated answers: those a checkpoint may be chosen by, over- and under-refusal. None: a class is missing."""
    terms, _ = score_rows(rows, samples)
    rates = as_numbers(rates_from_sums(total(group_sums(terms, [sample["group"] for sample in samples]))))
    names = [name.removeprefix("eval_") for name in SELECTION_METRICS] + list(_REPORTED)
    return {f"eval_{name}": rates[name] for name in names}


def calibration(rows: list[dict], samples: list[dict]) -> dict:
    """calibration.json: the isotonic fit of 'right with support' on the answer's probability, and the answers it was fitted on."""
    _, parsed = score_rows(rows, samples)
    by_id = {row["id"]: row for row in rows}
    answers = [
        {
            "id": sample["id"],
            "probability": by_id[sample["id"]]["probability"],
            "stated": p.confidence,
            "right": is_right_answer(p, sample),
        }
        for p, sample in zip(parsed, samples)
        if p.is_answer
    ]
    n_right = sum(answer["right"] for answer in answers)
    return {
        "n_samples": len(samples),
        "n_answers": len(answers),
        "accuracy": n_right / len(answers) if answers else None,
        "isotonic": fit_isotonic(
            [answer["probability"] for answer in answers], [answer["right"] for answer in answers]
        ),
        "answers": answers,
    }
