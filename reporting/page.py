"""The sections of the report, and the samples that fit into the page beside them.

A section whose files are damaged is left out with a note; the others are shown. How a page is written is in
`html.py`.
"""

import json
from collections.abc import Callable
from functools import partial
from typing import Any

from evaluation.figures import (
    Chart,
    calibration_charts,
    confidence_charts,
    reward_charts,
    sft_charts,
    suite_chart,
)
from evaluation.results import WITHOUT_MODEL
from evaluation.tables import BOTH_EM, all_models, selective_line
from reporting import tables
from reporting.answered import Answered, three_samples
from reporting.cards import card, fitting_cards
from reporting.charts import placed
from reporting.evaluations import Evaluation
from reporting.html import PageWriter
from reporting.outputs import Outputs, Run
from reporting.stages import ODD_FILE, StageView, all_views, made_commands
from reporting.verdict import NET_SCORE, caveats, plain_verdict, verdict_sentence
from utils.own_files import HISTORY, VALIDATION
from utils.runs import note
from utils.shapes import lenient, read_shaped

# The page stays below 3 MB for any number of samples (a test makes one of a thousand long ones).
MAX_BYTES = 2_900_000
# Characters of a chunk that one of the three samples neither cites nor needs.
_PICKED_CUT = 600


def _read(section: Callable[[], dict | list | None], name: str):
    """A section of the page, None if its files are damaged: the other sections are shown."""
    try:
        return section()
    except ODD_FILE as error:
        note(f"report: {name} left out ({type(error).__name__}: {error})")
        return None


# --- sections


def _evaluation_section(evaluation: Evaluation) -> dict:
    """What the page says about the models' answers, without the samples."""
    results = evaluation.results
    models = all_models(results)
    run = results["run"]
    facts = {name: run[name] for name in ("settings", "packages", "inputs")}
    own = [name for name in models if name not in WITHOUT_MODEL]
    confidence = confidence_charts(results["curves"])
    return {
        "main": own[0],
        "n": models[own[0]]["n"],
        "test_data": run["settings"]["test_data"],
        "started": run["started"],
        "commit": (run["git_commit"] or "unknown")[:12],
        "bars": tables.outcome_bars(results),
        "headline": tables.headline(results),
        "macro": tables.macro(results),
        "differences": tables.difference_tables(results),
        "leads": tables.leads(results),
        "slices": tables.slices(results, own[0]),
        "confidence": tables.confidence(results),
        "confidence_charts": [placed(chart) for chart in confidence if chart.lines],
        "confidence_words": confidence[0].words,
        "selective": selective_line(results["selective"]) if "selective" in results else "",
        "settings": json.dumps(facts, indent=1, ensure_ascii=False),
    }


def _verdict(evaluation: Evaluation | None) -> dict:
    if evaluation is None:
        return {"plain": "", "sentence": "", "caveats": []}
    results = evaluation.results
    return {
        "plain": plain_verdict(results),
        "sentence": verdict_sentence(results),
        "caveats": caveats(results),
    }


def _curves(run: Run, charts_of: Callable[[dict, Any], list[Chart]], n: Any) -> list[dict]:
    """The curves of a training; none before it has ended and written its history."""
    path = run.path / "training_history.json"
    if not path.is_file():
        return []
    return [placed(chart) for chart in charts_of(read_shaped(path, lenient(HISTORY)), n)]


def _sft_curves(run: Run) -> list[dict]:
    return _curves(run, sft_charts, run.manifest.get("n_rows"))


def _suite_charts(run: Run) -> list[dict]:
    charts = [suite_chart(name, suite) for name, suite in run.content["suites"].items()]
    return [placed(chart) for chart in charts if chart.lines]


def _reward_section(run: Run) -> dict:
    charts = _curves(run, reward_charts, run.manifest.get("n_pairs") or {})
    found: dict = {"charts": charts, "scores": None}
    if (run.path / "validation.json").is_file():
        validation = read_shaped(run.path / "validation.json", lenient(VALIDATION))
        charts += [placed(chart) for chart in calibration_charts(validation)]
        found |= {"scores": tables.reward_scores(validation), "n_pairs": validation["n_test_pairs"]}
    return found


def _title(outputs: Outputs, evaluation: Evaluation | None) -> str:
    settings = evaluation.results["run"]["settings"] if evaluation else {}
    name = settings.get("model_path") or settings.get("predictions")
    trained = outputs.chosen("sft")
    if not name and trained:
        name = str(trained.settings.get("output_dir", ""))
    return f"Report: {name}" if name else "Report of the pipeline"


# --- the page


def _sections(outputs: Outputs, evaluation: Evaluation | None) -> dict:
    """All that the page shows but for its samples."""
    trained = outputs.chosen("sft")
    perturbed = outputs.chosen("robustness")
    rewarded = outputs.chosen("reward")
    views: list[StageView] = all_views(outputs)
    found = {
        "title": _title(outputs, evaluation),
        "verdict": _read(partial(_verdict, evaluation), "verdict") or _verdict(None),
        "net_score": NET_SCORE,
        "both_em": BOTH_EM,
        "next": next((view.command for view in views if view.state == "not run"), ""),
        "commands": _read(partial(made_commands, outputs, views), "commands") or [],
        "stages": views,
        "evaluation": None,
        "sft_charts": [],
        "robustness_charts": [],
        "reward": None,
        "problems": outputs.problems,
        "samples_problem": evaluation.problem if evaluation else "",
        "outcomes": tables.OUTCOMES,
    }
    if evaluation:
        found["evaluation"] = _read(partial(_evaluation_section, evaluation), "evaluation")
    if trained:
        found["sft_charts"] = _read(partial(_sft_curves, trained), "SFT curves") or []
    if perturbed:
        found["robustness_charts"] = _read(partial(_suite_charts, perturbed), "robustness") or []
    if rewarded:
        found["reward"] = _read(partial(_reward_section, rewarded), "reward model")
    return found


def _picked(answered: list[Answered]) -> list[tuple[str, dict | None]]:
    """(place, card) of the three samples; none without samples."""
    if not answered:
        return []
    rows = three_samples(answered)
    return [(place, card(row, _PICKED_CUT) if row else None) for place, row in rows.items()]


def render(outputs: Outputs, evaluation: Evaluation | None) -> tuple[str, str]:
    """(the page, what was cut from its samples in words), under 3 MB for any number of samples."""
    answered = evaluation.answered if evaluation else []
    writer = PageWriter()
    values = _sections(outputs, evaluation) | {
        "picked": _picked(answered),
        "sources": sorted({row.sample["source"] for row in answered}),
        "found_outcomes": sorted({row.outcome for row in answered}),
        "n_samples": len(answered),
        "cards": [],
        "cut": "",
    }
    # The samples get the bytes that everything else leaves.
    n_used = len(writer.page(values).encode())
    cards, cut = fitting_cards(answered, writer.card, MAX_BYTES - n_used)
    return writer.page(values | {"cards": cards, "cut": cut}), cut
