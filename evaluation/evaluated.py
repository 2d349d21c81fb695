"""Finds the evaluation of a model among the results files under FACTUALITY_HOME.

It reads results; how they were made is in results.py.
"""

from pathlib import Path

from utils.cards import Measured
from utils.config import home_path, input_path
from utils.errors import DataError
from utils.jsonl import read_json
from utils.metrics import HEADLINE


def evaluation_of(model_dir: Path) -> Measured | None:
    """Headline metrics on test of the newest results file that evaluated this model; None without one."""
    wanted = model_dir.resolve()
    paths = sorted(home_path("").glob("*.json"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in paths:
        try:
            results = read_json(path)
        except DataError:
            continue
        if not isinstance(results, dict) or "sft" not in results:
            continue
        settings = results.get("run", {}).get("settings", {})
        named = settings.get("model_path")
        if named and input_path(named).resolve() == wanted:
            metrics = {name: results["sft"].get(name) for name in HEADLINE}
            # The name of the file, since val too can be evaluated.
            split = Path(settings.get("test_data") or "test").stem
            return Measured(split, results["sft"].get("n"), metrics)
    return None
