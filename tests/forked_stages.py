"""Runs stages as processes that are forked from one in which the model libraries are imported already.

Importing torch, transformers and peft takes a stage up to ten seconds, and the tests run hundreds of stages.
The modules of this project are not imported beforehand: each stage imports them itself, as in a shell. A
stage with environment variables of its own gets a fresh process, since libraries read them when imported.
This module knows nothing about what a stage does.
"""

import atexit
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIBRARIES = ["tests.imported_libraries"]


def _end(error: BaseException | None) -> int:
    """What Python does when a script ends: tell the error, run the exit functions. Returns the exit code."""
    code: object = 0
    if isinstance(error, SystemExit):
        code = error.code
    elif error is not None:
        try:
            sys.excepthook(type(error), error, error.__traceback__)
            code = 1
        except SystemExit as end:
            # The hook of a stage ends the process with a code of its own.
            code = end.code
    if isinstance(code, str):
        print(code, file=sys.stderr)
        code = 1
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    return code if isinstance(code, int) else 0


def _run(script: str, arguments: list[str], environment: dict[str, str], logs: list[str]) -> None:
    """The child: become the process of a stage, with its output in two files."""
    for stream, path in zip((1, 2), logs):
        os.dup2(os.open(path, os.O_WRONLY), stream)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(ROOT)
    sys.argv = [script, *arguments]
    error = None
    try:
        runpy.run_path(str(ROOT / script), run_name="__main__")
    except BaseException as raised:
        error = raised
    os._exit(_end(error))


def run_forked(script: str, arguments: list[str], environment: dict[str, str], seconds: float):
    """`python script arguments` in the repository: its subprocess.CompletedProcess, with text.

    Raises subprocess.TimeoutExpired, as `subprocess.run` does, when it has not ended after `seconds`.
    """
    context = multiprocessing.get_context("forkserver")
    # Only the first call matters: the server starts with it.
    context.set_forkserver_preload(LIBRARIES)
    with tempfile.TemporaryDirectory() as folder:
        logs = [Path(folder) / "stdout", Path(folder) / "stderr"]
        for log in logs:
            log.touch()
        process = context.Process(target=_run, args=(script, arguments, environment, list(map(str, logs))))
        process.start()
        process.join(seconds)
        if process.exitcode is None:
            process.kill()
            raise subprocess.TimeoutExpired([script, *arguments], seconds)
        stdout, stderr = (log.read_text(encoding="utf-8") for log in logs)
    return subprocess.CompletedProcess([script, *arguments], process.exitcode, stdout, stderr)
