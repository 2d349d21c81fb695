"""Predictions and samples -> the results object: metrics of every model, differences, slices and curves.

It knows completions and gold, nothing about prompts or models. The numbers are defined in `utils/scoring.py`
(one sample) and `utils/metrics.py` (many samples).
"""

from typing import NamedTuple

from evaluation.confidence import confidence_curves, confidence_metrics, intervals_of_confidence
from evaluation.macro import intervals_over_sources, mean_over_sources
from evaluation.selective import Selection
from evaluation.slices import paired_with_sft, slice_results
from utils.completions import map_citations, parse_completion
from utils.intervals import Drawn, as_numbers, draw_rates, group_sums, intervals_of, total
from utils.metrics import rates_from_sums
from utils.progress import track
from utils.scoring import is_right_answer, score_sample

# Models that have their own block in a results file; every other name is listed under "baselines".
MAIN_MODELS = ("sft", "base")
# With --orders, the SFT model's completions behind the chunks in their own order.
ONE_ORDER = "one_order"
# Those that the checkpoint's fits are about.
OF_CHECKPOINT = ("sft", ONE_ORDER)
# Baselines that need no language model, always evaluated.
WITHOUT_MODEL = (
    *("always_refuse", "cite_first_chunk", "lexical"),
    *("overlap_rule", "title_overlap", "surface_model", "claim_only"),
)
# What the results file has beside its models: no model may be called that.
RESULT_KEYS = (
    *("deltas", "deltas_to", "deltas_by_source", "baselines"),
    *("by_source", "slices", "curves", "selective", "best_of", "run"),
)


class ScoredModel(NamedTuple):
    """One model's metrics, and what they come from: terms and parsed completions, one per sample."""

    metrics: dict
    terms: list[dict[str, float]]
    parsed: list
    # Resampled once for the model's own intervals and for the differences to all others.
    drawn: Drawn


# --- one model


def score_rows(
    rows: list[dict], samples: list[dict], selection: Selection | None = None, strict: bool = False
) -> tuple[list[dict], list]:
    """(terms, parsed completions), in the order of `samples`, which `rows` must cover.

    Citations are mapped from the numbers that the prompt showed to the sample's own chunk ids.
    `selection` turns answers of low confidence into refusals; `strict` scores without any repair.
    """
    by_id = {row["id"]: row for row in rows}
    terms = []
    parsed_rows = []
    for sample in samples:
        row = by_id[sample["id"]]
        shown = row.get("shown")
        # A row from elsewhere has no `shown`: assume every chunk. An empty list is a prompt without evidence.
        if shown is None:
            shown = list(range(len(sample["evidence_chunks"])))
        raw = parse_completion(row["completion"], len(shown), strict=True)
        read = raw if strict else parse_completion(row["completion"], len(shown))
        parsed = map_citations(read, shown)
        if selection:
            parsed = selection.apply(parsed, row)
        # Validity is that of the strict parse in both cases: a repaired completion is not valid.
        terms.append(score_sample(parsed, raw.is_valid, sample))
        parsed_rows.append(parsed)
    return terms, parsed_rows


def selection_for(model: str, selection: Selection | None) -> Selection | None:
    """The selection that applies to a model: a calibrated one only to the checkpoint it was fitted for."""
    if selection is None:
        return None
    return selection if selection.kind == "stated" or model in OF_CHECKPOINT else None


def _probabilities(by_id: dict[str, dict], samples: list[dict]) -> list[float] | None:
    """The model's probability of each answer; None unless every row has one."""
    found = []
    for sample in samples:
        probability = by_id[sample["id"]].get("probability")
        if probability is None:
            return None
        found.append(probability)
    return found


def score_model(
    name: str,
    rows: list[dict],
    samples: list[dict],
    seed: int,
    selection: Selection | None,
    isotonic: dict | None,
) -> ScoredModel:
    """All metrics of one model, with 95% intervals under `ci95` and strict metrics under `strict`."""
    groups = [sample["group"] for sample in samples]
    own = selection_for(name, selection)
    terms, parsed = score_rows(rows, samples, own)
    strict, _ = score_rows(rows, samples, own, strict=True)
    probabilities = _probabilities({row["id"]: row for row in rows}, samples)

    drawn = draw_rates(terms, groups, seed)
    metrics = intervals_of(drawn)
    metrics |= confidence_metrics(parsed, samples, probabilities, isotonic)
    metrics["n"] = len(samples)
    metrics["ci95"] |= intervals_of_confidence(parsed, samples, probabilities, isotonic, seed)
    metrics["strict"] = as_numbers(rates_from_sums(total(group_sums(strict, groups))))
    return ScoredModel(metrics, terms, parsed, drawn)


# --- all models


def by_model(predictions: list[dict]) -> dict[str, list[dict]]:
    """Model name -> its prediction rows, in file order."""
    rows: dict[str, list[dict]] = {}
    for row in predictions:
        rows.setdefault(row["model"], []).append(row)
    return rows


def score_all(
    predictions: list[dict],
    samples: list[dict],
    seed: int,
    selection: Selection | None = None,
    isotonic: dict | None = None,
) -> tuple[dict, dict]:
    """(results object without its `run`, model name -> parsed completions in the order of `samples`).

    Keys of the results: sft, base (metrics), deltas (sft minus base), deltas_to (sft minus each other model),
    deltas_by_source (the same in each source), baselines, by_source, slices, curves; without a block for a
    model that is missing.
    `isotonic`: the checkpoint's fit.
    """
    scored = {}
    for name, rows in track(by_model(predictions).items(), "scoring", "model"):
        # The fit describes the checkpoint's own probabilities; for any other model it would be meaningless.
        own_fit = isotonic if name in OF_CHECKPOINT else None
        scored[name] = score_model(name, rows, samples, seed, selection, own_fit)

    macro_intervals = {name: intervals_over_sources(scored[name].terms, samples, seed) for name in scored}
    terms_of = {name: model.terms for name, model in scored.items()}
    parts, leads = slice_results(terms_of, samples, seed)
    of_sources = parts.pop("source")
    for name, model in scored.items():
        model.metrics["macro"] = mean_over_sources(of_sources, name) | {"ci95": macro_intervals[name]}

    results: dict = {name: scored[name].metrics for name in MAIN_MODELS if name in scored}
    if "sft" in scored:
        to_others = paired_with_sft({name: model.drawn for name, model in scored.items()})
        if "base" in to_others:
            results["deltas"] = to_others["base"]
        results["deltas_to"] = to_others
        results["deltas_by_source"] = leads
    results["baselines"] = {name: model.metrics for name, model in scored.items() if name not in MAIN_MODELS}

    results["by_source"] = of_sources
    results["slices"] = parts

    results["curves"] = {}
    for name, model in scored.items():
        # The confidence of a rule is made up, so it gets no curve.
        curves = None if name in WITHOUT_MODEL else confidence_curves(model.parsed, samples)
        if curves:
            results["curves"][name] = curves
    return results, {name: model.parsed for name, model in scored.items()}


# --- the confidence threshold


def _measure_threshold(selection: Selection, rows: list[dict], samples: list[dict]) -> dict:
    """Precision of the answers that reach the threshold, and the share of answers that do (None if none)."""
    by_id = {row["id"]: row for row in rows}
    _, parsed = score_rows(rows, samples)
    n_answers = 0
    kept = []
    for p, sample in zip(parsed, samples):
        if not p.is_answer:
            continue
        n_answers += 1
        if selection.confidence(p, by_id[sample["id"]]) >= selection.threshold:
            kept.append(is_right_answer(p, sample))
    return {
        "precision": sum(kept) / len(kept) if kept else None,
        "coverage": len(kept) / n_answers if n_answers else None,
        "n_answers": n_answers,
        "n_kept": len(kept),
    }


def measure_selection(predictions: list[dict], samples: list[dict], selection: Selection) -> dict[str, dict]:
    """Model name -> what the threshold does on the test set, for the models that it applies to."""
    return {
        name: _measure_threshold(selection, rows, samples)
        for name, rows in by_model(predictions).items()
        if selection_for(name, selection)
    }
