"""`lora` of train_rm.py: shared prompts change no score, a stopped training loses no step, a run is whole."""

import json
import shutil

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

import train_rm
from models.lora import add_lora
from preferences.adapter_scores import AdapterScorer, PromptPairs, pairs_by_prompt
from preferences.adapter_training import AdapterTraining
from preferences.head_training import pair_facts
from preferences.reward_config import DEFAULTS
from tests.test_base_models import CONFIGS, WINDOWED, make
from tests.test_reward import preference
from utils.errors import OutOfMemory, StageError, UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl


def scorer_of(kind: str, configs: dict) -> AdapterScorer:
    """A tiny model of this kind with an adapter and a direction that score something."""
    torch.manual_seed(0)
    model = add_lora(make(kind, configs), kind, DEFAULTS["lora"] | {"r": 2})
    with torch.no_grad():
        for weight in model.parameters():
            if weight.requires_grad:
                weight.normal_(0, 0.2)
    scorer = AdapterScorer(model, pad_id=0)
    with torch.no_grad():
        scorer.direction.normal_()
    return scorer


@pytest.mark.parametrize(
    "kind, configs", [*((kind, CONFIGS) for kind in CONFIGS), *((kind, WINDOWED) for kind in WINDOWED)]
)
def test_completions_behind_one_pass_score_as_whole_rows(kind, configs):
    scorer = scorer_of(kind, configs)
    prompt = list(range(5, 17))
    completions = [[20, 21, 22], [23, 24, 25, 26, 27], [28]]
    scorer.scores(prompt, completions).sum().backward()
    gradients = [weight.grad.clone() for weight in scorer.parameters()]
    shared = scorer.scores(prompt, completions).detach()
    alone = []
    for weight in scorer.parameters():
        weight.grad = None
    for completion in completions:
        scorer.reads_prefix = False
        score = scorer.scores(prompt, [completion])
        score.sum().backward()
        alone.append(score.detach())
    assert torch.allclose(shared, torch.cat(alone), atol=1e-4)
    for found, weight in zip(gradients, scorer.parameters()):
        assert (found - weight.grad).norm() <= 1e-4 * weight.grad.norm()


def test_pairs_of_one_prompt_share_its_completions():
    class Builder:
        prefix = [1, 2]

        def build(self, row):
            return type("Prompt", (), {"suffix": [len(row["question"])]})()

    class Tokenizer:
        eos_token_id = 9
        bos_token_id = pad_token_id = unk_token_id = None
        all_special_ids = [9]
        added_tokens_decoder = {}

        def __len__(self):
            return 200

        def __call__(self, text, **kwargs):
            return {"input_ids": [ord(letter) for letter in text]}

    def pair(question: str, chosen: str, rejected: str) -> dict:
        sides = {"chosen": [{"content": chosen}], "rejected": [{"content": rejected}]}
        return {"question": question, "evidence_chunks": [], **sides}

    rows = [pair("q", "a", "b"), pair("qq", "a", "c"), pair("q", "a", "c"), pair("q", "b", "c")]
    found = pairs_by_prompt(rows, [0, 1, 2], Tokenizer(), Builder())
    assert [prompt.prompt for prompt in found] == [[1, 2, 1], [1, 2, 2]]
    assert found[0].rows == [0, 2] and found[1].rows == [1]
    assert found[0].chosen == [0, 0] and found[0].rejected == [1, 2] and len(found[0].completions) == 3


def training_of(folder, **lora) -> AdapterTraining:
    config = DEFAULTS | {"lora": DEFAULTS["lora"] | {"r": 2, "batch_size": 2, "learning_rate": 2e-3} | lora}
    # At five times this learning rate, it learns in bfloat16 and diverges in float32.
    prompts = []
    for i in range(6):
        # The better completion ends in token 20, the worse in 30.
        completions = [[5 + i, 20], [5 + i, 30]]
        prompts.append(PromptPairs([3, 4, 5 + i], completions, [0], [1], [i]))
    rows = [{"group": f"g{i}", "margin": 0.5} for i in range(6)]
    facts = pair_facts(rows, np.zeros(12), config)
    return AdapterTraining(config, prompts, facts, scorer_of("llama", CONFIGS), folder)


def pair_loss(*of_pairs: torch.Tensor) -> torch.Tensor:
    return train_rm.bradley_terry_loss(*of_pairs, centering=0.01)


def test_the_adapter_learns_and_a_resumed_training_is_the_same(tmp_path):
    whole = training_of(tmp_path / "whole", num_epochs=6)
    whole.run(pair_loss, logging_steps=100)
    assert whole.step == 18
    assert np.mean(whole.history["losses"][-3:]) < 0.5 * np.mean(whole.history["losses"][:3])
    assert whole.history["accuracies"][-3:] == [1.0] * 3

    stopped = training_of(tmp_path / "stopped", num_epochs=6, save_steps=4)
    # It is cut in the step behind the second save.
    stopped.scorer.scores = cut_after(stopped.scorer.scores, n_calls=17)
    with pytest.raises(KeyboardInterrupt):
        stopped.run(pair_loss, logging_steps=100)
    resumed = training_of(tmp_path / "stopped", num_epochs=6, save_steps=4)
    resumed.resume()
    assert resumed.step == 8
    resumed.run(pair_loss, logging_steps=100)
    assert resumed.history == whole.history
    for found, expected in zip(resumed.scorer.parameters(), whole.scorer.parameters()):
        assert torch.equal(found, expected)


# --- float16, and limits


@pytest.fixture
def float16_card(monkeypatch):
    """Until the end of a test this machine has no bfloat16, and computes in float16 as a GPU would."""
    for module in ("models.loading", "preferences.adapter_training", "preferences.adapter_model"):
        monkeypatch.setattr(f"{module}.choose_dtype", lambda wanted=True: torch.float16)


def test_in_float16_small_gradients_are_not_lost(tmp_path, float16_card, monkeypatch):
    def trained(dtype: torch.dtype) -> torch.Tensor:
        monkeypatch.setattr("preferences.adapter_training.choose_dtype", lambda: dtype)
        training = training_of(tmp_path / str(dtype), num_epochs=1, batch_size=6)
        # The least that float16 has is 6e-8: most of these gradients would be zero on their way down.
        training.run(lambda *of_pairs: 1e-6 * pair_loss(*of_pairs), logging_steps=100)
        return torch.cat([weight.detach().flatten() for weight in training.scorer.parameters()])

    # Adam's steps are of one size for all weights that have a gradient at all, however small.
    distance = (trained(torch.float16) - trained(torch.float32)).abs()
    assert (distance < 1e-3).float().mean() > 0.95


def test_the_scale_of_float16_survives_a_stop(tmp_path, float16_card):
    training = training_of(tmp_path, num_epochs=1)
    training.scaler.scale(torch.ones(1))
    training.scaler.update(1024.0)
    training.save()
    resumed = training_of(tmp_path, num_epochs=1)
    resumed.resume()
    assert resumed.scaler.get_scale() == 1024.0


@pytest.mark.parametrize(
    "dtype, said", [(torch.float16, "bfloat16, or the CPU"), (torch.float32, "no adapter")]
)
def test_a_loss_that_is_no_number_ends_the_training_before_the_adapter_is_written(
    dtype, said, sample, tiny_gemma_dir, tmp_path, monkeypatch
):
    config = lora_run(sample, tiny_gemma_dir, tmp_path, monkeypatch)
    monkeypatch.setattr("preferences.adapter_training.choose_dtype", lambda: dtype)

    def no_numbers(self, prompt, completions):
        return self.direction[0] * torch.full((len(completions),), torch.nan)

    monkeypatch.setattr(AdapterScorer, "scores", no_numbers)
    with pytest.raises(StageError, match=rf"loss is not a number at step 1; lower lora.*{said}"):
        train_rm.main(["-c", str(config), "--prefs", "p.jsonl"])
    assert not (tmp_path / "checkpoints/rm/lora").exists()


def test_full_memory_names_keys_of_the_reward(sample, tiny_gemma_dir, tmp_path, monkeypatch):
    config = lora_run(sample, tiny_gemma_dir, tmp_path, monkeypatch)

    def fail(self, *args):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    monkeypatch.setattr(AdapterScorer, "scores", fail)
    with pytest.raises(OutOfMemory) as caught:
        train_rm.main(["-c", str(config), "--prefs", "p.jsonl"])
    said = str(caught.value)
    assert "\n" not in said and "batch" not in said
    assert "load_in_8bit=true, (2) max_seq_length below" in said and "lora.first_layer above 0" in said


def lora_run(sample, base, home, monkeypatch):
    """A config of a tiny run with an adapter, and its preferences, in this home."""
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    write_jsonl(home / "p.jsonl", [preference(i, sample, "nothing " * (1 + i % 3)) for i in range(10)])
    config = {"base_model": str(base), "val_fraction": 0.2, "test_fraction": 0.2, "lora": {"r": 2}}
    (home / "rm.yaml").write_text(json.dumps(config))
    return home / "rm.yaml"


def cut_after(scores, n_calls: int):
    """`scores` that is interrupted when it was called this often."""
    n_left = [n_calls]

    def cut(*args):
        n_left[0] -= 1
        if n_left[0] < 0:
            raise KeyboardInterrupt
        return scores(*args)

    return cut


def test_a_run_trains_an_adapter_then_a_head_on_its_features(
    sample, tiny_gemma_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    write_jsonl(tmp_path / "p.jsonl", [preference(i, sample, "nothing " * (1 + i % 3)) for i in range(10)])
    config = {"base_model": str(tiny_gemma_dir), "val_fraction": 0.2, "test_fraction": 0.2, "num_epochs": 1}
    config["lora"] = {"r": 2, "batch_size": 2, "target_modules": "all-linear"}
    (tmp_path / "rm.yaml").write_text(json.dumps(config))
    run = ["-c", str(tmp_path / "rm.yaml"), "--prefs", "p.jsonl"]
    train_rm.main(run)
    folder = tmp_path / "checkpoints/rm"
    assert read_json(folder / "lora/run.json")["status"] == "complete"
    assert not (folder / ".lora.partial").exists() and not (folder / "lora/progress.safetensors").exists()
    saved = read_json(folder / "best/config.json")
    assert saved["base_model"] == "checkpoints/rm/lora"
    # The model that wrote the pairs is no SFT model, so there is no such baseline.
    assert "sft_logprob" not in read_json(folder / "validation.json")["test"]
    capsys.readouterr()
    train_rm.main(run)
    assert "nothing to do" in capsys.readouterr().out
    train_rm.main([*run, "--validate-only"])
    # A head's own base is found without the key.
    row = {"id": "x", "question": sample["question"], "evidence_chunks": sample["evidence_chunks"]}
    write_jsonl(tmp_path / "c.jsonl", [row | {"completion": "nothing"}])
    (tmp_path / "score.yaml").write_text(json.dumps({"base_model": str(tiny_gemma_dir)}))
    train_rm.main(["-c", str(tmp_path / "score.yaml"), "--score", "c.jsonl"])
    [(_, scored)] = read_jsonl(tmp_path / "c_scores.jsonl")
    assert np.isfinite(scored["reward"])


def test_the_adapter_of_an_sft_model_is_trained_further(sample, tiny_gemma_dir, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    sft = tmp_path / "sft"
    model = get_peft_model(
        AutoModelForCausalLM.from_pretrained(tiny_gemma_dir), LoraConfig(r=3, target_modules=["q_proj"])
    )
    model.save_pretrained(sft)
    for path in tiny_gemma_dir.glob("*token*"):
        shutil.copy(path, sft)
    write_jsonl(tmp_path / "p.jsonl", [preference(i, sample, "nothing " * (1 + i % 3)) for i in range(10)])
    config = {
        "base_model": "sft",
        "val_fraction": 0.2,
        "test_fraction": 0.2,
        "num_epochs": 1,
        "lora": {"r": 2},
    }
    (tmp_path / "rm.yaml").write_text(json.dumps(config))
    train_rm.main(["-c", str(tmp_path / "rm.yaml"), "--prefs", "p.jsonl"])
    trained = tmp_path / "checkpoints/rm/lora"
    # Its own rank and layers, with other weights.
    found = load_file(trained / "adapter_model.safetensors")
    before = load_file(sft / "adapter_model.safetensors")
    assert found.keys() == before.keys()
    assert all(found[name].shape == before[name].shape for name in before)
    assert not all(torch.equal(found[name], before[name]) for name in before)
    assert "sft_logprob" in read_json(tmp_path / "checkpoints/rm/validation.json")["test"]


@pytest.mark.parametrize(
    "override", ["lora.r=-1", "lora.dropout=1", "lora.learning_rate=0", "lora.batch_size=0"]
)
def test_values_that_make_no_sense_are_named(override, tmp_path):
    (tmp_path / "rm.yaml").write_text("seed: 1\n")
    with pytest.raises(UsageError, match=override.partition("=")[0]):
        train_rm.main(["-c", str(tmp_path / "rm.yaml"), "--set", override])
