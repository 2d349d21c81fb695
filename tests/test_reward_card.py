"""Cards of reward heads, and their upload."""

import json
import os
import subprocess
import sys

import pytest
from huggingface_hub import ModelCard

import train_rm
from preferences.card import card_facts, reward_card
from tests.test_cards import code_of
from tests.test_hub import hub
from tests.test_reward import preference
from utils.jsonl import read_json, write_jsonl

__all__ = ["hub"]


@pytest.fixture(scope="module")
def heads(tiny_gemma_dir, tmp_path_factory):
    """A home with a trained head, its preferences and its config."""
    home = tmp_path_factory.mktemp("heads")
    (home / "tiny").symlink_to(tiny_gemma_dir)
    chunks = [{"title": "Marie Curie", "text": "She was born in Warsaw in 1867."}]
    sample = {"id": "own:1", "source": "own", "question": "Where was she born?", "evidence_chunks": chunks}
    rows = [preference(i, sample, "nothing " * (1 + i % 3)) | {"licence": "CC BY-SA 3.0"} for i in range(12)]
    write_jsonl(home / "p.jsonl", rows)
    config = {"base_model": "tiny", "output_dir": "rm", "val_fraction": 0.2, "test_fraction": 0.2}
    (home / "rm.yaml").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        train_rm.main(["-c", str(home / "rm.yaml"), "--prefs", "p.jsonl"])
    return home


def test_best_and_final_have_cards_that_the_hub_can_read(heads):
    for name, splits in (("best", {"val", "test"}), ("final", {"val"})):
        card = ModelCard.load(heads / f"rm/{name}/README.md")
        assert card.data.pipeline_tag == "text-classification" and "reward-model" in card.data.tags
        assert {result.dataset_split for result in card.data.eval_results} == splits
        assert "| own | 12 | CC BY-SA 3.0 |" in card.text
        for path in (heads / "rm" / name).iterdir():
            assert str(heads).encode() not in path.read_bytes()


def facts_of(pairs: list[tuple[str, str]], **saved) -> dict:
    rows = []
    for chosen, rejected in pairs:
        row = {"source": "own", "decided_by": "verifier"}
        rows.append({**row, "chosen_model": chosen, "rejected_model": rejected})
    head = {"base_model": "tiny", "penalty_weights": {}, "metrics": {}, "template": "default"}
    return card_facts({**head, **saved}, None, rows)


@pytest.mark.parametrize(
    "saved, kind",
    [
        ({}, "A linear head on the frozen base model: it scores"),
        ({"head_width": 8, "lora_r": 0}, "A head with a hidden layer of width 8 on the frozen base model:"),
        ({"lora_r": 4}, "A linear head on the base model with an adapter that was trained for it:"),
        # Of an earlier version.
        ({"base_model": "checkpoints/rm/lora"}, "A linear head on the base model with an adapter that"),
    ],
)
def test_a_card_says_what_kind_of_head_it_is(saved, kind):
    assert kind in reward_card(facts_of([("sft", "sft")], **saved), "code", "safetensors")


def test_a_card_says_who_wrote_the_replies():
    alone = reward_card(facts_of([("sft", "sft")]), "code", "safetensors")
    assert "trained on pairs of replies by the SFT model; replies in another" in alone
    several = reward_card(facts_of([("gold", "sft"), ("base", "made"), ("x", "sft")]), "code", "safetensors")
    assert "by the SFT model, its base model, nobody (the gold answer), nobody (made" in several
    assert "one thing worse), x; replies" in several


def test_the_code_of_the_card_gives_the_score_of_the_project(heads, monkeypatch):
    folder = heads / "rm/best"
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    code = code_of((folder / "README.md").read_text())
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr

    monkeypatch.setenv("FACTUALITY_HOME", str(heads))
    chunks = [
        {"title": "Old Town Theatre", "text": "The theatre was rebuilt after the fire of 1904."},
        {"title": "Harbour Museum", "text": "The Harbour Museum opened in 1931 in a former rope works."},
    ]
    row = {"id": "x", "question": "When did the Harbour Museum open?", "evidence_chunks": chunks}
    row["completion"] = '{"answer": "1931", "citations": [1], "confidence": 0.9}'
    write_jsonl(heads / "rows.jsonl", [row])
    train_rm.main(["-c", str(heads / "rm.yaml"), "--score", "rows.jsonl"])
    scored = json.loads((heads / "rows_scores.jsonl").read_text())
    # The project reads features in bfloat16 where the machine has it.
    assert float(done.stdout) == pytest.approx(scored["head_score"], abs=0.1)


def test_a_finished_head_is_uploaded_without_training_again(heads, hub, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(heads))
    train_rm.main(["-c", str(heads / "rm.yaml"), "--prefs", "p.jsonl", "--push-to-hub", "someone/reward"])
    assert "uploaded best to https://huggingface.co/someone/reward (private)" in capsys.readouterr().out
    assert set(hub.files) == {"README.md", "config.json", "reward_head.safetensors"}
    assert 'MODEL = "someone/reward"' in hub.files["README.md"].decode()
    assert str(heads).encode() not in b"".join(hub.files.values())


def test_the_history_has_the_learning_rate_and_the_gradient_of_each_step(heads):
    history = read_json(heads / "rm/training_history.json")
    n_steps = len(history["train_losses"])
    assert n_steps == len(history["learning_rates"]) == len(history["grad_norms"])
    assert all(norm > 0 for norm in history["grad_norms"])
    assert history["learning_rates"][-1] < max(history["learning_rates"])
