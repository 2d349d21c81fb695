"""Runs stages in child processes of one process, each with a fault of its place: for tests/faults/.

Reads one job per line from stdin and answers with one line, as tests/kill_server.py does. A child starts
within milliseconds, because the models' libraries are imported here, once. A job that mounts is
{"mount": [arguments of mount]}, a job that runs a stage
{"home", "script", "argv", "logs", "apart", "cwd", "environment", "faults"}, and its answer {"codes", "pids"}:
one for each of `logs`, the files with what each run said. Several runs start `apart` seconds after another.
`faults` are the names of functions of tests/faults/place_faults.py with their arguments.
Started by `unshare --mount`, so that nobody else sees what is mounted.
"""

import gc
import importlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent))

from preferences import candidates, features, judges
from tests.faults import place_faults
from training import export
from utils import outputs
from utils.startup import run_main

# Also what a stage imports when it is needed, so that a child does not spend its time on that.
for _name in ("peft", "scipy.stats", "sklearn.metrics", "matplotlib.pyplot", "transformers"):
    importlib.import_module(_name)

NAMES = (
    *("build_data", "prompt_schema", "train_sft", "evaluate_sft_fast_robust", "robustness", "make_prefs"),
    *("train_rm", "train_dpo"),
)
SCRIPTS = {f"{name}.py": importlib.import_module(name) for name in NAMES}
SCRIPTS["reporting/summary.py"] = importlib.import_module("reporting.summary")


def run_child(job: dict, log_path: str) -> None:
    """Run the stage as its script would, with its faults, and end this process."""
    log = os.open(log_path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    for stream in (1, 2):
        os.dup2(log, stream)
    os.environ["FACTUALITY_HOME"] = job["home"]
    os.environ.update(job.get("environment", {}))
    if job.get("cwd"):
        os.chdir(job["cwd"])
    sys.argv = [job["script"], *job["argv"]]
    for name, arguments in job.get("faults", {}).items():
        getattr(place_faults, name)(*arguments)
    code: object = 99
    try:
        run_main(SCRIPTS[job["script"]].main)
        code = 0
    except SystemExit as error:
        code = error.code
    except BaseException:
        sys.excepthook(*sys.exc_info())
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else 98)


def run(job: dict) -> dict:
    """The answer to a job."""
    if "mount" in job:
        done = subprocess.run(job["mount"], capture_output=True, text=True, check=False)
        return {"codes": [done.returncode], "said": done.stderr}
    children = []
    for log_path in job["logs"]:
        if children:
            time.sleep(job["apart"])
        children.append(os.fork())
        if children[-1] == 0:
            run_child(job, log_path)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    return {"codes": [os.waitstatus_to_exitcode(status) for status in statuses], "pids": children}


def main() -> None:
    # Small portions, so that a few samples are several; and tiny outputs may meet a full disk while they are
    # written, instead of before.
    features._PROMPTS_PER_FILE = 3
    judges.JOBS_PER_WRITE = 3
    candidates.SAMPLES_PER_PORTION = 3
    outputs._LEAST_FREE = 0
    export.N_PROMPTS = 2
    # What is imported here is no garbage of a child, whose collections would take a second each.
    gc.freeze()
    print("ready", flush=True)
    for line in sys.stdin:
        print(json.dumps(run(json.loads(line))), flush=True)


if __name__ == "__main__":
    main()
