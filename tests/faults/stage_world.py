"""Every stage at toy size, with the home that it starts in: for tests of the places that a stage writes to.

The server of tests/faults/fault_server.py runs them.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from tests.test_kills import improve_candidates
from training.logged import is_timing
from utils.completions import render_completion
from utils.jsonl import read_json, read_jsonl, write_jsonl

ROOT = Path(__file__).resolve().parent.parent.parent

SMALL = "--max-chunks 3 --max-chunk-words 20 --split 0.6,0.2,0.2 --limit 30"
TEST = "--test-data data/processed/test.jsonl"
DATA = "--data-path data/val.jsonl"
# Stage -> its command. Each starts with what those before it have left.
STAGES = {
    "build": f"build_data.py --sample --data-dir data {SMALL}",
    "prompts": "prompt_schema.py save --prompts-dir prompts",
    "sft": "train_sft.py -c {home}/sft.yaml",
    "merge": "train_sft.py -c {home}/sft.yaml --merge merged",
    "evaluate": f"evaluate_sft_fast_robust.py --model-path sft/checkpoint-best {TEST} --max-new-tokens 12"
    " --limit 12 --output e.json --report e.html",
    "robustness": f"robustness.py --model-path sft/checkpoint-best {TEST} --max-new-tokens 12 --limit 6"
    " --suite order,noise --output r.json --samples-dir levels",
    "generate": "make_prefs.py --phase generate --sft-model sft/checkpoint-best --base-model tiny"
    f" --models sft,base --batch-size 4 --seed 1 --max-new-tokens 12 {DATA}",
    "judge": f"make_prefs.py --phase judge {DATA} --min-margin 0 --hard-rejections",
    "rm": "train_rm.py -c {home}/rm.yaml",
    "adapter": "train_rm.py -c {home}/rm.yaml --set output_dir=rm_adapter --set lora.r=2"
    " --set lora.batch_size=4 --set lora.save_steps=1",
    "export": "train_rm.py -c {home}/rm.yaml --export-hf exported",
    "score": "train_rm.py -c {home}/rm.yaml --score to_score.jsonl",
    "policy": "train_dpo.py -c {home}/dpo.yaml",
}
# What a home has beside them when they are run again with --overwrite.
REPLACES = ("build", "sft", "evaluate", "robustness", "generate", "judge", "rm", "policy")
TRAINING = {
    **{"per_device_train_batch_size": 2, "gradient_accumulation_steps": 1, "num_train_epochs": 1},
    **{"logging_steps": 1, "eval_steps": 3, "save_steps": 2, "save_total_limit": 2, "learning_rate": 1e-2},
}
SFT = {
    **{"model_name": "tiny", "output_dir": "sft", "bf16": False, "attn_implementation": "eager"},
    "lora": {"r": 2, "alpha": 4},
    "training": {**TRAINING, "max_seq_length": 700},
    "data": {
        **{"val_path": "data/val.jsonl", "max_samples": 8, "max_val_samples": 2},
        **{"max_generated_val_samples": 0, "max_calibration_samples": 2},
    },
}
RM = {
    **{"base_model": "tiny", "output_dir": "rm", "learning_rate": 1e-2, "num_epochs": 4, "batch_size": 4},
    **{"eval_batch_size": 4, "max_seq_length": 900, "val_fraction": 0.25, "test_fraction": 0.25},
    **{"eval_steps": 3, "save_steps": 4},
}
POLICY = {
    **{"sft_model": "sft/checkpoint-best", "output_dir": "policy", "bf16": False},
    "training": {**TRAINING, "per_device_train_batch_size": 4, "eval_steps": 100, "save_steps": 3},
    "data": {
        **{"val_path": "data/val.jsonl", "max_generated_val_samples": 2, "max_calibration_samples": 2},
        "candidates": "sampled",
    },
}
N_SAMPLES = 10
# Facts of a run and not of its results: when, how long, how fast, with which path to the home and which code.
RUN_FACTS = {"created", "started", "finished", "times", "command", "git_commit", "run", "seconds"}
RUN_FACTS |= {"train_seconds", "peak_memory_gb", "hashes"}


class Ended(NamedTuple):
    """How a run ended: its exit code, what it said, and the number of its process."""

    code: int
    said: str
    pid: int


class FaultServer:
    """The process of tests/faults/fault_server.py."""

    def __init__(self, logs: Path):
        self.logs = logs
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, "-m", "tests.faults.fault_server"]
        self.can_mount = subprocess.run(["unshare", "--mount", "true"], check=False).returncode == 0
        if self.can_mount:
            command = ["unshare", "--mount", *command]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def _ask(self, job: dict) -> dict:
        self.process.stdin.write(json.dumps(job) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run_several(self, stage: str, home: Path, n: int, more: str = "", **job) -> list[Ended]:
        """How each of `n` runs of a stage in a home ended, with the `faults` of the job.

        `stage`: one of STAGES, or a command.
        """
        script, *argv = f"{STAGES.get(stage, stage)} {more}".split()
        argv = [argument.format(home=home) for argument in argv]
        # Outside the home, which may be full or invisible to this process.
        logs = [self.logs / f"{i}.log" for i in range(n)]
        job |= {"home": str(home), "script": script, "argv": argv, "logs": list(map(str, logs))}
        answer = self._ask(job)
        said = [log.read_text(encoding="utf-8", errors="replace") for log in logs]
        return [Ended(*each) for each in zip(answer["codes"], said, answer["pids"])]

    def run(self, stage: str, home: Path, more: str = "", **job) -> tuple[int, str]:
        """(exit code, what it said) of a stage in a home, with the `faults` of the job."""
        [ended] = self.run_several(stage, home, 1, more, **job)
        return ended.code, ended.said

    def mount(self, *arguments: str) -> None:
        answer = self._ask({"mount": list(arguments)})
        assert answer["codes"] == [0], (arguments, answer)

    def seen(self, path: Path) -> Path:
        """The path under which this process sees what the server sees at `path`."""
        return Path(f"/proc/{self.process.pid}/root{path}")

    def close(self) -> None:
        self.process.communicate()


def prepare(folder: Path, tiny_dir: Path, server: FaultServer, stages: tuple[str, ...]) -> dict[str, Path]:
    """Stage -> the home that it starts in; "done" -> the home with all outputs."""
    home = folder / "home"
    shutil.copytree(tiny_dir, home / "tiny")
    for name, config in (("sft", SFT), ("rm", RM), ("dpo", POLICY)):
        (home / f"{name}.yaml").write_text(json.dumps(config))
    found = {}
    for stage in stages:
        found[stage] = folder / f"before_{stage}"
        shutil.copytree(home, found[stage])
        code, said = server.run(stage, home)
        assert code == 0, (stage, said[-3000:])
        if stage == "build":
            rows = [row for _, row in read_jsonl(home / "data/processed/val.jsonl")]
            write_jsonl(home / "data/val.jsonl", rows[:N_SAMPLES])
        if stage == "generate":
            improve_candidates(home)
            write_rows_to_score(home)
    found["done"] = home
    return found


def write_rows_to_score(home: Path) -> None:
    to_score = []
    for _, sample in read_jsonl(home / "data/val.jsonl"):
        row = {
            "id": sample["id"],
            "question": sample["question"],
            "evidence_chunks": sample["evidence_chunks"],
        }
        to_score.append(row | {"completion": render_completion(sample["answer"], [1], 0.5)})
    write_jsonl(home / "to_score.jsonl", to_score)


def results_in(home: Path) -> dict[str, object]:
    """Every file of a home by its path, hidden ones too: its bytes, or its value without facts of the run."""
    found: dict[str, object] = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        # The pages have times; the states of a checkpoint have too, in pickles.
        if path.is_dir() or path.suffix in (".html", ".pt", ".bin") or name.endswith("trainer_state.json"):
            continue
        found[name] = path.read_bytes()
        if path.suffix == ".json":
            found[name] = without_facts(read_json(path))
    return found


def without_facts(value):
    """A JSON value without times and other facts of a run."""
    if isinstance(value, list):
        return [without_facts(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for key, item in value.items():
        # The sizes of a checkpoint's files: Trainer's states have its times.
        if key not in RUN_FACTS and not is_timing(key) and key != "files":
            kept[key] = without_facts(item)
    return kept
