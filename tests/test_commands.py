"""Commands that a stage prints run as they are, in the shell that ran the stage."""

import os
import shlex
import subprocess
import sys

from tests.conftest import ROOT
from utils.commands import command_after_build, free_results, stage_command, train_command
from utils.jsonl import write_json


def test_a_printed_command_runs_as_it_is(tmp_path, monkeypatch):
    home = tmp_path / "a home"
    home.mkdir()
    (home / "it's.jsonl").write_text("{}\n")
    monkeypatch.setenv("FACTUALITY_HOME", str(home))
    monkeypatch.chdir(tmp_path)
    line = stage_command("build_data.py", "--check", "it's.jsonl")
    environment = {name: value for name, value in os.environ.items() if name != "FACTUALITY_HOME"}
    done = subprocess.run(line, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    # It found the file under the home: the row is what is wrong.
    assert done.returncode == 3
    assert "it's.jsonl:1" in done.stderr + done.stdout


def test_a_command_is_as_short_as_it_can_be(monkeypatch):
    monkeypatch.delenv("FACTUALITY_HOME", raising=False)
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}")
    assert stage_command("train_rm.py", "-c", "configs/rm.yaml") == "python train_rm.py -c configs/rm.yaml"
    monkeypatch.setenv("WORLD_SIZE", "2")
    launched = shlex.split(stage_command("train_sft.py", "--resume", launch=True))
    assert launched[1:] == [
        "-m",
        "accelerate.commands.launch",
        "--num_processes",
        "2",
        "train_sft.py",
        "--resume",
    ]


def test_results_get_a_name_that_is_free(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    for name in ("eval_results.json", "eval_own.json", "eval_own_2.json", "eval_own_3.json"):
        assert free_results("eval_results.json", "own") == name
        (tmp_path / name).write_text("{}")


def build(home, name: str, is_sample: bool):
    processed = home / name / "processed"
    write_json(processed / "run.json", {"settings": {"sample": is_sample}})
    (processed / "train.jsonl").write_text("")
    return processed


def test_training_follows_a_build_with_the_config_that_fits_it(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    has_gpu = [False]
    monkeypatch.setattr("utils.commands.shutil.which", lambda name: "x" if has_gpu[0] else None)
    sample = build(tmp_path, "data", is_sample=True)
    assert command_after_build(sample).endswith("prompt_schema.py save --prompts-dir prompts")
    write_json(tmp_path / "prompts/run.json", {})
    for has_gpu[0] in (False, True):
        assert command_after_build(sample).endswith("train_sft.py -c configs/demo/sft.yaml")
    own = build(tmp_path, "own", is_sample=False)
    line = command_after_build(own)
    assert "-c configs/sft_gemma2.yaml" in line
    assert "--set data.train_path=own/processed/train.jsonl" in line
    assert line.endswith("--set output_dir=checkpoints/sft/own")
    # Saving the prompts knows no data: it takes the newest.
    os.utime(sample / "train.jsonl", (1, 1))
    assert train_command() == line
