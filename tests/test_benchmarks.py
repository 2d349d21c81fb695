"""The benchmarks run, at toy size, and what they print was measured."""

import re
from types import SimpleNamespace

import pytest
import torch

import benchmarks.device
from benchmarks import generation
from models.peak_memory import peak_memory_gb


@pytest.fixture(scope="module")
def test_file(data_home):
    return str(data_home / "data/processed/test.jsonl")


# --- time and memory


def test_a_clock_is_read_after_the_gpu_has_finished(monkeypatch):
    events = []
    monkeypatch.setattr(benchmarks.device, "has_cuda", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: events.append("finished"))
    perf_counter = SimpleNamespace(perf_counter=lambda: events.append("read") or 1.0)
    monkeypatch.setattr(benchmarks.device, "time", perf_counter)
    assert benchmarks.device.clock() == 1.0
    assert events == ["finished", "read"]


def test_the_peak_of_memory_grows_with_what_is_held_and_can_be_forgotten():
    benchmarks.device.forget_peak()
    before = peak_memory_gb()
    held = torch.ones(50_000_000)
    assert peak_memory_gb() == pytest.approx(before + held.nbytes / 1e9, abs=0.05)
    del held
    benchmarks.device.forget_peak()
    assert peak_memory_gb() < before + 0.1


def test_on_a_gpu_the_peak_is_that_of_the_gpu(monkeypatch):
    monkeypatch.setattr("models.peak_memory.has_cuda", lambda: True)
    monkeypatch.setattr("models.peak_memory.device", lambda: "cuda:1")
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", {"cuda:1": 2_500_000_000}.get)
    assert peak_memory_gb() == 2.5


# --- benchmarks/generation.py


def save_without_safetensors(model, tokenizer, folder):
    """A model directory in PyTorch's older format, of which no file name tells the size."""
    model.config.save_pretrained(folder)
    torch.save(model.state_dict(), folder / "pytorch_model.bin")
    tokenizer.save_pretrained(folder)
    return str(folder)


def run_generation(*flags: str) -> None:
    generation.main(generation.build_parser().parse_args(list(flags)))


def test_reading_is_timed_for_a_model_whose_size_no_file_tells(
    make_model, tokenizer, tmp_path, test_file, capsys
):
    model = save_without_safetensors(make_model("llama"), tokenizer, tmp_path / "base")
    run_generation("--model", model, "--data", test_file, "--prompts", "3", "--rounds", "1", "--prefill")
    shares = re.findall(
        r"prefill, attention of (\w+): \d+ GFLOP/s in weights alone, \d+%", capsys.readouterr().out
    )
    assert shares == ["generate", "free"]


def test_only_what_each_position_is_multiplied_with_counts(make_model):
    model = make_model("gemma2")
    # Gemma-2's output layer is its embedding.
    n_embedded = model.get_input_embeddings().weight.numel()
    assert generation.count_multiplied(model) == sum(p.numel() for p in model.parameters()) - n_embedded


def test_prompts_that_the_model_has_no_positions_for_are_named(make_model, tokenizer, tmp_path, test_file):
    model = make_model("llama")
    model.config.max_position_embeddings = 128
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    flags = ["--model", str(tmp_path), "--data", test_file, "--prompts", "3"]
    with pytest.raises(SystemExit, match="has 128 positions, and the longest prompt needs"):
        run_generation(*flags)
