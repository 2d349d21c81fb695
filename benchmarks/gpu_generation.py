"""Sections of benchmarks/gpu_check.py that time generation and reading, beside plain transformers.

The weights are random, so no model writes JSON here: what drafts are worth is measured with drafts of which
seven in eight tokens are right, about as many as in the completions of a trained model.
"""

import copy
from collections.abc import Callable
from typing import Any

import torch

from benchmarks.device import clock, forget_peak
from generation.batches import pad_left
from generation.engine import GenerationSettings, generate
from generation.readings import Texts, read_completions
from models.choices import LoadOptions
from models.loading import load_model, load_tokenizer
from models.peak_memory import peak_memory_gb
from prompt_schema import PromptBuilder, load_template

NEW_TOKENS = 48
_N_DRAFTED = 32
_STATIC_WIDTH = 1024
# Every eighth drafted token is wrong.
_WRONG = 8


class Scripted:
    """A guide that drafts a known completion with some tokens spoiled; an empty one drafts nothing."""

    def __init__(self, completion: list[int]):
        self.completion = completion

    def draft(self, ids: list[int]) -> list[int]:
        drafted = []
        for k, token in enumerate(self.completion[len(ids) : len(ids) + _N_DRAFTED], len(ids) + 1):
            drafted.append(token if k % _WRONG else 3)
        return drafted

    def allowed(self, ids: list[int]) -> None:
        return None

    def stop(self, ids: list[int]) -> bool:
        return False


def load(name: str, samples: list[dict], attention: str = "eager", **bits) -> tuple[Any, Any, list]:
    """(model, tokenizer, prompts); no token ends a completion, so that all have one length."""
    tokenizer = load_tokenizer(name)
    builder = PromptBuilder(tokenizer, load_template("sft", "default"), 2048)
    prompts = [builder.build(sample) for sample in samples]
    model = load_model(name, LoadOptions(attention=attention, **bits))
    model.generation_config.eos_token_id = None
    # A copy, because what a tokenizer's end is may have been remembered.
    tokenizer = copy.deepcopy(tokenizer)
    tokenizer.eos_token = None
    return model, tokenizer, prompts


def by_generate(model, prompts: list, batch_size: int, cache: str | None) -> list[list[int]]:
    """Greedy tokens of transformers' `generate`, longest prompts first; `cache`: "static" compiles."""
    options: dict = {"cache_implementation": cache} if cache else {}
    order = sorted(range(len(prompts)), key=lambda i: -len(prompts[i].ids))
    found: dict[int, list[int]] = {}
    for start in range(0, len(order), batch_size):
        part = order[start : start + batch_size]
        ids, mask = pad_left([prompts[i].ids for i in part], 0, model.device)
        if cache:
            # One width for most batches: a model is compiled again for each.
            n_missing = -ids.shape[1] % _STATIC_WIDTH
            ids, mask = (torch.nn.functional.pad(x, (n_missing, 0)) for x in (ids, mask))
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                max_new_tokens=NEW_TOKENS,
                min_new_tokens=NEW_TOKENS,
                do_sample=False,
                **options,
            )
        found |= dict(zip(part, output[:, ids.shape[1] :].tolist()))
    return [found[i] for i in range(len(prompts))]


def by_ours(model, tokenizer, prompts: list, settings: GenerationSettings, scripts: list) -> list[list[int]]:
    """Greedy tokens of our engine; `scripts`: the completion that each row drafts from."""
    found: dict[int, list[int]] = {}
    suffixes = [prompt.suffix for prompt in prompts]
    batches = generate(
        model, tokenizer, suffixes, lambda i: Scripted(scripts[i]), prompts[0].prefix, settings
    )
    for batch in batches:
        found |= {i: generated.ids for i, generated in batch}
    return [found[i] for i in range(len(prompts))]


def compare_generation(
    loaded: tuple[Any, Any, list],
    settings: GenerationSettings,
    left: Callable[[], float],
    found: dict,
    compiled: str | None,
) -> dict:
    """Samples/s of `generate`, and of our engine with and without drafts, added to `found` one by one.

    `loaded`: what `load` returns.
    `compiled`: "static" adds `generate` with a static cache, which transformers compiles; "dynamic" has torch
    compile the model for any shape before all of them. Both are the rivals of drafts, so these figures
    decide what `--fast` should do.
    """
    model, tokenizer, prompts = loaded
    if compiled == "dynamic":
        model.forward = torch.compile(model.forward, dynamic=True)
    tokens: dict[str, list[list[int]]] = {}
    found["prompt_tokens"] = sum(len(prompt.ids) for prompt in prompts) // len(prompts)

    def run(system: str) -> list[list[int]]:
        if system.startswith("generate"):
            cache = "static" if "compiled" in system else None
            return by_generate(model, prompts, settings.batch_size, cache)
        scripts = tokens["no drafts"] if system == "drafts" else [[] for _ in prompts]
        return by_ours(model, tokenizer, prompts, settings, scripts)

    static = ["generate compiled"] if compiled == "static" else []
    for system in ("generate", "no drafts", "drafts", *static):
        if left() < 15:
            found[system] = "no time left"
            continue
        forget_peak()
        started = clock()
        run(system)
        warm = clock()
        tokens[system] = run(system)
        found[f"{system} samples_per_s"] = round(len(prompts) / (clock() - warm), 3)
        found[f"{system} first run s"] = round(warm - started, 1)
        found[f"{system} peak_gb"] = peak_memory_gb()
        if system in ("no drafts", "drafts") and "generate" in tokens:
            pairs = list(zip(tokens["generate"], tokens[system]))
            found[f"{system} same tokens"] = round(sum(a == b for a, b in pairs) / len(pairs), 3)
            # In half precision a near tie early on changes all that follows.
            found[f"{system} same first 8"] = round(sum(a[:8] == b[:8] for a, b in pairs) / len(pairs), 3)
    return found


def compare_reward_features(name: str, samples: list[dict]) -> dict:
    """Rows/s, peak and exactness of reward features, two completions per prompt, beside plain passes."""
    model, _, prompts = load(name, samples)
    # Token ids of any completion will do: nothing is generated.
    completions = [[5 + k % 500 for k in range(n)] for n in (40, 80)]
    rows = [(prompt, completion) for prompt in prompts for completion in completions]
    suffixes = [prompt.suffix for prompt, _ in rows]
    found = {}
    features: dict[int, torch.Tensor] = {}
    for _ in range(2):
        forget_peak()
        started = clock()
        given = [completion for _, completion in rows]
        for batch in read_completions(model, Texts(prompts[0].prefix, suffixes, given), 0, 32):
            features |= {i: read.hidden[0, -1] for i, read in batch}
        found = {"rows_per_s": round(len(rows) / (clock() - started), 2), "peak_gb": peak_memory_gb()}
    gaps = []
    started = clock()
    for i, (prompt, completion) in enumerate(rows[:16]):
        ids = torch.tensor([prompt.ids + completion], device=model.device)
        with torch.inference_mode():
            hidden = model.model(input_ids=ids, use_cache=False).last_hidden_state[0, -1].float().cpu()
        gaps.append(((hidden - features[i]).norm() / hidden.norm()).item())
    found["plain rows_per_s"] = round(len(gaps) / (clock() - started), 2)
    return found | {"largest gap": f"{max(gaps):.1e}"}


def compare_precisions(name: str, samples: list[dict], found: dict) -> dict:
    """Samples/s and peak memory of our engine in half precision, 8 and 4 bits, added to `found`."""
    settings = GenerationSettings(12, 24)
    for title, bits in (("16", {}), ("8", {"load_in_8bit": True}), ("4", {"load_in_4bit": True})):
        model, tokenizer, prompts = load(name, samples, **bits)
        nothing: list = [[] for _ in prompts]
        forget_peak()
        by_ours(model, tokenizer, prompts, settings, nothing)
        started = clock()
        by_ours(model, tokenizer, prompts, settings, nothing)
        rate = round(len(prompts) / (clock() - started), 3)
        found[f"{title} bits"] = {"samples_per_s": rate, "peak_gb": peak_memory_gb()}
        del model
    return found
