"""`--report`: an evaluation as one HTML page that needs no network.

The page contains its images, its style and one script. The content security policy in report_template.html
names the hash of that script, so nothing that a model or a source wrote can run.
The samples come from `html_samples.py`.
"""

import base64
import hashlib
import json
import string
from html import escape
from pathlib import Path

from evaluation.html_samples import browser_html
from evaluation.html_tables import all_deltas, headline_cells, html_table, metric_cell
from evaluation.plots import calibration_png
from evaluation.results import WITHOUT_MODEL
from evaluation.tables import all_models, selective_line
from utils.jsonl import write_text
from utils.metrics import HEADLINE, LOWER_IS_BETTER

# The page stays below 3 MB for any number of samples (a test makes one of a thousand long ones).
MAX_BYTES = 2_900_000
_HERE = Path(__file__).parent
_TEMPLATE = (_HERE / "report_template.html").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "report_script.js").read_text(encoding="utf-8")

_INTRO = (
    "Under each number is its 95% interval (bootstrap over groups); ↓: lower is better. "
    "Some metrics can be won by refusing everything or by citing everything: read a row, not a cell."
)


# --- sections


def _headline(results: dict) -> str:
    header = [f"{key} ↓" if key in LOWER_IS_BETTER else key for key in HEADLINE]
    models = all_models(results)
    rows = [[escape(name), *headline_cells(metrics)] for name, metrics in models.items()]
    table = f"<h2>Headline</h2>{html_table(['', *header], rows)}"
    n_sources = len(results["by_source"])
    if n_sources < 2:
        return table
    # Beside the mean over samples, in which a large source decides.
    macro = [[escape(name), *headline_cells(metrics["macro"])] for name, metrics in models.items()]
    return f"{table}<h3>Mean of {n_sources} sources</h3>{html_table(['', *header], macro)}"


def _image(curves: dict, panel: str, alt: str) -> str:
    data = base64.b64encode(calibration_png(curves, panel)).decode()
    return f'<img alt="{alt}" src="data:image/png;base64,{data}">'


def _confidence(results: dict, names: list[str]) -> str:
    """Confidence metrics and both plots, of the models whose answers state a confidence."""
    curves = {name: results["curves"][name] for name in names if name in results["curves"]}
    if not curves:
        return ""
    models = all_models(results)
    metrics = ["ece", "ece_calibrated", "brier", "aurc"]
    rows = []
    for name in curves:
        rows.append([escape(name), *(metric_cell(models[name], key) for key in metrics)])
    constant = [name for name in curves if models[name]["confidence_is_constant"]]
    note = f"<p>Constant confidence: {escape(', '.join(constant))}.</p>" if constant else ""
    images = _image(curves, "reliability", "Reliability of the stated confidence")
    images += _image(curves, "risk_coverage", "Risk against coverage")
    return f'<h2>Confidence</h2>{html_table(["", *metrics], rows)}{note}<div class="plots">{images}</div>'


def _slices(results: dict, main: str) -> str:
    """Headline metrics of one model in every slice."""
    blocks = []
    for dimension, parts in {"source": results["by_source"], **results["slices"]}.items():
        rows = []
        for part, found in parts.items():
            rows.append([escape(part), str(found[main]["n"]), *headline_cells(found[main])])
        blocks.append(f"<h3>by {dimension}</h3>{html_table(['', 'n', *HEADLINE], rows)}")
    return f"<h2>Slices of {escape(main)}</h2>{''.join(blocks)}"


def _settings(run: dict) -> str:
    facts = {"settings": run["settings"], "packages": run["packages"], "inputs": run["inputs"]}
    text = escape(json.dumps(facts, indent=1, ensure_ascii=False))
    return f"<h2>Settings</h2><details><summary>all settings of the run</summary><pre>{text}</pre></details>"


def _top(results: dict, title: str, n_samples: int) -> str:
    run = results["run"]
    commit = (run["git_commit"] or "unknown")[:12]
    about = f"{n_samples:,} samples of {run['settings']['test_data']}; {run['started']}; commit {commit}"
    about += f"; gold cut {run['gold_cut']}."
    selective = f"<p>{escape(selective_line(results['selective']))}</p>" if "selective" in results else ""
    return f"<h1>{escape(title)}</h1><p class='soft'>{escape(about)}</p><p>{_INTRO}</p>{selective}"


# --- the page


def write_report(
    path: Path, results: dict, predictions: list[dict], parsed: dict[str, list], samples: list[dict]
) -> str:
    """Write the page, under 3 MB for any number of samples. Returns its size and what was cut, in words."""
    settings = results["run"]["settings"]
    # The first of these is the model whose slices are shown.
    names = [name for name in all_models(results) if name not in WITHOUT_MODEL]
    title = f"Evaluation of {settings.get('model_path') or settings.get('predictions')}"
    parts = [
        _top(results, title, len(samples)),
        _headline(results),
        all_deltas(results),
        _confidence(results, names),
        _slices(results, names[0]),
    ]
    end = _settings(results["run"])

    # The samples get the bytes that everything else leaves.
    n_used = sum(len(part.encode()) for part in [*parts, end, _TEMPLATE, _SCRIPT])
    shown = {name: rows for name, rows in parsed.items() if name not in WITHOUT_MODEL}
    browser, note = browser_html(samples, shown, predictions, MAX_BYTES - n_used)

    script_hash = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    body = "\n".join([*parts, browser, end])
    page = string.Template(_TEMPLATE).substitute(
        title=escape(title), script=_SCRIPT, script_hash=script_hash, body=body
    )
    write_text(path, page)
    return f"{len(page.encode()) / 1e6:.1f} MB, {note or 'all samples'}"
