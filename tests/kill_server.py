"""Runs stages in child processes of one process, and stops them at a moment: for tests of kills and damage.

Reads one job per line from stdin and answers with one line. A child starts within milliseconds, because the
models' libraries are imported here, once. It gets a signal after some seconds, right before its n-th change
of a file, or right before the first change of a path that contains a text ("at"). After SIGKILL, it cannot
clean up. A job is {"home", "script", "argv", "signal", "seconds", "changes", "at"}, of which the last three
may be null, an answer {"code", "seconds", "changes"}, with code -9 for a child that was killed.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import build_data
import evaluate_sft_fast_robust
import make_prefs
import robustness
import train_dpo
import train_rm
import train_sft
from preferences import candidates, features, judges
from utils.startup import run_main

# Also what a stage imports when it is needed, so that a child does not spend its time on that.
for _name in ("peft", "scipy.stats", "sklearn.metrics", "matplotlib.pyplot", "transformers"):
    importlib.import_module(_name)

SCRIPTS = {
    "build_data.py": build_data,
    "evaluate_sft_fast_robust.py": evaluate_sft_fast_robust,
    "make_prefs.py": make_prefs,
    "robustness.py": robustness,
    "train_dpo.py": train_dpo,
    "train_rm.py": train_rm,
    "train_sft.py": train_sft,
}
# What changes a file. A file that is opened for reading changes nothing.
CHANGES = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.truncate"}


class Changes:
    """Counts what this process does to files below a folder, and signals it before the `last` one.

    Also before the first one that touches a path with the text `at`.
    """

    def __init__(self, home: str, number: int, last: int | None, at: str | None):
        self.home = home
        self.signal = number
        self.last = last
        self.at = at
        self.n_seen = 0

    def __call__(self, event: str, args: tuple) -> None:
        is_writing = event == "open" and bool(args[2] & (os.O_WRONLY | os.O_RDWR))
        if not is_writing and event not in CHANGES:
            return
        if not str(args[0]).startswith(self.home):
            return
        self.n_seen += 1
        # The second path is where something is renamed to.
        is_there = self.at is not None and any(self.at in str(path) for path in args[:2])
        if self.n_seen == self.last or is_there:
            # Once: what a stage does after a signal changes files too.
            self.at = None
            os.kill(os.getpid(), self.signal)


def run_child(job: dict, answer: int) -> None:
    """Run the stage and end this process. The number of changes goes to the pipe `answer`."""
    home = job["home"]
    changes = Changes(home, job["signal"], job["changes"], job["at"])
    code: int | str | None = 1
    try:
        log = os.open(f"{home}.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(log, stream)
        os.environ["FACTUALITY_HOME"] = home
        sys.argv = [job["script"], *job["argv"]]
        sys.addaudithook(changes)
        run_main(lambda _: SCRIPTS[job["script"]].main(job["argv"]))
        code = 0
    except SystemExit as end:
        code = end.code
    except BaseException:
        # A bug keeps its traceback, which the log then shows.
        sys.excepthook(*sys.exc_info())
    finally:
        os.write(answer, str(changes.n_seen).encode())
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(code if isinstance(code, int) else 1)


def run(job: dict) -> dict:
    """The answer to a job."""
    reading, writing = os.pipe()
    started = time.monotonic()
    child = os.fork()
    if child == 0:
        run_child(job, writing)
    os.close(writing)
    if job["seconds"] is not None:
        time.sleep(job["seconds"])
        # A child that has ended waits for `waitpid`, so its number belongs to no other process yet.
        os.kill(child, job["signal"])
    _, status = os.waitpid(child, 0)
    with os.fdopen(reading) as pipe:
        n_changes = int(pipe.read() or 0)
    seconds = time.monotonic() - started
    return {"code": os.waitstatus_to_exitcode(status), "seconds": seconds, "changes": n_changes}


def main() -> None:
    # Small portions, so that a few samples are several.
    features._PROMPTS_PER_FILE = 3
    judges.JOBS_PER_WRITE = 3
    candidates.SAMPLES_PER_PORTION = 3
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
