"""Sampling parameters, refused where vLLM refuses them."""

from vllm.names import check_names


class StructuredOutputsParams:
    def __init__(self, **arguments):
        check_names(arguments, "StructuredOutputsParams")
        # One kind of constraint is known here.
        self.regex = arguments["regex"]
        if "\x00" in self.regex:
            raise ValueError("structured_outputs.regex must not contain a NUL character")


class SamplingParams:
    def __init__(self, **arguments):
        check_names(arguments, "SamplingParams")
        self.temperature = arguments.get("temperature", 1.0)
        self.top_p = arguments.get("top_p", 1.0)
        self.top_k = arguments.get("top_k", 0)
        self.seed = arguments.get("seed")
        self.max_tokens = arguments.get("max_tokens", 16)
        self.stop = arguments.get("stop")
        self.stop_token_ids = arguments.get("stop_token_ids", [])
        self.structured_outputs = arguments.get("structured_outputs")
        if not 0 <= self.temperature <= 2:
            raise ValueError(f"temperature must be in [0, 2], got {self.temperature}.")
        if not 0 < self.top_p <= 1:
            raise ValueError(f"top_p must be in (0, 1], got {self.top_p}.")
        if self.max_tokens < 1:
            raise ValueError(f"max_tokens must be at least 1, got {self.max_tokens}.")
        # Without log-probabilities asked for, vLLM returns none.
        assert arguments["logprobs"] == 0
