"""Samples -> predictions: prompts built, completions generated, and the probability of the answer read off."""

import math
from collections.abc import Iterator, Sequence

from tqdm.auto import tqdm

from utils.generation import Generated, Sampling, generate, json_object_end


def answer_probability(tokenizer, generated: Generated) -> float:
    """Probability of the tokens up to the end of the answer, in 0..1: the product over the completion before `"citations"`."""
    text = ""
    for n, token in enumerate(generated.ids, 1):
        text += tokenizer.decode([token])
        if '"citations"' in text:
            return math.exp(sum(generated.logps[:n]))
    return math.exp(sum(generated.logps))


def predict(
    model,
    tokenizer,
    prompts: list,
    sample_ids: list[str],
    *,
    name: str,
    batch_size: int,
    max_new_tokens: int,
    sampling: Sampling = Sampling(),
    buckets: Sequence[int] = (),
) -> Iterator[list[dict]]:
    """Batches of prediction rows {"id", "model", "completion", "shown", "probability", "logp", "n_tokens"} for prompts with one prefix."""
    if not prompts:
        return
    with tqdm(total=len(prompts), desc=f"generating: {name}", unit="sample", disable=None) as bar:
        for batch in generate(
            model, tokenizer, [prompt.suffix for prompt in prompts], prefix=prompts[0].prefix, batch_size=batch_size,
            max_new_tokens=max_new_tokens, stop=json_object_end(tokenizer), sampling=sampling, buckets=buckets,
        ):  # fmt: skip
            yield [
                {
                    "id": sample_ids[i],
                    "model": name,
                    "completion": tokenizer.decode(generated.ids, skip_special_tokens=True).strip(),
                    "shown": prompts[i].shown,
                    "probability": answer_probability(tokenizer, generated),
                    "logp": sum(generated.logps),
                    "n_tokens": len(generated.ids),
                }
                for i, generated in batch
            ]
            bar.update(len(batch))
