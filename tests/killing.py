"""The other end of tests/kill_server.py: starts stages that are killed, and compares what they leave."""

import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Facts of a run and not of its results: when, how long, how fast, with which path to the home and which code.
RUN_FACTS = {"created", "started", "finished", "times", "command", "git_commit"}


class KillServer:
    """The process of tests/kill_server.py."""

    def __init__(self):
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        command = [sys.executable, str(ROOT / "tests/kill_server.py")]
        self.process = subprocess.Popen(command, cwd=ROOT, env=environment, **pipes)
        assert self.process.stdout.readline() == "ready\n"

    def start(self, command: tuple[str, list[str]], home: Path, **moment) -> dict:
        """Run (script, arguments), and kill it if a moment is given. Returns how it ended."""
        script, argv = command
        argv = [argument.format(home=home) for argument in argv]
        job = {
            "home": str(home),
            "script": script,
            "argv": argv,
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
        assert answer["code"] in (0, -9), Path(f"{home}.log").read_text()[-3000:]
        return answer


def differences(found: dict, expected: dict) -> list[str]:
    """The files that are not in both, or not equal."""
    names = sorted(found.keys() | expected.keys())
    return [name for name in names if found.get(name) != expected.get(name)]
