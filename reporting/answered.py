"""Samples with what each model answered, and the three that show an evaluation at a glance.

It knows samples and parsed completions, no HTML.
"""

import sys
import textwrap
from collections import Counter
from dataclasses import dataclass

from evaluation.columns import TERMINAL_COLUMNS
from utils.completions import Parsed
from utils.scoring import citation_scores, hallucination_kind, outcome

GOOD = ("right answer", "right refusal")
# The places of `three_samples`, in the order in which they are shown.
PLACES = ("right answer", "right refusal", "failure")


@dataclass(frozen=True)
class Answered:
    """One sample with each model's parsed answer and completion; the first model is the one looked at."""

    sample: dict
    parsed: dict[str, Parsed]
    completions: dict[str, str]

    @property
    def main(self) -> str:
        return next(iter(self.parsed))

    @property
    def outcome(self) -> str:
        return outcome(self.parsed[self.main], self.sample)

    @property
    def is_good(self) -> bool:
        return self.outcome in GOOD

    @property
    def models_disagree(self) -> bool:
        """True when one model is right and another is not."""
        return len({outcome(parsed, self.sample) in GOOD for parsed in self.parsed.values()}) > 1

    @property
    def is_miscited(self) -> bool:
        """True for a right answer of the first model whose citations are not exactly support."""
        parsed = self.parsed[self.main]
        if not parsed.is_answer or hallucination_kind(parsed, self.sample) not in (None, "unsupported"):
            return False
        sets = self.sample["support_sets"]
        return citation_scores(parsed.citations, sets, self.sample["support_spans"])[3] < 1


def answered_samples(samples: list[dict], parsed: dict[str, list], predictions: list[dict]) -> list[Answered]:
    """One `Answered` per sample, with the models of `predictions`.

    `parsed`: model name -> parsed completions in the order of `samples`; it may have more models.
    """
    completions: dict[str, dict[str, str]] = {}
    for row in predictions:
        completions.setdefault(row["model"], {})[row["id"]] = row["completion"]
    found = []
    for i, sample in enumerate(samples):
        own = {name: parsed[name][i] for name in completions}
        texts = {name: completions[name][sample["id"]] for name in completions}
        found.append(Answered(sample, own, texts))
    return found


def three_samples(answered: list[Answered]) -> dict[str, Answered | None]:
    """PLACES -> the first sample of each kind, None where there is none.

    The failure is one of the most frequent kind of failure, so that it stands for many.
    """
    found: dict[str, Answered | None] = dict.fromkeys(PLACES)
    failures = Counter(row.outcome for row in answered if not row.is_good)
    commonest = failures.most_common(1)[0][0] if failures else None
    for row in answered:
        place = "failure" if row.outcome == commonest else row.outcome
        if place in found and found[place] is None:
            found[place] = row
    return found


# --- in a terminal


def printable(text: str) -> str:
    """The text with `?` for what the terminal's encoding lacks: a sample must not end a stage."""
    encoding = sys.stdout.encoding or "utf-8"
    return text.encode(encoding, "replace").decode(encoding)


def _line(label: str, text: str) -> str:
    """`label  text`, wrapped to the terminal and at most three lines long."""
    # Control characters in a model's answer could move the cursor.
    clean = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return textwrap.fill(
        clean,
        TERMINAL_COLUMNS,
        initial_indent=f"  {label:9}",
        subsequent_indent=" " * 11,
        max_lines=3,
        placeholder=" ...",
        break_on_hyphens=False,
    )


def cited_words(citations: list[int]) -> str:
    """`[0] [2]`; a citation of a chunk that the prompt did not show is named so."""
    return " ".join("[not shown]" if i < 0 else f"[{i}]" for i in citations) or "no citation"


def sample_text(place: str, row: Answered | None) -> str:
    """One of the three samples in a few lines: question, answer, gold where it differs, cited chunks."""
    if row is None:
        return f"{place}: none in this evaluation"
    parsed = row.parsed[row.main]
    named = f"{place} ({row.outcome})" if place == "failure" else place
    lines = [f"{named}: {row.sample['id']}"[:TERMINAL_COLUMNS], _line("question", row.sample["question"])]
    if parsed.answer is None:
        lines.append(_line("text", row.completions[row.main] or "(empty)"))
    elif parsed.is_refusal:
        lines.append(_line("answer", parsed.answer))
    else:
        lines.append(_line("answer", f"{parsed.answer} {cited_words(parsed.citations)}"))
    if not row.is_good:
        lines.append(_line("gold", row.sample["answer"]))
    removed = row.sample["metadata"].get("gold_aliases")
    if removed and not row.sample["answerable"]:
        lines.append(_line("", f"(the evidence for {removed[0]!r} was taken out of this sample)"))
    # A refusal cites nothing: the support shows what it missed.
    cited = [i for i in parsed.citations if i >= 0]
    for i in (cited or row.sample["support_spans"])[:2]:
        chunk = row.sample["evidence_chunks"][i]
        lines.append(_line(f"[{i}]", f"{chunk['title']}: {chunk['text']}"))
    return "\n".join(lines)


def three_samples_text(answered: list[Answered]) -> str:
    """The three samples for a terminal."""
    blocks = [sample_text(place, row) for place, row in three_samples(answered).items()]
    return printable("\n\n".join(blocks))
