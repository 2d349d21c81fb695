"""Prediction files: rows {"id", "model", "completion", ...}, one per sample and model.

Rows are written while a model generates, read back to be scored, and written again with how each was scored.
This module knows files and settings; how a completion is parsed and scored is in `evaluation/results.py`.
"""

from pathlib import Path

from evaluation.file_shapes import FINISHED
from evaluation.output_files import predictions_path
from evaluation.results import RESULT_KEYS, WITHOUT_MODEL, selection_for
from evaluation.selective import Selection
from models.base import model_key
from utils.atomic import atomic_write
from utils.config import portable_path
from utils.errors import DataError, UsageError
from utils.finished import check_outputs
from utils.json_values import is_integer, is_number
from utils.jsonl import dump_row, read_jsonl
from utils.own_files import CHECKPOINT
from utils.recognition import check_kind
from utils.scoring import outcome, score_sample
from utils.shapes import manifest_in, read_shaped


def prompt_settings(
    model_dir: str, template: str | None, max_prompt_tokens: int | None = None, base_model: str | None = None
) -> dict:
    """The settings that decide a checkpoint's prompts, and what stands for the checkpoint and its base.

    Template name and token limit are those given, else those in the checkpoint's run.json, else the defaults.
    """
    run = manifest_in(Path(model_dir), CHECKPOINT)
    return {
        "model_dir": portable_path(model_dir),
        "template": template or run.get("template", "default"),
        "max_prompt_tokens": max_prompt_tokens or run.get("max_prompt_tokens", 4096),
        # The same paths can later contain other models, whose completions must not be mixed with these.
        "model_key": model_key(model_dir, base_model),
        "base_key": model_key(base_model) if base_model else None,
    }


def log_key(settings: dict) -> dict:
    """The settings that decide completions, by which an interrupted run is resumed: contents, no places."""
    key = {name: value for name, value in settings.items() if name not in ("model_dir", "base_model")}
    # Rows of earlier versions have no tokens, without which the others would get other last digits.
    return key | {"inputs": sorted(settings.get("inputs", {}).values()), "rows": "with tokens"}


def asked_settings(predictions: Path, decisions: str | None) -> dict:
    """`decisions` and `orders` of the evaluation that wrote a predictions file.

    `decisions` is the value of --decisions, which counts where nothing tells: the results file is not beside
    it, or is one of other predictions. UsageError where it tells otherwise.
    """
    unknown = {"decisions": decisions, "orders": None}
    path = predictions.with_name(f"{predictions.stem.removesuffix('_predictions')}.json")
    if predictions_path(path) != predictions:
        return unknown
    try:
        run = read_shaped(path, FINISHED)["run"]
        check_outputs(path.parent, run, path.name)
    except (OSError, DataError):
        return unknown
    # Those of earlier versions do not name the files that belong to them.
    if not run.get("outputs", {}).get(predictions.name):
        return unknown
    made = {name: run["settings"].get(name) for name in unknown}
    if decisions is not None and decisions != (made["decisions"] or "plain"):
        raise UsageError(
            f"--decisions {decisions}: {path.name} says that {predictions} was made with "
            f"{made['decisions'] or 'plain'} decisions; leave the flag out"
        )
    return made


def _name_problem(model: str) -> str | None:
    """Why a model of a predictions file cannot have this name; None if it can."""
    if not model.strip():
        return "the model's name is empty; name the model that made the completion"
    if model != model.strip() or not model.isprintable():
        return f"the model name {model!r} must be one line without spaces around it; correct the name"
    if model in WITHOUT_MODEL:
        return (
            f"the model name {model!r} is reserved for a rule, which every evaluation adds itself; "
            "give your model another name, or remove its rows"
        )
    if model in RESULT_KEYS:
        return f"the model name {model!r} is reserved: it is a key of the results file; choose another name"
    return None


def _is_shown(value) -> bool:
    """Whether a value can be the ids of the chunks that a prompt showed."""
    return isinstance(value, list) and all(is_integer(i) and i >= 0 for i in value)


def _row_problem(row: dict) -> str | None:
    """The first rule of a prediction row that `row` breaks, with the value found; None for a valid row."""
    for field in ("id", "model", "completion"):
        if not isinstance(row.get(field), str):
            found = f"{field} is {row[field]!r:.60}" if field in row else f"{field} is missing"
            return f"each prediction needs the string fields id, model and completion; {found}"
    if not _is_shown(row.get("shown", [])):
        return f"shown must be a list of chunk ids, found {row['shown']!r:.60}; remove it"
    probability = row.get("probability")
    if probability is not None and not (is_number(probability) and 0 <= probability <= 1):
        return f"probability must be a number from 0 to 1, found {probability!r:.60}; remove it"
    return _name_problem(row["model"])


def read_predictions(path: Path, samples: list[dict]) -> list[dict]:
    """Rows {"id", "model", "completion"} of a file, without those of samples that are not evaluated.

    DataError for a reserved model name, for chunks that a sample lacks, and unless each model has exactly one
    row for every sample.
    """
    check_kind(path, "predictions")
    n_chunks = {sample["id"]: len(sample["evidence_chunks"]) for sample in samples}
    known = set(n_chunks)
    seen: dict[str, set[str]] = {}
    rows = []
    number = 0
    for number, row in read_jsonl(path):
        if problem := _row_problem(row):
            raise DataError(f"{path}:{number}: {problem}")
        # Under --limit a file of all predictions is read with a part of the samples.
        if row["id"] not in known:
            continue
        shown = row.get("shown", [])
        if len(set(shown)) < len(shown) or any(i >= n_chunks[row["id"]] for i in shown):
            raise DataError(
                f"{path}:{number}: shown is {shown!r:.60}, and {row['id']} has the chunks 0 to "
                f"{n_chunks[row['id']] - 1}; use the --test-data that these predictions were made with"
            )
        ids = seen.setdefault(row["model"], set())
        if row["id"] in ids:
            remedy = "keep one of the rows of each model and sample"
            if "n" in row:
                remedy = "these are candidates of make_prefs.py, several per sample, and no predictions"
            raise DataError(
                f"{path}:{number}: {row['model']} has a second prediction for {row['id']}; {remedy}"
            )
        ids.add(row["id"])
        rows.append(row)

    if not number:
        raise DataError(f"{path}: the file has no rows; each needs id, model and completion")
    # A model scored on other samples than its opponents would make every difference meaningless.
    for model, ids in seen.items():
        if missing := known - ids:
            raise DataError(
                f"{path}: {model} lacks {len(missing)} of {len(known)} samples, e.g. {min(missing)}; "
                "use the --test-data and --limit that the predictions were made with"
            )
    if not rows:
        raise DataError(f"{path}: no prediction matches a sample of the test data; check --test-data")
    return rows


def check_probabilities(path: Path, selection: Selection | None, rows: list[dict]) -> None:
    """DataError for a row of the checkpoint that a calibrated threshold cannot be compared with."""
    if selection is None or selection.kind != "calibrated":
        return
    for row in rows:
        if selection_for(row["model"], selection) and row.get("probability") is None:
            raise DataError(
                f"{path}: {row['model']}, {row['id']}: has no probability, which a calibrated confidence is "
                "made of; use --confidence-kind stated, or predictions that this script wrote"
            )


def _is_gold_cut(support_sets: list[list[int]], shown: list[int]) -> bool:
    """True when a sample has support, but its prompt shows no complete support set."""
    visible = set(shown)
    return bool(support_sets) and not any(visible.issuperset(support_set) for support_set in support_sets)


def count_gold_cut(rows: list[dict], samples: list[dict]) -> int:
    """Number of answerable samples whose prompt, cut to its token limit, lost every complete support set.

    Rows without `shown` (from elsewhere) do not tell, and are not counted.
    """
    sets = {sample["id"]: sample["support_sets"] for sample in samples}
    return sum(_is_gold_cut(sets[row["id"]], row["shown"]) for row in rows if "shown" in row)


def describe_rows(predictions: list[dict], parsed: dict[str, list], samples: list[dict]) -> list[dict]:
    """Prediction rows with the parsed answer, citations as chunk ids, the outcome, em, f1 and citation_f1."""
    place = {sample["id"]: i for i, sample in enumerate(samples)}
    described = []
    for row in predictions:
        i = place[row["id"]]
        sample = samples[i]
        found = parsed[row["model"]][i]
        # Validity (the second argument) is in none of the three terms that are kept.
        terms = score_sample(found, True, sample)
        fields = {
            "answer": found.answer,
            "citations": found.citations,
            "confidence": found.confidence,
            "outcome": outcome(found, sample),
        }
        scores = {name: round(terms[name], 4) for name in ("em", "f1", "citation_f1")}
        described.append({**row, **fields, **scores})
    return described


def replace_predictions(path: Path, predictions: Path, rows: list[dict]) -> None:
    """Write the predictions of the results file that `path` will be; what `path` has been goes before them.

    A kill leaves no results beside predictions of another run. The log is there until the new results are, so
    that the rerun generates nothing again.
    """
    with atomic_write(predictions) as handle:
        handle.writelines(dump_row(row) + "\n" for row in rows)
        handle.flush()
        # Only here: a full disk leaves the old predictions, and with them their results.
        path.unlink(missing_ok=True)
