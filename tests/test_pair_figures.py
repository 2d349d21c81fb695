"""Figures of test pairs per kind and source, and without the samples that the SFT model was trained on."""

import numpy as np
import pytest

from preferences.pair_figures import by_part, describe_sft, pair_figures, sft_figures
from preferences.sft_samples import SftSamples, sft_samples
from utils.jsonl import write_json


def rows_of(n: int) -> list[dict]:
    """Pairs of n / 2 samples, two each, of two kinds and sources."""
    rows = []
    for i in range(n):
        sample = i // 2
        names = {"sample_id": f"s{sample}", "group": f"g{sample // 2}", "source": "ab"[sample % 2]}
        rows.append({**names, "kind": "xy"[i % 2], "margin": 0.25 * (1 + i % 3)})
    return rows


def test_each_part_has_accuracy_and_area_with_intervals():
    groups = [f"g{i % 30}" for i in range(90)]
    # Of kind y every second pair is wrong, by scores that are the same in all pairs: area 0.5.
    kinds = ["x"] * 30 + ["y"] * 60
    chosen = np.r_[np.ones(30), np.tile([1.0, 0.0], 30)]
    rejected = np.r_[np.zeros(30), np.tile([0.0, 1.0], 30)]
    found = by_part(chosen, rejected, kinds, groups, 42)
    assert found["x"] == {
        **{"n": 30, "accuracy": 1.0, "roc_auc": 1.0},
        "ci95": {"accuracy": [1.0, 1.0], "roc_auc": [1.0, 1.0]},
    }
    assert found["y"]["n"] == 60 and found["y"]["accuracy"] == found["y"]["roc_auc"] == 0.5
    for low, high in found["y"]["ci95"].values():
        assert 0.2 < low < 0.5 < high < 0.8
    few = by_part(chosen[:9], rejected[:9], kinds[:9], groups[:9], 42)
    assert few["x"]["ci95"] == {"accuracy": None, "roc_auc": None}


def sides_of(n: int) -> dict:
    rng = np.random.default_rng(1)
    return {name: (rng.normal(0.5, 1, n), rng.normal(0, 1, n)) for name in ("reward", "head_only")}


def test_figures_without_the_groups_of_samples_that_were_trained_on():
    rows = rows_of(100)
    sides = sides_of(100)
    found = sft_figures(rows, sides, SftSamples(["sft"], {"s0", "s1", "s5", "elsewhere"}), 42)
    # s0 and s1 share a group; s4 is in the group of s5, so it is left out without being counted.
    assert found["n_test_pairs"] == 6 and found["models"] == ["sft"] and found["problem"] is None
    left = [i for i, row in enumerate(rows) if row["sample_id"] not in ("s0", "s1", "s4", "s5")]
    of_left = {name: (chosen[left], rejected[left]) for name, (chosen, rejected) in sides.items()}
    expected = pair_figures([rows[i] for i in left], of_left, 42)
    assert found["without"]["n_test_pairs"] == 92 and found["without"]["n_test_groups"] == 23
    for name in ("test", "over_kinds"):
        assert found["without"][name] == expected[name]
    assert describe_sft(found, 100).startswith(
        "test pairs of samples that sft was trained on: 6 of 100; without their groups 92 pairs: reward acc"
    )


@pytest.mark.parametrize("ids, n", [({"elsewhere"}, 0), ({f"s{i}" for i in range(50)}, 100)])
def test_there_are_no_figures_without_none_and_without_all(ids, n):
    found = sft_figures(rows_of(100), sides_of(100), SftSamples(["sft"], ids), 42)
    assert found["n_test_pairs"] == n and found["without"] is None
    assert describe_sft(found, 100) == f"test pairs of samples that sft was trained on: {n} of 100"


# --- which samples these are


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home with an SFT run, and with the manifest of candidates that its model wrote."""
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "sft/checkpoint-best").mkdir(parents=True)
    (tmp_path / "sft/train_ids.txt").write_text("s0\ns1\n")
    settings = {"sft_model": "sft/checkpoint-best"}
    write_json(tmp_path / "prefs/cache/abc/manifest.json", {"status": "complete", "settings": settings})
    return tmp_path


def test_the_model_that_wrote_the_candidates_names_its_samples(home):
    found = sft_samples(home / "prefs/preferences_abc-1.jsonl", "some/base")
    assert found.models == ["sft/checkpoint-best"] and {"s0", "s1"} <= found.ids and found.problem is None
    # It may be the base model of the reward, and is named once.
    again = sft_samples(home / "prefs/preferences_abc-1.jsonl", str(home / "sft/checkpoint-best"))
    assert again == found
    assert sft_samples(home / "p.jsonl", "sft/checkpoint-best") == found


def test_what_nothing_tells_is_unknown(home):
    unknown = sft_samples(home / "p.jsonl", "some/base")
    assert unknown.problem == "no train_ids.txt of a model that wrote them"
    found = sft_figures(rows_of(4), sides_of(4), unknown, 42)
    assert found["n_test_pairs"] is None and found["without"] is None
    assert "unknown (no train_ids.txt" in describe_sft(found, 4)
    (home / "sft").rename(home / "moved")
    path = home / "prefs/preferences_abc-1.jsonl"
    assert sft_samples(path, "some/base").problem == "sft/checkpoint-best is no longer there"
    (home / "moved").rename(home / "sft")
    (home / "sft/train_ids.txt").unlink()
    write_json(home / "sft/checkpoint-best/run.json", {"status": "complete"})
    assert sft_samples(path, "some/base").problem == "sft/checkpoint-best: train_ids.txt is missing"
