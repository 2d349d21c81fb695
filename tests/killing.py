"""The other end of tests/kill_server.py: starts stages that are stopped, and compares what they leave."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Facts of a run and not of its results: when, how long, how fast, with which path to the home and which code.
RUN_FACTS = {"created", "started", "finished", "times", "command", "git_commit"}
# Those that a stage notices: Ctrl-C and `kill`.
SIGNALS = [signal.SIGINT, signal.SIGTERM]
# Signal -> the exit code of a stage that it stopped; None where the stage cannot do anything about it.
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: None}


class KillServer:
    """The process of tests/kill_server.py."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, str(ROOT / "tests/kill_server.py")]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def start(self, command: tuple[str, list[str]], home: Path, **moment) -> dict:
        """Run (script, arguments), and send it a signal if a moment is given. Returns how it ended."""
        script, argv = command
        argv = [argument.format(home=home) for argument in argv]
        job = {
            "home": str(home),
            "script": script,
            "argv": argv,
            "signal": signal.SIGKILL,
            "seconds": None,
            "changes": None,
            "at": None,
        }
        self.process.stdin.write(json.dumps(job | moment) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def run(self, command: tuple[str, list[str]], home: Path, **moment) -> dict:
        """The same, and any other end than a good one fails."""
        answer = self.start(command, home, **moment)
        assert answer["code"] in (0, -9), log_of(home)[-3000:]
        return answer


class StoppedPhases:
    """Phases of the pipeline that are stopped at any moment, run again, and compared with undisturbed ones.

    `commands`: phase -> (script, arguments). `prepared`: phase -> the home that it starts in. `results_in`: a
    home -> what is compared of it, by name. `folder` is empty, for the homes of undisturbed runs.
    """

    def __init__(
        self,
        server: KillServer,
        commands: dict[str, tuple[str, list[str]]],
        prepared: dict[str, Path],
        results_in: Callable[[Path], dict[str, object]],
        folder: Path,
    ):
        self.server = server
        self.commands = commands
        self.prepared = prepared
        self.results_in = results_in
        self.folder = folder
        self._undisturbed: dict[str, tuple[dict, dict]] = {}

    def undisturbed(self, phase: str) -> tuple[dict, dict]:
        """(what an undisturbed run of the phase leaves, the answer of the server), computed once."""
        if phase not in self._undisturbed:
            home = self.home(phase, self.folder / phase)
            answer = self.server.run(self.commands[phase], home)
            self._undisturbed[phase] = (self.results_in(home), answer)
        return self._undisturbed[phase]

    def home(self, phase: str, home: Path) -> Path:
        """A new home in which the phase can begin."""
        shutil.copytree(self.prepared[phase], home)
        return home

    def moment(self, phase: str, number: int, n_moments: int) -> dict:
        """One of several moments, each in its own part of the run: by time, or by changes of files."""
        _, answer = self.undisturbed(phase)
        share = (number + random.Random(f"{phase} {number}").random()) / n_moments
        if number % 2:
            return {"changes": 1 + int(share * answer["changes"])}
        return {"seconds": share * answer["seconds"]}

    def stop(self, phase: str, home: Path, number: signal.Signals, **moment) -> bool:
        """Run the phase until the signal. True if it came before the end; a wrong end fails."""
        answer = self.server.start(self.commands[phase], home, signal=number, **moment)
        log = log_of(home)
        expected = EXIT_CODES[number]
        if expected is None:
            assert answer["code"] in (0, -number), log[-3000:]
            return answer["code"] != 0
        assert answer["code"] in (0, expected), log[-3000:]
        assert "Traceback" not in log
        if answer["code"] != 0:
            # The last line says what to do.
            last = log.splitlines()[-1]
            assert "rerun the same command" in last or "; resume with: " in last, log[-3000:]
        return answer["code"] != 0

    def check_rerun(self, phase: str, home: Path, *, was_stopped: bool = False) -> None:
        """The same command ends well, and leaves what an undisturbed run does.

        `was_stopped`: a training saved a checkpoint when it was told to stop, and keeps it in place of an
        older one; that is no difference.
        """
        assert self.server.run(self.commands[phase], home)["code"] == 0
        found = differences(self.results_in(home), self.undisturbed(phase)[0])
        if was_stopped:
            found = [name for name in found if not re.search(r"checkpoint-\d+/", name)]
        assert found == [], found


def log_of(home: Path) -> str:
    """What the runs in a home said."""
    return Path(f"{home}.log").read_text(encoding="utf-8", errors="replace")


def differences(found: dict, expected: dict) -> list[str]:
    """The files that are not in both, or not equal."""
    names = sorted(found.keys() | expected.keys())
    return [name for name in names if found.get(name) != expected.get(name)]
