"""A head that is validated later keeps its split and its prompts: what it learned from is never a test."""

import json
import shutil

import numpy as np
import pytest

import train_rm
from preferences.pairs import _length_sign
from preferences.split_record import split_for_head, write_split
from tests.test_reward import preference
from utils.errors import DataError, UsageError
from utils.jsonl import read_json, sha256_file, write_json, write_jsonl

CHUNKS = [{"title": "Marie Curie", "text": "She was born in Warsaw in 1867."}]
FRACTIONS = {"seed": 1, "val_fraction": 0.2, "test_fraction": 0.2}


def pair(i: int, group: str | None = None) -> dict:
    """A pair of a sample of its own; the longer completion is the worse one."""
    sample = {"id": f"own:{i}", "source": "own", "question": f"Where was she {i}?", "evidence_chunks": CHUNKS}
    row = preference(i, sample, "nothing " * (3 + i % 3))
    return row | {"group": group or f"g{i}"}


@pytest.fixture
def recorded(tmp_path):
    """A head of ten pairs: train 0-5, val 6 and 7, test 8 and 9."""
    sides = {"train": list(range(6)), "val": [6, 7], "test": [8, 9]}
    write_split(tmp_path, [pair(i) for i in range(10)], sides, {"preferences": "p.jsonl"})
    return tmp_path / "best"


def test_groups_keep_their_side_and_new_ones_are_test(recorded, tmp_path):
    # In another order, with two new groups, and with another seed and other fractions.
    rows = [pair(i) for i in (11, 9, 7, 5, 3, 1, 0, 10)]
    split, said = split_for_head(recorded, rows, tmp_path / "p2.jsonl", FRACTIONS)
    assert split.sides == {"train": [3, 4, 5, 6], "val": [2], "test": [0, 1, 7]}
    assert split.n_new_test_pairs == 2
    assert (
        "(on p.jsonl): train 4, val 1, test 3; 2 of the test pairs are of groups that this file had not"
        in said
    )


def test_samples_are_known_by_other_group_names_and_take_their_group_along(recorded, tmp_path):
    # Of another build: sample 0 was trained on and is now in one group with samples 8 and 20.
    rows = [pair(8, "other"), pair(0, "other"), pair(20, "other"), pair(6, "another"), pair(21)]
    split, _ = split_for_head(recorded, rows, tmp_path / "p2.jsonl", FRACTIONS)
    assert split.sides == {"train": [0, 1, 2], "val": [3], "test": [4]}


def test_a_sample_in_several_groups_tells_no_side(tmp_path):
    rows = [{**pair(0), "group": f"g{i}"} for i in range(6)]
    write_split(tmp_path, rows, {"train": [0, 1], "val": [2, 3], "test": [4, 5]}, {"preferences": "p"})
    split, _ = split_for_head(tmp_path / "best", rows, tmp_path / "p", FRACTIONS)
    assert split.sides == {"train": [0, 1], "val": [2, 3], "test": [4, 5]}


def test_pairs_that_were_all_learned_from_are_no_test(recorded, tmp_path):
    with pytest.raises(DataError, match="all 3 pairs are of groups that .*best was trained or chosen on"):
        split_for_head(recorded, [pair(i) for i in (0, 1, 6)], tmp_path / "p2.jsonl", FRACTIONS)


def test_a_head_without_the_record_is_split_again_with_a_warning(tmp_path):
    split, said = split_for_head(tmp_path / "best", [pair(i) for i in range(10)], tmp_path / "p", FRACTIONS)
    assert split.sizes == {"train": 6, "val": 2, "test": 2} and split.n_new_test_pairs is None
    assert said.startswith("warning: ") and "no split.json beside it" in said


def test_the_sign_of_length_is_learned_on_train_pairs():
    n_tokens = np.array([9, 2, 8, 3, 1, 7])
    assert _length_sign(n_tokens, [0, 1]) == 1
    assert _length_sign(n_tokens, [2]) == -1
    # No pair tells: as before.
    assert _length_sign(n_tokens, [0, 2]) == -1


# --- a run


@pytest.fixture(scope="module")
def home(tiny_gemma_dir, tmp_path_factory):
    """A home with a head of the first ten of twelve pairs, and its config."""
    home = tmp_path_factory.mktemp("reward_split")
    write_jsonl(home / "p.jsonl", [pair(i) for i in range(12)])
    config = {"base_model": str(tiny_gemma_dir), "output_dir": "rm", "num_epochs": 1}
    (home / "rm.yaml").write_text(json.dumps(config | {"val_fraction": 0.2, "test_fraction": 0.2}))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        train_rm.main(["-c", str(home / "rm.yaml"), "--prefs", "p.jsonl", "--limit", "10"])
    return home


def run(home, monkeypatch, *flags: str) -> None:
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    train_rm.main(["-c", str(home / "rm.yaml"), *flags])


def test_more_pairs_than_in_training_are_test_pairs(home, monkeypatch, capsys):
    before = read_json(home / "rm/validation.json")
    assert before["preferences"] == "p.jsonl" and before["n_pairs"] == {"train": 6, "val": 2, "test": 2}
    assert before["preferences_sha256"] == sha256_file(home / "p.jsonl") and before["n_new_test_pairs"] == 0
    recorded = read_json(home / "rm/split.json")
    assert recorded["limit"] == 10 and recorded["seed"] == 42
    # Without --limit, and drawn with another seed and other fractions if it were drawn.
    other = ["--set", "seed=7", "--set", "val_fraction=0.3", "--validate-only"]
    run(home, monkeypatch, "--prefs", "p.jsonl", *other)
    after = read_json(home / "rm/validation.json")
    assert after["n_pairs"] == {"train": 6, "val": 2, "test": 4} and after["n_new_test_pairs"] == 2
    assert "train 6, val 2, test 4; 2 of the test pairs are of groups" in capsys.readouterr().err


def test_pairs_of_new_groups_alone_have_no_train_pairs(home, monkeypatch):
    write_jsonl(home / "p2.jsonl", [pair(i) for i in range(20, 26)])
    run(home, monkeypatch, "--prefs", "p2.jsonl", "--validate-only")
    figures = read_json(home / "rm/validation.json")
    assert figures["n_test_pairs"] == figures["n_new_test_pairs"] == 6
    # Both are fitted to train pairs.
    assert "style_only" not in figures["test"] and "length_only" not in figures["test"]
    with pytest.raises(DataError, match="no pair is of a val group of .*best"):
        run(home, monkeypatch, "--prefs", "p2.jsonl", "--validate-only", "--tune-penalties")


def test_another_head_reads_nothing_again(home, monkeypatch, tmp_path):
    copied = tmp_path / "home"
    shutil.copytree(home, copied)
    features = {path.name for path in (copied / "rm/features").rglob("*.safetensors")}

    def load(*args):
        raise AssertionError("the model is loaded")

    monkeypatch.setattr("preferences.features.CompletionReader.load", load)
    flags = ["--prefs", "p.jsonl", "--limit", "10", "--set", "head_width=4", "--overwrite"]
    run(copied, monkeypatch, *flags)
    assert read_json(copied / "rm/best/config.json")["head_width"] == 4
    assert {path.name for path in (copied / "rm/features").rglob("*.safetensors")} == features
    assert not (copied / ".rm.old").exists()


def test_a_head_is_not_used_with_another_text_of_its_template(home, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    row = {"id": "x", "question": "Where?", "evidence_chunks": CHUNKS, "completion": "nothing"}
    write_jsonl(home / "c.jsonl", [row])
    trained = ["--prefs", "p.jsonl", "--limit", "10"]
    text = train_rm.load_template("sft", "default")
    (home / "prompts").mkdir()
    template = home / "prompts/sft_default.txt"
    template.write_text(f"Answer well. {text}")
    uses = (["--score", "c.jsonl"], [*trained, "--validate-only"])
    for flags in uses:
        with pytest.raises(UsageError, match="best: was trained with another text of the SFT template"):
            run(home, monkeypatch, *flags)
    with pytest.raises(UsageError, match="made with other settings: template_hash"):
        run(home, monkeypatch, *trained)
    # Heads and runs of earlier versions do not say.
    for path in (home / "rm/best/config.json", home / "rm/final/config.json"):
        write_json(path, {key: value for key, value in read_json(path).items() if key != "template_hash"})
    manifest = read_json(home / "rm/run.json")
    del manifest["settings"]["template_hash"]
    write_json(home / "rm/run.json", manifest)
    run(home, monkeypatch, *uses[0])
    run(home, monkeypatch, *trained)
    assert "nothing to do" in capsys.readouterr().out
