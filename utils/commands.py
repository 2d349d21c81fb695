"""Commands that a stage prints for the user to run next: runnable as they are, from where this one was run.

It knows how this process was started, not what the stages do.
"""

import os
import shlex
import shutil
import sys
from pathlib import Path

from utils.config import portable_path

ROOT = Path(__file__).resolve().parent.parent


def _python() -> str:
    """`python` where the shell finds this interpreter under that name, else its path."""
    found = shutil.which("python")
    if found and os.path.realpath(found) == os.path.realpath(sys.executable) and sys.prefix in found:
        return "python"
    return (
        os.path.relpath(sys.executable) if sys.executable.startswith(os.getcwd() + os.sep) else sys.executable
    )


def _launcher() -> list[str]:
    """What starts a script: this interpreter or, in a launch of several processes, accelerate."""
    n_processes = int(os.environ.get("WORLD_SIZE", 1))
    if n_processes == 1:
        return [_python()]
    return [_python(), "-m", "accelerate.commands.launch", "--num_processes", str(n_processes)]


def sft_config() -> str:
    """The config to train with on this machine: Gemma-2-9B needs a GPU."""
    return "configs/sft_gemma2.yaml" if shutil.which("nvidia-smi") else "configs/demo/sft.yaml"


def reward_command(base_model: str, prefs_path: Path) -> str:
    """The command that trains a reward model on these preferences, with the base of their candidates."""
    prefs = ("--prefs", portable_path(prefs_path))
    if base_model == "embedded":
        return stage_command("train_rm.py", "-c", "configs/demo/rm.yaml", *prefs)
    base = ("--set", f"base_model={base_model}")
    return stage_command("train_rm.py", "-c", "configs/rm.yaml", *base, *prefs)


def stage_command(script: str, *arguments: object, launch: bool = False) -> str:
    """The command line of a stage, its arguments quoted, with the FACTUALITY_HOME of this process.

    `launch`: on as many processes as this one.
    """
    path = ROOT / script
    shown = script if Path.cwd() == ROOT else str(path)
    start = _launcher() if launch else [_python()]
    line = shlex.join([*start, shown, *map(str, arguments)])
    home = os.environ.get("FACTUALITY_HOME")
    return f"FACTUALITY_HOME={shlex.quote(home)} {line}" if home else line
