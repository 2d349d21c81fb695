"""A stand-in for vLLM: the part of its interface that generation/vllm_engine.py uses, on CPU.

It takes the names in tests/vllm_names.json alone, refuses values that vLLM refuses, and decodes one row at a
time with transformers, without any of vLLM's speed.
"""

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import regex
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, DynamicCache

from vllm.names import RANKS, check_names
from vllm.sampling_params import SamplingParams

__all__ = ["LLM", "SamplingParams"]

_DTYPES = {"auto", "bfloat16", "float16", "float32"}


@dataclass
class Logprob:
    logprob: float
    rank: int | None = None
    decoded_token: str | None = None


@dataclass
class CompletionOutput:
    index: int
    text: str
    token_ids: list[int]
    cumulative_logprob: float | None
    logprobs: list[dict[int, Logprob]] | None
    finish_reason: str | None = None
    stop_reason: int | str | None = None


@dataclass
class RequestOutput:
    request_id: str
    prompt_token_ids: list[int]
    outputs: list[CompletionOutput]
    finished: bool = True


class EngineCore:
    """The process that has the model."""

    def __init__(self):
        self.is_running = True

    def shutdown(self) -> None:
        self.is_running = False


@dataclass
class Row:
    """One completion in the making."""

    params: Any
    ids: list[int] = field(default_factory=list)
    logprobs: list[dict[int, Logprob]] = field(default_factory=list)


class LLM:
    # All that were made, for tests that look at their arguments and calls.
    made: list["LLM"] = []

    def __init__(self, model: str, **arguments):
        check_names(arguments, "LLM.__init__", "EngineArgs")
        assert arguments.get("dtype", "auto") in _DTYPES
        if arguments.get("enable_lora"):
            assert arguments.get("max_lora_rank", 16) in RANKS
        self.arguments = {"model": model, **arguments}
        self.calls: list[dict] = []
        self.llm_engine = SimpleNamespace(engine_core=EngineCore())
        dtype = getattr(torch, arguments.get("dtype", "float32"))
        self.model = AutoModelForCausalLM.from_pretrained(
            model, dtype=dtype, attn_implementation="eager"
        ).eval()
        self.tokenizer = AutoTokenizer.from_pretrained(arguments.get("tokenizer", model))
        self.texts = [self.tokenizer.decode([i]) for i in range(len(self.tokenizer))]
        self.special = set(self.tokenizer.all_special_ids) | set(self.tokenizer.added_tokens_decoder)
        self.masks: dict[tuple[str, str], torch.Tensor] = {}
        self.adapter: Any = None
        self.n_running_before = sum(llm.llm_engine.engine_core.is_running for llm in LLM.made)
        LLM.made.append(self)

    def generate(self, prompts, sampling_params=None, **settings):
        check_names(settings, "LLM.generate")
        assert len(prompts) == len(sampling_params)
        lora = settings.get("lora_request")
        self.calls.append({"prompts": prompts, "params": sampling_params, "lora": lora})
        model = self._with_adapter(lora)
        outputs = []
        for i, (prompt, params) in enumerate(zip(prompts, sampling_params)):
            check_names(prompt, "TokensPrompt")
            completion = self._complete(model, prompt["prompt_token_ids"], params)
            outputs.append(RequestOutput(str(i), prompt["prompt_token_ids"], [completion]))
        return outputs

    def _with_adapter(self, lora):
        if lora is not None:
            assert self.arguments["enable_lora"]
            if self.adapter is None:
                from peft import PeftModel

                self.adapter = PeftModel.from_pretrained(self.model, lora.lora_path).eval()
        if self.adapter is None:
            return self.model
        layers = self.adapter.base_model
        if lora is None:
            layers.disable_adapter_layers()
        else:
            layers.enable_adapter_layers()
        return self.adapter

    @torch.inference_mode()
    def _complete(self, model, prompt: list[int], params) -> CompletionOutput:
        limit = self.arguments.get("max_model_len") or self.model.config.max_position_embeddings
        if len(prompt) >= limit:
            raise ValueError(f"The prompt is longer than the maximum model length of {limit}")
        row = Row(params)
        generator = torch.Generator().manual_seed(params.seed or 0)
        past = DynamicCache(config=self.model.config)
        new = prompt
        while True:
            logits = model(input_ids=torch.tensor([new]), past_key_values=past).logits[0, -1].float()
            token = self._choose(row, logits, generator)
            new = [token]
            reason = self._finish(row, len(prompt), limit)
            if reason:
                text = self.tokenizer.decode(row.ids, skip_special_tokens=True)
                return CompletionOutput(0, text, row.ids, None, row.logprobs, *reason)

    def _choose(self, row: Row, logits: torch.Tensor, generator: torch.Generator) -> int:
        params = row.params
        if params.structured_outputs:
            # Before the log-probabilities, as in vLLM's model runner.
            logits = logits.masked_fill(~self._allowed(row), -torch.inf)
        logps = logits.log_softmax(-1)
        token = int(logps.argmax())
        if params.temperature > 0:
            token = _draw(logits / params.temperature, params, generator)
        row.ids.append(token)
        row.logprobs.append({token: Logprob(float(logps[token]))})
        return token

    def _allowed(self, row: Row) -> torch.Tensor:
        pattern = row.params.structured_outputs.regex
        text = "".join(self.texts[i] for i in row.ids)
        if (pattern, text) not in self.masks:
            self.masks[pattern, text] = self._find_allowed(regex.compile(pattern), text, row.params)
        return self.masks[pattern, text]

    def _find_allowed(self, pattern, text: str, params) -> torch.Tensor:
        mask = torch.zeros(self.model.config.vocab_size, dtype=torch.bool)
        if pattern.fullmatch(text):
            mask[list(params.stop_token_ids)] = True
        plain = [(i, added) for i, added in enumerate(self.texts) if added and i not in self.special]
        # Many byte tokens have the same text.
        fits = {
            added for added in {added for _, added in plain} if pattern.fullmatch(text + added, partial=True)
        }
        mask[[i for i, added in plain if added in fits]] = True
        return mask

    def _finish(self, row: Row, n_prompt: int, limit: int) -> tuple | None:
        params = row.params
        if row.ids[-1] == self.tokenizer.eos_token_id:
            return "stop", None
        if row.ids[-1] in params.stop_token_ids:
            return "stop", row.ids[-1]
        text = self.tokenizer.decode(row.ids, skip_special_tokens=True)
        for stop in params.stop or []:
            if stop in text:
                return "stop", stop
        if len(row.ids) >= params.max_tokens or n_prompt + len(row.ids) >= limit:
            return "length", None
        return None


def _draw(logits: torch.Tensor, params, generator: torch.Generator) -> int:
    """A token by temperature, top-k and top-p, from other random numbers than `torch.multinomial` draws."""
    ordered, places = logits.sort(descending=True)
    if params.top_k > 0:
        ordered[params.top_k :] = -torch.inf
    weights = ordered.softmax(-1)
    weights[weights.cumsum(-1) - weights >= params.top_p] = 0
    noise = torch.empty_like(weights).exponential_(generator=generator)
    return int(places[(weights / noise).argmax()])
