"""From judged candidates to preference rows: the models' own pairs, made ones, and which of them are kept.

The pair rule is handed in (`choose_pairs` in make_prefs.py), and so is the prompt of a sample. This module
knows nothing about how candidates are judged.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from preferences.cache import Job
from preferences.contrasts import contrasts
from preferences.gold import gold_pairs, shows_support, with_gold
from preferences.judges import Judge
from preferences.kinds import form, match_forms
from preferences.rows import JudgedSample, parse_candidate, preference_row, rich_fields
from preferences.verifier import verify
from utils.completions import render_completion
from utils.schema import is_label_answer

# A made completion with the outcome of the gold one, such as a padded answer, is half a level below it.
_LEAST_MADE_MARGIN = 0.125


@dataclass(frozen=True)
class Pairing:
    """Everything that changes which pairs are written, and how."""

    min_margin: float
    output_mode: str
    # Made rejections per sample.
    hard_rejections: int
    match_form: bool
    # The largest share of pairs whose rejected side cannot be parsed.
    max_unparsable: float
    seed: int
    # The gold completion is chosen over a candidate, in place of the best candidate over others.
    gold_chosen: bool = False


def _own_pairs(
    jobs: list[Job], judgements: dict[str, dict], judge: Judge, choose: Callable, drops: Counter
) -> Iterator[tuple[JudgedSample, int, int]]:
    """(judged sample, chosen, rejected) of the models' candidates; counts the samples without a pair.

    Samples with a single candidate are counted where candidates are read (preferences/jobs.py).
    A judge without gold may find best what cannot be parsed: that is no completion to learn from.
    """
    for sample, candidates in jobs:
        if len(candidates) < 2:
            continue
        judgement = judgements[sample["id"]]
        scores, decided_by = judge.decide(judgement)
        pairs, reason = choose(scores)
        if pairs and parse_candidate(candidates[pairs[0][0]]).answer is None:
            pairs = []
            reason = "the best is unparsable"
        if reason:
            drops[reason] += 1
        judged = JudgedSample(sample, candidates, judgement, scores, decided_by)
        for chosen, rejected in pairs:
            yield judged, chosen, rejected


def prompt_outcomes(jobs: list[Job], judgements: dict[str, dict]) -> dict[str, int]:
    """How many prompts have candidates that are all right, all wrong, or some right and some not.

    Right is an answer that is right, cited well or not, and a right refusal. Where all are wrong, the best of
    them is a mistake too; where all are right, they differ at most in their citations. Of questions without
    gold nobody knows.
    """
    counts = dict.fromkeys(("all right", "all wrong", "mixed"), 0)
    for sample, candidates in jobs:
        if sample["answerable"] is None:
            counts["without gold"] = counts.get("without gold", 0) + 1
            continue
        judgement = judgements.get(sample["id"])
        # A single candidate is not judged.
        checks = judgement["checks"] if judgement else [verify(candidates[0], sample)[0]]
        are_right = {bool(passed["answer"]) for passed in checks}
        if len(are_right) == 2:
            counts["mixed"] += 1
        else:
            counts["all right" if are_right == {True} else "all wrong"] += 1
    return counts


def _with_made(sample: dict, everyone: list[dict], best: int, made: dict[str, str]) -> JudgedSample:
    """The sample with made completions behind its candidates and gold, of which `best` is chosen."""
    shown = everyone[best]["shown"]
    added = [{"completion": text, "shown": shown, "model": "made"} for text in made.values()]
    checks, scores = zip(*(verify(candidate, sample) for candidate in [*everyone, *added]))
    limit = scores[best] - _LEAST_MADE_MARGIN
    of_made = [min(score, limit) for score in scores[len(everyone) :]]
    judgement = {"checks": list(checks), "llm": None}
    lowered = [*scores[: len(everyone)], *of_made]
    return JudgedSample(sample, [*everyone, *added], judgement, lowered, "made")


def _contrasts(sample: dict, chosen: dict, rng: random.Random, elsewhere: Sequence[str]) -> dict[str, str]:
    """The made completions of a sample that are worse than the chosen one, by name."""
    said = parse_candidate(chosen)
    made = contrasts(sample, chosen["shown"], rng, elsewhere)
    if "over-confident" in made:
        # The chosen side itself but for its confidence, unless that is no lower.
        del made["over-confident"]
        if said.answer is not None and (said.confidence or 0.0) < 1:
            made["over-confident"] = render_completion(said.answer, said.citations, 1.0)
    return {name: text for name, text in made.items() if text != chosen["completion"]}


def _made_pairs(jobs: list[Job], pairing: Pairing) -> Iterator[tuple[JudgedSample, int, int, str]]:
    """(judged sample, chosen, rejected, name of the contrast) of the made pairs."""
    spans = [s["answer"] for s, _ in jobs if s["answerable"] and not is_label_answer(s["answer"])]
    n_made: Counter[str] = Counter()
    for sample, candidates in jobs:
        if not shows_support(sample, candidates[0]["shown"]):
            continue
        rng = random.Random(f"{pairing.seed}:{sample['id']}")
        everyone, best = with_gold(sample, candidates)
        made = _contrasts(sample, everyone[best], rng, spans)
        # The rarest first, so that every contrast has its share.
        names = sorted(made, key=lambda name: (n_made[name], rng.random()))[: pairing.hard_rejections]
        n_made.update(names)
        judged = _with_made(sample, everyone, best, {name: made[name] for name in names})
        for i, name in enumerate(names, len(everyone)):
            yield judged, best, i, name


def _limit_unparsable(rows: list[dict], most: float) -> list[dict]:
    """The rows without those over the largest share of pairs with an unparsable side; the first ones stay."""
    n_others = sum(row["kind"] != "over unparsable" for row in rows)
    n_left = int(most * n_others / (1 - most)) if most < 1 else len(rows)
    kept = []
    for row in rows:
        if row["kind"] != "over unparsable":
            kept.append(row)
        elif n_left:
            kept.append(row)
            n_left -= 1
    return kept


def _form_of(row: dict, side: str) -> tuple[int, ...]:
    text = row[side][-1]["content"]
    return form(text, parse_candidate({"completion": text, "shown": row["evidence_chunks"]}))


def collect_pairs(
    jobs: list[Job],
    judgements: dict[str, dict],
    judge: Judge,
    pairing: Pairing,
    choose: Callable[[list[float]], tuple[list[tuple[int, int]], str | None]],
    prompt_of: Callable[[JudgedSample], str],
) -> tuple[list[dict], dict[str, int], dict[str, int]]:
    """(preference rows, samples with several candidates and no pair by reason, pairs left out by reason)."""
    rows = []
    drops: Counter[str] = Counter()

    def add(judged: JudgedSample, chosen: int, rejected: int, made: str | None = None) -> None:
        row = preference_row(judged, chosen, rejected, prompt_of(judged))
        if made:
            row["made"] = made
        if pairing.output_mode == "rich":
            row |= rich_fields(judged, chosen, rejected)
        rows.append(row)

    pairs = _own_pairs(jobs, judgements, judge, choose, drops)
    if pairing.gold_chosen:
        pairs = gold_pairs(jobs, pairing.min_margin, drops)
    for pair in pairs:
        add(*pair)
    left_out: dict[str, int] = {}
    parsable = _limit_unparsable(rows, pairing.max_unparsable)
    left_out["over --max-unparsable"] = len(rows) - len(parsable)
    rows = parsable
    if pairing.hard_rejections:
        for made_pair in _made_pairs(jobs, pairing):
            add(*made_pair)
    if pairing.match_form:
        kept = match_forms([(_form_of(row, "chosen"), _form_of(row, "rejected")) for row in rows])
        left_out["not matched in form"] = len(rows) - len(kept)
        rows = [rows[i] for i in kept]
    return rows, dict(drops), left_out
