"""A stage answers mistakes in its flags at once, and tells every expected error in one line."""

import argparse
import errno
import os
import subprocess
import sys

import pytest

import train_sft
from tests.conftest import ROOT
from utils.allocator import jemalloc_environment
from utils.arguments import (
    bucket_list,
    chunk_count,
    positive_int,
    sample_limit,
    seed_number,
    share,
    stage_parser,
    temperature,
    whole_number,
)
from utils.errors import Terminated, UsageError
from utils.outputs import check_file_output, check_folder_output
from utils.startup import run_main
from utils.system_errors import describe_import_error, describe_os_error

SCRIPTS = sorted(path.name for path in ROOT.glob("*.py"))
MODEL_STACK = ("torch", "transformers", "accelerate", "peft")


# --- flags


@pytest.mark.parametrize(
    "kind, good, bad",
    [
        (positive_int, {"3": 3}, ["0", "-4", "2.5", "x", ""]),
        (whole_number, {"0": 0, "7": 7}, ["-1", "1e3"]),
        (sample_limit, {"0": None, "5": 5}, ["-1", "all"]),
        (chunk_count, {"2": 2}, ["1"]),
        (seed_number, {"0": 0, "4294967295": 4294967295}, ["-1", "4294967296"]),
        (share, {"0": 0.0, "0.5": 0.5, "1": 1.0}, ["-0.1", "1.01", "50%", "nan", "inf"]),
        (temperature, {"0": 0.0, "1.5": 1.5}, ["-1", "inf", "nan", "warm"]),
        (bucket_list, {"1024,512,512": [512, 1024]}, ["512,", "0", "512;1024", "-1"]),
    ],
)
def test_a_flags_type_takes_its_range_and_nothing_else(kind, good, bad):
    for text, value in good.items():
        assert kind(text) == value
    for text in bad:
        with pytest.raises(argparse.ArgumentTypeError, match="expected"):
            kind(text)


def example_parser():
    parser = stage_parser("What it does.")
    parser.add_argument("-c", "--config", required=True)
    parser.add_argument("--batch-size", type=positive_int)
    parser.add_argument("--phase", choices=("generate", "judge"))
    return parser


@pytest.mark.parametrize(
    "argv, line",
    [
        (["--confg", "x"], "unknown flag --confg; did you mean --config?"),
        (["-config", "x"], "unknown flag -config; did you mean --config?"),
        (["--batch_size", "4"], "unknown flag --batch_size; did you mean --batch-size?"),
        (["--batch", "4"], "unknown flag --batch; did you mean --batch-size?"),
        (["\u2014config", "x"], "\u2014config: starts with a typographic dash; write --config"),
        (["--frobnicate"], "unknown flag --frobnicate; --help lists the flags"),
        ([], "-c/--config: must be given; --help shows examples"),
        (["-c", "x", "--batch-size", "-4"], "--batch-size: expected a whole number from 1 on, found -4"),
        (["-c", "x", "--batch-size"], "--batch-size: expected a value; none follows it"),
        (
            ["-c", "x", "--phase", "generat"],
            "--phase: 'generat' is none of generate, judge; did you mean generate?",
        ),
        (["-c", "x", "y"], "unexpected 'y': no flag before it takes it; --help lists the flags"),
    ],
)
def test_a_wrong_flag_is_one_line_with_the_nearest_right_one(argv, line):
    with pytest.raises(UsageError) as caught:
        example_parser().parse_args(argv)
    assert str(caught.value) == line


def test_a_missing_command_is_asked_for_by_name():
    parser = stage_parser("x")
    commands = parser.add_subparsers(required=True, metavar="{save,test,parse}")
    commands.add_parser("save")
    with pytest.raises(UsageError, match="^name a command: save, test or parse$"):
        parser.parse_args([])


def test_values_that_look_like_flags_stay_values():
    parser = example_parser()
    parser.add_argument("--offset", type=int)
    args = parser.parse_args(["-cfile.yaml", "--offset", "-3", "--batch-size=2"])
    assert (args.config, args.offset, args.batch_size) == ("file.yaml", -3, 2)
    parser.add_argument("--split")
    assert parser.parse_args(["-c", "x", "--split", "-1,1,1"]).split == "-1,1,1"


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_and_mistakes_need_no_model_library(script):
    # The modules that are loaded when the process ends; a time would depend on what else the machine does.
    code = f"""
import atexit, runpy, sys
atexit.register(lambda: print("loaded:", *sorted(set(sys.modules) & set({MODEL_STACK})), file=sys.stderr))
sys.argv = [{script!r}, *sys.argv[1:]]
runpy.run_path({script!r}, run_name="__main__")
"""
    for argv, exit_code in ((["--help"], 0), (["--no-such-flag"], 2)):
        command = [sys.executable, "-c", code, *argv]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == exit_code, done.stderr
        *lines, loaded = done.stderr.splitlines()
        assert loaded == "loaded:"
        assert len(lines) == (0 if exit_code == 0 else 1)


def test_a_yaml_mistake_needs_no_model_library(tmp_path, monkeypatch):
    monkeypatch.setenv("FACTUALITY_HOME", str(tmp_path))
    config = ROOT / "configs/demo/sft.yaml"
    with pytest.raises(UsageError, match="did you mean 'learning_rate'"):
        train_sft.read_settings(["-c", str(config), "--set", "training.learning_rat=1"])


# --- outputs


def test_outputs_are_checked_before_anything_is_written(tmp_path):
    (tmp_path / "file").write_text("x")
    (tmp_path / "gone").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="is a folder; name a file"):
        check_file_output(tmp_path)
    with pytest.raises(UsageError, match="file is a file"):
        check_file_output(tmp_path / "file" / "results.json")
    with pytest.raises(UsageError, match="is a file; name a folder"):
        check_folder_output(tmp_path / "file")
    with pytest.raises(UsageError, match="is a link to .*nowhere, which does not exist"):
        check_folder_output(tmp_path / "gone" / "run")
    # Folders that are missing are made by whoever writes.
    check_file_output(tmp_path / "a" / "b" / "results.json")
    check_folder_output(tmp_path / "a")
    assert not (tmp_path / "a").exists()


def test_a_read_only_place_is_named(tmp_path, monkeypatch):
    # Root may write anywhere, so the answer of the file system is replaced.
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(UsageError, match="read-only here; choose a place"):
        check_folder_output(tmp_path / "run")


# --- errors that no stage raises itself


def test_errors_of_the_disk_name_path_reason_and_free_space(tmp_path):
    full = describe_os_error(OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "x")))
    assert full.startswith(f"{tmp_path / 'x'}: No space left on device (")
    assert " MB free); make room" in full
    read_only = describe_os_error(OSError(errno.EROFS, "Read-only file system", "/x"))
    assert read_only.startswith("/x: Read-only file system; choose a place")


def test_a_full_standard_output_is_not_taken_for_a_full_home(monkeypatch):
    error = OSError(errno.ENOSPC, "No space left on device")
    assert " MB free); make room" in describe_os_error(error)
    with open("/dev/full", "w") as full:
        full.write("an answer")
        monkeypatch.setattr(sys, "stdout", full)
        assert describe_os_error(error) == (
            "standard output: No space left on device; send it to a place with room"
        )
        monkeypatch.undo()
        # Its end writes once more.
        with pytest.raises(OSError):
            full.close()


def test_a_missing_package_is_named_with_the_command_that_installs_it():
    line = describe_import_error(ModuleNotFoundError("No module named 'peft'", name="peft"))
    assert line.startswith("the package 'peft' is not installed")
    assert "pip install -r" in line and "\n" not in line


STUB = 'raise ImportError("libcudnn.so.9: cannot open shared object file")\n'


def run_with_stub(tmp_path, name: str, text: str, *argv: str) -> subprocess.CompletedProcess:
    """A script in a process where the module `name` is replaced by `text`."""
    (tmp_path / f"{name}.py").write_text(text)
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "FACTUALITY_HOME": str(tmp_path)}
    command = [sys.executable, *argv]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


def test_a_broken_package_is_one_line_during_the_imports_too(tmp_path):
    done = run_with_stub(tmp_path, "torch", STUB, "train_sft.py", "-c", "configs/demo/sft.yaml", "--dry-run")
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "libcudnn.so.9" in done.stderr


def test_an_interrupt_during_the_imports_exits_130(tmp_path):
    argv = ("train_sft.py", "-c", "configs/demo/sft.yaml", "--dry-run")
    done = run_with_stub(tmp_path, "torch", "raise KeyboardInterrupt\n", *argv)
    assert done.returncode == 130
    assert done.stderr.startswith("interrupted")
    assert done.stderr.count("\n") == 1


def test_a_bug_keeps_its_traceback(tmp_path):
    done = run_with_stub(
        tmp_path, "torch", "1 / 0\n", "train_sft.py", "-c", "configs/demo/sft.yaml", "--dry-run"
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr and "Traceback" in done.stderr


# --- the end


@pytest.mark.parametrize("stop, code", [(Terminated, 143), (KeyboardInterrupt, 130)])
def test_what_an_interrupt_leaves_is_said_by_the_stage(stop, code, capsys):
    def stage(argv):
        raise stop

    with pytest.raises(SystemExit) as ended:
        run_main(stage)
    assert ended.value.code == code
    assert "rerun the same command to continue" in capsys.readouterr().err
    # ask.py has no work to continue.
    with pytest.raises(SystemExit) as ended:
        run_main(stage, interrupted="stopped; nothing was written")
    assert ended.value.code == code
    assert capsys.readouterr().err == "stopped; nothing was written\n"


# --- malloc


def test_a_preloaded_library_is_the_users_choice():
    assert jemalloc_environment({"A": "1"}, None) is None
    assert jemalloc_environment({"LD_PRELOAD": ""}, "libjemalloc.so.2") is None
    found = jemalloc_environment({"A": "1", "MALLOC_CONF": "mine"}, "libjemalloc.so.2")
    assert found == {"A": "1", "MALLOC_CONF": "mine", "LD_PRELOAD": "libjemalloc.so.2"}
    settings = jemalloc_environment({}, "libjemalloc.so.2")["MALLOC_CONF"]
    assert "oversize_threshold:0" in settings and "muzzy_decay_ms:-1" in settings


BEGINS_AGAIN = """
import ctypes.util, os, sys
sys.path.insert(0, {root!r})
from utils.startup import before_imports
# Stands for jemalloc: a library that every Linux has.
ctypes.util.find_library = lambda name: "libm.so.6"
before_imports(lambda: print("checked"), trains=True)
print(os.getpid(), os.environ.get("LD_PRELOAD"), sys.argv[1:])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="LD_PRELOAD is for Linux")
def test_a_training_begins_again_with_jemalloc_and_keeps_process_and_arguments(tmp_path):
    script = tmp_path / "train.py"
    script.write_text(BEGINS_AGAIN.format(root=str(ROOT)), encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    command = [sys.executable, str(script), "--x", "a b"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        lines = process.stdout.read().splitlines()
    assert lines == ["checked", f"{process.pid} libm.so.6 ['--x', 'a b']"]

    # What runs a script inside its own process, as a notebook's kernel does, is not started again.
    inside = f"import runpy, sys; sys.argv = ['x', '1']; runpy.run_path({str(script)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", inside], env=environment, capture_output=True, text=True)
    assert done.stdout.splitlines()[1].endswith("None ['1']")
