"""Two runs on one output: one works, the other is told who has it or waits; killed runs keep nobody out."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from utils import lock_records, locks
from utils.atomic import own_host
from utils.errors import UsageError
from utils.jsonl import read_json, write_json
from utils.lock_records import LockRecord
from utils.locks import cache_lock, output_lock

ROOT = Path(__file__).resolve().parent.parent

# Holds the lock of the first argument until its stdin closes; the lines that it prints tell how far it is.
HOLDER = """
import sys
from pathlib import Path
from utils.locks import output_lock
with output_lock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def start_holder(output: Path) -> subprocess.Popen:
    """A process that holds the lock of an output."""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    holder = subprocess.Popen([sys.executable, "-c", HOLDER, str(output)], cwd=ROOT, **pipes)
    assert holder.stdout.readline() == "held\n"
    return holder


def refusal(output: Path) -> str:
    """The message to a run that cannot have the output."""
    with pytest.raises(UsageError) as caught, output_lock(output):
        pass
    return str(caught.value)


def left_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*"))


@pytest.fixture
def without_locks(monkeypatch):
    """A file system without locks, as Colab's Drive may be."""

    def refuse(self, *args, **settings):
        raise OSError(errno.ENOTSUP, "Operation not supported")

    monkeypatch.setattr(locks.BaseFileLock, "acquire", refuse)
    monkeypatch.setattr(locks, "_SETTLE_SECONDS", 0.05)
    monkeypatch.setattr(locks, "_noted", set())


def test_the_second_run_is_told_host_process_start_and_command_of_the_first(tmp_path):
    holder = start_holder(tmp_path / "run")
    message = refusal(tmp_path / "run")
    assert f"in use by process {holder.pid} on {socket.gethostname()}, started 20" in message
    assert "python -c" in message and "\n" not in message
    # Another output is free.
    with output_lock(tmp_path / "other"):
        pass
    holder.communicate()
    with output_lock(tmp_path / "run"):
        pass
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_run_keeps_nobody_out(ending, tmp_path):
    holder = start_holder(tmp_path / "run")
    holder.send_signal(ending)
    holder.wait()
    with output_lock(tmp_path / "run"):
        assert read_json(tmp_path / ".run.lock.json")["pid"] == os.getpid()
    assert left_in(tmp_path) == []


def test_children_of_a_killed_run_keep_nobody_out(tmp_path):
    # The workers of build_data.py are forked: they inherit every open file.
    # The pause lets the child get as far as it comes before its parent is killed.
    child = "    import os, time\n    os.fork() or (time.sleep(5), os._exit(0))\n    time.sleep(0.5)\n"
    forking = HOLDER.replace("    print", f"{child}    print")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, "-c", forking, str(tmp_path / "run")]
    holder = subprocess.Popen(command, cwd=ROOT, **pipes)
    assert holder.stdout.readline() == "held\n"
    holder.kill()
    holder.wait()
    with output_lock(tmp_path / "run"):
        pass


def test_an_output_that_is_replaced_keeps_its_lock(tmp_path):
    run = tmp_path / "run"
    with output_lock(run):
        run.mkdir()
        run.rename(tmp_path / "old")
        run.mkdir()
        assert "in use" in refusal(run)
        # By another name too.
        (tmp_path / "link").symlink_to(run)
        assert "in use" in refusal(tmp_path / "link")


def test_temporary_files_of_killed_runs_are_gone_with_the_next_run(tmp_path):
    run = tmp_path / "run"
    (run / "best/deep").mkdir(parents=True)
    places = [run / ".a.json.{}.tmp", run / "best/.b.{}.tmp", tmp_path / ".run.{}.tmp"]
    places.append(tmp_path / "..run.lock.json.{}.tmp")
    killed = f"{NO_PROCESS}-{own_host()}"
    # Another machine's processes may live, whatever their numbers.
    others = (f"{os.getppid()}-{own_host()}", "name", f"{NO_PROCESS}-0a1b2c3d")
    for place in places:
        for process in (killed, *others):
            Path(str(place).format(process)).touch()
    # It belongs to another lock.
    kept = run / f"best/deep/.c.{killed}.tmp"
    kept.touch()
    with output_lock(run):
        left = [path.name for path in tmp_path.rglob(f"*{killed}.tmp")]
        assert left == [kept.name]
    assert len(list(tmp_path.rglob("*.tmp"))) == 13


def test_a_failed_run_leaves_no_folders(tmp_path):
    with pytest.raises(RuntimeError), output_lock(tmp_path / "a/b/run"):
        raise RuntimeError
    assert left_in(tmp_path) == []
    with output_lock(tmp_path / "a/b/run"):
        (tmp_path / "a/b/run").write_text("done")
    assert left_in(tmp_path) == ["a", "b", "run"]


def test_a_long_command_is_cut_at_a_word(tmp_path, monkeypatch):
    monkeypatch.setattr("sys.argv", ["train_sft.py", *["--set", "data.max_samples=1000"] * 9])
    command = LockRecord(tmp_path / "r").own["command"]
    assert command.startswith("python train_sft.py --set data.max_samples=1000 ")
    assert command.split()[-1] == "..."
    assert set(command.split()[2:-1]) == {"--set", "data.max_samples=1000"}
    monkeypatch.setattr("sys.argv", ["train_sft.py", "-c", "my configs/sft.yaml"])
    assert LockRecord(tmp_path / "r").own["command"] == "python train_sft.py -c 'my configs/sft.yaml'"


def foreign_record(age: float) -> dict:
    """A record of a run on another machine whose last sign of life is `age` seconds old."""
    about = {"host": "elsewhere", "pid": 1, "started": "2026-01-01 00:00:00 UTC", "command": "python x.py"}
    return about | {"token": "t", "seen": time.time() - age}


def test_another_machine_counts_while_it_gives_signs_of_life(tmp_path):
    record = tmp_path / ".run.lock.json"
    write_json(record, foreign_record(age=30))
    message = refusal(tmp_path / "run")
    assert "process 1 on elsewhere" in message and "last sign of life 30 s ago" in message
    assert f"delete {record}" in message
    assert read_json(record)["host"] == "elsewhere"
    write_json(record, foreign_record(age=lock_records._STALE_SECONDS + 1))
    with output_lock(tmp_path / "run"):
        assert read_json(record)["host"] == socket.gethostname()


def test_a_running_run_gives_signs_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(lock_records, "_BEAT_SECONDS", 0.01)
    record = tmp_path / ".run.lock.json"
    with output_lock(tmp_path / "run"):
        first = read_json(record)["seen"]
        time.sleep(0.3)
        assert read_json(record)["seen"] > first
    assert left_in(tmp_path) == []


def test_a_run_that_lost_its_record_leaves_the_new_one_alone(tmp_path):
    path = tmp_path / ".run.lock.json"
    record = lock_records.LockRecord(path)
    record.write()
    write_json(path, foreign_record(age=0))
    record.remove()
    assert read_json(path)["host"] == "elsewhere"


def test_a_cache_is_waited_for(tmp_path, capsys):
    holder = start_holder(tmp_path / "cache")
    subprocess.Popen(["sleep", "1"]).wait()
    waiter = "from pathlib import Path\nimport sys\nfrom utils.locks import cache_lock\n"
    waiter += "with cache_lock(Path(sys.argv[1])):\n    print('mine')"
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    second = subprocess.Popen([sys.executable, "-c", waiter, str(tmp_path / "cache")], cwd=ROOT, **pipes)
    time.sleep(1.5)
    assert second.poll() is None
    holder.communicate()
    out, err = second.communicate(timeout=30)
    assert out == "mine\n" and err.count("waiting for") == 1 and f"process {holder.pid}" in err
    assert left_in(tmp_path) == []


def test_without_locks_an_exclusive_file_does(without_locks, tmp_path, capsys):
    with output_lock(tmp_path / "run"):
        assert f"process {os.getpid()} on" in refusal(tmp_path / "run")
    with output_lock(tmp_path / "run"):
        pass
    # Said once.
    assert capsys.readouterr().err.count("no file locks") == 1
    assert left_in(tmp_path) == []


# No process has the highest number.
NO_PROCESS = 2**22 + 1


@pytest.mark.parametrize(
    "is_free, age, changes",
    [
        (True, 1000, {}),
        (False, 10, {}),
        (True, 0, {"host": socket.gethostname(), "pid": NO_PROCESS}),
        (False, 1000, {"host": socket.gethostname(), "pid": os.getppid()}),
    ],
)
def test_without_locks_the_record_of_a_dead_run_is_replaced(is_free, age, changes, without_locks, tmp_path):
    # Written here and not among the parameters: those are made long before the test, in a long session.
    text = json.dumps(foreign_record(age) | changes)
    (tmp_path / ".run.lock.json").write_text(text)
    if is_free:
        with output_lock(tmp_path / "run"):
            pass
        assert left_in(tmp_path) == []
    else:
        assert "in use by" in refusal(tmp_path / "run")
        assert (tmp_path / ".run.lock.json").read_text() == text


def test_without_locks_a_record_that_is_just_being_written_counts(without_locks, tmp_path):
    record = tmp_path / ".run.lock.json"
    record.write_text("")
    assert "in use by" in refusal(tmp_path / "run")
    assert record.read_text() == ""


def test_a_torn_record_of_long_ago_is_replaced(without_locks, tmp_path):
    record = tmp_path / ".run.lock.json"
    record.write_text('{"host": "else')
    assert "just starting" in refusal(tmp_path / "run")
    old = time.time() - 1000
    os.utime(record, (old, old))
    with output_lock(tmp_path / "run"), cache_lock(tmp_path / "other"):
        pass


def test_a_folder_that_cannot_be_written_is_no_missing_lock(tmp_path, monkeypatch):
    def refuse(self, *args, **settings):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(locks.BaseFileLock, "acquire", refuse)
    with pytest.raises(PermissionError), output_lock(tmp_path / "run"):
        pass
