"""Prediction files: rows {"id", "model", "completion", ...}, one a sample and model, written as they come and read back to be scored."""

from pathlib import Path

from utils.errors import DataError
from utils.jsonl import read_json, read_jsonl
from utils.runs import hash_inputs


def prompt_settings(model_dir: str, template: str | None, max_prompt_tokens: int | None = None) -> dict:
    """What decides a checkpoint's prompts: template and length limit, as given, else of its run.json, else the defaults; and its files' hashes."""
    manifest = Path(model_dir) / "run.json"
    run = read_json(manifest) if manifest.is_file() else {}
    return {
        "model_dir": model_dir,
        "template": template or run.get("template", "default"),
        "max_prompt_tokens": max_prompt_tokens or run.get("max_prompt_tokens", 4096),
        "checkpoint_hashes": hash_inputs([Path(model_dir)]),
    }


def predictions_path(output: Path) -> Path:
    """Where the predictions of a results file lie: beside it."""
    return output.with_name(f"{output.stem}_predictions.jsonl")


def read_predictions(path: Path, samples: list[dict]) -> list[dict]:
    """Rows {"id", "model", "completion"} of a file; each model must cover every sample exactly once."""
    known = {sample["id"] for sample in samples}
    seen: dict[str, set[str]] = {}
    rows = []
    for number, row in read_jsonl(path):
        if not all(isinstance(row.get(field), str) for field in ("id", "model", "completion")):
            raise DataError(f"{path}:{number}: a prediction needs the texts id, model and completion")
        if row["id"] not in known:
            continue
        if row["id"] in seen.setdefault(row["model"], set()):
            raise DataError(f"{path}:{number}: {row['model']} has a second prediction for {row['id']}")
        seen[row["model"]].add(row["id"])
        rows.append(row)
    for model, ids in seen.items():
        if missing := known - ids:
            raise DataError(
                f"{path}: {model} lacks {len(missing)} of {len(known)} samples, e.g. {min(missing)}; use their test file and --limit"
            )
    if not rows:
        raise DataError(f"{path}: no prediction matches a sample of the test data")
    return rows


def count_gold_cut(rows: list[dict], samples: list[dict]) -> int:
    """Answerable samples of which no whole support set was shown: lost to the length limit. Rows that do not tell are not counted."""
    sets = {sample["id"]: sample["support_sets"] for sample in samples}
    return sum(
        bool(sets[row["id"]]) and not any(set(s) <= set(row["shown"]) for s in sets[row["id"]])
        for row in rows
        if "shown" in row
    )
