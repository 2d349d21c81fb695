"""What the JSON files that stages write for each other contain, as far as another stage reads it.

Fields with `?` may be missing: files of an earlier version lack them, and their readers know what to do then.
A field that a stage begins to read from another one's file gets its line here. `utils/shapes.py` says how a
shape is read; this module knows nothing about what the values mean.
"""

from typing import Any

from utils.shapes import Every, Maybe

# --- manifests

# run.json of the folder of a run (utils/runs.py), and the block "run" of a results file.
RUN: dict[str, Any] = {
    "status?": str,
    "settings?": {"data?": {"train_path?": Maybe(str)}},
    "inputs?": Every(str),
    "models?": Every(Maybe(str)),
    "outputs?": Every(Maybe(str)),
    "n_samples?": object,
    "started?": str,
    "finished?": str,
    "penalty_tuning?": dict,
}
BUILD = {**RUN, "n_samples?": Every(int)}
REWARD_RUN = {**RUN, "n_pairs?": Every(int)}
# Of SFT and of a policy.
TRAINED = {
    **RUN,
    **{"n_rows?": int, "n_steps?": int, "train_seconds?": float, "kept?": bool},
    **{"tokens_per_second?": Maybe(float), "peak_memory_gb?": Maybe(float)},
    **{"metric_for_best?": str, "best?": Maybe(float)},
    **{"val?": Maybe(Every(Maybe(float))), "before?": Every(Maybe(float))},
}

# run.json of a checkpoint (training/whole.py).
CHECKPOINT: dict[str, Any] = {
    "status?": str,
    "template?": str,
    "template_hash?": str,
    "base_model?": Maybe(str),
    "base_weights?": Maybe(str),
    "base_revision?": Maybe(str),
    "max_prompt_tokens?": int,
    "step?": int,
    "files?": Every(int),
    "hashes?": Every(str),
    "merged_from?": str,
    "sources?": Every({"n": int, "licence": str}),
    "n_val_rows?": Maybe(int),
    "n_val_generated?": Maybe(int),
    "n_val_answers?": Maybe(int),
    "val?": Every(Maybe(float)),
    "averaged_steps?": list,
}

# manifest.json of a cache of candidates (preferences/cache.py).
CACHE: dict[str, Any] = {
    "status": str,
    "settings": {
        **{"data_sha256?": str, "n_generations?": int, "temperature?": float, "template?": Maybe(str)},
        **{"template_text?": str, "precision?": str, "max_input_tokens?": int, "max_new_tokens?": int},
        **{"models?": Maybe(str), "sft_model?": str, "base_model?": Maybe(str)},
    },
    "inputs?": Every(str),
    "base_revision?": Maybe(str),
    "created?": float,
    "started?": str,
    "n_rows?": Every(int),
}
# One whose candidates are judged.
JUDGED_CACHE = {**CACHE, "settings": {**CACHE["settings"], "data_sha256": str}}
# What the pairs of a cache tell of it: its data, and the models that wrote the candidates.
CANDIDATES = {**RUN, "settings?": {"sft_model?": str, "policy_model?": str}}
# One that a cut run left may lack what the end writes.
UNFINISHED_CACHE = {
    "status?": str,
    "base_revision?": Maybe(str),
    "n_rows?": Every(int),
    "unjudged?": bool,
}

# source_hashes.json (sources/pins.py): file -> SHA-256.
PINS = Every(str)

# --- fits and figures of a training

# calibration.json (training/validation.py, training/decisions.py).
_FIT = {"x": [float], "y": [float], "n?": int}
_GATE = {"weights": [float], "intercept": float, "factor": float}
_GATES = {"refuse_claim?": _GATE, "refuse_question?": _GATE, "refuted?": _GATE}
_BIASES = {"refuse_claim": float, "refuse_question": float, "refuted": float, "gates?": _GATES}
_ANSWER = {"stated": Maybe(float), "probability": float, "right": bool}
_FITTED = {"isotonic?": Maybe(_FIT), "answers?": Maybe([_ANSWER])}
_DECISIONS = {
    **{"biases": _BIASES, "calibration": _FITTED, "key?": str},
    **{"precision?": Maybe(str), "step?": Maybe(int)},
}
CALIBRATION = {**_FITTED, "step?": int, "decisions?": _DECISIONS}

# training_history.json of SFT and policy, and that of the reward model.
HISTORY = {"train_losses": list, "eval_metrics": [dict], "config?": {"training?": dict}}

# config.json of a reward head (preferences/reward.py).
HEAD = {
    "base_model": str,
    "base_weights?": Maybe(str),
    "base_revision?": Maybe(str),
    "template": str,
    "max_seq_length": int,
    "load_in_8bit?": bool,
    "penalty_weights": Every(float),
    "score_scale": {"mean": float, "std": float},
    "metrics?": {"accuracy?": Maybe(float), "roc_auc?": Maybe(float)},
    "weights_sha256?": Maybe(str),
    "template_hash?": Maybe(str),
    "feature_layers?": [float],
    "pooling?": [str],
    "logprob_features?": bool,
    "head_width?": int,
    "lora_r?": int,
}
# What its card and the tuning of its penalties read, too.
MEASURED_HEAD = {**HEAD, "metrics": {"accuracy?": Maybe(float), "roc_auc?": Maybe(float)}}

# split.json of a reward model (preferences/split_record.py).
_SIDES = {"train": [str], "val": [str], "test": [str]}
SPLIT = {"preferences": str, "groups": _SIDES, "samples": _SIDES}

# validation.json of a reward model (preferences/reward_report.py).
_AREAS = {"accuracy": Maybe(float), "roc_auc": Maybe(float), "ci95?": Every(Maybe([float]))}
VALIDATION = {
    "checkpoint": str,
    "n_test_pairs": int,
    "n_test_groups": int,
    # The two baselines need train pairs, which another preferences file may lack.
    "test": {"reward": _AREAS, "style_only?": _AREAS, "length_only?": _AREAS},
    "reliability?": [{"confidence": float, "accuracy": float}],
}

# preference_stats_*.json (make_prefs.py).
PREFERENCE_STATS = {
    "n_pairs": int,
    "n_samples": int,
    "pairs_by_models": Every(int),
    "mean_margin": Maybe(float),
    "order_consistency": Maybe(float),
    "settings": {"judge": str, "cache": str},
    "revisions?": Every(str),
    "created?": float,
}

# audit.json of a build (evidence/audit.py).
AUDIT = {
    "n_samples": Every(int),
    "counts": Every(Every(Every(int))),
    "dropped": Every(Every(int)),
    "rules_broken": [str],
    "promises_missed?": Maybe([str]),
    "shortcuts?": Maybe({"split": Maybe(str), "by_source": dict}),
}
