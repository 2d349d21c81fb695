"""Predictions and samples -> the results object: every model's metrics, differences, slices, confidence curves."""

from evaluation.confidence import confidence_curves, confidence_metrics
from evaluation.selective import Selection
from evaluation.slices import slices
from utils.calibration import apply_isotonic
from utils.completions import map_citations, parse_completion
from utils.intervals import as_numbers, confidence_intervals, group_sums, paired_deltas, total, with_intervals
from utils.metrics import HEADLINE, rates_from_sums
from utils.scoring import is_right_answer, outcome, score_sample

# Models of a results file that are no baselines.
MAIN_MODELS = ("sft", "base")
# Baselines that no model stands behind.
WITHOUT_MODEL = ("always_refuse", "cite_first_chunk", "lexical")


def score_rows(
    rows: list[dict], samples: list[dict], selection: Selection | None = None, strict: bool = False
) -> tuple[list[dict], list]:
    """Terms and parsed completions, in the order of `samples`. Shown numbers are mapped back to the sample's chunk ids."""
    by_id = {row["id"]: row for row in rows}
    terms = []
    parsed_rows = []
    for sample in samples:
        row = by_id[sample["id"]]
        # Without `shown` all chunks were; an empty list is a prompt without evidence.
        shown = row["shown"] if row.get("shown") is not None else list(range(len(sample["evidence_chunks"])))
        raw = parse_completion(row["completion"], len(shown), strict=True)
        parsed = map_citations(raw if strict else parse_completion(row["completion"], len(shown)), shown)
        if selection:
            parsed = selection.apply(parsed, row)
        terms.append(score_sample(parsed, raw.is_valid, sample))
        parsed_rows.append(parsed)
    return terms, parsed_rows


def selection_for(model: str, selection: Selection | None) -> Selection | None:
    """A calibrated threshold belongs to the checkpoint it was fitted for; a stated one is the same for every model."""
    return selection if selection and (selection.kind == "stated" or model == "sft") else None


def score_model(
    name: str,
    rows: list[dict],
    samples: list[dict],
    seed: int,
    selection: Selection | None,
    isotonic: dict | None,
) -> tuple[dict, list, list]:
    """All metrics of one model, the terms they come from, and the parsed completions."""
    groups = [sample["group"] for sample in samples]
    by_id = {row["id"]: row for row in rows}
    own = selection_for(name, selection)
    terms, parsed = score_rows(rows, samples, own)
    strict, _ = score_rows(rows, samples, own, strict=True)
    probabilities = [by_id[sample["id"]].get("probability") for sample in samples]
    known = None if None in probabilities else probabilities
    metrics = with_intervals(terms, groups, seed)
    metrics |= confidence_metrics(parsed, samples, known, isotonic) | {"n": len(samples)}
    right = [is_right_answer(p, s) for p, s in zip(parsed, samples)]
    metrics["ci95"] |= confidence_intervals(
        [p.confidence if p.is_answer else None for p in parsed], right, groups, seed
    )
    calibrated = apply_isotonic(isotonic, known) if isotonic and known else [None] * len(samples)
    of_answers = [c if p.is_answer else None for c, p in zip(calibrated, parsed)]
    metrics["ci95"]["ece_calibrated"] = confidence_intervals(of_answers, right, groups, seed)["ece"]
    metrics["strict"] = as_numbers(rates_from_sums(total(group_sums(strict, groups))))
    return metrics, terms, parsed


def slice_metrics(terms: list[dict], indices: list[int], groups: list[str], seed: int) -> dict:
    """The headline figures, EM and F1 of some samples, with intervals."""
    found = with_intervals(
        [terms[i] for i in indices], [groups[i] for i in indices], seed, ("em", "f1", *HEADLINE)
    )
    del found["ci95_skipped"]
    return {"n": len(indices), **found}


def by_model(predictions: list[dict]) -> dict[str, list[dict]]:
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
    """The results object (README, "Results files") without its `run`, and each model's parsed completions in the order of `samples`."""
    scored = {
        name: score_model(name, rows, samples, seed, selection, isotonic if name == "sft" else None)
        for name, rows in by_model(predictions).items()
    }
    groups = [sample["group"] for sample in samples]
    results = {name: scored[name][0] for name in MAIN_MODELS if name in scored}
    if "sft" in scored:
        to_others = {
            name: paired_deltas(scored["sft"][1], scored[name][1], groups, seed)
            for name in scored
            if name != "sft"
        }
        if "base" in to_others:
            results["deltas"] = to_others["base"]
        results["deltas_to"] = to_others
    results["baselines"] = {
        name: metrics for name, (metrics, _, _) in scored.items() if name not in MAIN_MODELS
    }
    parts = {
        dimension: {
            part: {
                name: slice_metrics(terms, indices, groups, seed) for name, (_, terms, _) in scored.items()
            }
            for part, indices in named.items()
        }
        for dimension, named in slices(samples).items()
    }
    results["by_source"] = parts.pop("source")
    results["slices"] = parts
    with_model = [name for name in scored if name not in WITHOUT_MODEL]
    results["curves"] = {
        name: curves for name in with_model if (curves := confidence_curves(scored[name][2], samples))
    }
    return results, {name: parsed for name, (_, _, parsed) in scored.items()}


def measure_selection(predictions: list[dict], samples: list[dict], selection: Selection) -> dict[str, dict]:
    """What the threshold does on test: model -> precision of the answers kept and the share of answers kept, None without any."""
    found = {}
    for name in dict.fromkeys(row["model"] for row in predictions):
        if selection_for(name, selection) is None:
            continue
        rows = {row["id"]: row for row in predictions if row["model"] == name}
        _, parsed = score_rows(list(rows.values()), samples)
        answers = [
            (selection.confidence(p, rows[s["id"]]) >= selection.threshold, is_right_answer(p, s))
            for p, s in zip(parsed, samples)
            if p.is_answer
        ]
        kept = [right for keep, right in answers if keep]
        precision = sum(kept) / len(kept) if kept else None
        found[name] = {
            "precision": precision,
            "coverage": len(kept) / len(answers) if answers else None,
            "n_answers": len(answers),
            "n_kept": len(kept),
        }
    return found


def describe_rows(predictions: list[dict], parsed: dict[str, list], samples: list[dict]) -> list[dict]:
    """Prediction rows with what was made of them: answer, citations as chunk ids, confidence, outcome, em, f1 and citation_f1."""
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    described = []
    for row in predictions:
        i = place[row["id"]]
        found = parsed[row["model"]][i]
        sample = samples[i]
        terms = score_sample(found, True, sample)
        scores = {name: round(terms[name], 4) for name in ("em", "f1", "citation_f1")}
        described.append(
            {
                **row,
                "answer": found.answer,
                "citations": found.citations,
                "confidence": found.confidence,
                "outcome": outcome(found, sample),
                **scores,
            }
        )
    return described
