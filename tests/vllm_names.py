"""The names of vLLM's arguments and fields, read from its sources: importing it needs a GPU's packages.

    pip download vllm==0.33.0 --no-deps && unzip vllm-0.33.0-*.whl -d vllm-0.33.0
    python -m tests.vllm_names vllm-0.25.1 vllm-0.30.0 vllm-0.33.0 > tests/vllm_names.json

Writes, for each class or method that generation/vllm_engine.py uses, the names that all given versions have,
and the ranks of adapters that they take. The stand-in in tests/vllm_stub accepts these names alone.
"""

import ast
import json
import re
import sys
from pathlib import Path

# What is used -> the file it is in. A class counts by its fields, a method by its parameters.
USED = {
    "LLM.__init__": "vllm/entrypoints/llm.py",
    "LLM.generate": "vllm/entrypoints/llm.py",
    "EngineArgs": "vllm/engine/arg_utils.py",
    "SamplingParams": "vllm/sampling_params.py",
    "StructuredOutputsParams": "vllm/sampling_params.py",
    "LoRARequest": "vllm/lora/request.py",
    "TokensPrompt": "vllm/inputs/llm.py",
    "CompletionOutput": "vllm/outputs.py",
    "RequestOutput.__init__": "vllm/outputs.py",
    "Logprob": "vllm/logprobs.py",
    "EngineCoreClient.shutdown": "vllm/v1/engine/core_client.py",
}
_RANKS_PATH = "vllm/config/lora.py"
# Attributes on the way to the process -> the file that sets them.
ATTRIBUTES = {"llm_engine": "vllm/entrypoints/llm.py", "engine_core": "vllm/v1/engine/llm_engine.py"}


def _names(tree: ast.Module, wanted: str) -> list[str]:
    class_name, _, method_name = wanted.partition(".")
    for node in tree.body:
        if not isinstance(node, ast.ClassDef) or node.name != class_name:
            continue
        if not method_name:
            fields = [item.target for item in node.body if isinstance(item, ast.AnnAssign)]
            return [target.id for target in fields if isinstance(target, ast.Name)]
        for item in node.body:
            # Overloads come first; the last definition is the one that runs.
            if isinstance(item, ast.FunctionDef) and item.name == method_name:
                found = [argument.arg for argument in (*item.args.args, *item.args.kwonlyargs)]
        return [name for name in found if name != "self"]
    raise LookupError(wanted)


def read_names(source: Path) -> dict[str, list[str]]:
    """The names in one unpacked version. LookupError if an attribute is not set where it was."""
    for name, path in ATTRIBUTES.items():
        if f"self.{name} = " not in (source / path).read_text(encoding="utf-8"):
            raise LookupError(name)
    found = {}
    for wanted, path in USED.items():
        found[wanted] = _names(ast.parse((source / path).read_text(encoding="utf-8")), wanted)
    return found


def read_ranks(source: Path) -> list[int]:
    text = (source / _RANKS_PATH).read_text(encoding="utf-8")
    found = re.search(r"^MaxLoRARanks = Literal\[([\d, ]+)\]", text, re.MULTILINE)
    if found is None:
        raise LookupError("MaxLoRARanks")
    return [int(rank) for rank in found[1].split(",")]


def common_names(sources: list[Path]) -> dict:
    """The names and ranks that all versions have."""
    versions = [read_names(source) for source in sources]
    names = {}
    for wanted in USED:
        names[wanted] = [n for n in versions[-1][wanted] if all(n in found[wanted] for found in versions)]
    ranks = [
        rank for rank in read_ranks(sources[-1]) if all(rank in read_ranks(source) for source in sources)
    ]
    return {
        "versions": [source.name.removeprefix("vllm-") for source in sources],
        "names": names,
        "ranks": ranks,
    }


if __name__ == "__main__":
    print(json.dumps(common_names([Path(folder) for folder in sys.argv[1:]]), indent=1))
