"""The loss and labels of SFT, against sums worked out token by token; and runs of train_sft.py in-process."""

import json
from types import SimpleNamespace

import pytest
import torch
from datasets import Dataset
from safetensors.torch import load_file
from transformers import TrainingArguments

import train_sft
from models.cpu_attention import takes_packed, use_grouped_attention
from prompt_schema import SFT_TEMPLATES, PromptBuilder
from train_sft import SFTTrainer, gold_ids, make_collator
from training.checkpoints import is_evaluation_owed
from training.rows import encode_rows
from training.sampler import RowOrder
from utils.jsonl import read_json


@pytest.fixture
def rows(tokenizer, samples):
    """Five encoded rows, and the prefix that they share."""
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    encoded, _ = encode_rows(samples[:5], builder, gold_ids, 1500)
    return encoded, builder.prefix


def bare_trainer(prefix: list[int], share_prefix: bool) -> SFTTrainer:
    """The attributes of a trainer that `compute_loss` reads, without a model, arguments or data."""
    trainer = SFTTrainer.__new__(SFTTrainer)
    trainer.prefix = prefix
    trainer.share_prefix = share_prefix
    return trainer


# --- the loss


@pytest.mark.parametrize("kind", ["llama", "gemma2"])
@pytest.mark.parametrize("share_prefix", [True, False, "packed"])
def test_the_loss_is_the_mean_negative_log_likelihood_of_the_completions(
    kind, share_prefix, make_model, tokenizer, rows
):
    rows, prefix = rows
    model = make_model(kind)
    # Only our attention takes packed rows, and Gemma-2's soft-capping keeps it from them.
    if share_prefix == "packed":
        assert takes_packed(use_grouped_attention(model)) == (kind != "gemma2")
        assert not takes_packed(make_model(kind))
    trainer = bare_trainer(prefix, bool(share_prefix))
    loss = trainer.compute_loss(model, make_collator(tokenizer.pad_token_id)(rows))

    # By hand: each row alone, without padding, from the logits of the whole row.
    total = 0.0
    n_tokens = 0
    for row in rows:
        ids = torch.tensor([prefix + row["suffix"] + row["completion"]])
        k = len(row["completion"])
        logps = model(ids).logits[0, -k - 1 : -1].log_softmax(-1)
        total -= logps[range(k), row["completion"]].sum()
        n_tokens += k
    assert loss.item() == pytest.approx((total / n_tokens).item(), rel=1e-4)


def test_the_loss_of_an_evaluation_is_a_mean_over_tokens_whatever_the_batch(
    make_model, tokenizer, samples, tmp_path
):
    builder = PromptBuilder(tokenizer, SFT_TEMPLATES["default"], 1400)
    rows, _ = encode_rows(samples[:7], builder, gold_ids, 1500)
    # Answers of different lengths, and weights: a mean of means would differ by both.
    for i, row in enumerate(rows):
        row["weight"] = 1.0 + i % 3
    assert len({len(row["completion"]) for row in rows}) > 1
    model = make_model("llama")
    total = 0.0
    for row in rows:
        batch = make_collator(0)([row])
        losses, _ = bare_trainer(builder.prefix, False).row_losses(model, batch)
        total += losses.item()
    expected = total / sum(len(row["completion"]) for row in rows)

    for batch_size in (1, 2, 4, 7, 16):
        arguments = TrainingArguments(
            str(tmp_path),
            per_device_eval_batch_size=batch_size,
            use_cpu=True,
            remove_unused_columns=False,
            label_names=["labels"],
            report_to="none",
            disable_tqdm=True,
        )
        trainer = SFTTrainer(
            model=model,
            args=arguments,
            train_dataset=Dataset.from_list(rows),
            eval_dataset=Dataset.from_list(rows),
            data_collator=make_collator(0),
            processing_class=tokenizer,
            prefix=builder.prefix,
            share_prefix=False,
            order=RowOrder(),
        )
        assert trainer.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-6)


def gradient(model, share_prefix, tokenizer, rows):
    rows, prefix = rows
    batch = make_collator(tokenizer.pad_token_id)(rows)
    bare_trainer(prefix, share_prefix).compute_loss(model.train(), batch).backward()
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]).float()


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_a_shared_prefix_gives_the_same_gradient(kind, make_model, tokenizer, rows):
    expected = gradient(make_model(kind), False, tokenizer, rows)
    cached = gradient(make_model(kind), True, tokenizer, rows)
    packed = gradient(use_grouped_attention(make_model(kind)), True, tokenizer, rows)
    assert torch.allclose(cached, expected, rtol=1e-3, atol=1e-6)
    assert torch.allclose(packed, expected, rtol=1e-3, atol=1e-6)


def test_packed_rows_in_bfloat16_are_as_exact_as_apart(make_model, tokenizer, rows):
    exact = gradient(make_model("llama"), False, tokenizer, rows)
    apart = gradient(make_model("llama").bfloat16(), False, tokenizer, rows)
    packed = gradient(use_grouped_attention(make_model("llama").bfloat16()), True, tokenizer, rows)
    # bfloat16 itself is off by a few percent; packing may not add a third to that.
    assert (packed - exact).norm() < 1.3 * (apart - exact).norm() < 0.1 * exact.norm()


def test_labels_cover_the_completion_and_nothing_else(tokenizer, rows):
    rows, _ = rows
    batch = make_collator(tokenizer.pad_token_id)(rows)
    for row, labels, ids in zip(rows, batch["labels"], batch["input_ids"]):
        completion = row["completion"]
        assert labels[labels != -100].tolist() == completion == ids[-len(completion) :].tolist()
        # Without the EOS as a label, a model would never learn to stop.
        assert completion[-1] == tokenizer.eos_token_id


# --- runs in one process


def config_text(base, **training) -> str:
    """A config of four steps on a toy model; `training` overrides keys of that block."""
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
    # More samples for the calibration than for the evaluation: the one may not limit the other.
    data = {"max_samples": 12, "max_val_samples": 4, "max_calibration_samples": 6}
    config = {
        "model_name": str(base),
        "output_dir": "sft",
        "lora": {"r": 4, "alpha": 8, "dropout": 0.0},
        "training": settings,
        "data": data,
    }
    # JSON is YAML too.
    return json.dumps(config)


def losses(home) -> list[float]:
    return [x["loss"] for x in read_json(home / "sft/training_history.json")["train_losses"]]


def write_config_and_data(home, data_home, base, **training):
    """A home with the built samples; returns the path of its config."""
    (home / "data").symlink_to(data_home / "data")
    config = home / "c.yaml"
    config.write_text(config_text(base, **training))
    return config


def test_a_run_resumes_from_its_newest_whole_checkpoint_with_the_same_losses(
    tiny_gemma_dir, data_home, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = write_config_and_data(tmp_path, data_home, tiny_gemma_dir)
    train_sft.main(["-c", str(config)])
    whole = losses(tmp_path)
    assert len(whole) == 4
    for name in ("checkpoint-2", "checkpoint-4", "checkpoint-best", "checkpoint-final"):
        folder = tmp_path / "sft" / name
        assert (folder / "adapter_model.safetensors").is_file()
        facts = read_json(folder / "run.json")
        assert facts["template"] == "default"
        # Those of the build, which ask.py cuts documents with.
        assert facts["evidence"] == {"max_chunks": 3, "max_chunk_words": 20}
        # A pickle, with the hub token in clear text.
        assert not (folder / "training_args.bin").exists()
    written = {path.name for path in (tmp_path / "sft").iterdir()}
    assert {"loss_curve.png", "calibration.json", "train_ids.txt", "README.md", "run.json"} <= written

    capsys.readouterr()
    train_sft.main(["-c", str(config)])
    assert "nothing to do" in capsys.readouterr().out

    # As a kill during the last save leaves it: no manifest in checkpoint-4, the run unfinished.
    (tmp_path / "sft/checkpoint-4/run.json").unlink()
    manifest = read_json(tmp_path / "sft/run.json")
    (tmp_path / "sft/run.json").write_text(json.dumps({**manifest, "status": "running"}))
    train_sft.main(["-c", str(config)])
    notes = capsys.readouterr().err
    assert "resuming from" in notes
    assert "checkpoint-2" in notes
    assert losses(tmp_path) == pytest.approx(whole, rel=1e-5)

    with pytest.raises(Exception, match=r"made with other settings.*training.seed.*--overwrite"):
        train_sft.main(["-c", str(config), "--set", "training.seed=7"])


def test_training_and_generation_run_in_bfloat16(tiny_gemma_dir, data_home, tmp_path, monkeypatch):
    # On hardware without bfloat16 this is emulated: slow, but the same code path.
    monkeypatch.setattr("models.hardware.has_fast_bf16", lambda: True)
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = write_config_and_data(tmp_path, data_home, tiny_gemma_dir, max_steps=2)
    train_sft.main(["-c", str(config)])
    assert all(loss < 20 for loss in losses(tmp_path))
    assert read_json(tmp_path / "sft/calibration.json")["n_samples"] == 6


@pytest.mark.parametrize("flag", ["load_in_4bit", "load_in_8bit"])
def test_quantised_training_reaches_the_adapter(flag, tiny_gemma_dir, data_home, tmp_path, monkeypatch):
    pytest.importorskip("bitsandbytes")
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = write_config_and_data(
        tmp_path, data_home, tiny_gemma_dir, max_steps=2, gradient_checkpointing=True
    )
    train_sft.main(["-c", str(config), "--set", f"{flag}=true"])
    state = load_file(tmp_path / "sft/checkpoint-final/adapter_model.safetensors")
    # LoRA's B matrices start at zero: any other value came through the quantized layers' backward pass.
    assert any(tensor.abs().sum() > 0 for name, tensor in state.items() if "lora_B" in name)
    # By which evaluate and ask know whether the calibration fits the answers that they generate.
    bits = f"{flag.removeprefix('load_in_').removesuffix('bit')}-bit"
    for name in ("checkpoint-best/run.json", "checkpoint-final/run.json", "calibration.json"):
        assert read_json(tmp_path / "sft" / name)["precision"].startswith(bits)


@pytest.mark.parametrize(
    ("step", "epoch", "logged", "is_owed"),
    [
        (4, 0.4, [2], True),
        (4, 0.4, [2, 4], False),
        (3, 0.3, [2], False),
        (5, 1.0, [2, 4], True),
        (5, 1.0, [2, 4, 5], False),
        (0, 0.0, [], False),
    ],
)
def test_a_resumed_run_knows_which_evaluation_its_stop_left_out(step, epoch, logged, is_owed):
    state = SimpleNamespace(global_step=step, epoch=epoch, log_history=[])
    for number in range(1, step + 1):
        state.log_history.append({"step": number, "loss": 1.0})
        if number in logged:
            state.log_history.append({"step": number, "eval_loss": 1.0})
    assert is_evaluation_owed(SimpleNamespace(eval_steps=2), state) == is_owed
