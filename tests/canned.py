"""Predictions without a model: gold completions, and completions with errors of every kind, by a seed."""

import json
import random

from utils.completions import gold_completion, render_completion
from utils.text import REFUSAL

REFUSE = render_completion(REFUSAL, [], 0.0)


def gold_rows(samples: list[dict], model: str = "sft") -> list[dict]:
    """Prediction rows that are right in every metric."""
    rows = []
    for sample in samples:
        completion = gold_completion(sample, list(range(len(sample["evidence_chunks"]))))
        rows.append({"id": sample["id"], "model": model, "completion": completion})
    return rows


def spoil(sample: dict, rng: random.Random) -> str:
    """A completion that is wrong in one way: answer, support, refusal, or format."""
    chunks = sample["evidence_chunks"]
    i = rng.randrange(len(chunks))
    words = chunks[i]["text"].split()
    span = " ".join(words[rng.randrange(len(words)) :][:3])
    wrong = render_completion(span[:120], [i], round(rng.uniform(0.3, 0.9), 2))
    choices = [
        wrong,
        # Refusing an unanswerable sample would be right.
        REFUSE if sample["answerable"] else wrong,
        f"The answer is {span}.",
        # Cut off in the middle, as by a token limit.
        '{"answer": "' + span.replace('"', ""),
        "",
    ]
    if sample["answerable"]:
        missing = [i for i in range(len(chunks)) if i not in sample["support_spans"]]
        # Right answers with wrong support, once in an invalid format too.
        choices += [
            render_completion(sample["answer"], missing[:1], 0.8),
            json.dumps({"answer": sample["answer"], "citations": [9], "confidence": "80%"}),
        ]
    return rng.choice(choices)


def canned_rows(samples: list[dict], model: str, error_rate: float, seed: int) -> list[dict]:
    """Prediction rows of which a share is wrong, each with an invented answer probability.

    Probability and stated confidence are higher on right rows: a signal for thresholds and calibration.
    """
    rng = random.Random(seed)
    rows = []
    for row, sample in zip(gold_rows(samples, model), samples):
        if rng.random() < error_rate:
            probability = rng.betavariate(2, 2)
            completion = spoil(sample, rng)
        else:
            probability = rng.betavariate(5, 2)
            confidence = f'"confidence": {round(rng.uniform(0.6, 1.0), 2)}'
            completion = row["completion"].replace('"confidence": 0.9', confidence)
        rows.append({**row, "completion": completion, "probability": probability})
    return rows
