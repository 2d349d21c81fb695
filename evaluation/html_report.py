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
from evaluation.plots import calibration_png
from evaluation.results import WITHOUT_MODEL
from evaluation.tables import all_models, format_interval, format_number, selective_line, verdict
from utils.jsonl import write_text
from utils.metrics import DELTA_METRICS, HEADLINE, LOWER_IS_BETTER

# The page stays below 3 MB for any number of samples (a test makes one of a thousand long ones).
MAX_BYTES = 2_900_000
_HERE = Path(__file__).parent
_TEMPLATE = (_HERE / "report_template.html").read_text(encoding="utf-8")
_SCRIPT = (_HERE / "report_script.js").read_text(encoding="utf-8")

_INTRO = (
    "Under each number is its 95% interval (bootstrap over groups); ↓: lower is better. "
    "Some metrics can be won by refusing everything or by citing everything: read a row, not a cell."
)
_ABOUT_DELTAS = (
    "On the same samples and resamples. A positive number means that the SFT model is better; "
    "tied: the interval includes 0. "
    "A true difference of the size under “detectable from” shows in four of five test sets."
)


# --- cells and tables


def _breakable(cell: str) -> str:
    """Metric names may break after an underscore, so that columns stay narrow."""
    return cell.replace("_", "_<wbr>")


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A table of cells that are HTML already (escaped by the caller); scrolls sideways on a narrow screen."""
    head = "".join(f"<th>{_breakable(cell)}</th>" for cell in header)
    lines = []
    for first, *rest in rows:
        cells = "".join(f"<td>{cell}</td>" for cell in rest)
        lines.append(f"<tr><td>{_breakable(first)}</td>{cells}</tr>")
    body = "".join(lines)
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _cell(metrics: dict, key: str) -> str:
    """A metric and, on the line under it, its interval."""
    interval = format_interval(metrics.get("ci95", {}).get(key))
    under = f'<span class="ci">{interval}</span>' if interval else ""
    return format_number(metrics[key]) + under


def _cells(metrics: dict) -> list[str]:
    return [_cell(metrics, key) for key in HEADLINE]


def _interval_svg(value: float, interval: list[float] | None) -> str:
    """A difference as a dot on a line from -1 to 1, its interval as a bar, zero marked."""

    def x(number: float) -> float:
        # The drawing is 170 wide: zero is at 85, and 1 is 80 away from it.
        return round(85 + 80 * max(-1.0, min(1.0, number)), 1)

    start = f'<svg class="interval" viewBox="0 0 170 18" role="img" aria-label="{value:+.3f}">'
    axis = '<line x1="5" x2="165" y1="9" y2="9" stroke="#d9dee3"/>'
    zero = '<line x1="85" x2="85" y1="1" y2="17" stroke="#5b6570"/>'
    bar = ""
    if interval:
        ends = f'x1="{x(interval[0])}" x2="{x(interval[1])}" y1="9" y2="9"'
        bar = f'<line {ends} stroke="#1c2024" stroke-width="2"/>'
    dot = f'<circle cx="{x(value)}" cy="9" r="4" fill="#0b57a4"/>'
    return f"{start}{axis}{zero}{bar}{dot}</svg>"


# --- sections


def _headline(results: dict) -> str:
    header = [f"{key} ↓" if key in LOWER_IS_BETTER else key for key in HEADLINE]
    rows = [[escape(name), *_cells(metrics)] for name, metrics in all_models(results).items()]
    table = f"<h2>Headline</h2>{_table(['', *header], rows)}"
    n_sources = len(results["by_source"])
    if n_sources < 2:
        return table
    # Beside the mean over samples, in which a large source decides.
    macro = [[escape(name), *_cells(metrics["macro"])] for name, metrics in all_models(results).items()]
    return f"{table}<h3>Mean of {n_sources} sources</h3>{_table(['', *header], macro)}"


def _deltas(results: dict, other: str) -> str:
    """Paired differences of the SFT model to one other model."""
    deltas = results["deltas_to"][other]
    # A metric without samples on one side has no difference; the terminal says so, the page leaves it out.
    rows = []
    for key in DELTA_METRICS:
        value = deltas[key]
        if value is None:
            continue
        interval = deltas["ci95"][key]
        words = verdict(value, interval)
        color = {"better": "good", "worse": "bad"}.get(words, "soft")
        shown = format_interval(interval, sign=True) or "-"
        colored = f'<span class="{color}">{words}</span>'
        smallest = format_number(deltas["smallest_detectable"][key])
        drawn = _interval_svg(value, interval)
        rows.append([key, f"{value:+.3f}", shown, smallest, drawn, colored])
    table = _table(["", "better by", "95% interval", "detectable from", "-1 to 1", ""], rows)

    models = all_models(results)
    sft, theirs = (format_number(models[name]["answered_rate"]) for name in ("sft", other))
    rates = f"Answered rate: sft {sft}, {escape(other)} {theirs}."
    return f"<h3>sft against {escape(other)}</h3>{table}<p class='soft'>{rates}</p>"


def _all_deltas(results: dict) -> str:
    """The base model's differences in view, those of the other models folded away."""
    others = sorted(results.get("deltas_to", {}), key=lambda name: name != "base")
    if not others:
        return ""
    first = _deltas(results, others[0])
    rest = "".join(_deltas(results, name) for name in others[1:])
    more = f"<details><summary>against {len(others) - 1} more</summary>{rest}</details>" if rest else ""
    return f"<h2>Differences</h2><p>{_ABOUT_DELTAS}</p>{first}{more}"


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
        rows.append([escape(name), *(_cell(models[name], key) for key in metrics)])
    constant = [name for name in curves if models[name]["confidence_is_constant"]]
    note = f"<p>Constant confidence: {escape(', '.join(constant))}.</p>" if constant else ""
    images = _image(curves, "reliability", "Reliability of the stated confidence")
    images += _image(curves, "risk_coverage", "Risk against coverage")
    return f'<h2>Confidence</h2>{_table(["", *metrics], rows)}{note}<div class="plots">{images}</div>'


def _slices(results: dict, main: str) -> str:
    """Headline metrics of one model in every slice."""
    blocks = []
    for dimension, parts in {"source": results["by_source"], **results["slices"]}.items():
        rows = []
        for part, found in parts.items():
            rows.append([escape(part), str(found[main]["n"]), *_cells(found[main])])
        blocks.append(f"<h3>by {dimension}</h3>{_table(['', 'n', *HEADLINE], rows)}")
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
        _all_deltas(results),
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
