"""The benchmarks run, at toy size, and what they print was measured."""

import math
import re
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import benchmarks.device
from benchmarks import dpo, generation, judge, rm
from models.peak_memory import peak_memory_gb
from tests.conftest import ROOT


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


# In a process of its own: what other tests have left in this one may be freed at any moment.
_MEASURE = """
import torch
import benchmarks.device
from models.peak_memory import peak_memory_gb

benchmarks.device.forget_peak()
before = peak_memory_gb()
held = torch.ones(50_000_000)
print(peak_memory_gb() - before, held.nbytes / 1e9)
del held
benchmarks.device.forget_peak()
print(peak_memory_gb() - before)
"""


def test_the_peak_of_memory_grows_with_what_is_held_and_can_be_forgotten():
    command = [sys.executable, "-c", _MEASURE]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    grown, held, left = map(float, done.stdout.split())
    assert grown == pytest.approx(held, abs=0.05)
    assert left < 0.1


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


def test_the_rival_gets_its_own_layers_back(make_model):
    from peft import LoraConfig, get_peft_model

    model = get_peft_model(make_model("llama"), LoraConfig(target_modules=["q_proj"]))
    attention = model.config._attn_implementation

    def n_replaced() -> int:
        return sum("forward" in vars(layer) for layer in model.modules())

    before = n_replaced()
    with generation.kernels(model, "free"):
        assert n_replaced() > before
    assert n_replaced() == before and model.config._attn_implementation == attention


def test_a_tie_is_between_the_tokens_that_were_chosen(make_model):
    model = make_model("llama")
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[5, 6]])).logits[0, -1]
    order = logits.argsort(descending=True).tolist()
    prompt = SimpleNamespace(ids=[5, 6])
    gap = generation.first_difference(model, prompt, [order[0]], [order[9]])
    assert gap == pytest.approx(float(logits[order[0]] - logits[order[9]]), abs=1e-5)
    assert generation.first_difference(model, prompt, [order[3]], [order[3]]) is None


def test_prompts_that_the_model_has_no_positions_for_are_named(make_model, tokenizer, tmp_path, test_file):
    model = make_model("llama")
    model.config.max_position_embeddings = 128
    model.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    flags = ["--model", str(tmp_path), "--data", test_file, "--prompts", "3"]
    with pytest.raises(SystemExit, match="has 128 positions, and the longest prompt needs"):
        run_generation(*flags)


# --- benchmarks/judge.py, benchmarks/rm.py and benchmarks/dpo.py


def cells(printed: str) -> list[list[str]]:
    """The rows of a Markdown table, without its head."""
    lines = [line for line in printed.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_judging_and_candidates_are_timed_against_generate(tiny_gemma_dir, test_file, capsys):
    flags = f"--pairs 3 --prompts 2 --rounds 1 --max-new-tokens 5 --batch-size 4 --data {test_file}"
    judge.main(judge.build_parser().parse_args(["--model", str(tiny_gemma_dir), *flags.split()]))
    rows = cells(capsys.readouterr().out)
    assert [row[0] for row in rows] == ["3 pairs judged, pairs/s", "8 candidates, candidates/s"]
    assert all(float(cell) > 0 for row in rows for cell in row[1:])


def test_the_rival_of_the_judge_gets_its_prompts_with_another_request(tokenizer, samples):
    jobs = judge.make_jobs(samples, 2)
    texts = [tokenizer.decode(ids) for ids in judge.verdict_prompts(tokenizer, jobs)]
    assert len(texts) == 4
    assert all(text.endswith("Verdict:") and "letter A or B" not in text for text in texts)
    first, second = jobs[0][1]
    assert first["completion"] != second["completion"] and texts[0] != texts[1]


def test_reward_training_is_timed_and_scored_on_other_questions(tiny_gemma_dir, test_file, capsys):
    flags = f"--train-pairs 6 --test-pairs 4 --epochs 2 --batch-size 3 --data {test_file}"
    rm.main(rm.build_parser().parse_args(["--model", str(tiny_gemma_dir), *flags.split()]))
    *_, ours = cells(capsys.readouterr().out)
    # TRL is no requirement of this project, so its row may be missing.
    assert ours[0] == "ours" and float(ours[1]) > 0 and 0 <= float(ours[3]) <= 1


@pytest.mark.parametrize("system", ["ours", "trl"])
def test_policy_steps_are_timed_from_one_adapter_on_both_sides(system, tiny_gemma_dir, test_file, tmp_path):
    if system == "trl":
        pytest.importorskip("trl")
    flags = f"--data {test_file} --pairs 6 --batch-size 2 --float32 --max-seq-length 1500"
    argv = ["--model", str(tiny_gemma_dir), *flags.split(), "--one", system, str(tmp_path)]
    args = dpo.build_parser().parse_args(argv)
    dpo.write_adapter(args, tmp_path)
    found = dpo.run_one(args)
    assert len(found["losses"]) == 3 and found["losses"][0] == pytest.approx(math.log(2), abs=1e-4)
    assert found["pairs_per_s"] > 0 and found["peak_gb"] > 0
    rows = dpo.cells_of([found], [found])
    assert rows[1] == "1.00" and rows[-1] == "0"


def test_no_question_is_on_both_sides_of_the_reward_benchmark(samples):
    train, test = rm.split_pairs(rm.made_pairs(samples), 9, 9)
    assert 5 <= rm.n_questions(train) <= 9
    assert not {row["group"] for row in train} & {row["group"] for row in test}
