"""Killed at any moment and run again, the stages from preferences on write the bytes of an undisturbed run.

Each phase runs undisturbed once. Then it is killed at some moments, and run again each time: half of the
moments are spread over its time, and half over its changes of files, where a kill does most harm. The moments
are random, with a seed. So are those of Ctrl-C and of `kill`, which a stage notices.
"""

import json
import shutil
import signal
from pathlib import Path

import pytest

from tests.faults.form import count
from tests.killing import RUN_FACTS, SIGNALS, KillServer, StoppedPhases
from training.logged import is_timing
from utils.completions import gold_completion, render_completion
from utils.jsonl import read_json, read_jsonl, write_jsonl

ROOT = Path(__file__).resolve().parent.parent

DATA = ("--data-path", "data/val.jsonl")
GENERATE = "--phase generate --sft-model sft --base-model tiny --models sft,base --batch-size 4 --seed 1"
JUDGE = ("make_prefs.py", ["--phase", "judge", *DATA, "--min-margin", "0", "--hard-rejections"])
LLM = "--judge llm --judge-model tiny --min-label-share 0 --judge-batch-size 4"
RM = ("train_rm.py", ["-c", "{home}/rm.yaml"])
ADAPTER = "--set lora.r=2 --set lora.batch_size=1 --set lora.save_steps=2 --set lora.num_epochs=2".split()
# Phase -> (script, arguments).
PHASES = {
    "generate": ("make_prefs.py", [*GENERATE.split(), *DATA, "--max-new-tokens", "12"]),
    "verifier": (JUDGE[0], [*JUDGE[1], "--judge", "verifier"]),
    "llm judge": (JUDGE[0], [*JUDGE[1], *LLM.split()]),
    "features": RM,
    "head": RM,
    "adapter": (RM[0], [*RM[1], *ADAPTER]),
    "policy": ("train_dpo.py", ["-c", "{home}/dpo.yaml"]),
}
N_SAMPLES = 10
CONFIG = {
    **{"base_model": "tiny", "output_dir": "rm", "learning_rate": 1e-2, "num_epochs": 4, "batch_size": 4},
    **{"eval_batch_size": 4, "max_seq_length": 900, "val_fraction": 0.25, "test_fraction": 0.25},
    **{"eval_steps": 3, "save_steps": 4, "logprob_features": True},
}
POLICY = {
    **{"sft_model": "sft", "output_dir": "policy", "bf16": False},
    "training": {
        **{"per_device_train_batch_size": 2, "num_train_epochs": 2, "logging_steps": 1, "eval_steps": 3},
        **{"save_steps": 2, "save_total_limit": 2, "learning_rate": 1e-2},
    },
    "data": {
        **{"val_path": "data/val.jsonl", "max_generated_val_samples": 2, "max_calibration_samples": 2},
        "candidates": "sampled",
    },
}
N_KILLS = count(4, 20)
N_STOPS = count(1, 4)
# What an SFT checkpoint says of itself.
SFT_FACTS = {"template": "default", "base_model": "tiny", "max_prompt_tokens": 900}


@pytest.fixture(scope="module")
def server():
    found = KillServer()
    yield found
    found.process.communicate()


def add_checkpoint(home: Path) -> None:
    """An adapter with random weights on the tiny model, in home/sft."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_pretrained(home / "tiny")
    # False: the second matrix is random too, so that the adapter changes the texts.
    adapter = LoraConfig(r=2, target_modules=["q_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
    get_peft_model(model, adapter).save_pretrained(home / "sft")
    for path in (home / "tiny").glob("*token*"):
        shutil.copy(path, home / "sft")


def improve_candidates(home: Path) -> None:
    """Replaces candidates by completions that a judge can rank: a random model writes nothing of use."""
    [cache] = (home / "prefs/cache").iterdir()
    samples = {row["id"]: row for _, row in read_jsonl(home / "data/val.jsonl")}
    for name in ("sft", "base"):
        rows = [row for _, row in read_jsonl(cache / f"gens_{name}.jsonl")]
        for row in rows:
            if name == "sft" and row["n"] == 0:
                row["completion"] = gold_completion(samples[row["id"]], row["shown"])
            if name == "base" and row["n"] == 1:
                row["completion"] = render_completion("the wrong answer", [1], 0.8)
        write_jsonl(cache / f"gens_{name}.jsonl", rows)


@pytest.fixture(scope="module")
def prepared(server, data_home, tiny_gemma_dir, tmp_path_factory):
    """Phase -> the home that it starts in."""
    folder = tmp_path_factory.mktemp("kills")
    found = {"generate": folder / "start"}
    home = found["generate"]
    shutil.copytree(tiny_gemma_dir, home / "tiny")
    (home / "data").mkdir()
    rows = [row for _, row in read_jsonl(data_home / "data/processed/val.jsonl")]
    write_jsonl(home / "data/val.jsonl", rows[:N_SAMPLES])
    add_checkpoint(home)
    (home / "rm.yaml").write_text(json.dumps(CONFIG))

    def after(phase: str, name: str) -> Path:
        later = folder / name
        shutil.copytree(found[phase], later)
        server.run(PHASES[phase], later)
        return later

    found["verifier"] = found["llm judge"] = after("generate", "generated")
    improve_candidates(found["verifier"])
    found["features"] = found["adapter"] = after("verifier", "judged")
    found["policy"] = folder / "paired"
    shutil.copytree(found["features"], found["policy"])
    (found["policy"] / "sft/run.json").write_text(json.dumps(SFT_FACTS))
    (found["policy"] / "dpo.yaml").write_text(json.dumps(POLICY))
    found["head"] = folder / "read"
    shutil.copytree(found["features"], found["head"])
    read = after("features", "trained")
    shutil.copytree(read / "rm/features", found["head"] / "rm/features")
    return found


def of_policy(found: dict[str, object]) -> dict[str, object]:
    """Of what a policy run left, what does not depend on how fast it was: Trainer's states have its times."""
    names = ("reference.safetensors", "adapter_model.safetensors", "calibration.json", "train_ids.txt")
    kept = {name: value for name, value in found.items() if Path(name).name in names}
    history = found["policy/training_history.json"]
    for row in history["eval_metrics"]:
        for name in [name for name in row if is_timing(name)]:
            del row[name]
    return {**kept, "history": history}


def results_in(home: Path) -> dict[str, object]:
    """What a phase left: every file by its path, hidden ones too, with its content without `RUN_FACTS`."""
    found: dict[str, object] = {}
    for path in sorted(home.rglob("*")):
        name = str(path.relative_to(home))
        # The report shows what is there, with its times; a test of its own compares it.
        if path.is_dir() or name == "report.html":
            continue
        found[name] = path.read_bytes()
        if path.suffix == ".json":
            value = read_json(path)
            found[name] = {key: value[key] for key in value.keys() - RUN_FACTS}
    return of_policy(found) if (home / "policy").is_dir() else found


@pytest.fixture(scope="module")
def phases(server, prepared, tmp_path_factory):
    return StoppedPhases(server, PHASES, prepared, results_in, tmp_path_factory.mktemp("undisturbed"))


@pytest.mark.parametrize("number", range(N_KILLS))
@pytest.mark.parametrize("phase", PHASES)
def test_a_killed_phase_writes_the_bytes_of_an_undisturbed_one(phase, number, phases, tmp_path):
    home = phases.home(phase, tmp_path / "home")
    phases.stop(phase, home, signal.SIGKILL, **phases.moment(phase, number, N_KILLS))
    phases.check_rerun(phase, home)


@pytest.mark.parametrize("number", range(N_STOPS))
@pytest.mark.parametrize("phase", PHASES)
def test_a_stopped_phase_says_so_and_is_continued(phase, number, phases, tmp_path):
    home = phases.home(phase, tmp_path / "home")
    phases.stop(phase, home, SIGNALS[number % 2], **phases.moment(phase, number, N_STOPS))
    phases.check_rerun(phase, home, was_stopped=True)
