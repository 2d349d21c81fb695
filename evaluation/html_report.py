"""`--report`: an evaluation as one self-contained HTML page that needs no network. Its only script carries a hash that the page's policy names."""

import base64
import hashlib
import json
import string
from html import escape
from pathlib import Path

from evaluation.html_samples import samples_html
from evaluation.plots import calibration_png
from evaluation.results import WITHOUT_MODEL
from evaluation.tables import all_models, format_interval, format_number, selective_line, verdict
from utils.jsonl import write_text
from utils.metrics import DELTA_METRICS, HEADLINE, LOWER_IS_BETTER
from utils.scoring import outcome

MAX_BYTES = 2_900_000
_TEMPLATE = Path(__file__).with_name("report_template.html")
_SCRIPT = """
const cards = [...document.querySelectorAll('details.s')], byId = id => document.getElementById(id);
function filter() {
  const source = byId('source').value, outcome = byId('outcome').value, words = byId('words').value.toLowerCase();
  let n = 0;
  for (const card of cards) {
    const fits = (!source || card.dataset.s === source) && (!outcome || card.dataset.o === outcome)
      && (!words || card.textContent.toLowerCase().includes(words));
    card.hidden = !fits;
    n += fits;
  }
  byId('count').textContent = n + ' of ' + cards.length + ' samples';
}
for (const id of ['source', 'outcome', 'words']) byId(id).addEventListener('input', filter);
byId('open').addEventListener('click', () => { for (const card of cards.filter(c => !c.hidden).slice(0, 50)) card.open = true; });
byId('close').addEventListener('click', () => { for (const card of cards) card.open = false; });
filter();
"""


def _table(header: list[str], rows: list[list[str]]) -> str:
    """A table of HTML cells (escape before) that scrolls sideways on a narrow screen."""
    head = "".join(f"<th>{cell.replace('_', '_<wbr>')}</th>" for cell in header)
    body = "".join(
        f"<tr><td>{row[0].replace('_', '_<wbr>')}</td>{''.join(f'<td>{cell}</td>' for cell in row[1:])}</tr>"
        for row in rows
    )
    return f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>'


def _figure(metrics: dict, key: str) -> str:
    interval = format_interval(metrics.get("ci95", {}).get(key))
    return format_number(metrics[key]) + (f'<span class="ci">{interval}</span>' if interval else "")


def _headline(results: dict) -> str:
    header = ["", *(f"{key}{' ↓' if key in LOWER_IS_BETTER else ''}" for key in HEADLINE)]
    return _table(
        header,
        [
            [escape(name), *(_figure(metrics, key) for key in HEADLINE)]
            for name, metrics in all_models(results).items()
        ],
    )


def _interval_svg(value: float, interval: list[float] | None) -> str:
    """A difference on a line from -1 to 1, with zero marked."""

    def x(number: float) -> float:
        return round(85 + 80 * max(-1.0, min(1.0, number)), 1)

    line = (
        f'<line x1="{x(interval[0])}" x2="{x(interval[1])}" y1="9" y2="9" stroke="#1c2024" stroke-width="2"/>'
        if interval
        else ""
    )
    axis = '<line x1="5" x2="165" y1="9" y2="9" stroke="#d9dee3"/><line x1="85" x2="85" y1="1" y2="17" stroke="#5b6570"/>'
    start = f'<svg class="interval" viewBox="0 0 170 18" role="img" aria-label="{value:+.3f}">'
    return f'{start}{axis}{line}<circle cx="{x(value)}" cy="9" r="4" fill="#0b57a4"/></svg>'


def _deltas(results: dict, other: str) -> str:
    deltas = results["deltas_to"][other]
    rows = []
    for key in DELTA_METRICS:
        value = deltas[key]
        interval = deltas["ci95"][key]
        if value is None:
            continue
        words = verdict(value, interval)
        colour = {"better": "good", "worse": "bad"}.get(words, "soft")
        cells = [
            f"{value:+.3f}",
            format_interval(interval, sign=True) or "-",
            _interval_svg(value, interval),
            f'<span class="{colour}">{words}</span>',
        ]
        rows.append([key, *cells])
    models = all_models(results)
    rates = f"Answered rate: sft {format_number(models['sft']['answered_rate'])}, {escape(other)} {format_number(models[other]['answered_rate'])}."
    return f"<h3>sft against {escape(other)}</h3>{_table(['', 'better by', '95% interval', '-1 to 1', ''], rows)}<p class='soft'>{rates}</p>"


def _all_deltas(results: dict) -> str:
    others = sorted(results.get("deltas_to", {}), key=lambda name: name != "base")
    if not others:
        return ""
    text = "<p>On the same samples and resamples. A positive number means that the SFT model is better; an interval that includes 0 shows no difference.</p>"
    first = _deltas(results, others[0])
    rest = "".join(_deltas(results, name) for name in others[1:])
    more = f"<details><summary>against {len(others) - 1} more</summary>{rest}</details>" if rest else ""
    return f"<h2>Differences</h2>{text}{first}{more}"


def _plots(results: dict, names: list[str]) -> str:
    curves = {name: results["curves"][name] for name in names if name in results["curves"]}
    if not curves:
        return ""
    words = {"reliability": "Reliability of the stated confidence", "risk_coverage": "Risk against coverage"}
    images = [
        f'<img alt="{alt}" src="data:image/png;base64,{base64.b64encode(calibration_png(curves, panel)).decode()}">'
        for panel, alt in words.items()
    ]
    header = ["", "ece", "ece_calibrated", "brier", "aurc"]
    rows = [
        [escape(name), *(_figure(all_models(results)[name], key) for key in header[1:])] for name in curves
    ]
    constant = [name for name in curves if all_models(results)[name]["confidence_is_constant"]]
    note = f"<p>Constant confidence: {escape(', '.join(constant))}.</p>" if constant else ""
    return f'<h2>Confidence</h2>{_table(header, rows)}{note}<div class="plots">{"".join(images)}</div>'


def _slices(results: dict, main: str) -> str:
    blocks = []
    for dimension, parts in {"source": results["by_source"], **results["slices"]}.items():
        rows = [
            [escape(part), str(found[main]["n"]), *(_figure(found[main], key) for key in HEADLINE)]
            for part, found in parts.items()
        ]
        blocks.append(f"<h3>by {dimension}</h3>{_table(['', 'n', *HEADLINE], rows)}")
    return f"<h2>Slices of {escape(main)}</h2>{''.join(blocks)}"


def _browser(
    results: dict, predictions: list[dict], parsed: dict[str, list], samples: list[dict], max_bytes: int
) -> tuple[str, str]:
    shown = {name: rows for name, rows in parsed.items() if name not in WITHOUT_MODEL}
    completions: dict[str, dict[str, str]] = {}
    for row in predictions:
        completions.setdefault(row["model"], {})[row["id"]] = row["completion"]
    cards, note = samples_html(samples, shown, completions, max_bytes)
    main = next(iter(shown))

    def options(values) -> str:
        return "".join(
            f'<option value="{escape(value)}">{escape(value)}</option>' for value in sorted(values)
        )

    found = {outcome(p, s) for p, s in zip(shown[main], samples)}
    tags = '<span class="tag g">gold support</span> <span class="tag c">cited</span>'
    legend = f'{tags} <mark>accepted answer</mark> <mark class="w">other answer given</mark>'
    tools = f"""<div class="tools">
<select id="source" aria-label="source"><option value="">every source</option>{options({s["source"] for s in samples})}</select>
<select id="outcome" aria-label="outcome"><option value="">every outcome of {escape(main)}</option>{options(found)}</select>
<input id="words" type="search" placeholder="words to look for" aria-label="words to look for">
<button id="open" type="button">open first 50</button> <button id="close" type="button">close all</button> <span id="count" class="soft"></span></div>"""
    cut = f'<p class="soft">Cut to fit: {note}.</p>' if note else ""
    return f"<h2>Samples</h2><p>{legend}</p>{tools}{cut}{cards}", note


def write_report(
    path: Path, results: dict, predictions: list[dict], parsed: dict[str, list], samples: list[dict]
) -> str:
    """Write the page, under 3 MB whatever the number of samples. Returns what it shows, in words."""
    run = results["run"]
    settings = results["run"]["settings"]
    names = [name for name in all_models(results) if name not in WITHOUT_MODEL]
    title = f"Evaluation of {settings.get('model_path') or settings.get('predictions')}"
    about = f"{len(samples):,} samples of {settings['test_data']}; {run['started']}; commit {(run['git_commit'] or 'unknown')[:12]}; gold cut {run['gold_cut']}."
    intro = "Below a figure stands its 95% interval (bootstrap over groups); ↓: lower is better. Some figures are won by silence or by citing everything: "
    intro += "read a row, not a cell."
    selective = f"<p>{escape(selective_line(results['selective']))}</p>" if "selective" in results else ""
    parts = [
        f"<h1>{escape(title)}</h1><p class='soft'>{escape(about)}</p><p>{intro}</p>{selective}",
        f"<h2>Headline</h2>{_headline(results)}",
        _all_deltas(results),
        _plots(results, names),
        _slices(results, names[0]),
    ]
    settings_text = json.dumps(
        {"settings": settings, "packages": run["packages"], "inputs": run["inputs"]},
        indent=1,
        ensure_ascii=False,
    )
    end = f"<h2>Settings</h2><details><summary>every setting of the run</summary><pre>{escape(settings_text)}</pre></details>"
    used = sum(len(part.encode()) for part in [*parts, end]) + _TEMPLATE.stat().st_size + len(_SCRIPT)
    browser, note = _browser(results, predictions, parsed, samples, MAX_BYTES - used)
    script_hash = base64.b64encode(hashlib.sha256(_SCRIPT.encode()).digest()).decode()
    template = string.Template(_TEMPLATE.read_text(encoding="utf-8"))
    page = template.substitute(
        title=escape(title), script=_SCRIPT, script_hash=script_hash, body="\n".join([*parts, browser, end])
    )
    write_text(path, page)
    return f"{len(page.encode()) / 1e6:.1f} MB, {note or 'all samples'}"
