"""`--export-hf`: a head and its base model as one model of transformers, with the scores of the head."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

import train_rm
from preferences.export import folded
from preferences.reward import RewardHead, load_head
from tests.test_cards import code_of
from tests.test_reward import preference
from utils.errors import UsageError
from utils.jsonl import read_json, read_jsonl, write_jsonl

CHUNKS = [
    {"title": "Old Town Theatre", "text": "The theatre was rebuilt after the fire of 1904."},
    {"title": "Harbour Museum", "text": "The Harbour Museum opened in 1931 in a former rope works."},
]
# That of the card's code.
ROW = {
    "id": "x",
    "question": "When did the Harbour Museum open?",
    "evidence_chunks": CHUNKS,
    "completion": '{"answer": "1931", "citations": [1], "confidence": 0.9}',
}


def test_the_folded_head_is_the_standardized_score():
    torch.manual_seed(0)
    head = RewardHead(8)
    torch.nn.init.normal_(head.linear.weight)
    head.mean = 100 * torch.randn(8)
    head.std = torch.rand(8) + 0.1
    features = head.mean + head.std * torch.randn(5, 8)
    scale = {"mean": 3.0, "std": 2.0}
    direction, offset = folded(head, scale)
    expected = (head(features) - scale["mean"]) / scale["std"]
    assert torch.allclose(features @ direction + offset, expected, atol=1e-3)


def add_adapter(folder: Path) -> None:
    """A LoRA adapter that changes the model beside it."""
    base = AutoModelForCausalLM.from_pretrained(folder / "base")
    model = get_peft_model(base, LoraConfig(r=4, target_modules=["q_proj", "down_proj"]))
    for name, weight in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(weight)
    model.peft_config["default"].base_model_name_or_path = "base"
    model.save_pretrained(folder / "tiny")


@pytest.fixture(scope="module", params=["own pad", "end as pad", "adapter"])
def exported(request, make_model, tokenizer, sample_rows, tmp_path_factory):
    """A home with a trained head and its export, of a model whose pad token may be that of the end."""
    home = tmp_path_factory.mktemp("export")
    tokenizer.save_pretrained(home / "tiny")
    if request.param == "own pad":
        make_model("gemma2").save_pretrained(home / "tiny")
    if request.param == "end as pad":
        # Weights in bfloat16, as they come from the hub.
        make_model("llama").to(torch.bfloat16).save_pretrained(home / "tiny")
        padded = AutoTokenizer.from_pretrained(home / "tiny")
        padded.pad_token = padded.eos_token
        padded.save_pretrained(home / "tiny")
    if request.param == "adapter":
        make_model("llama").save_pretrained(home / "base")
        add_adapter(home)
    write_jsonl(home / "p.jsonl", sample_rows)
    config = {"base_model": "tiny", "output_dir": "rm", "val_fraction": 0.2, "test_fraction": 0.2}
    config |= {"learning_rate": 0.05}
    (home / "rm.yaml").write_text(json.dumps(config))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACTUALITY_HOME", str(home))
        train_rm.main(["-c", str(home / "rm.yaml"), "--prefs", "p.jsonl", "--export-hf", "model"])
    return home


@pytest.fixture(scope="module")
def sample_rows():
    sample = {"id": "own:1", "source": "own", "question": ROW["question"], "evidence_chunks": CHUNKS}
    rows = [preference(i, sample, "nothing " * (1 + i % 3)) for i in range(12)]
    return [row | {"licence": "CC BY-SA 3.0"} for row in rows]


def test_the_export_gives_the_scores_of_the_head(exported, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(exported))
    folder = exported / "model"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForSequenceClassification.from_pretrained(folder).eval()
    assert model.config.num_labels == 1 and model.dtype == torch.float32
    assert tokenizer.pad_token_id == model.config.pad_token_id != tokenizer.eos_token_id
    assert model.get_input_embeddings().num_embeddings > tokenizer.pad_token_id

    # The code of the card, and the head on features in float32.
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": ""}
    card = (folder / "README.md").read_text()
    command = [sys.executable, "-c", code_of(card)]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: False)
    write_jsonl(exported / "rows.jsonl", [ROW])
    train_rm.main(["-c", str(exported / "rm.yaml"), "--score", "rows.jsonl"])
    [(_, scored)] = read_jsonl(exported / "rows_scores.jsonl")
    assert float(done.stdout) == pytest.approx(scored["head_score"], abs=1e-3)
    assert abs(scored["head_score"]) > 0.01


def test_weights_that_came_in_bfloat16_are_stored_in_it(exported):
    weights = load_file(exported / "model/model.safetensors")
    base = exported / "tiny/model.safetensors"
    # An adapter is merged in float32.
    is_half = base.is_file() and load_file(base)["model.norm.weight"].dtype == torch.bfloat16
    assert weights["score.weight"].dtype == torch.float32
    of_layers = {tensor.dtype for name, tensor in weights.items() if name != "score.weight"}
    assert of_layers == {torch.bfloat16 if is_half else torch.float32}


def test_padding_on_either_side_changes_no_score(exported):
    tokenizer = AutoTokenizer.from_pretrained(exported / "model")
    model = AutoModelForSequenceClassification.from_pretrained(exported / "model").eval()
    texts = ["Where was she born?", "Where was the museum of the town built, and when?"]
    rows = [tokenizer(text)["input_ids"] + [tokenizer.eos_token_id] for text in texts]
    with torch.inference_mode():
        alone = [model(torch.tensor([ids])).logits.item() for ids in rows]
        for side in ("left", "right"):
            tokenizer.padding_side = side
            batch = tokenizer.pad({"input_ids": rows}, return_tensors="pt")
            assert model(**batch).logits[:, 0].tolist() == pytest.approx(alone, abs=1e-3)


def test_an_export_has_a_card_and_no_trace_of_its_machine(exported):
    card = ModelCard.load(exported / "model/README.md")
    assert card.data.library_name == "transformers" and card.data.pipeline_tag == "text-classification"
    assert {result.dataset_split for result in card.data.eval_results} == {"val", "test"}
    for path in (exported / "model").iterdir():
        assert str(exported).encode() not in path.read_bytes()
    assert not list(exported.glob(".model*"))


def test_a_finished_head_is_exported_without_training_again(exported, monkeypatch, capsys):
    monkeypatch.setenv("FACTUALITY_HOME", str(exported))
    run = ["-c", str(exported / "rm.yaml"), "--prefs", "p.jsonl"]
    before = read_json(exported / "rm/run.json")
    train_rm.main([*run, "--export-hf", "again"])
    assert "a sequence classifier: 8 scores differ by at most" in capsys.readouterr().out
    assert read_json(exported / "rm/run.json") == before
    with pytest.raises(UsageError, match="again: the directory is not empty; name a new one"):
        train_rm.main([*run, "--export-hf", "again"])
    assert load_head(exported / "rm/best")[1]["score_scale"]


@pytest.mark.parametrize(
    "override, message",
    [
        ("head_width=8", "head_width is 8, .*; train a head with head_width: 0"),
        ("feature_layers=[0.5]", r"feature_layers is \[0.5\], .* with feature_layers: \[1.0\]"),
        ("pooling=[mean]", r'pooling is \["mean"\], .* with pooling: \["last"\]'),
        ("logprob_features=true", "logprob_features is true, .* with logprob_features: false"),
        ("load_in_8bit=true", "load_in_8bit is true, .* with load_in_8bit: false"),
    ],
)
def test_a_head_that_is_no_classifier_is_refused_before_it_is_trained(
    override, message, sample_rows, tmp_path, monkeypatch
):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    write_jsonl(tmp_path / "p.jsonl", sample_rows)
    (tmp_path / "rm.yaml").write_text("base_model: someone/model\n")
    run = ["-c", str(tmp_path / "rm.yaml"), "--prefs", "p.jsonl", "--set", override]
    with pytest.raises(UsageError, match=message):
        train_rm.main([*run, "--export-hf", "model"])
