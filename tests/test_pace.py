"""What a long run says of itself: its first loss at once, tokens per second, peak memory, the time left."""

import re
from types import SimpleNamespace

import pytest
import torch

import train_sft
from generation.throughput import Throughput
from tests.test_train_sft import config_text
from training.pace import Pace
from utils.jsonl import read_json
from utils.progress import print_line

# Step, steps, tokens per second and peak memory in a line of a run's log.
STEP_LINE = re.compile(
    r"step (\d+)/(\d+): loss [\d.]+, .*, ([\d,]+) tokens/s, peak memory ([\d.]+) GB "
    r"\(\d+m\d\ds, \d+m\d\ds left\)"
)


class OfTwo:
    """An accelerator of two processes that do the same."""

    device = torch.device("cpu")

    def reduce(self, tensor, reduction):
        assert reduction == "sum"
        return 2 * tensor


@pytest.fixture
def now(monkeypatch):
    """The time that a pace sees, which only moves when a test moves it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr("training.pace.time.monotonic", lambda: now.seconds)
    return now


def run_step(pace: Pace, now, seconds: float) -> None:
    # Two rows of 3 and 5 tokens behind a prefix of 10.
    mask = torch.tensor([[0, 0, 1, 1, 1], [1, 1, 1, 1, 1]])
    pace.start_step()
    pace.count([{"attention_mask": mask}])
    now.seconds += seconds
    pace.on_step_end(None, None, None)


def test_the_tokens_of_steps_count_and_the_seconds_of_evaluations_do_not(now):
    pace = Pace(10)
    run_step(pace, now, 2)
    now.seconds += 500
    run_step(pace, now, 5)
    # Reading the loss waits until the GPU has finished the step: one second more.
    now.seconds += 1
    line = pace.since_last_line(OfTwo())
    assert line["tokens_per_second"] == 2 * 2 * 28 / 8
    run_step(pace, now, 1)
    assert pace.since_last_line(OfTwo())["tokens_per_second"] == 2 * 28 / 1
    facts = pace.of_the_run(OfTwo(), [{"loss": 3.5, "step": 1}, {"eval_loss": 1.0}, {"loss": 2.5}])
    assert facts["tokens_per_second"] == round(2 * 3 * 28 / 9, 1)
    assert facts["first_loss"] == 3.5
    assert facts["peak_memory_gb"] > 0


def test_the_tokens_are_not_read_between_two_lines(now, monkeypatch):
    # Each read would make a GPU wait.
    pace = Pace(10)
    for name in ("item", "tolist", "__int__", "__float__", "__bool__", "cpu"):
        monkeypatch.setattr(torch.Tensor, name, None)
    run_step(pace, now, 2)
    run_step(pace, now, 2)
    monkeypatch.undo()
    assert pace.tokens_of_all(OfTwo()) == 2 * 2 * 28


def read_progress(folder, lines: list[dict]):
    """Collects what run.json says of the unfinished run at every line of the log."""

    def listen(text: str) -> None:
        print_line(text)
        lines.append(read_json(folder / "run.json").get("progress"))

    return listen


def test_a_run_says_its_first_loss_at_once_and_how_fast_it_is(tiny_gemma_dir, home, monkeypatch, capsys):
    config = home / "c.yaml"
    config.write_text(config_text(tiny_gemma_dir, logging_steps=3, eval_steps=100, save_steps=100))
    seen: list[dict] = []
    monkeypatch.setattr("training.progress.note", read_progress(home / "sft", seen))
    train_sft.main(["-c", str(config)])
    found = STEP_LINE.findall(capsys.readouterr().err)
    # Lines are due at step 3 and, without waiting for it, at the first step.
    assert [(step, of) for step, of, _, _ in found] == [("1", "4"), ("3", "4")]
    assert all(int(rate.replace(",", "")) > 0 and float(peak) > 0 for _, _, rate, peak in found)

    # The file says what the line before it said.
    progress = next(said for said in seen if said)
    assert (progress["step"], progress["n_steps"]) == (1, 4)
    assert {"loss", "tokens_per_second", "peak_memory_gb", "seconds", "seconds_left"} <= set(progress)
    run = read_json(home / "sft/run.json")
    first = read_json(home / "sft/training_history.json")["train_losses"][0]
    assert first["step"] == 1
    assert run["first_loss"] == progress["loss"] == first["loss"]
    assert run["tokens_per_second"] > 0
    assert run["peak_memory_gb"] >= progress["peak_memory_gb"]
    # That of an unfinished run alone.
    assert "progress" not in run


# --- generation


def test_generation_counts_prompts_and_completions_of_the_rows_that_it_made(monkeypatch):
    now = SimpleNamespace(seconds=50.0)
    monkeypatch.setattr("generation.throughput.time.monotonic", lambda: now.seconds)
    prompts = {name: SimpleNamespace(ids=[1] * n) for name, n in (("a", 100), ("b", 200), ("c", 300))}
    speed = Throughput(prompts, n_processes=2)
    now.seconds += 3
    speed.add([{"id": "b", "n_tokens": 20}])
    now.seconds += 1
    speed.add([{"id": "a", "n_tokens": 10}])
    facts = speed.facts()
    assert facts["tokens_per_second"] == 330 / 4
    assert facts["samples_per_second"] == 2 / 4
    assert (facts["prompt_tokens"], facts["new_tokens"], facts["processes"]) == (300, 30, 2)
    assert facts["peak_memory_gb"] > 0
