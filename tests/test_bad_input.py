"""Bad input ends in one clear line that names the thing and the next step, with the promised exit code, and writes nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import build_data
import evaluate_sft_fast_robust
import make_prefs
import train_rm
import train_sft
from utils.errors import StageError

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def home(data_home, tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    (tmp_path / "data").symlink_to(data_home / "data")
    return tmp_path


def failure(module, argv) -> tuple[int, str]:
    with pytest.raises(StageError) as caught:
        module.main([str(a) for a in argv])
    return caught.value.exit_code, str(caught.value)


def test_a_missing_file_is_named(home):
    code, line = failure(
        evaluate_sft_fast_robust, ["--predictions", "p.jsonl", "--test-data", "nowhere/test.jsonl"]
    )
    assert code == 3 and "nowhere/test.jsonl: no such file" in line
    code, line = failure(train_sft, ["-c", "configs/nope.yaml"])
    assert code == 3 and "configs/nope.yaml" in line
    code, line = failure(train_rm, ["-c", ROOT / "configs/demo/rm.yaml"])
    assert code == 3 and "run make_prefs.py first" in line


def test_an_empty_data_set_is_refused(home):
    (home / "empty.jsonl").touch()
    code, line = failure(
        train_sft, ["-c", ROOT / "configs/demo/sft.yaml", "--set", "data.train_path=empty.jsonl"]
    )
    assert code == 3 and "the file has no rows" in line and not (home / "checkpoints").exists()


def test_a_missing_checkpoint_lists_those_present_and_the_corrected_name(home):
    folder = home / "checkpoints/sft/x"
    for name in ("checkpoint-10", "checkpoint-best"):
        (folder / name).mkdir(parents=True)
    flags = ["--test-data", "data/processed/test.jsonl", "--output", "out.json"]
    code, line = failure(
        evaluate_sft_fast_robust, ["--model-path", "checkpoints/sft/x/checkpoint-35", *flags]
    )
    assert (
        code == 3
        and "checkpoint-10, checkpoint-best" in line
        and "use " in line
        and line.endswith("checkpoint-best")
    )
    code, line = failure(
        evaluate_sft_fast_robust, ["--model-path", "checkpoints/sft/x/checkpoint-10", *flags]
    )
    assert code == 3 and "neither an adapter" in line
    code, line = failure(
        evaluate_sft_fast_robust, ["--model-path", "checkpoints/sft/checkpoint-best", *flags]
    )
    assert code == 3 and "holds x/checkpoint-best; use " in line and line.endswith("x/checkpoint-best")
    assert not (home / "out.json").exists()


def test_an_unreachable_model_is_named(home):
    code, line = failure(
        train_sft, ["-c", ROOT / "configs/demo/sft.yaml", "--set", "model_name=nobody/no-such-model"]
    )
    assert (
        code == 3
        and "nobody/no-such-model" in line
        and "`embedded`" in line
        and not (home / "checkpoints").exists()
    )


def test_caches_are_listed_when_none_fits(home):
    code, line = failure(make_prefs, ["--phase", "judge", "--data-path", "data/processed/train.jsonl"])
    assert code == 3 and "is empty" in line
    cache = home / "prefs/cache/abc"
    cache.mkdir(parents=True)
    (cache / "manifest.json").write_text(
        json.dumps({"status": "complete", "created": 1.0, "started": "x", "settings": {"n_generations": 4}})
    )
    code, line = failure(
        make_prefs, ["--phase", "judge", "--data-path", "data/processed/train.jsonl", "--n-generations", "2"]
    )
    assert code == 3 and "abc: complete, differs in n_generations 4" in line


@pytest.mark.parametrize(
    "module, argv, word",
    [
        (build_data, ["--split", "0.5,0.6,0.1"], "add up to 1"),
        (build_data, ["--sample", "--sources", "fevr"], "did you mean 'fever'"),
        (evaluate_sft_fast_robust, ["--test-data", "x"], "--model-path"),
        (
            evaluate_sft_fast_robust,
            ["--test-data", "x", "--model-path", "m", "--compare-baseline"],
            "--base-model",
        ),
        (make_prefs, ["--phase", "generate"], "--sft-model"),
        (make_prefs, ["--min-margin", "3"], "between 0 and 1"),
    ],
)
def test_wrong_usage_exits_2(module, argv, word, home):
    code, line = failure(module, argv)
    assert code == 2 and word in line


def test_the_process_prints_one_line_and_no_traceback(stage, tmp_path):
    done = stage("build_data.py", "--check", "missing.jsonl", home=tmp_path)
    assert (
        done.returncode == 3
        and done.stderr.startswith("error: ")
        and "missing.jsonl: no such file" in done.stderr
        and len(done.stderr.splitlines()) == 1
    )
    assert not list(tmp_path.iterdir())


def test_a_mistyped_flag_exits_2(stage, tmp_path):
    done = stage("build_data.py", "--max-chunk", "3", home=tmp_path)
    assert done.returncode == 2 and "--max-chunk" in done.stderr and "Traceback" not in done.stderr


def test_an_interrupt_exits_130_and_leaves_no_half_file(tmp_path):
    environment = {**os.environ, "FACTUALITY_HOME": str(tmp_path)}
    # A shell starts background jobs with SIGINT ignored, which children inherit.
    process = subprocess.Popen(
        [sys.executable, "build_data.py", "--sample"],
        cwd=ROOT,
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "data/processed/run.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "rerun the same command to continue" in stderr and "Traceback" not in stderr
    assert not list(tmp_path.rglob("*.tmp")) and not list(tmp_path.rglob("t*.jsonl"))
