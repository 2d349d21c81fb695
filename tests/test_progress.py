"""Progress: bars where lines can be redrawn, else plain lines in a log file, at most every 30 seconds."""

import io
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

import utils.progress
from tests.conftest import ROOT
from training.progress import StepProgress
from utils.jsonl import read_jsonl, sha256_file
from utils.progress import draws_bars, open_watched, progress, track
from utils.runs import note


@pytest.fixture
def log(capsys):
    """What a log file in place of the terminal would contain so far."""
    return lambda: capsys.readouterr().err


@pytest.fixture
def terminal(capsys, monkeypatch):
    """What a terminal got so far."""
    monkeypatch.setattr(utils.progress, "draws_bars", lambda: True)
    return lambda: capsys.readouterr().err


@pytest.fixture
def clock(monkeypatch):
    """The time that the progress sees, which only moves when a test moves it."""
    now = SimpleNamespace(seconds=1000.0)
    monkeypatch.setattr(utils.progress.time, "monotonic", lambda: now.seconds)
    monkeypatch.setattr(utils.progress, "_LAST_LINE", [0.0])
    return now


def test_a_log_file_gets_plain_lines_of_at_most_one_in_30_seconds(log, clock):
    with progress(200, "generating: sft", "sample") as bar:
        for _ in range(20):
            clock.seconds += 10
            bar.update(10)
    text = log()
    lines = text.splitlines()
    # 200 seconds: at 30, 60, ... 180.
    assert len(lines) == 6
    assert lines[0] == "generating: sft: 30/200 (1.00sample/s), 00:30 so far, 02:50 left"
    assert lines[-1].endswith("180/200 (1.00sample/s), 03:00 so far, 00:20 left")
    assert not re.search(r"[\x00-\x09\x0b-\x1f]", text)


def test_a_short_loop_leaves_no_line_in_a_log_file(log):
    assert list(track(range(1000), "verifying support", "row")) == list(range(1000))
    assert log() == ""


def test_another_note_makes_a_line_about_progress_unnecessary(log, clock):
    with progress(4, "training", "step") as bar:
        for step in range(1, 5):
            clock.seconds += 25
            note(f"step {step}")
            clock.seconds += 10
            bar.update(1)
    assert log() == "step 1\nstep 2\nstep 3\nstep 4\n"


def test_the_rate_of_a_resumed_loop_counts_what_it_did_itself(log, clock):
    with progress(100, "downloading", "B", initial=40) as bar:
        clock.seconds += 30
        bar.update(30)
    assert "70/100 (1.00B/s), 00:30 so far, 00:30 left" in log()


def test_a_loop_without_a_known_end_shows_its_rate(log, clock):
    for _ in track(iter(range(3)), "reading", "row"):
        clock.seconds += 20
    assert log() == "reading: 2 (20.00s/row), 00:40 so far\n"


def test_a_terminal_gets_a_bar_with_rate_and_time_left(terminal):
    with progress(10, "judging", "comparison") as bar:
        bar.update(5)
        bar.refresh()
        shown = terminal()
    assert re.search(r"judging:  50%\|.*\| 5/10 \[00:00<00:00, .*comparison/s\]", shown)


def test_a_note_stands_above_the_bar(terminal):
    with progress(10, "training", "step") as bar:
        bar.update(5)
        terminal()
        note("step 5/10: loss 0.5")
        written = terminal()
    # The bar is cleared, the note has a line to itself, and the bar is drawn again below it.
    assert re.search(r"\r +\rstep 5/10: loss 0.5\n\rtraining:  50%", written)


def test_where_a_line_can_be_redrawn(monkeypatch):
    kernel = type("OutStream", (io.StringIO,), {"__module__": "ipykernel.iostream"})
    terminal = type("Terminal", (io.StringIO,), {"isatty": lambda self: True})
    for stream, expected in ((io.StringIO, False), (terminal, True), (kernel, True)):
        monkeypatch.setattr(sys, "stderr", stream())
        assert draws_bars() is expected


def test_of_several_processes_the_first_reports(terminal, monkeypatch, clock):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    with progress(10, "generating", "sample") as bar:
        clock.seconds += 100
        bar.update(5)
    assert terminal() == ""
    monkeypatch.setenv("RANK", "0")
    with progress(10, "generating", "sample") as bar:
        bar.update(5)
    assert "generating (process 1 of 2)" in terminal()


def test_a_large_file_shows_how_much_of_it_was_read(log, clock, tmp_path, monkeypatch):
    path = tmp_path / "train.jsonl"
    path.write_text('{"id": "x"}\n' * 300_000)
    monkeypatch.setattr(utils.progress, "_MIN_WATCHED_BYTES", 1 << 20)
    rows = read_jsonl(path)
    next(rows)
    clock.seconds += 60
    assert sum(1 for _ in rows) == 299_999
    assert log() == "reading train.jsonl: 2.10M/3.60M (35.0kB/s), 01:00 so far, 00:42 left\n"
    # Bytes that are read twice count once.
    with open_watched(path) as handle:
        handle.seek(3_000_000)
        handle.read(100)
        handle.seek(0)
        assert sum(len(line) for line in handle) == 3_600_000
    assert len(sha256_file(path)) == 64


def test_a_training_line_says_how_long_it_took_and_what_is_left(log, clock):
    steps = StepProgress()
    state = SimpleNamespace(global_step=100, max_steps=500, is_world_process_zero=True)
    with steps:
        steps.on_train_begin(None, state, None)
        clock.seconds += 120
        state.global_step = 120
        steps.on_step_end(None, state, None)
        logs = {"loss": 0.5, "grad_norm": 1.25, "learning_rate": 1e-4, "epoch": 0.2}
        logs |= {"tokens_per_second": 1234.5, "peak_memory_gb": 14.25}
        steps.on_log(None, state, None, logs=logs)
    # 20 steps in 120 seconds since the run was resumed, so 380 take 38 minutes.
    measured = "loss 0.5, grad_norm 1.25, learning_rate 0.0001, 1,234 tokens/s, peak memory 14.2 GB"
    assert log().splitlines()[-1] == f"step 120/500: {measured} (2m00s, 38m00s left)"


def test_bars_are_made_in_one_place():
    # A bar of its own would write control characters into log files.
    others = []
    for path in Path(ROOT).glob("*/*.py"):
        imports = re.search(r"^\s*(from|import) tqdm", path.read_text(encoding="utf-8"), re.MULTILINE)
        if imports and path.parent.name not in ("tests", "benchmarks"):
            others.append(str(path.relative_to(ROOT)))
    assert others == ["utils/progress.py"]


_STOPPED_WHILE_IT_PRINTS = """
from training.stopping import StopSignals
from utils.progress import print_line

with StopSignals() as stops:
    while not stops.number:
        print_line("a line " * 100)
print_line(f"saved after signal {stops.number}")
"""


def test_a_signal_in_the_middle_of_a_printed_line_is_a_request_like_any_other():
    # Without a buffer there is nothing that a second print finds in use.
    env = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-c", _STOPPED_WHILE_IT_PRINTS]
    process = subprocess.Popen(command, cwd=ROOT, env=env, stderr=subprocess.PIPE, text=True)
    # Libraries may have something to say first.
    while not process.stderr.readline().startswith("a line"):
        assert process.poll() is None
    # Nobody reads, so the pipe is full soon, and the process waits within a print.
    time.sleep(1)
    process.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    said = process.stderr.read()
    assert process.wait() == 0, said[-2000:]
    assert "Traceback" not in said and "finishing this step and saving a checkpoint" in said
    assert said.endswith("saved after signal 15\n")
