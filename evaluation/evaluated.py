"""Finds the evaluation of a model among the results files under FACTUALITY_HOME.

It reads results; how they were made is in results.py.
"""

from pathlib import Path

from evaluation.file_shapes import EVALUATED
from utils.cards import Measured
from utils.config import home_path, input_path
from utils.errors import DataError
from utils.metrics import HEADLINE
from utils.shapes import read_shaped


def evaluation_of(model_dir: Path) -> Measured | None:
    """Headline metrics on test of the newest results file that evaluated this model; None without one."""
    wanted = model_dir.resolve()
    paths = sorted(home_path("").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            # Any program may have written a JSON file there.
            results = read_shaped(path, EVALUATED)
        except DataError:
            continue
        settings = results["run"]["settings"]
        named = settings.get("model_path")
        if named and input_path(named).resolve() == wanted:
            metrics = {name: results["sft"].get(name) for name in HEADLINE}
            # The name of the file, since val too can be evaluated.
            split = Path(settings.get("test_data") or "test").stem
            return Measured(split, results["sft"].get("n"), metrics)
    return None
