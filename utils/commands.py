"""Commands that a stage prints for the user to run next: runnable as they are, from where this one was run.

It knows how this process was started, not what the stages do.
"""

import itertools
import os
import shlex
import shutil
import sys
from pathlib import Path

from utils.config import home_path, portable_path
from utils.errors import DataError
from utils.hub_names import EMBEDDED_IDS
from utils.jsonl import read_json_object
from utils.launch import process_count

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
    n_processes = process_count()
    if n_processes == 1:
        return [_python()]
    return [_python(), "-m", "accelerate.commands.launch", "--num_processes", str(n_processes)]


def _newest_build() -> Path | None:
    """The folder of training samples that was built last under FACTUALITY_HOME; None without one."""
    built = home_path(".").glob("*/processed/train.jsonl")
    newest = max(built, key=lambda path: path.stat().st_mtime, default=None)
    return newest.parent if newest else None


def _is_bundled(processed: Path) -> bool:
    """Whether a build is of the bundled sample alone."""
    try:
        return bool(read_json_object(processed / "run.json")["settings"].get("sample"))
    except (DataError, KeyError, AttributeError):
        return False


def train_flags(processed: Path | None) -> list[str]:
    """The flags of train_sft.py for a build, with the config that fits; without a build the demo's.

    Gemma-2-9B needs a GPU, and the bundled sample is too small for it.
    """
    has_gpu = shutil.which("nvidia-smi") is not None
    large = has_gpu and processed is not None and not _is_bundled(processed)
    flags = ["-c", "configs/sft_gemma2.yaml" if large else "configs/demo/sft.yaml"]
    # The configs name the default place.
    if processed is not None and processed.resolve() != home_path("data/processed").resolve():
        for split in ("train", "val"):
            flags += ["--set", f"data.{split}_path={portable_path(processed / f'{split}.jsonl')}"]
        flags += ["--set", f"output_dir=checkpoints/sft/{processed.parent.name}"]
    return flags


def train_command(processed: Path | None = None) -> str:
    """The command that trains on a build (default: the newest one)."""
    return stage_command("train_sft.py", *train_flags(processed or _newest_build()))


def command_after_build(processed: Path) -> str:
    """What follows a build: the prompts, or the training where they are saved already."""
    if home_path("prompts/run.json").is_file():
        return train_command(processed)
    return stage_command("prompt_schema.py", "save", "--prompts-dir", "prompts")


def free_results(preferred: str, name: str) -> str:
    """A results file that does not exist yet: the preferred one, else one named for what is evaluated."""
    numbered = (f"eval_{name}_{i}.json" for i in itertools.count(2))
    for output in itertools.chain([preferred, f"eval_{name}.json"], numbered):
        if not home_path(output).exists():
            return output
    raise AssertionError("the numbers do not end")


def reward_flags(base_model: str, prefs_path: Path | None = None) -> list[str]:
    """The flags of train_rm.py for these preferences (None: the newest), with their candidates' base."""
    config = "configs/demo/rm.yaml" if base_model in EMBEDDED_IDS else "configs/rm.yaml"
    # The config of the small models names the first of them.
    base = [] if base_model == "embedded" else ["--set", f"base_model={base_model}"]
    prefs = ["--prefs", portable_path(prefs_path)] if prefs_path else []
    return ["-c", config, *base, *prefs]


def reward_command(base_model: str, prefs_path: Path) -> str:
    """The command that trains a reward model on these preferences."""
    return stage_command("train_rm.py", *reward_flags(base_model, prefs_path))


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
