"""Two runs of a stage on one output, as processes: one works, the other exits 2 with one line or has nothing
to do. Whatever they do, the output is that of one run.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

from utils.jsonl import read_json, read_jsonl

ROOT = Path(__file__).resolve().parent.parent
TEST_DATA = "--test-data data/processed/test.jsonl"


def start(command: str, home: Path) -> subprocess.Popen:
    """A stage as a process of its own."""
    environment = {**os.environ, "FACTUALITY_HOME": str(home), "OMP_NUM_THREADS": "1"}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, *command.split()], cwd=ROOT, env=environment, **pipes)


def run_twice(command: str, home: Path, seconds_apart: float) -> None:
    """Start a command twice and check what both say; asserts that exactly one of them did the work."""
    runs = [start(command, home)]
    time.sleep(seconds_apart)
    runs.append(start(command, home))
    spoken = [run.communicate(timeout=600) for run in runs]
    codes = [run.returncode for run in runs]
    assert 0 in codes, spoken
    # Where both start at once, either may come first.
    second = codes.index(2) if 2 in codes else 1
    out, err = spoken[second]
    if codes[second] == 0:
        # A busy machine may start the second when the first is done.
        assert "nothing to" in out, (out, err)
        return
    problem = err.strip().splitlines()[-1]
    first = runs[1 - second]
    assert codes[second] == 2 and problem.startswith("error: ") and err.count("error: ") == 1, err
    assert (
        f"process {first.pid} on " in problem and ", started 20" in problem and command.split()[0] in problem
    )
    assert "Traceback" not in err


def no_locks_left(home: Path) -> bool:
    return not [path for path in home.rglob(".*") if ".lock" in path.name or "partial" in path.name]


def test_two_evaluations(home, tiny_gemma_dir):
    flags = f"--model-path {tiny_gemma_dir} {TEST_DATA} --max-new-tokens 100 --batch-size 2 --output e.json"
    run_twice(f"evaluate_sft_fast_robust.py {flags}", home, 0)
    samples = [row for _, row in read_jsonl(home / "data/processed/test.jsonl")]
    rows = [row for _, row in read_jsonl(home / "e_predictions.jsonl")]
    assert [row["id"] for row in rows] == [sample["id"] for sample in samples]
    assert read_json(home / "e.json")["sft"]["n"] == len(samples) and no_locks_left(home)


def test_two_preference_runs(home, tiny_gemma_dir):
    models = f"--sft-model {tiny_gemma_dir} --base-model {tiny_gemma_dir}"
    models += " --models sft,base"
    limits = "--max-samples 20 --n-generations 2 --max-new-tokens 60 --max-input-tokens 600 --batch-size 4"
    run_twice(f"make_prefs.py --phase generate {models} {limits}", home, 1)
    (cache,) = (home / "prefs/cache").iterdir()
    assert read_json(cache / "manifest.json")["status"] == "complete"
    for name in ("sft", "base"):
        rows = [row for _, row in read_jsonl(cache / f"gens_{name}.jsonl")]
        assert len({(row["id"], row["n"]) for row in rows}) == len(rows) == 40
    assert no_locks_left(home)


def test_two_builds(tmp_path, data_home):
    flags = "--sample --data-dir data --max-chunks 3 --max-chunk-words 20 --split 0.6,0.2,0.2 --limit 30"
    run_twice(f"build_data.py {flags}", tmp_path, 0.3)
    for split in ("train", "val", "test"):
        built = (tmp_path / f"data/processed/{split}.jsonl").read_bytes()
        assert built == (data_home / f"data/processed/{split}.jsonl").read_bytes()
    assert read_json(tmp_path / "data/processed/run.json")["status"] == "complete" and no_locks_left(tmp_path)


SFT_CONFIG = """
model_name: {model}
output_dir: sft
attn_implementation: eager
lora: {{r: 4, alpha: 8}}
training: {{max_seq_length: 700, eval_steps: 1000, save_steps: 4, num_train_epochs: 1, save_total_limit: 2}}
data: {{max_samples: 48, max_val_samples: 4, max_generated_val_samples: 0}}
"""


def test_two_trainings(home, tiny_gemma_dir):
    (home / "sft.yaml").write_text(SFT_CONFIG.format(model=tiny_gemma_dir))
    run_twice(f"train_sft.py -c {home / 'sft.yaml'}", home, 2)
    run = read_json(home / "sft/run.json")
    assert run["status"] == "complete"
    history = read_json(home / "sft/training_history.json")
    assert history and (home / "sft/checkpoint-final/run.json").is_file() and no_locks_left(home)


def test_two_folders_of_prompts_wait_for_each_other(tmp_path):
    # Both take a moment, so the second one waits.
    runs = [start("prompt_schema.py save --prompts-dir prompts", tmp_path) for _ in range(2)]
    assert [run.communicate(timeout=60) and run.returncode for run in runs] == [0, 0]
    assert no_locks_left(tmp_path)
