"""Gates: log-odds of a decision about a sample, from words and names alone (`evidence/surface.py`).

That evidence is not enough for a claim or for a question, and that a claim is refuted. Each is a logistic
regression, whose numbers calibration.json keeps. `evaluation/decisions.py` finds out how much they are worth
beside a model's own log-odds, and `generation/decisions.py` adds them.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from evidence.classifiers import fit, linear
from evidence.queries import claim_of
from evidence.surface import Surface, surface_of
from evidence.surface_model import is_positive, sample_features, verdict_features
from utils.decisions import BIASES, Gate
from utils.errors import DataError

# Log-odds beyond these are no surer: features unlike those of the fit would decide alone.
_MOST = 4.0
# C of the logistic regression: many of the features say nearly the same.
_STRENGTH = 0.03
# With fewer train samples of a class there is no gate.
_MIN_SAMPLES = 20


def _features(name: str, surfaces: list[Surface]) -> np.ndarray:
    """(n_samples, n_features)"""
    of_surface = verdict_features if name == "refuted" else sample_features
    return np.array([of_surface(surface) for surface in surfaces])


def _labels(name: str, samples: list[dict]) -> dict[int, bool]:
    """Place of each sample that a gate is fitted to -> whether the gate's decision is right about it."""
    found = {}
    for i, sample in enumerate(samples):
        is_claim = bool(claim_of(sample))
        if name == "refuted" and is_claim and sample["answerable"]:
            found[i] = not is_positive(sample["answer"])
        elif name == ("refuse_claim" if is_claim else "refuse_question"):
            found[i] = not sample["answerable"]
    return found


def _fit_gate(name: str, samples: list[dict], surfaces: list[Surface]) -> Gate | None:
    found = _labels(name, samples)
    labels = list(found.values())
    if min(sum(labels), len(labels) - sum(labels)) < _MIN_SAMPLES:
        return None
    rows = _features(name, [surfaces[i] for i in found])
    center = rows.mean(axis=0)
    # A feature that never varies would divide by zero.
    scale = np.maximum(rows.std(axis=0), 1e-6)
    model = fit(linear(_STRENGTH), (rows - center) / scale, labels)
    weights = model.coef_[0] / scale
    intercept = float(model.intercept_[0] - weights @ center)
    return Gate([round(float(weight), 6) for weight in weights], round(intercept, 6))


def fit_gates(samples: list[dict]) -> dict[str, Gate]:
    """The gates of train samples, by bias, with factor 0; none where a class has too few samples."""
    # A claim is read for two gates, and its surface takes most of the time.
    surfaces = [surface_of(sample) for sample in samples]
    gates = {name: _fit_gate(name, samples, surfaces) for name in BIASES}
    return {name: gate for name, gate in gates.items() if gate}


def gate_log_odds(gates: Mapping[str, Gate], samples: list[dict]) -> dict[str, np.ndarray]:
    """By bias the gates' log-odds (n_samples,).

    0 without a gate, for samples that it is not about, and for those without chunks. DataError for a gate of
    other features than today's.
    """
    found = {name: np.zeros(len(samples)) for name in BIASES}
    are_claims = np.array([bool(claim_of(sample)) for sample in samples])
    have_chunks = np.array([bool(sample["evidence_chunks"]) for sample in samples])
    surfaces = [surface_of(sample) for sample in samples] if gates else []
    for name, gate in gates.items():
        places = np.flatnonzero(have_chunks & (are_claims == (name != "refuse_question")))
        if not len(places):
            continue
        rows = _features(name, [surfaces[i] for i in places])
        if rows.shape[1] != len(gate.weights):
            raise DataError(
                f"the gate of the fitted decision {name} has {len(gate.weights)} weights for {rows.shape[1]} "
                "features; fit it again with train_sft.py --calibrate"
            )
        found[name][places] = np.clip(rows @ np.array(gate.weights) + gate.intercept, -_MOST, _MOST)
    return found


def gate_biases(gates: Mapping[str, Gate], samples: list[dict]) -> dict[str, np.ndarray]:
    """By bias what the gates add to it, (n_samples,): log-odds times factor."""
    log_odds = gate_log_odds(gates, samples)
    return {name: log_odds[name] * (gates[name].factor if name in gates else 0.0) for name in BIASES}


def with_factors(gates: Mapping[str, Gate], factors: Mapping[str, float]) -> dict[str, Gate]:
    """The gates with these factors; those with factor 0 are left out."""
    return {name: replace(gate, factor=factors[name]) for name, gate in gates.items() if factors.get(name)}
