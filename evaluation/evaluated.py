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

# Settings of evaluations that are not of the model as its card asks it.
_OTHER_WAYS = ("predictions", "decisions", "orders", "best_of", "temperature")


def evaluation_of(model_dir: Path) -> Measured | None:
    """Headline metrics on test of the largest, then newest, results file of this model; None without one.

    Of a model that was asked plainly, as the code on its card asks it: not of fitted decisions, several
    orders, answers refused below a threshold, or completions that were scored again.
    """
    found: list[tuple[int, Measured]] = []
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
        ways = [settings.get(name) for name in _OTHER_WAYS]
        is_plain = not any(way and way != "plain" for way in ways) and "selective" not in results
        if named and is_plain and input_path(named).resolve() == wanted:
            metrics = {name: results["sft"].get(name) for name in HEADLINE}
            # The name of the file, since val too can be evaluated.
            split = Path(settings.get("test_data") or "test").stem
            found.append((results["sft"].get("n") or 0, Measured(split, results["sft"].get("n"), metrics)))
    # Of equals the first, which is the newest.
    return max(found, key=lambda one: one[0])[1] if found else None
