"""The shortcut audit of a build: can its samples be solved from the surface, without reading the evidence?

It scores the probes of `probes.py` by source and over all, and compares each with a limit. docs/data.md,
Shortcut probes, explains each probe and what to do when one warns.
"""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from evidence.probes import (
    ANSWERABILITY,
    SUPPORT,
    VERDICT,
    Row,
    answerability_score,
    guess,
    support_score,
    verdict_score,
)
from evidence.surface import surface_of
from evidence.surface_model import QuestionModel, SurfaceModel, has_verdict, is_positive
from utils.errors import DataError
from utils.own_files import AUDIT
from utils.progress import track
from utils.runs import note
from utils.shapes import read_shaped

# With fewer samples a score says little: at 40 its standard error is up to 0.08.
MIN_SAMPLES = 40

# No limit is nearer to the chance level than this, or samples of two chunks would always warn.
_MIN_LEAD = 0.1

# (what is guessed, probe) -> the highest accepted score.
LIMITS = {
    # Good evidence is about the subject of its question, so names and words tell a little. Up to 0.70 most of
    # the decision is left to reading.
    ("answerability", "title_match"): 0.70,
    ("answerability", "overlap"): 0.70,
    ("answerability", "surface_model"): 0.70,
    ("support", "title_match"): 0.70,
    ("support", "overlap"): 0.70,
    ("support", "surface_model"): 0.70,
    # Evidence that says all names and numbers of a claim mostly supports it, in honest text too.
    ("verdict", "unstated"): 0.80,
    ("verdict", "overlap"): 0.80,
    ("verdict", "surface_model"): 0.80,
    # People who write false claims use other words: a model of FEVER's claims alone is known to reach 0.6 to
    # 0.7 (Schuster et al., 2019).
    ("verdict", "question_alone"): 0.70,
    # The rest sees no evidence, or only its form. What it knows comes from how the data was made.
    ("verdict", "length"): 0.65,
    ("answerability", "length"): 0.60,
    ("answerability", "question_alone"): 0.60,
    ("support", "position"): 0.40,
    ("support", "length"): 0.40,
}


class Task(NamedTuple):
    """One thing to guess: its probes, their score, the samples it concerns, and the chance level."""

    score_name: str
    probes: tuple[str, ...]
    score: Callable[[str, list[Row], list[Row]], float]
    concerns: Callable[[dict], bool]
    # None: it is measured on any rows; else rows of both classes are needed.
    label: Callable[[dict], bool] | None
    chance: Callable[[list[Row]], float]


def _support_chance(rows: list[Row]) -> float:
    """Share of chunks that are support, mean over rows: what a random pick gets."""
    shares = [len(row.sample["support_spans"]) / len(row.sample["evidence_chunks"]) for row in rows]
    return sum(shares) / len(shares)


def _majority_share(rows: list[Row]) -> float:
    share = float(np.mean([is_positive(row.sample["answer"]) for row in rows]))
    return max(share, 1 - share)


TASKS = {
    "answerability": Task(
        score_name="balanced accuracy",
        probes=tuple(ANSWERABILITY),
        score=answerability_score,
        concerns=lambda sample: True,
        label=lambda sample: sample["answerable"],
        chance=lambda rows: 0.5,
    ),
    "support": Task(
        score_name="picks support",
        probes=tuple(SUPPORT),
        score=support_score,
        concerns=lambda sample: sample["answerable"],
        label=None,
        chance=_support_chance,
    ),
    "verdict": Task(
        score_name="accuracy",
        probes=tuple(VERDICT),
        score=verdict_score,
        concerns=has_verdict,
        label=lambda sample: is_positive(sample["answer"]),
        chance=_majority_share,
    ),
}


# --- measuring


def _has_both_classes(task: Task, rows: list[Row]) -> bool:
    return task.label is None or len({task.label(row.sample) for row in rows}) == 2


def probe_task(name: str, train: list[Row], held: list[Row], all_train: list[Row]) -> dict | None:
    """Probe -> score, chance, limit, n and whether it is above; None for too few samples or one class.

    Thresholds are fitted on the train rows of the source, or of all sources where those have one class alone.
    """
    task = TASKS[name]
    rows = [row for row in held if task.concerns(row.sample)]
    if len(rows) < MIN_SAMPLES or not _has_both_classes(task, rows):
        return None
    fitting = [row for row in train if task.concerns(row.sample)]
    if not fitting or not _has_both_classes(task, fitting):
        fitting = [row for row in all_train if task.concerns(row.sample)]
    # With nothing to fit on, no threshold means anything.
    if not fitting:
        return None

    chance = task.chance(rows)
    found = {}
    for probe in task.probes:
        limit = max(LIMITS[name, probe], chance + _MIN_LEAD)
        score = round(task.score(probe, fitting, rows), 4)
        figures = {"score": score, "chance": round(chance, 4), "limit": round(limit, 4), "n": len(rows)}
        found[probe] = {**figures, "above": score > figures["limit"]}
    return found


def _held_out_split(splits: dict[str, list[dict]]) -> str | None:
    """The test split, or val if test is too small or has one class; None if neither is usable."""
    usable = []
    for split in ("test", "val"):
        samples = splits.get(split, [])
        if len(samples) >= MIN_SAMPLES and len({sample["answerable"] for sample in samples}) == 2:
            usable.append(split)
    return usable[0] if usable else None


def measure_shortcuts(splits: dict[str, list[dict]]) -> dict:
    """The `shortcuts` of audit.json: source, and `all` -> what is guessed -> probe -> figures.

    `split` is the split that was measured: None when neither test nor val has enough samples of both classes,
    or train has none.
    """
    split = _held_out_split(splits)
    if split is None or not splits.get("train"):
        return {"split": None, "scores": {}, "by_source": {}}
    read = track(splits["train"], "probing for shortcuts", "sample")
    train = [Row(sample, surface_of(sample)) for sample in read]
    held = splits[split]
    sources = sorted({sample["source"] for sample in splits["train"]})
    model = SurfaceModel(sources).fit(splits["train"], [row.surface for row in train])
    question_model = QuestionModel().fit(splits["train"])
    rows = guess(held, [surface_of(sample) for sample in held], model, question_model)

    by_source = {}
    for source in ["all", *sorted({sample["source"] for sample in held})]:
        fitting = [row for row in train if source in ("all", row.sample["source"])]
        part = [row for row in rows if source in ("all", row.sample["source"])]
        by_source[source] = {name: probe_task(name, fitting, part, train) for name in TASKS}
    names = {name: task.score_name for name, task in TASKS.items()}
    return {"split": split, "scores": names, "by_source": by_source}


# --- warning


def shortcut_warnings(shortcuts: dict) -> list[str]:
    """One line per source with a probe above its limit, which names all of them; `all` first."""
    lines = []
    for source, tasks in shortcuts["by_source"].items():
        told = []
        for name, probes in tasks.items():
            above = []
            for probe, figures in (probes or {}).items():
                if figures["above"]:
                    above.append(f"{probe} {figures['score']:.2f} (limit {figures['limit']:.2f})")
            if above:
                told.append(f"{name} by {', '.join(above)}")
        if told:
            lines.append(f"shortcut: {source}: tells {'; '.join(told)}")
    return lines


def report_shortcuts(audit_path: Path, is_strict: bool) -> None:
    """Print the warnings of a build's audit; DataError if there are any and `is_strict`."""
    shortcuts = read_shaped(audit_path, {"shortcuts?": AUDIT["shortcuts?"]}).get("shortcuts")
    if shortcuts is None:
        if is_strict:
            raise DataError(f"{audit_path}: has no shortcuts, an older version made it; add --overwrite")
        return
    if shortcuts["split"] is None:
        needs = f"train samples, and {MIN_SAMPLES} samples of test or val, some of each class"
        note(f"shortcuts not measured: that needs {needs}")
    lines = shortcut_warnings(shortcuts)
    for line in lines:
        note(line)
    advice = "docs/data.md, Shortcut probes, says what each means and what helps"
    if lines and is_strict:
        raise DataError(f"shortcuts above the limit, see {audit_path}; {advice}")
    if lines:
        note(f"shortcuts above the limit, on the {shortcuts['split']} split: {advice}")
