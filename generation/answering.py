"""Prompts -> prediction rows: models loaded to generate, their completions, and the answers' probabilities.

It knows the two shapes of a completion and the output schema, but neither samples nor what a right answer is.
"""

import contextlib
import dataclasses
from collections.abc import Hashable, Iterator, Mapping
from typing import Any

from generation.constrained import Schema, SchemaGuide
from generation.drafting import Drafter, FreeGuide, json_object_end
from generation.engine import GenerationSettings, generate
from generation.predicted import TOKEN_IDS, only_unknown, prediction_row
from generation.rows import Generated, Guide
from generation.vllm_engine import VllmModel
from models.base import base_for
from models.directories import adapter_base
from models.hardware import merge_for_speed, speed_up_generation
from models.loading import (
    LoadOptions,
    load_model,
    load_tokenizer,
)
from models.memory import release_memory
from models.positions import prompt_limit
from models.revisions import cached_revision
from utils.completions import render_completion
from utils.errors import UsageError
from utils.progress import progress
from utils.text import REFUSAL
from utils.tokens import encode_completion

# The first drafts, before the model has completed anything: the two shapes of a completion.
_EXAMPLES = (render_completion(REFUSAL, [], 0.0), render_completion("supported", [0], 0.9))


def load_generator(name: str, options: LoadOptions = LoadOptions()):
    """A model ready to generate: its adapter merged where that is exact, its kernels the fastest."""
    if options.engine == "vllm":
        return VllmModel(name, options)
    model = merge_for_speed(load_model(name, options))
    return speed_up_generation(model, options.attention)


class SftAndBase:
    """An SFT model and a base model that take turns: `model` and `tokenizer` belong to the one in use.

        with sft_and_base(checkpoint, base_model) as models:
            with models.sft():
                ...  # models.model answers as the checkpoint
            with models.base():
                ...  # models.model answers as the base model

    One model is in memory at a time. Where the checkpoint is an adapter of that base they are the same
    weights, and `base()` disables the adapter; else each replaces the other, so that all work of one should
    come before that of the other.
    """

    def __init__(self, checkpoint: str, base_model: str | None, options: LoadOptions):
        self.checkpoint = checkpoint
        # The checkpoint's own base, unless that moved: `base_for` refuses any other one.
        self.base_model = base_for(checkpoint, base_model)
        self.shares_weights = adapter_base(checkpoint) is not None
        self.model: Any = None
        self.tokenizer: Any = None
        # The hub commit of the base model: None for local weights, and until `base()` was entered.
        self.base_revision: str | None = None
        self._options = options
        self._loaded: str | None = None

    @contextlib.contextmanager
    def sft(self) -> Iterator[None]:
        """Within it, `model` is the SFT model."""
        self.load(self.checkpoint)
        yield

    @contextlib.contextmanager
    def base(self) -> Iterator[None]:
        """Within it, `model` is the base model."""
        if self.base_model is None:
            raise UsageError(f"{self.checkpoint}: its base model is unknown; name it with --base-model")
        self.load(self.checkpoint if self.shares_weights else self.base_model)
        self.base_revision = cached_revision(self.base_model)
        with self.model.disable_adapter() if self.shares_weights else contextlib.nullcontext():
            yield

    def load(self, name: str) -> None:
        """Make this model and its tokenizer the ones in use."""
        if name == self._loaded:
            return
        # The old model first: both at once may not fit the device.
        self.release()
        self.tokenizer = load_tokenizer(name)
        options = self._options
        if name == self.checkpoint:
            options = dataclasses.replace(options, base_model=self.base_model)
        self.model = load_generator(name, options)
        self._loaded = name

    def prompt_limit(self, max_tokens: int, n_new: int) -> int:
        """See `models.positions`: tokens of a prompt that the model in use reads, with `n_new` behind it."""
        return prompt_limit(self.model, max_tokens, n_new)

    def release(self) -> None:
        """Free the memory of the loaded model, unless a caller keeps `model` under another name."""
        if isinstance(self.model, VllmModel):
            self.model.close()
        self.model = None
        self.tokenizer = None
        self._loaded = None
        release_memory()


@contextlib.contextmanager
def sft_and_base(
    checkpoint: str,
    base_model: str | None,
    options: LoadOptions = LoadOptions(),
) -> Iterator[SftAndBase]:
    """An SFT model and its base model, from one load where the checkpoint is an adapter.

    `base_model`: where the base is now (default: where the checkpoint says). UsageError if it is another one.

    The SFT model is loaded at once, so that a run whose checkpoint cannot be loaded writes nothing; the base
    model is loaded when it is first used. At the end the memory is released.
    """
    models = SftAndBase(checkpoint, base_model, options)
    try:
        models.load(checkpoint)
        yield models
    finally:
        models.release()


def _complete_by_vllm(
    model: VllmModel, tokenizer, built: list, settings: GenerationSettings, constrained: bool
) -> Iterator[list[tuple[int, Generated]]]:
    n_chunks = [len(prompt.shown) for prompt in built] if constrained else None
    return model.generate(tokenizer, [prompt.ids for prompt in built], settings, n_chunks)


def complete(
    model, tokenizer, built: list, settings: GenerationSettings, constrained: bool = False
) -> Iterator[list[tuple[int, Generated]]]:
    """Batches of (index into the prompts, completion) by the engine of this project."""
    drafter = Drafter([encode_completion(tokenizer, text) for text in _EXAMPLES])
    stop = json_object_end(tokenizer, built[0].suffix)
    schema = Schema(tokenizer, model.device) if constrained else None

    def guide(i: int) -> Guide:
        return SchemaGuide(schema, drafter, len(built[i].shown)) if schema else FreeGuide(drafter, stop)

    suffixes = [prompt.suffix for prompt in built]
    for batch in generate(model, tokenizer, suffixes, guide, built[0].prefix, settings):
        # Completions of a run resemble each other, so each batch makes better drafts for the next.
        for _, generated in batch:
            drafter.learn(generated.ids)
        yield batch


def predict(
    model,
    tokenizer,
    prompts: Mapping[Hashable, Any],
    name: str,
    settings: GenerationSettings,
    constrained: bool = False,
) -> Iterator[list[dict]]:
    """Batches of prediction rows {"id", "model", "completion", "shown", "probability", "logp", "n_tokens"}.

    Rows that `settings.known` has are not among them. If it is not None, rows also have "token_ids".

    `prompts`: id -> prompt; all share one prefix. Equal prompts (candidates of one sample) are read once.
    `settings.seeds` are in the order of the prompts. `name` becomes the rows' "model". `constrained`: only
    tokens that keep to the output schema, with citations of shown chunks.
    """
    # What was generated before shows in no digit of vLLM's.
    if isinstance(model, VllmModel):
        prompts, settings = only_unknown(prompts, settings)
    known = settings.known or {}
    if len(known) == len(prompts):
        return
    # The engine numbers its rows; ids stay here.
    ids = list(prompts)
    built = list(prompts.values())

    generate_all = _complete_by_vllm if isinstance(model, VllmModel) else complete
    size = settings.portion or len(built)
    with progress(len(built), f"generating: {name}", "sample") as bar:
        for start in range(0, len(built), size):
            part = slice(start, start + size)
            own = dataclasses.replace(settings, seeds=settings.seeds[part], biases=settings.biases[part])
            for batch in generate_all(model, tokenizer, built[part], own, constrained):
                rows = []
                for i, generated in batch:
                    if start + i in known:
                        continue
                    row = prediction_row(tokenizer, ids[start + i], name, built[start + i], generated)
                    rows.append(row | ({TOKEN_IDS: generated.ids} if settings.known is not None else {}))
                bar.update(len(batch))
                if rows:
                    yield rows
