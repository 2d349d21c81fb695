"""Samples -> predictions: prompts built, completions generated, and the probability of the answer read off."""

import math
from collections.abc import Iterator, Sequence

from generation.constrained import Schema, SchemaGuide
from generation.drafting import Drafter, FreeGuide, json_object_end
from generation.engine import Generated, Guide, generate
from generation.sampling import Sampling
from models.cpu_attention import use_grouped_attention
from models.distributed import progress
from models.loading import load_model, merge_for_speed
from utils.completions import render_completion
from utils.text import REFUSAL
from utils.tokens import encode_completion

# What a draft starts from before the model has said anything: the two shapes of a completion.
_EXAMPLES = (render_completion(REFUSAL, [], 0.0), render_completion("supported", [0], 0.9))


def load_generator(name: str, attention: str = "auto", **load):
    """A model ready to generate: adapter merged where that is exact and, with attention "auto", the fastest kernel of the machine."""
    model = merge_for_speed(load_model(name, attention=attention, **load))
    return use_grouped_attention(model) if attention == "auto" else model


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
    seeds: Sequence[int] = (),
    buckets: Sequence[int] = (),
    constrained: bool = False,
) -> Iterator[list[dict]]:
    """Batches of prediction rows {"id", "model", "completion", "shown", "probability", "logp", "n_tokens"} for prompts with one prefix.

    Equal prompts (candidates of one sample) share their reading; `seeds`, one a prompt, fix what each draws.
    `constrained`: only tokens that keep to the output schema, with citations of shown chunks.
    """
    if not prompts:
        return
    drafter = Drafter([encode_completion(tokenizer, text) for text in _EXAMPLES])
    stop = json_object_end(tokenizer)
    schema = Schema(tokenizer) if constrained else None

    def guide(i: int) -> Guide:
        return SchemaGuide(schema, drafter, len(prompts[i].shown)) if schema else FreeGuide(drafter, stop)

    with progress(len(prompts), f"generating: {name}", "sample") as bar:
        for batch in generate(
            model,
            tokenizer,
            [prompt.suffix for prompt in prompts],
            guide,
            prefix=prompts[0].prefix,
            batch_size=batch_size,
            max_new_tokens=max_new_tokens,
            sampling=sampling,
            seeds=seeds,
            buckets=buckets,
        ):
            for _, generated in batch:
                drafter.learn(generated.ids)
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
