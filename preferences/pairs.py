"""Preference pairs: which file they come from, how they are split, and the metrics of scores over them.

Scores and completion rows of n_pairs pairs alternate: chosen at 2i, rejected at 2i + 1. This module knows
nothing about models: a score may come from a reward head, a penalty or the length of the text.
"""

from pathlib import Path

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GroupKFold

from evidence.reserved import refuse_test_data
from preferences.features import as_completions
from preferences.inputs import preference_files
from preferences.kinds import form
from preferences.pair_report import wins
from preferences.sft_samples import candidates_manifest
from utils.completions import parse_completion
from utils.config import home_path, input_path
from utils.errors import DataError
from utils.intervals import MIN_GROUPS, column_sums, group_index, mean_with_interval, percentile_interval
from utils.runs import note


def find_preferences(named: str | None, folder: str) -> Path:
    """The named preferences file, else the newest in `folder`, with a note. DataError when there is none."""
    if named:
        return input_path(named)
    found = preference_files(home_path(folder))
    among = f" (newest of {len(found)})" if len(found) > 1 else ""
    note(f"preferences: {found[-1]}{among}")
    return found[-1]


def _metadata(path: Path, row: dict) -> dict:
    """What a row of make_prefs.py takes over from its sample; files of other tools may have null there."""
    found = row.get("metadata")
    if found is not None and not isinstance(found, dict):
        raise DataError(
            f"{path}: pair {row['id']}: field 'metadata' must be dict or null, found {found!r:.60}; "
            "rebuild it with make_prefs.py"
        )
    return found or {}


def check_preferences(path: Path, rows: list[dict], allow_test: bool) -> list[str]:
    """Warnings for preferences that are of test data. UsageError for these without `allow_test`.

    DataError for a row whose metadata are none.
    """
    # The samples that the pairs are of, and the file that these came from.
    samples = [{**row, "id": row["sample_id"], "metadata": _metadata(path, row)} for row in rows]
    inputs = candidates_manifest(path).get("inputs", {})
    near = input_path(next(iter(inputs))) if inputs else None
    warning = refuse_test_data(path, samples, allow_test, near=near)
    return [warning] if warning else []


def split_groups(preferences: list[dict], config: dict) -> dict[str, list[int]]:
    """Indices of the train, val and test pairs, each list sorted. DataError when a side would be empty.

    All pairs of a group are on one side: pairs of one question share prompt and evidence, and a head could
    recognize on test what it learned on train.
    """
    # Sorted before it is shuffled, because the order of a set changes from run to run.
    groups = sorted({row["group"] for row in preferences})
    np.random.default_rng(config["seed"]).shuffle(groups)
    members: dict[str, list[int]] = {}
    for i, row in enumerate(preferences):
        members.setdefault(row["group"], []).append(i)
    quota = {side: config[f"{side}_fraction"] * len(preferences) for side in ("test", "val")}
    split: dict[str, list[int]] = {"train": [], "val": [], "test": []}
    for group in groups:
        chosen_side = "train"
        for side in ("test", "val"):
            # Half a pair of tolerance rounds the quota to the nearest whole number.
            if len(split[side]) + len(members[group]) <= quota[side] + 0.5:
                chosen_side = side
                break
        split[chosen_side] += members[group]
    if not all(split.values()):
        sizes = {side: len(rows) for side, rows in split.items()}
        raise DataError(
            f"{len(preferences)} pairs in {len(groups)} groups split into {sizes}; "
            "make more pairs with make_prefs.py --max-samples"
        )
    return {side: sorted(rows) for side, rows in split.items()}


# --- metrics


def pair_metrics(chosen: np.ndarray, rejected: np.ndarray) -> dict[str, float]:
    """Pairwise accuracy (a tie counts 0.5), and ROC-AUC of all scores together. Both are (n_pairs,)."""
    accuracy = float(((chosen > rejected) + 0.5 * (chosen == rejected)).mean())
    # ROC-AUC pools all pairs, so it also tells whether scores compare across questions; accuracy does not.
    labels = np.r_[np.ones(len(chosen)), np.zeros(len(rejected))]
    return {"accuracy": accuracy, "roc_auc": float(roc_auc_score(labels, np.r_[chosen, rejected]))}


def interval(
    chosen: np.ndarray, rejected: np.ndarray, groups: list[str], seed: int
) -> dict[str, list[float] | None]:
    """95% bootstrap intervals of `pair_metrics`, resampled by group; None with fewer than 20 groups."""
    index, n_groups = group_index(groups)
    if n_groups < MIN_GROUPS:
        return {"accuracy": None, "roc_auc": None}
    _, of_accuracy = mean_with_interval(list(wins(chosen, rejected)), groups, seed)
    _, places = np.unique(np.r_[chosen, rejected], return_inverse=True)
    is_chosen = np.r_[np.ones(len(chosen)), np.zeros(len(rejected))]
    both = np.r_[index, index]
    drawn = []
    # How often the resamples have each value, on the chosen side and on the rejected one.
    for n_chosen, n_rejected in column_sums(both, places, [is_chosen, 1 - is_chosen], n_groups, seed):
        # A chosen completion is above the rejected ones with smaller values, and ties count half.
        below = n_rejected.cumsum(1) - n_rejected / 2
        drawn.append((n_chosen * below).sum(1) / n_chosen.sum(1) ** 2)
    return {"accuracy": of_accuracy, "roc_auc": percentile_interval(np.concatenate(drawn))}


# --- baselines


def style_features(rows: list[dict]) -> np.ndarray:
    """The form (`kinds.form`) of each completion row, without its prompt, (n, 6): mean 0, deviation 1."""
    forms = []
    for row in rows:
        parsed = parse_completion(row["completion"], len(row["evidence_chunks"]))
        forms.append(form(row["completion"], parsed))
    style = np.asarray(forms, dtype=float)
    # A feature that never varies would divide by zero.
    return (style - style.mean(0)) / np.maximum(style.std(0), 1e-9)


def style_check(rows: list[dict], seed: int) -> dict | None:
    """`pair_metrics` of a rule that sees style alone, and `accuracy_ci95`; None under 20 groups.

    Logistic regression on the differences of `style_features`, fitted to four fifths of the groups and scored
    on the last, five times. At chance, both are 0.5.
    """
    groups = [row["group"] for row in rows]
    if len(set(groups)) < MIN_GROUPS:
        return None
    style = style_features(as_completions(rows))
    scores = np.zeros(len(style))
    folds = GroupKFold(5, shuffle=True, random_state=seed)
    for train, held in folds.split(rows, groups=groups):
        weights = _style_weights(style, train)
        for i in held:
            scores[2 * i : 2 * i + 2] = style[2 * i : 2 * i + 2] @ weights
    chosen = scores[0::2]
    rejected = scores[1::2]
    # That of ROC-AUC would take longer than all the rest of a run on few samples.
    _, ci95 = mean_with_interval([float(won) for won in wins(chosen, rejected)], groups, seed)
    return {**pair_metrics(chosen, rejected), "accuracy_ci95": ci95}


def _style_weights(style: np.ndarray, train: np.ndarray | list[int]) -> np.ndarray:
    """Logistic regression on the pairs in `train`, (n_features,); `style` is (2 n_pairs, n_features)."""
    # A pair is one difference, and its mirror image keeps the two labels balanced; so no intercept is needed.
    differences = (style[0::2] - style[1::2])[train]
    fit = LogisticRegression(fit_intercept=False).fit(
        np.r_[differences, -differences],
        np.r_[np.ones(len(differences)), np.zeros(len(differences))],
    )
    return fit.coef_[0]


def _length_sign(n_tokens: np.ndarray, train: list[int]) -> int:
    """1 if more of the pairs in `train` prefer the longer side, else -1; `n_tokens` is (2 n_pairs,)."""
    longer_wins = wins(n_tokens[0::2][train], n_tokens[1::2][train]).mean()
    return 1 if longer_wins > 0.5 else -1


def baseline_scores(
    rows: list[dict], found: dict, penalty_sums: np.ndarray, split: dict[str, list[int]]
) -> dict[str, np.ndarray]:
    """Scores (n_completions,) of the baselines that a reward model must beat.

    Length (longer or shorter, by the train pairs), style (logistic regression on the train pairs), both only
    where there are train pairs; penalties, and the base model's own mean log-probability.
    """
    learned = {}
    if train := split["train"]:
        # A reward model that learned nothing but style is worth no more than these two.
        style = style_features(rows)
        n_tokens = found["n_tokens"].numpy()
        learned["length_only"] = _length_sign(n_tokens, train) * n_tokens
        learned["style_only"] = style @ _style_weights(style, train)
    return {**learned, "penalties_only": -penalty_sums, "mean_logprob": found["mean_logp"].numpy()}
