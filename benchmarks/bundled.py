"""Samples for benchmarks: those of a file, or the bundled ones, which are built for the moment.

Nothing here knows what is measured.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from utils.config import input_path
from utils.schema import read_samples

ROOT = Path(__file__).resolve().parent.parent


def samples_of(data: str | None) -> list[dict]:
    """The samples of a file; None: the training samples that build_data.py makes of the bundled records."""
    if data is not None:
        return read_samples(input_path(data))
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(ROOT / "build_data.py"), "--sample", "--data-dir", "data"]
        environment = {**os.environ, "FACTUALITY_HOME": folder}
        done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the bundled samples could not be built:\n{done.stderr}")
        return read_samples(Path(folder) / "data/processed/train.jsonl")
