"""Bad input ends in one line with the cause and the next step, has its exit code, and writes nothing."""

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
from asking.judging import split_question
from models.directories import missing_checkpoint
from preferences.inputs import preference_files
from utils.errors import StageError, UsageError
from utils.input_files import STAGE_REMEDY, missing_reason
from utils.outputs import check_file_output

ROOT = Path(__file__).resolve().parent.parent


def failure(module, argv) -> tuple[int, str]:
    """Exit code and message of a stage that must stop."""
    # Called as a function, because a process per case would take seconds to import torch.
    with pytest.raises(StageError) as caught:
        module.main([str(a) for a in argv])
    return caught.value.exit_code, str(caught.value)


def test_a_missing_file_is_named(home):
    argv = ["--predictions", "p.jsonl", "--test-data", "nowhere/test.jsonl"]
    code, line = failure(evaluate_sft_fast_robust, argv)
    assert code == 3
    assert "nowhere/test.jsonl: no such file" in line
    code, line = failure(train_sft, ["-c", "configs/nope.yaml"])
    assert code == 3
    assert "configs/nope.yaml" in line
    # Without --prefs the newest preferences are looked for; here there are none yet.
    code, line = failure(train_rm, ["-c", ROOT / "configs/demo/rm.yaml"])
    assert code == 3
    assert "run make_prefs.py first" in line


@pytest.mark.parametrize(
    "path", ["checkpoints/sft/demo/checkpoint-best", "data/processed/train.jsonl", "prefs/p.jsonl"]
)
def test_a_home_that_is_not_exported_is_named(tmp_path, monkeypatch, path):
    monkeypatch.delenv("FACTUALITY_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    place = tmp_path / "my demo" / path
    place.parent.mkdir(parents=True)
    place.touch()
    hint = f"FACTUALITY_HOME is not set, and my demo/{path} exists: export FACTUALITY_HOME='my demo'"
    assert missing_reason(Path(path)) == f"no such file; {hint}"
    assert missing_checkpoint(Path(path)) == f"{path}: no such checkpoint; {hint}"
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    assert "FACTUALITY_HOME" not in missing_reason(Path(path)) + missing_checkpoint(Path(path))


def test_a_folder_that_is_no_home_is_not_exported(tmp_path, monkeypatch):
    monkeypatch.delenv("FACTUALITY_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "configs/demo").mkdir(parents=True)
    (tmp_path / "configs/demo/sft.yaml").touch()
    assert "FACTUALITY_HOME" not in missing_reason(Path("demo/sft.yaml"))


def test_preferences_of_a_home_that_is_not_exported_are_found(tmp_path, monkeypatch):
    monkeypatch.delenv("FACTUALITY_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "demo/prefs").mkdir(parents=True)
    with pytest.raises(StageError, match="export FACTUALITY_HOME=demo"):
        preference_files(Path("prefs"))


def test_a_missing_folder_gets_one_remedy(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    reason = missing_reason(Path("data/processed/train.jsonl"))
    assert reason == f"no such file, and no folder data/processed; {STAGE_REMEDY}"
    assert reason.count("check the path") == 1


def test_a_place_without_room_for_files_is_named():
    with pytest.raises(StageError, match="/proc/x/y: cannot be written"):
        check_file_output(Path("/proc/x/y"))


def test_an_empty_data_set_is_refused(home):
    (home / "empty.jsonl").touch()
    argv = ["-c", ROOT / "configs/demo/sft.yaml", "--set", "data.train_path=empty.jsonl"]
    code, line = failure(train_sft, argv)
    assert code == 3
    assert "the file has no rows" in line
    assert not (home / "checkpoints").exists()


def test_a_missing_checkpoint_lists_those_present_and_the_corrected_name(home):
    # The notebook's checkpoint numbers vary with the data, so this is the error that its users meet.
    folder = home / "checkpoints/sft/x"
    for name in ("checkpoint-10", "checkpoint-best"):
        (folder / name).mkdir(parents=True)
    flags = ["--test-data", "data/processed/test.jsonl", "--output", "out.json"]

    def without(checkpoint):
        return failure(evaluate_sft_fast_robust, ["--model-path", f"checkpoints/sft/{checkpoint}", *flags])

    code, line = without("x/checkpoint-35")
    assert code == 3
    assert "checkpoint-10, checkpoint-best" in line
    assert "use " in line
    assert line.endswith("checkpoint-best")

    # A folder that is there but empty.
    code, line = without("x/checkpoint-10")
    assert code == 3
    assert "neither an adapter" in line

    # The run's folder was forgotten: the checkpoint is one level deeper.
    code, line = without("checkpoint-best")
    assert code == 3 and "has x/checkpoint-best; use " in line and line.endswith("x/checkpoint-best")
    assert not (home / "out.json").exists()


def test_an_unreachable_model_is_named(home):
    argv = ["-c", ROOT / "configs/demo/sft.yaml", "--set", "model_name=nobody/no-such-model"]
    code, line = failure(train_sft, argv)
    assert code == 3
    assert "nobody/no-such-model" in line
    # The model that needs no network is the way out.
    assert "`embedded`" in line
    assert not (home / "checkpoints").exists()


def test_caches_are_listed_when_none_fits(home):
    judge = ["--phase", "judge", "--data-path", "data/processed/train.jsonl"]
    code, line = failure(make_prefs, judge)
    assert code == 3
    assert "is empty" in line
    cache = home / "prefs/cache/abc"
    cache.mkdir(parents=True)
    (cache / "manifest.json").write_text(
        json.dumps({"status": "complete", "created": 1.0, "started": "x", "settings": {"n_generations": 4}})
    )
    code, line = failure(make_prefs, [*judge, "--n-generations", "2"])
    assert code == 3
    assert "abc: complete, differs in n_generations 4" in line


QUESTION = {"id": "q1", "question": "Who?", "evidence_chunks": [{"title": "A", "text": "It was her."}]}


@pytest.mark.parametrize(
    "flags, row, named",
    [
        ([], QUESTION, "--judge verifier compares with gold: take one of llm, reward, citations"),
        (["--judge-model", "embedded", "--hard-rejections"], QUESTION, "--hard-rejections are made of gold"),
        ([], {**QUESTION, "id": " "}, "questions.jsonl:1: id or question is empty"),
        ([], {**QUESTION, "source": 3}, "questions.jsonl:1: source must be str, found 3"),
        ([], {**QUESTION, "metadata": []}, "questions.jsonl:1: field 'metadata' must be dict, found []"),
        # With one field of gold it is a sample, and must be a whole one.
        ([], {**QUESTION, "answer": "her"}, "questions.jsonl:1: field 'source' is missing"),
    ],
)
def test_questions_without_gold_are_refused_where_gold_decides(flags, row, named, home):
    (home / "questions.jsonl").write_text(json.dumps(row) + "\n")
    code, line = failure(make_prefs, ["--phase", "judge", "--data-path", "questions.jsonl", *flags])
    assert code == 3
    assert named in line


def test_a_question_that_is_not_utf8_is_refused():
    # As Python reads the bytes `Who \xe9?` of a command line.
    with pytest.raises(UsageError, match="not UTF-8, from its character 5 on"):
        split_question("Who \udce9?")
    assert split_question("Who é?")[0] == "Who é?"


UNNAMED_BASE = ["--test-data", "x", "--model-path", "m"]


@pytest.mark.parametrize(
    "module, argv, word",
    [
        (build_data, ["--split", "0.5,0.6,0.1"], "add up to 1"),
        (build_data, ["--sample", "--sources", "fevr"], "did you mean 'fever'"),
        (evaluate_sft_fast_robust, ["--test-data", "x"], "--model-path"),
        (evaluate_sft_fast_robust, [*UNNAMED_BASE, "--compare-baseline"], "--base-model"),
        (make_prefs, ["--phase", "generate"], "--sft-model"),
        (make_prefs, ["--min-margin", "3"], "from 0 to 1"),
    ],
)
def test_wrong_usage_exits_2(module, argv, word, home):
    code, line = failure(module, argv)
    assert code == 2
    assert word in line


def test_the_process_prints_one_line_and_no_traceback(stage, tmp_path):
    done = stage("build_data.py", "--check", "missing.jsonl", home=tmp_path)
    assert done.returncode == 3
    assert done.stderr.startswith("error: ")
    assert "missing.jsonl: no such file" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_a_mistyped_flag_exits_2(stage, tmp_path):
    done = stage("build_data.py", "--max-chunk", "3", home=tmp_path)
    # The start of a flag is no flag: what it would stand for changes with every new flag.
    assert done.returncode == 2
    assert "--max-chunk" in done.stderr
    assert "Traceback" not in done.stderr


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
    # The manifest is the first file of a build, so the signal arrives while it works.
    deadline = time.monotonic() + 60
    while not (tmp_path / "data/processed/run.json").is_file() and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "rerun the same command to continue" in stderr
    assert "Traceback" not in stderr
    assert not list(tmp_path.rglob("*.tmp"))
    assert not list(tmp_path.rglob("t*.jsonl"))
