"""From judged candidates to preference rows: the models' own pairs, made ones, and which of them are kept.

The pair rule is handed in (`choose_pairs` in make_prefs.py), and so is the prompt of a sample. This module
knows nothing about how candidates are judged.
"""

import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from preferences.cache import Job
from preferences.contrasts import contrasts
from preferences.judges import Judge
from preferences.kinds import form, match_forms
from preferences.rows import JudgedSample, parse_candidate, preference_row, rich_fields
from preferences.verifier import verify
from utils.completions import gold_completion
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


def _own_pairs(
    jobs: list[Job], judgements: dict[str, dict], judge: Judge, choose: Callable, drops: Counter
) -> Iterator[tuple[JudgedSample, int, int]]:
    """(judged sample, chosen, rejected) of the models' candidates; counts the samples without a pair."""
    for sample, candidates in jobs:
        # All models, in every repetition, said the same.
        if len(candidates) < 2:
            drops["same text"] += 1
            continue
        judgement = judgements[sample["id"]]
        scores, decided_by = judge.decide(judgement)
        pairs, reason = choose(scores)
        if reason:
            drops[reason] += 1
        judged = JudgedSample(sample, candidates, judgement, scores, decided_by)
        for chosen, rejected in pairs:
            yield judged, chosen, rejected


def _with_made(sample: dict, candidates: list[dict], made: dict[str, str]) -> tuple[JudgedSample, int]:
    """The sample with made completions behind its candidates, and the place of the one that is chosen.

    Chosen is a candidate of the models that no outcome is better than, else the gold completion.
    """
    shown = candidates[0]["shown"]
    top = 1.0 if sample["answerable"] else 0.75
    added = []
    for name, text in {"gold": gold_completion(sample, shown), **made}.items():
        added.append({"completion": text, "shown": shown, "model": "gold" if name == "gold" else "made"})
    everyone = [*candidates, *added]
    checks, scores = zip(*(verify(candidate, sample) for candidate in everyone))
    best = next(i for i, score in enumerate(scores) if score >= top)
    limit = scores[best] - _LEAST_MADE_MARGIN
    lowered = [min(score, limit) if i > len(candidates) else score for i, score in enumerate(scores)]
    judgement = {"checks": list(checks), "llm": None}
    return JudgedSample(sample, everyone, judgement, lowered, "made"), best


def _made_pairs(jobs: list[Job], pairing: Pairing) -> Iterator[tuple[JudgedSample, int, int, str]]:
    """(judged sample, chosen, rejected, name of the contrast) of the made pairs."""
    spans = [s["answer"] for s, _ in jobs if s["answerable"] and not is_label_answer(s["answer"])]
    n_made: Counter[str] = Counter()
    for sample, candidates in jobs:
        shown = candidates[0]["shown"]
        if sample["answerable"] and not any(set(one) <= set(shown) for one in sample["support_sets"]):
            continue
        rng = random.Random(f"{pairing.seed}:{sample['id']}")
        made = contrasts(sample, shown, rng, rng.choice(spans) if spans else None)
        # The rarest first, so that every contrast has its share.
        names = sorted(made, key=lambda name: (n_made[name], rng.random()))[: pairing.hard_rejections]
        n_made.update(names)
        judged, best = _with_made(sample, candidates, {name: made[name] for name in names})
        chosen_text = judged.candidates[best]["completion"]
        for i, name in enumerate(names, len(candidates) + 1):
            if judged.candidates[i]["completion"] != chosen_text:
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
    """(preference rows, samples without a pair of their own by reason, pairs left out by reason)."""
    rows = []
    drops: Counter[str] = Counter()

    def add(judged: JudgedSample, chosen: int, rejected: int, made: str | None = None) -> None:
        row = preference_row(judged, chosen, rejected, prompt_of(judged))
        if made:
            row["made"] = made
        if pairing.output_mode == "rich":
            row |= rich_fields(judged, chosen, rejected)
        rows.append(row)

    for pair in _own_pairs(jobs, judgements, judge, choose, drops):
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
