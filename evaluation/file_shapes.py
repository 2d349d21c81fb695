"""What results files contain, as far as another run or a report reads it (`utils/shapes.py`).

Fields with `?` may be missing, as in files of an earlier version. It reads nothing itself.
"""

from utils.metrics import HEADLINE
from utils.own_files import RUN
from utils.shapes import Every, Maybe

_INTERVALS = Every(Maybe([float]))
_RATES = {f"{name}?": Maybe(float) for name in HEADLINE}
_MACRO = {"ci95?": _INTERVALS, **_RATES}
_METRICS = {"n": int, "ci95": _INTERVALS, "macro?": Maybe(_MACRO), **dict.fromkeys(HEADLINE, Maybe(float))}
_DELTAS = {"ci95": _INTERVALS, "smallest_detectable": Every(Maybe(float))}
_SETTINGS = {"limit?": Maybe(int), "model_path?": Maybe(str), "predictions?": Maybe(str)}

# A results file of evaluate_sft_fast_robust.py, of any model.
RESULTS = {
    "sft?": _METRICS,
    "base?": _METRICS,
    "baselines": Every(_METRICS),
    "deltas_to?": Every(_DELTAS),
    "deltas_by_source?": Every(Every(_DELTAS)),
    "by_source?": Every(dict),
    "slices?": Every(Every(dict)),
    "curves?": Every(dict),
    "selective?": {"kind": str, "threshold": Maybe(float)},
    "run": {
        **RUN,
        "settings": {**_SETTINGS, "test_data": str},
        "inputs": Every(str),
        "seed": int,
        "packages": dict,
        "git_commit": Maybe(str),
    },
}

# A results file of robustness.py.
_SUITE = {"n": int, "levels": Every(dict), "plotted": [str], "axis": str, "ordered": bool}
SUITES = {"suites": Every(_SUITE), "run": {**RUN, "settings": _SETTINGS}}

# What a rerun of either compares before it has nothing to do.
FINISHED = {"run": {**RUN, "settings": dict, "inputs": Every(str)}}
# What it then shows again, by a key that these results alone have.
SHOWN = {
    "suites": {"suites": Every(_SUITE)},
    "baselines": {name: shape for name, shape in RESULTS.items() if name != "run"},
}
# What the card of a model says of its evaluation.
EVALUATED = {
    "sft": {"n?": Maybe(int), **{f"{name}?": Maybe(float) for name in HEADLINE}},
    "run": {"settings": {"model_path?": Maybe(str), "test_data?": Maybe(str)}},
}
