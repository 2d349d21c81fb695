"""Completions by vLLM, behind the interface of a model of ours: token ids in, token ids and logps out.

vLLM plans its own batches and shares the beginnings of prompts by itself (prefix caching). It is an optional
package and imported when a model is opened. This module was written from vLLM's sources and tested against a
stand-in that checks the names of all arguments (tests/vllm_stub); it has not run on a GPU yet.
"""

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import Any

from transformers import AutoConfig, GenerationConfig

from generation.drafting import json_object_end
from generation.engine import GenerationSettings
from generation.rows import Generated
from generation.schema_pattern import OPENING, completion_pattern
from generation.vllm_requests import Request, extend, sampling_params
from models.base import base_for, check_loaded_base
from models.choices import LoadOptions
from models.directories import adapter_base
from models.hardware import choose_dtype, say_once
from models.hub_cache import load_from
from models.loading import resolve_model
from models.positions import n_positions
from utils.errors import DataError, StageError, UsageError
from utils.hub_names import split_revision
from utils.jsonl import read_json_object
from utils.tokens import encode_plain, end_id

# The ranks that vLLM reserves room for; a smaller adapter is padded.
_LORA_RANKS = (1, 8, 16, 32, 64, 128, 256, 320, 512)
# Prompts of one call. Rows reach the disk after each call, so an interrupted run loses one call at most; with
# few rows the end of a call, when most are finished, would leave the GPU idle.
_ROWS_PER_CALL = 512


def import_vllm() -> Any:
    """The vllm module, told to send nothing home and to print errors alone."""
    os.environ.setdefault("VLLM_NO_USAGE_STATS", "1")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "ERROR")
    import vllm

    return vllm


class VllmModel:
    """A model, or an adapter on its base, loaded by vLLM. `config` is that of transformers."""

    def __init__(self, name: str, options: LoadOptions):
        """`name`: as in models/loading.py. StageError if vLLM cannot start it."""
        resolved = resolve_model(name)
        base = base_for(resolved, options.base_model) if adapter_base(resolved) else None
        weights = resolve_model(base) if base else resolved
        self.name = name
        self.config = _read_config(weights, options)
        self.eos_ids = _eos_ids(weights, self.config)
        # vLLM reserves memory for one prompt of this length, and some models have 131,072 positions.
        limits = (options.max_length, n_positions(self.config))
        self.max_length = min(filter(None, limits), default=None)
        hub_id, revision = split_revision(weights)
        arguments = {
            "model": hub_id,
            "revision": revision,
            "tokenizer": split_revision(resolved)[0],
            "tokenizer_revision": split_revision(resolved)[1],
            "dtype": str(choose_dtype(options.bf16)).removeprefix("torch."),
            "trust_remote_code": options.trust_remote_code,
            "max_model_len": self.max_length,
            "enable_prefix_caching": True,
        }
        if base:
            arguments |= {"enable_lora": True, "max_lora_rank": _lora_rank(resolved)}
        say_once("engine: starting vLLM; it sizes its batches itself, so --batch-size changes nothing")
        with self._one_line("cannot start the model"):
            # Without a GPU or its driver the import fails already.
            vllm = import_vllm()
            self._llm = vllm.LLM(**{key: value for key, value in arguments.items() if value is not None})
        self._adapter = None
        if base:
            check_loaded_base(resolved, base)
            from vllm.lora.request import LoRARequest

            self._adapter = LoRARequest(lora_name="adapter", lora_int_id=1, lora_path=resolved)

    @contextlib.contextmanager
    def disable_adapter(self) -> Iterator[None]:
        """Within it, the base model answers."""
        adapter = self._adapter
        self._adapter = None
        try:
            yield
        finally:
            self._adapter = adapter

    def close(self) -> None:
        """End vLLM's process, which has the GPU's memory: the next model may need it at once."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
        self._llm = None

    def generate(
        self,
        tokenizer,
        prompts: Sequence[list[int]],
        settings: GenerationSettings,
        n_chunks: Sequence[int] | None = None,
    ) -> Iterator[list[tuple[int, Generated]]]:
        """Lists of (index into `prompts`, completion), in order.

        `n_chunks[i]`: keep to the output schema, with citations below it. DataError for a prompt that leaves
        no room. A greedy completion has the tokens of our engine where the scores are the same; a sampled
        one depends on its seed alone, but vLLM draws other tokens from a seed than torch.
        """
        self._check_lengths(prompts)
        stop = json_object_end(tokenizer, prompts[0] if prompts else ())
        # The opening is in the prompt, as our engine forces it: in the tokens of training.
        opening = encode_plain(tokenizer, OPENING)[: settings.max_new_tokens] if n_chunks else []
        eos_ids = self.eos_ids | {tokenizer.eos_token_id, end_id(tokenizer)}
        for start in range(0, len(prompts), _ROWS_PER_CALL):
            requests = []
            for i in range(start, min(start + _ROWS_PER_CALL, len(prompts))):
                seed = settings.seeds[i] if settings.seeds else settings.sampling.seed + i
                done = Generated(list(opening), [0.0] * len(opening))
                pattern = completion_pattern(n_chunks[i]) if n_chunks else None
                has_all = len(opening) == settings.max_new_tokens
                requests.append(Request(prompts[i], done, seed, pattern, ended=has_all))
            self._complete(requests, settings, stop, eos_ids)
            yield [(start + k, request.done) for k, request in enumerate(requests)]

    def _complete(
        self, requests: list[Request], settings: GenerationSettings, stop, eos_ids: set[int]
    ) -> None:
        """Generate until every request ends: with EOS, its object or its last token."""
        while waiting := [request for request in requests if not request.ended]:
            prompts = [{"prompt_token_ids": request.prompt + request.done.ids} for request in waiting]
            sampling = [sampling_params(request, settings, eos_ids) for request in waiting]
            with self._one_line("failed while generating"):
                outputs = self._llm.generate(
                    prompts, sampling_params=sampling, use_tqdm=False, lora_request=self._adapter
                )
            # vLLM stops at every closing brace. Where that one does not end the object, the row continues.
            for request, output in zip(waiting, outputs):
                is_open = extend(request.done, output.outputs[0], settings.max_new_tokens, stop, eos_ids)
                request.ended = not is_open or self._is_full(request)

    def _is_full(self, request: Request) -> bool:
        n_tokens = len(request.prompt) + len(request.done.ids)
        return self.max_length is not None and n_tokens >= self.max_length

    def _check_lengths(self, prompts: Sequence[list[int]]) -> None:
        longest = max(map(len, prompts))
        if self.max_length is not None and longest >= self.max_length:
            raise DataError(
                f"{self.name}: a prompt has {longest} tokens, but there is room for {self.max_length}, "
                "completion included; lower the limit of prompt tokens or use fewer chunks"
            )

    @contextlib.contextmanager
    def _one_line(self, what: str) -> Iterator[None]:
        """Replaces vLLM's exceptions by an error of one line."""
        try:
            yield
        # Out of memory is a RuntimeError, a setting that it refuses a ValueError.
        except (RuntimeError, ValueError, ImportError, OSError) as error:
            text = " ".join(str(error).split()) or type(error).__name__
            raise StageError(
                f"{self.name}: vLLM {what} ({text:.200}); it needs a GPU with room for the model; "
                "close other programs on it, or use --engine ours"
            ) from error


def _read_config(weights: str, options: LoadOptions) -> Any:
    try:
        return AutoConfig.from_pretrained(**load_from(weights), trust_remote_code=options.trust_remote_code)
    except (OSError, ValueError) as error:
        text = " ".join(str(error).split())
        raise DataError(f"{weights}: cannot be loaded from this machine or the hub ({text:.120})") from error


def _eos_ids(weights: str, config: Any) -> set[int]:
    """Ids that end a completion, by the model's generation config or, without one, by its config."""
    hub_id, revision = split_revision(weights)
    try:
        generation = GenerationConfig.from_pretrained(hub_id, revision=revision or "main")
    except OSError:
        generation = GenerationConfig.from_model_config(config)
    eos = generation.eos_token_id
    return set(eos if isinstance(eos, list) else [eos]) - {None}


def _lora_rank(checkpoint: str) -> int:
    """The least rank of vLLM that an adapter fits. UsageError if it fits none."""
    config = read_json_object(f"{checkpoint}/adapter_config.json")
    rank = max([config["r"], *(config.get("rank_pattern") or {}).values()])
    for allowed in _LORA_RANKS:
        if rank <= allowed:
            return allowed
    raise UsageError(
        f"{checkpoint}: its adapter has rank {rank}, and vLLM takes {_LORA_RANKS[-1]} at most; "
        "merge it with train_sft.py --merge, or use --engine ours"
    )
