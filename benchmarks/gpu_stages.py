"""The stages as commands, for benchmarks/gpu_check.py: exit codes, times, and what the evaluations wrote.

It starts processes and reads their files; it imports no model.
"""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.schema import read_samples

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = "checkpoints/sft/gemma2-9b/checkpoint-best"
_DATA = "data/processed"
# As the notebook gives them.
_BUCKETS = "2048,3072,4096,5120,6144,7168,7936"


def write_home(home: Path, data: Path) -> None:
    """A home with 48 training, 16 validation and 16 test samples, and no group of one in another."""
    (home / _DATA).mkdir(parents=True, exist_ok=True)
    samples = read_samples(data)
    used: set[str] = set()
    for name, n in (("train", 48), ("val", 16), ("test", 16)):
        # Training refuses samples whose group is in the test file.
        part = [sample for sample in samples if sample["group"] not in used][:n]
        used |= {sample["group"] for sample in part}
        write_jsonl(home / _DATA / f"{name}.jsonl", part)


def _train(model: str, output_dir: str, *settings: str) -> list[str]:
    fixed = ["training.gradient_accumulation_steps=8", "data.max_generated_val_samples=8"]
    values = [f"model_name={model}", f"output_dir={output_dir}", *fixed, *settings]
    flags = []
    for value in values:
        flags += ["--set", value]
    return ["train_sft.py", "-c", "configs/sft_gemma2.yaml", *flags]


def _evaluate(model: str, output: str, *flags: str) -> list[str]:
    name = "evaluate_sft_fast_robust.py"
    files = ["--model-path", CHECKPOINT, "--base-model", model, "--test-data", f"{_DATA}/test.jsonl"]
    return [name, *files, "--batch-size", "4", "--max-new-tokens", "24", "--output", output, *flags]


def notebook_commands(model: str, quantized: bool) -> dict[str, list[str]]:
    """The notebook's stages on a model; without bitsandbytes, its 4 and 8 bits are left out."""
    prefs = ["make_prefs.py", "--data-path", f"{_DATA}/train.jsonl", "--max-samples", "24"]
    generate = ["--phase", "generate", "--sft-model", CHECKPOINT, "--base-model", model]
    generate += ["--temperature", "0.8", "--batch-size", "12", "--max-new-tokens", "24"]
    judge = ["--phase", "judge", "--judge-model", model, "--min-margin", "0", "--min-label-share", "0"]
    flash = ["--attn-impl", "flash2"]
    return {
        "train": _train(model, "checkpoints/sft/gemma2-9b", f"load_in_4bit={str(quantized).lower()}"),
        "evaluate": _evaluate(model, "plain.json", "--compare-baseline", *flash),
        "evaluate_fast": _evaluate(
            model, "fast.json", "--compare-baseline", *flash, "--fast", "--buckets", _BUCKETS
        ),
        "prefs": [*prefs, *generate, *(["--use-8bit"] if quantized else [])],
        "judge": [*prefs, *judge, *(["--judge-use-8bit"] if quantized else [])],
        "reward": ["train_rm.py", "-c", "configs/rm.yaml", "--set", f"base_model={model}"],
    }


def further_commands(model: str, quantized: bool) -> dict[str, list[str]]:
    """What the notebook does not run; they need its checkpoint."""
    packed = ("load_in_4bit=false", "training.tokens_per_pass=4096", "training.max_steps=2")
    commands = {
        "constrained": _evaluate(model, "constrained.json", "--constrained"),
        "train_packed": _train(model, "packed", *packed),
    }
    if quantized:
        commands |= {
            "evaluate_4bit": _evaluate(model, "4bit.json", "--use-4bit"),
            "evaluate_8bit": _evaluate(model, "8bit.json", "--use-8bit"),
            "train_8bit": _train(
                model, "8bit", "load_in_4bit=false", "load_in_8bit=true", "training.max_steps=2"
            ),
        }
    return commands


def last_lines(text: str) -> list[str]:
    """The end of what a command said: of a traceback, the error and the place it comes from."""
    return [line[:300] for line in text.strip().splitlines()[-6:]] or ["no message"]


def run_commands(
    commands: dict[str, list[str]], home: Path, timeout: float, left: Callable[[], float]
) -> dict[str, dict]:
    """Each command's exit code and seconds and, where it failed, its last lines."""
    found: dict[str, dict] = {}
    environment = {**os.environ, "FACTUALITY_HOME": str(home)}
    for name, command in commands.items():
        started = time.monotonic()
        limit = min(timeout, left())
        if limit < 5:
            found[name] = {"skipped": "no time left"}
            continue
        try:
            done = subprocess.run(
                [sys.executable, *command],
                cwd=ROOT,
                env=environment,
                capture_output=True,
                text=True,
                timeout=limit,
            )
        except subprocess.TimeoutExpired:
            found[name] = {"exit": None, "timeout": limit}
            continue
        found[name] = {"exit": done.returncode, "seconds": round(time.monotonic() - started, 1)}
        if done.returncode:
            found[name]["says"] = last_lines(done.stderr)
    return found


def compare_fast(home: Path) -> dict:
    """What `--fast --buckets` changes: seconds of generation without and with it, and the completions."""
    plain = home / "plain.json"
    fast = home / "fast.json"
    if not (plain.is_file() and fast.is_file()):
        return {"skipped": "an evaluation failed"}
    seconds = [read_json(path)["run"]["times"]["sft"]["seconds"] for path in (plain, fast)]
    texts = []
    for path in (plain, fast):
        rows = read_jsonl(path.with_name(f"{path.stem}_predictions.jsonl"))
        texts.append([row["completion"] for _, row in rows])
    return {"seconds without": seconds[0], "seconds with": seconds[1], "same": texts[0] == texts[1]}


def planned_memory(home: Path, config: dict, samples: list[dict], without_libraries: bool) -> float | None:
    """The GB of memory that a dry run of train_sft.py on these samples names; None if it names none.

    RuntimeError with what it said, if it fails.
    """
    path = home / "plan.yaml"
    write_jsonl(home / "plan.jsonl", samples)
    # As few answers as the script takes: what is measured beside the plan trains alone.
    data = {"train_path": "plan.jsonl", "val_path": "plan.jsonl", "max_calibration_samples": 1}
    # JSON is YAML too.
    path.write_text(json.dumps(config | {"data": config["data"] | data}), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "train_sft.py", "-c", str(path), "--dry-run", "--allow-test"],
        cwd=ROOT,
        env={**os.environ, "FACTUALITY_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(" ".join(last_lines(done.stderr)))
    named = re.search(r"([\d.]+) GB of memory", done.stdout)
    if named is None:
        return None
    libraries = re.search(r"libraries ([\d.]+)", done.stdout)
    n_left_out = float(libraries.group(1)) if libraries and without_libraries else 0.0
    return round(float(named.group(1)) - n_left_out, 1)
