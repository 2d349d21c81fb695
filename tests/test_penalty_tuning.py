"""`--tune-penalties`: weights chosen on val, by hand, and where a run keeps and uses them."""

import json

import numpy as np
import pytest

import train_rm
from preferences.inputs import check_exportable
from preferences.penalty_tuning import ScoredPairs, describe_tuning, search_weights
from preferences.reward import PENALTIES
from preferences.reward_config import reading_of
from tests.test_reward import preference
from utils.completions import render_completion
from utils.errors import UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl

GIVEN = {"citation": 0.2, "confidence": 0.1, "length": 0.05, "overcitation": 0.15, "span": 0.25}


def scored(rows: list[tuple[float, dict]]) -> ScoredPairs:
    """Pairs from (head score, penalties that are not 0) of their completions, which alternate."""
    none = dict.fromkeys(PENALTIES, 0.0)
    penalties = [none | penalty for _, penalty in rows]
    return ScoredPairs(np.array([score for score, _ in rows]), penalties, ["pair"] * (len(rows) // 2))


def test_a_penalty_that_ranks_pairs_right_gets_the_nearest_weight_that_does():
    # The head prefers the rejected completion by 0.6, so the penalty must take more than that.
    found = search_weights(scored([(0.0, {}), (0.6, {"span": 1.0})] * 5), GIVEN)
    assert found == GIVEN | {"span": 0.75}


def test_a_penalty_that_misleads_gets_less_weight():
    # Here what was chosen has the penalty, and the head is right by 0.1.
    found = search_weights(scored([(0.1, {"citation": 1.0}), (0.0, {})] * 5), GIVEN)
    assert found == GIVEN | {"citation": 0.05}


def test_what_makes_no_difference_keeps_the_weights_of_the_yaml():
    assert search_weights(scored([(1.0, {}), (0.0, {"length": 1.0})] * 5), GIVEN) == GIVEN
    odd = {**GIVEN, "length": 0.07}
    assert search_weights(scored([(0.0, {}), (1.0, {})] * 5), odd) == odd


@pytest.fixture
def home(sample, tiny_gemma_dir, tmp_path, monkeypatch):
    """A home with pairs whose chosen completions have the penalty for citations that do not exist."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    rows = []
    for i in range(20):
        row = preference(i, sample, render_completion("Warsaw", [0], 0.5 + i / 100))
        row["chosen"][0]["content"] = render_completion("Warsaw", [0, 9], 0.5 + i / 100)
        rows.append(row)
    write_jsonl(tmp_path / "p.jsonl", rows)
    config = {"base_model": str(tiny_gemma_dir), "output_dir": "rm", "learning_rate": 1e-9, "num_epochs": 1}
    # So large that the head cannot make up for it.
    config |= {"val_fraction": 0.2, "test_fraction": 0.2, "citation_penalty_weight": 50.0}
    (tmp_path / "rm.yaml").write_text(json.dumps(config))
    return tmp_path


def test_a_run_keeps_and_uses_the_tuned_weights(home, capsys):
    run = ["-c", str(home / "rm.yaml"), "--prefs", "p.jsonl"]
    train_rm.main([*run, "--tune-penalties"])
    assert "penalty weights tuned on 4 val pairs: citation 50 -> " in capsys.readouterr().out
    saved = read_json(home / "rm/best/config.json")
    tuning = saved["penalty_tuning"]
    assert tuning["given"]["citation"] == 50.0 and tuning["tuned"] == saved["penalty_weights"]
    assert tuning["tuned"]["citation"] < 50.0
    val = tuning["val"]
    assert val["tuned"]["macro_roc_auc"] > val["given"]["macro_roc_auc"]
    assert saved["metrics"]["macro_roc_auc"] == val["tuned"]["macro_roc_auc"]
    assert f"| citation | {tuning['tuned']['citation']} |" in (home / "rm/best/README.md").read_text()

    validation = read_json(home / "rm/validation.json")
    assert validation["penalty_tuning"] == tuning and validation["penalty_weights"] == tuning["tuned"]
    assert validation["test"]["yaml_weights"]["accuracy"] == 0.0
    manifest = read_json(home / "rm/run.json")
    assert manifest["penalty_tuning"]["best"] == tuning and "final" in manifest["penalty_tuning"]

    # Later uses read the weights from the head, not from the YAML.
    train_rm.main([*run, "--validate-only"])
    assert read_json(home / "rm/validation.json") == validation
    row = {"id": "x", "question": "q", "evidence_chunks": [{"title": "t", "text": "x"}]}
    write_jsonl(home / "c.jsonl", [row | {"completion": render_completion("x", [5], 0.0)}])
    train_rm.main(["-c", str(home / "rm.yaml"), "--score", "c.jsonl"])
    [(_, scored_row)] = read_jsonl(home / "c_scores.jsonl")
    weights = tuning["tuned"]
    assert scored_row["head_score"] - scored_row["reward"] == pytest.approx(
        weights["citation"] + weights["span"], abs=1e-4
    )


def test_a_finished_head_is_tuned_without_training_again(home, capsys):
    run = ["-c", str(home / "rm.yaml"), "--prefs", "p.jsonl"]
    train_rm.main(run)
    before = (home / "rm/best/reward_head.safetensors").read_bytes()
    assert read_json(home / "rm/validation.json")["penalty_tuning"] is None
    capsys.readouterr()
    train_rm.main([*run, "--tune-penalties"])
    assert "--validate-only --tune-penalties" in capsys.readouterr().err
    train_rm.main([*run, "--validate-only", "--tune-penalties"])
    tuning = read_json(home / "rm/best/config.json")["penalty_tuning"]
    assert read_json(home / "rm/run.json")["penalty_tuning"] == {"best": tuning}
    assert describe_tuning(tuning) in capsys.readouterr().out
    assert (home / "rm/best/reward_head.safetensors").read_bytes() == before


def test_rows_to_score_choose_no_weights_and_take_no_flag_that_changes_nothing(home):
    write_jsonl(home / "c.jsonl", [])
    run = ["-c", str(home / "rm.yaml"), "--score", "c.jsonl"]
    with pytest.raises(UsageError, match="leave --score out"):
        train_rm.main([*run, "--tune-penalties"])
    for flags in (["--validate-only"], ["--limit", "2"], ["--prefs", "p.jsonl"], ["--push-to-hub", "a/b"]):
        with pytest.raises(UsageError, match=f"leave {flags[0]} out"):
            train_rm.main([*run, *flags])


def test_a_head_is_read_in_the_bits_it_was_trained_in():
    saved = {"template": "default", "max_seq_length": 64}
    assert "load_in_8bit" not in reading_of(saved)
    assert reading_of({**saved, "load_in_8bit": True})["load_in_8bit"] is True
    with pytest.raises(UsageError, match="load_in_8bit is true, .* base model's own weights"):
        check_exportable({"load_in_8bit": True})
