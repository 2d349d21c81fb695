import json

import pytest
import torch

import train_sft
from models.cpu_attention import takes_packed, use_grouped_attention
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from train_sft import SFTTrainer, gold_ids, make_collator
from training.adapters import load_trainable
from training.rows import encode_rows
from utils.jsonl import read_json


@pytest.fixture
def rows(tokenizer, samples):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    return encode_rows(samples[:5], builder, gold_ids, 1500)[0], builder.prefix


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("share_prefix", [True, False, "packed"])
def test_the_loss_is_the_mean_negative_log_likelihood_of_the_completions(
    kind, share_prefix, make_model, tokenizer, rows
):
    rows, prefix = rows
    model = make_model(kind)
    if share_prefix == "packed":
        assert takes_packed(use_grouped_attention(model)) == (kind != "gemma2") and not takes_packed(
            make_model(kind)
        )
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer.prefix = prefix
    trainer.share_prefix = bool(share_prefix)
    loss = trainer.compute_loss(model, make_collator(tokenizer.pad_token_id)(rows))
    total = 0.0
    n = 0
    for row in rows:
        ids = torch.tensor([prefix + row["suffix"] + row["completion"]])
        k = len(row["completion"])
        logps = model(ids).logits[0, -k - 1 : -1].log_softmax(-1)
        total -= logps[range(k), row["completion"]].sum()
        n += k
    assert loss.item() == pytest.approx((total / n).item(), rel=1e-4)


def gradient(model, share_prefix, tokenizer, rows):
    rows, prefix = rows
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer.prefix = prefix
    trainer.share_prefix = share_prefix
    trainer.compute_loss(model.train(), make_collator(tokenizer.pad_token_id)(rows)).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_shared_prefix_gives_the_same_gradient(kind, make_model, tokenizer, rows):
    expected = gradient(make_model(kind), False, tokenizer, rows)
    assert torch.allclose(gradient(make_model(kind), True, tokenizer, rows), expected, rtol=1e-3, atol=1e-6)
    assert torch.allclose(
        gradient(use_grouped_attention(make_model(kind)), True, tokenizer, rows),
        expected,
        rtol=1e-3,
        atol=1e-6,
    )


def test_packed_rows_in_bfloat16_are_as_exact_as_apart(make_model, tokenizer, rows):
    exact = gradient(make_model("llama"), False, tokenizer, rows)
    apart = gradient(make_model("llama").bfloat16(), False, tokenizer, rows)
    packed = gradient(use_grouped_attention(make_model("llama").bfloat16()), True, tokenizer, rows)
    assert (packed - exact).norm() < 1.3 * (apart - exact).norm() < 0.1 * exact.norm()


def test_labels_cover_the_completion_and_nothing_else(tokenizer, rows):
    rows, _ = rows
    batch = make_collator(tokenizer.pad_token_id)(rows)
    for row, labels, ids in zip(rows, batch["labels"], batch["input_ids"]):
        assert labels[labels != -100].tolist() == row["completion"] == ids[-len(row["completion"]) :].tolist()
        assert row["completion"][-1] == tokenizer.eos_token_id


def config_text(base, **training):
    settings = {
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "max_steps": 4,
        "eval_steps": 2,
        "save_steps": 2,
        "max_seq_length": 1500,
        "gradient_checkpointing": False,
        "logging_steps": 1,
        "save_total_limit": 2,
        **training,
    }
    data = {
        "max_samples": 12,
        "max_val_samples": 4,
        "max_calibration_samples": 6,
    }  # calibrated on more than evaluated on
    return json.dumps(
        {
            "model_name": str(base),
            "output_dir": "sft",
            "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
            "training": settings,
            "data": data,
        }
    )


def losses(home):
    return [x["loss"] for x in read_json(home / "sft/training_history.json")["train_losses"]]


def test_a_run_resumes_from_its_newest_whole_checkpoint_with_the_same_losses(
    tiny_gemma_dir, data_home, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    config = tmp_path / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir))
    train_sft.main(["-c", str(config)])
    whole = losses(tmp_path)
    assert len(whole) == 4
    for name in ("checkpoint-2", "checkpoint-4", "checkpoint-best", "checkpoint-final"):
        folder = tmp_path / "sft" / name
        assert (folder / "adapter_model.safetensors").is_file() and read_json(folder / "run.json")[
            "template"
        ] == "default"
        assert not (folder / "training_args.bin").exists()
    assert {"loss_curve.png", "calibration.json", "train_ids.txt", "README.md", "run.json"} <= {
        p.name for p in (tmp_path / "sft").iterdir()
    }
    capsys.readouterr()
    train_sft.main(["-c", str(config)])
    assert "nothing to do" in capsys.readouterr().out
    # As a kill during the last save leaves it: no manifest in checkpoint-4, the run unfinished.
    (tmp_path / "sft/checkpoint-4/run.json").unlink()
    manifest = read_json(tmp_path / "sft/run.json")
    (tmp_path / "sft/run.json").write_text(json.dumps({**manifest, "status": "running"}))
    train_sft.main(["-c", str(config)])
    assert "resuming from" in (err := capsys.readouterr().err) and "checkpoint-2" in err
    assert losses(tmp_path) == pytest.approx(whole, rel=1e-5)
    with pytest.raises(Exception, match=r"made with other settings.*training.seed.*--overwrite"):
        train_sft.main(["-c", str(config), "--set", "training.seed=7"])


def test_training_and_generation_run_in_bfloat16(tiny_gemma_dir, data_home, tmp_path, monkeypatch):
    # On hardware without bfloat16 this is emulated: slow, but the same code path.
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: True)
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    config = tmp_path / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, max_steps=2))
    train_sft.main(["-c", str(config)])
    assert (
        all(loss < 20 for loss in losses(tmp_path))
        and read_json(tmp_path / "sft/calibration.json")["n_samples"] == 6
    )


@pytest.mark.parametrize("flag", ["load_in_4bit", "load_in_8bit"])
def test_quantised_training_reaches_the_adapter(flag, tiny_gemma_dir, data_home, tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    config = tmp_path / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, max_steps=2, gradient_checkpointing=True))
    train_sft.main(["-c", str(config), "--set", f"{flag}=true"])
    from safetensors.torch import load_file

    state = load_file(tmp_path / "sft/checkpoint-final/adapter_model.safetensors")
    assert any(tensor.abs().sum() > 0 for name, tensor in state.items() if "lora_B" in name)


def test_4bit_gradients_survive_an_evaluation_pass(tiny_gemma_dir, monkeypatch):
    pytest.importorskip("bitsandbytes")
    import copy

    config = copy.deepcopy(train_sft.DEFAULTS) | {"model_name": str(tiny_gemma_dir), "load_in_4bit": True}
    config["training"]["gradient_checkpointing"] = False
    model = load_trainable(config)
    ids = torch.arange(5, 25)[None]

    def gradient_norm():
        model.train().zero_grad()
        torch.manual_seed(0)
        model(input_ids=ids, labels=ids).loss.backward()
        return sum(
            p.grad.norm() for name, p in model.named_parameters() if p.grad is not None and "lora_B" in name
        ).item()

    before = gradient_norm()
    with torch.no_grad():
        model.eval()(input_ids=ids)
    assert gradient_norm() == pytest.approx(before, rel=1e-3) and before > 0
