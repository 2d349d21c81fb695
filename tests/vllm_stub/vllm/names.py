"""The names that the stand-in accepts (tests/vllm_names.json)."""

import json
from pathlib import Path

_KNOWN = json.loads(
    Path(__file__).resolve().parents[2].joinpath("vllm_names.json").read_text(encoding="utf-8")
)
RANKS = _KNOWN["ranks"]


def check_names(arguments, *wanted: str) -> None:
    """TypeError for an argument that vLLM does not have, as calling vLLM would raise."""
    known = {name for each in wanted for name in _KNOWN["names"][each]}
    if unknown := set(arguments) - known:
        raise TypeError(f"{', '.join(wanted)}: unexpected arguments {sorted(unknown)}")
