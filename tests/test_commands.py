"""Commands that a stage prints run as they are, in the shell that ran the stage."""

import os
import shlex
import subprocess
import sys

from tests.conftest import ROOT
from utils.commands import stage_command


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
