"""One completion by vLLM: what is asked for, what came back, whether it has ended.

It imports vLLM's classes when it needs them, and knows neither models nor prompts.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from generation.engine import GenerationSettings
from generation.rows import Generated

_LARGEST_SEED = 2**32
# vLLM takes no 0; so small a share still keeps one token, the likeliest, as top-p 0 does elsewhere.
_LEAST_TOP_P = 1e-9


@dataclass
class Request:
    """A completion in the making. The next call reads `prompt` and all of `done`."""

    prompt: list[int]
    done: Generated
    seed: int
    # What the rest of the completion must match; None: free.
    pattern: str | None = None
    ended: bool = False


def sampling_params(request: Request, settings: GenerationSettings, eos_ids: set[int]) -> Any:
    """vllm.SamplingParams for the rest of a completion."""
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    sampling = settings.sampling
    n_done = len(request.done.ids)
    arguments: dict[str, Any] = {
        "temperature": sampling.temperature,
        "max_tokens": settings.max_new_tokens - n_done,
        "stop_token_ids": sorted(eos_ids),
        # The chosen token's alone: the model's own, before temperature, top-p and top-k.
        "logprobs": 0,
    }
    if sampling.temperature > 0:
        top_p = max(sampling.top_p, _LEAST_TOP_P)
        # A row that continues must not draw the same numbers again.
        seed = (request.seed + n_done) % _LARGEST_SEED
        arguments |= {"top_p": top_p, "top_k": sampling.top_k, "seed": seed}
    if request.pattern:
        # The pattern ends with the object, so that only EOS can follow.
        arguments["structured_outputs"] = StructuredOutputsParams(regex=request.pattern)
    else:
        arguments |= {"stop": ["}"], "include_stop_str_in_output": True}
    return SamplingParams(**arguments)


def extend(done: Generated, output: Any, max_new_tokens: int, stop: Callable, eos_ids: set[int]) -> bool:
    """Add a call's tokens to a completion, up to its end. True if it is not there yet."""
    for token, known in zip(output.token_ids, output.logprobs):
        done.logps.append(known[token].logprob)
        if token in eos_ids:
            return False
        done.ids.append(token)
        if len(done.ids) == max_new_tokens or stop(done.ids):
            return False
    # At the model's last position vLLM says "length"; without a new token no call would ever end the row.
    return output.finish_reason == "stop" and bool(output.token_ids)
