"""Predictions without a model: gold completions with errors of every kind, drawn by a seed."""

import json
import random

from utils.completions import gold_completion, render_completion
from utils.text import REFUSAL

REFUSE = render_completion(REFUSAL, [], 0.0)


def gold_rows(samples: list[dict], model: str = "sft") -> list[dict]:
    return [
        {
            "id": s["id"],
            "model": model,
            "completion": gold_completion(s, list(range(len(s["evidence_chunks"])))),
        }
        for s in samples
    ]


def spoil(sample: dict, rng: random.Random) -> str:
    """A completion that is wrong in one way: answer, support, refusal, or format."""
    chunks = sample["evidence_chunks"]
    i = rng.randrange(len(chunks))
    words = chunks[i]["text"].split()
    span = " ".join(words[rng.randrange(len(words)) :][:3])
    wrong = render_completion(span[:120], [i], round(rng.uniform(0.3, 0.9), 2))
    choices = [
        wrong,
        REFUSE if sample["answerable"] else wrong,
        f"The answer is {span}.",
        '{"answer": "' + span.replace('"', ""),
        "",
    ]
    if sample["answerable"]:
        missing = [i for i in range(len(chunks)) if i not in sample["support_spans"]]
        choices += [
            render_completion(sample["answer"], missing[:1], 0.8),
            json.dumps({"answer": sample["answer"], "citations": [9], "confidence": "80%"}),
        ]
    return rng.choice(choices)


def canned_rows(samples: list[dict], model: str, error_rate: float, seed: int) -> list[dict]:
    """Prediction rows with a made-up answer probability, higher on right ones."""
    rng = random.Random(seed)
    rows = []
    for row, sample in zip(gold_rows(samples, model), samples):
        is_wrong = rng.random() < error_rate
        probability = rng.betavariate(2, 2) if is_wrong else rng.betavariate(5, 2)
        completion = (
            spoil(sample, rng)
            if is_wrong
            else row["completion"].replace(
                '"confidence": 0.9', f'"confidence": {round(rng.uniform(0.6, 1.0), 2)}'
            )
        )
        rows.append({**row, "completion": completion, "probability": probability})
    return rows
