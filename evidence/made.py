"""Rows that a build makes beside its samples (`--made`): which kinds there are, and what every one must keep.

They are made from finished samples of the train split alone, or were built for it and left out, and go into a
file of their own, so that the samples stay as they are. Nothing here knows how a row of a kind is made.
"""

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from evidence.contrast import contrast_rows, contrast_twin_rows
from evidence.easy_claims import easy_claim_rows
from evidence.made_row import Making
from evidence.planted import planted_rows
from utils.errors import DataError, UsageError
from utils.runs import format_drops
from utils.schema import unit_of
from utils.text import padded_words

MADE_FILE = "train_made.jsonl"

# Samples and the seed of the build -> rows, and the origins that gave none by reason. The samples are those
# of the train split or, for a kind of OF_LEFT_OUT, those that were built for it and left out.
Maker = Callable[[list[dict], int], Making]


def _question_rows(samples: list[dict], seed: int) -> Making:
    # Not at the top: its patterns take a while to compile, and the flags are read with this module.
    from evidence.questions.rows import question_rows

    return question_rows(samples, seed)


MAKERS: dict[str, Maker] = {
    "contrast": contrast_rows,
    "contrast_twins": contrast_twin_rows,
    "questions": _question_rows,
    "easy_claims": easy_claim_rows,
    "planted": planted_rows,
}
OF_LEFT_OUT = ("easy_claims",)


@dataclass
class Made:
    """The rows of all kinds asked for, and their counts; both empty without a kind.

    `figures`: "rows" -> kind -> rows, and for each maker the reasons -> how many origins gave no row.
    """

    rows: list[dict] = field(default_factory=list)
    figures: dict[str, dict[str, int]] = field(default_factory=dict)

    def audit(self) -> dict:
        """What audit.json says about made rows; nothing where none were asked for."""
        return {"made": self.figures} if self.figures else {}

    def summary(self) -> list[str]:
        """For the last line of a build: rows by kind, and by reason the origins that gave none."""
        if not self.figures:
            return []
        counts = ", ".join(f"{kind} {n:,}" for kind, n in self.figures["rows"].items())
        parts = [f"made {len(self.rows):,} rows ({counts})" if counts else "made 0 rows"]
        for kind, reasons in self.figures.items():
            if kind != "rows":
                parts.append(f"{kind}: {format_drops(reasons)}")
        return parts


def read_kinds(text: str) -> list[str]:
    """The kinds that `--made` names, in the order of MAKERS; UsageError for an unknown one."""
    asked = [name.strip() for name in text.split(",")]
    for name in asked:
        if name not in MAKERS:
            raise UsageError(f"--made {text}: unknown kind {name!r}; known: {','.join(MAKERS)}")
    return [name for name in MAKERS if name in asked]


def make_rows(
    kinds: list[str] | None, splits: dict[str, list[dict]], seed: int, left_out: list[dict] | None = None
) -> Made:
    """The made rows of `kinds`; their counts by kind, and by reason those that could not be made.

    `left_out`: samples that were built for the train split and not chosen (`evidence.balance.left_out`).

    A row that asks in the same words as a sample of any split or as a row of another unit is left out and
    counted: val and test stay unseen, and nothing is trained on twice. DataError without a train split, and
    for a row that breaks a rule of samples.
    """
    if not kinds:
        return Made()
    if not splits.get("train"):
        raise DataError("--made: the build has no samples in the train split; build without --made")

    # Not at the top: the flags are read with this module, before anything that takes a while to import.
    from evidence.soundness import leaked_answer

    # Question -> the unit that asks it: an original and its twin ask the same, and so may rows made of them.
    asked_by: dict[str, str] = {}
    for samples in splits.values():
        for sample in samples:
            asked_by[padded_words(sample["question"])] = unit_of(sample)
    made = Made(figures={"rows": {}})
    for kind in kinds:
        making = MAKERS[kind]((left_out or []) if kind in OF_LEFT_OUT else splits["train"], seed)
        skipped = Counter(making.skipped)
        for row in making.rows:
            own = row["metadata"]["unit"]
            if leaked_answer(row):
                skipped["a negative has the answer in another spelling"] += 1
            elif asked_by.setdefault(padded_words(row["question"]), own) == own:
                made.rows.append(row)
            else:
                skipped["asked elsewhere"] += 1
        made.figures[kind] = dict(skipped)
    made.figures["rows"] = dict(Counter(row["metadata"]["made"] for row in made.rows))
    _check_rules(made.rows)
    return made


def _check_rules(rows: list[dict]) -> None:
    """DataError for a made row that breaks a rule of samples, or for an id that repeats."""
    # Not at the top: it imports numpy, and the flags are read with this module.
    from evidence.audit import sample_rule_broken

    ids = set()
    for row in rows:
        problem = sample_rule_broken(row)
        if row["id"] in ids:
            problem = "duplicate id"
        if problem:
            raise DataError(f"made row {row['id']}: {problem}; report this as a bug")
        ids.add(row["id"])
