"""Finished stages elsewhere: a moved base model or home, a replaced model, and data that is refused."""

import shutil

import pytest
import torch

import evaluate_sft_fast_robust as evaluation
import make_prefs
import robustness
import train_rm
import train_sft
from evaluation.predictions import log_key, prompt_settings
from models.base import model_key
from preferences.features import features_folder
from preferences.reward_config import DEFAULTS
from tests.test_sft_runs import overrides, write_config
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl

CHECKPOINT = "sft/checkpoint-best"


@pytest.fixture(scope="module")
def trained_home(data_home, tiny_gemma_dir, tmp_path_factory):
    """A home with data, a base model in it, and a checkpoint that was trained on that."""
    home = tmp_path_factory.mktemp("trained") / "home"
    shutil.copytree(data_home / "data", home / "data")
    shutil.copytree(tiny_gemma_dir, home / "models/base")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        config = write_config(home, home / "models/base", max_steps=2)
        train_sft.main(["-c", str(config)])
    return home


@pytest.fixture
def moved_home(trained_home, tmp_path, monkeypatch):
    """A copy of that home under another path."""
    home = tmp_path / "elsewhere"
    shutil.copytree(trained_home, home)
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    return home


@pytest.fixture
def other_base(make_model, tokenizer, tmp_path):
    """A model of the same shape with other weights."""
    model = make_model("gemma2")
    with torch.no_grad():
        model.model.layers[0].mlp.up_proj.weight.add_(0.5)
    model.save_pretrained(tmp_path / "other")
    tokenizer.save_pretrained(tmp_path / "other")
    return tmp_path / "other"


def evaluate(*flags: str) -> dict:
    """A run of the evaluation on four test samples; its results."""
    fixed = f"--model-path {CHECKPOINT} --test-data data/processed/test.jsonl --limit 4 --max-new-tokens 4"
    evaluation.main([*fixed.split(), "--overwrite", *flags])
    return read_json(evaluation.home_path("eval_results.json"))


def perturb(*flags: str) -> None:
    fixed = f"--model-path {CHECKPOINT} --test-data data/processed/test.jsonl --limit 3 --max-new-tokens 4"
    robustness.main([*fixed.split(), "--suite", "order", "--overwrite", *flags])


def prefer(*flags: str) -> None:
    fixed = f"--sft-model {CHECKPOINT} --data-path data/processed/train.jsonl --max-samples 6"
    make_prefs.main([*fixed.split(), "--models", "sft,base", "--max-new-tokens", "4", *flags])


# --- the base model


def test_the_checkpoints_own_base_is_the_default_and_another_is_refused(moved_home, other_base, capsys):
    results = evaluate("--compare-baseline")
    assert "base" in results and results["run"]["settings"]["base_model"] == "models/base"
    for run in (evaluate, perturb, prefer):
        with pytest.raises(UsageError, match=f"--base-model {other_base}: .* was trained on models/base"):
            run("--base-model", str(other_base))
    capsys.readouterr()


def test_a_base_that_moved_is_named_with_the_flag(moved_home, other_base):
    moved = shutil.move(moved_home / "models/base", moved_home / "new_place")
    for run in (evaluate, perturb, prefer):
        with pytest.raises(DataError, match="its base model models/base is no longer there; .* --base-model"):
            run()
    results = evaluate("--base-model", str(moved), "--compare-baseline")
    assert results["sft"]["n"] == results["base"]["n"] == 4
    perturb("--base-model", "new_place")
    prefer("--base-model", "new_place", "--phase", "generate")
    config = moved_home / "c.yaml"
    merge = ["-c", str(config), "--merge", "merged", *overrides("model_name=new_place")]
    train_sft.main(merge)
    # What the model was trained on goes with it.
    assert (moved_home / "merged/train_ids.txt").is_file()
    assert read_json(moved_home / "merged/run.json")["base_model"] == "models/base"
    wrong = [*merge[:3], "wrong", *overrides(f"model_name={other_base}")]
    with pytest.raises(UsageError, match="was trained on models/base"):
        train_sft.main(wrong)


def test_another_model_in_the_place_of_the_base_is_noticed(moved_home, other_base, capsys):
    keys = prompt_settings(str(moved_home / CHECKPOINT), None, base_model="models/base")
    config = {**DEFAULTS, "base_model": "models/base", "output_dir": "rm"}
    features = features_folder(config, "template")
    shutil.rmtree(moved_home / "models/base")
    shutil.copytree(other_base, moved_home / "models/base")
    for run in (evaluate, perturb, prefer):
        with pytest.raises(DataError, match="models/base has other weights than the base model it was"):
            run()
    with pytest.raises(UsageError, match=r"made with other settings: .*models.models/base \(was"):
        train_sft.main(["-c", str(moved_home / "c.yaml"), *overrides("model_name=models/base")])
    assert features_folder(config, "template") != features
    assert log_key({**keys, "base_key": model_key("models/base")}) != log_key(keys)


# --- the home


def test_training_is_complete_in_a_copied_home(moved_home, capsys):
    config = str(moved_home / "c.yaml")
    # The config names the base by its old absolute path, which a copy still has.
    train_sft.main(["-c", config])
    assert "nothing to do" in capsys.readouterr().out
    train_sft.main(["-c", config, *overrides(f"model_name={moved_home / 'models/base'}")])
    assert "nothing to do" in capsys.readouterr().out


def test_no_settings_of_a_checkpoint_name_an_absolute_path(trained_home):
    # The config named the base by its absolute path.
    for path in (trained_home / CHECKPOINT).glob("*.json"):
        assert str(trained_home) not in path.read_text(encoding="utf-8"), path.name


def test_an_interrupted_evaluation_is_resumed_in_a_moved_home(moved_home, monkeypatch):
    base = str(moved_home / "models/base")
    before = log_key(prompt_settings(str(moved_home / CHECKPOINT), None, base_model=base))
    shutil.move(moved_home, moved_home.with_name("again"))
    home = moved_home.with_name("again")
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    after = prompt_settings(str(home / CHECKPOINT), None, base_model=str(home / "models/base"))
    assert log_key(after) == before


def test_candidates_judgements_and_rewards_go_on_in_a_moved_home(moved_home, monkeypatch, capsys):
    home = moved_home
    generate = ["--phase", "generate", "--base-model", "models/base"]
    prefer(*generate)
    [cache] = (home / "prefs/cache").iterdir()
    # A random model says nothing that a judge could rank, so gold answers stand in for half of its texts.
    gold_candidates(home, cache)
    prefer("--phase", "judge")
    rm = home / "rm.yaml"
    rm.write_text(
        "{base_model: models/base, output_dir: rm, num_epochs: 1, batch_size: 2, max_seq_length: 900, "
        "val_fraction: 0.3, test_fraction: 0.3}"
    )
    train_rm.main(["-c", str(rm)])
    features = sorted(path.name for path in (home / "rm/features").rglob("*.safetensors"))

    shutil.move(home, home.with_name("moved"))
    home = home.with_name("moved")
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    capsys.readouterr()
    absolute = ["--sft-model", str(home / CHECKPOINT), "--base-model", str(home / "models/base")]
    data = "--data-path data/processed/train.jsonl --max-samples 6"
    fixed = f"{data} --models sft,base --max-new-tokens 4 --phase"
    make_prefs.main([*absolute, *fixed.split(), "generate"])
    assert "are complete; nothing to generate" in capsys.readouterr().out
    # Judging finds the cache by what its models are, and needs none of them.
    make_prefs.main([*absolute, *fixed.split(), "judge"])
    assert len(list((home / "prefs").glob("preferences_*.jsonl"))) == 1
    train_rm.main(["-c", str(home / "rm.yaml")])
    assert "nothing to do" in capsys.readouterr().out
    train_rm.main(["-c", str(home / "rm.yaml"), "--validate-only"])
    assert sorted(path.name for path in (home / "rm/features").rglob("*.safetensors")) == features


def gold_candidates(home, cache) -> None:
    """Replaces the base model's candidates by gold answers."""
    from utils.completions import gold_completion

    samples = {row["id"]: row for _, row in read_jsonl(home / "data/processed/train.jsonl")}
    rows = [row for _, row in read_jsonl(cache / "gens_base.jsonl")]
    for row in rows:
        row["completion"] = gold_completion(samples[row["id"]], row["shown"])
    write_jsonl(cache / "gens_base.jsonl", rows)


# --- test data


def test_preferences_of_test_data_need_the_flag(moved_home, capsys):
    test = "data/processed/test.jsonl"
    with pytest.raises(UsageError, match="test.jsonl: it is a test split; .*--allow-test"):
        prefer("--phase", "generate", "--data-path", test)
    assert not (moved_home / "prefs").exists()
    prefer("--phase", "generate", "--data-path", test, "--allow-test")
    assert "warning: " in capsys.readouterr().err
    [manifest] = (moved_home / "prefs/cache").glob("*/manifest.json")
    assert read_json(manifest)["allow_test"] is True
    assert "it is a test split" in read_json(manifest)["warnings"][0]
    gold_in_test = {row["id"]: row for _, row in read_jsonl(moved_home / test)}
    write_jsonl(moved_home / "copy.jsonl", list(gold_in_test.values())[:5])
    with pytest.raises(UsageError, match="5 of its 5 samples are of the test split"):
        prefer("--phase", "generate", "--data-path", "copy.jsonl")


def test_training_on_test_data_needs_the_flag(moved_home, capsys):
    config = ["-c", str(moved_home / "c.yaml"), *overrides("output_dir=second", "training.max_steps=1")]
    test = overrides("data.train_path=data/processed/test.jsonl")
    with pytest.raises(UsageError, match="test.jsonl: it is a test split; .*--allow-test"):
        train_sft.main([*config, *test])
    with pytest.raises(UsageError, match="test.jsonl: it is a test split; .*--allow-test"):
        train_sft.main([*config, *test, "--dry-run"])
    train_sft.main([*config, *test, "--allow-test"])
    run = read_json(moved_home / "second/run.json")
    assert run["allow_test"] is True and "it is a test split" in run["warnings"][0]
    capsys.readouterr()


def test_an_evaluation_on_training_data_is_warned_of_with_the_count(moved_home, capsys):
    train = "data/processed/train.jsonl"
    results = evaluate("--test-data", train)
    n_seen = len(
        set((moved_home / "sft/train_ids.txt").read_text().split("\n"))
        & {row["id"] for _, row in read_jsonl(moved_home / "eval_results_predictions.jsonl")}
    )
    assert n_seen
    [warning] = results["run"]["warnings"]
    assert f"{n_seen} of 4 samples are in the training data" in warning
    assert warning in capsys.readouterr().err
    perturb("--test-data", train)
    assert "samples are in the training data" in capsys.readouterr().err
    assert evaluate()["run"]["warnings"] == []


def test_val_samples_that_are_trained_on_are_warned_of_with_the_count(moved_home, capsys):
    values = ("output_dir=second", "training.max_steps=1", "data.val_path=data/processed/train.jsonl")
    train_sft.main(["-c", str(moved_home / "c.yaml"), *overrides(*values), "--dry-run"])
    assert "val samples are training samples too" in capsys.readouterr().err
    train_sft.main(["-c", str(moved_home / "c.yaml"), *overrides(*values)])
    assert " val samples are training samples too" in capsys.readouterr().err
    assert "training samples too" in read_json(moved_home / "second/run.json")["warnings"][0]
