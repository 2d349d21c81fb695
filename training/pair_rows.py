"""Preference rows -> pairs of token ids, some of them held out.

The prompt builder is handed in. This module knows nothing about models or losses.
"""

import itertools
import random
from collections import Counter

from utils.config import nearest
from utils.errors import DataError, UsageError
from utils.pair_rules import kind_of
from utils.runs import format_drops
from utils.tokens import encode_completion, end_id

# The sides of a pair, in the order of the columns of its log-probabilities.
SIDES = ("chosen", "rejected")


def _is_chosen_right(row: dict) -> bool:
    """Whether the chosen side is a right answer, cited well or not, or a right refusal.

    The named checks tell, whoever decided the pair. Pairs of other tools have none, and count as right.
    """
    checks = row["judge"].get("checks_chosen", {})
    return bool(checks.get("answer", 1))


def pick_pairs(preferences: list[dict], data: dict, seed: int) -> tuple[list[dict], Counter]:
    """The preference rows to learn from, in file order, by the YAML's `data` block; the others by reason."""
    drops: Counter = Counter()
    kept = preferences
    if data["candidates"] == "sampled":
        # Made and gold completions are no samples of a model.
        kept = [row for row in kept if not {"made", "gold"} & {row["chosen_model"], row["rejected_model"]}]
        drops["not sampled from a model"] = len(preferences) - len(kept)
    if data["chosen"] == "right":
        # Every loss raises the chosen side, or has a term that does, also the better of two wrong answers.
        right = [row for row in kept if _is_chosen_right(row)]
        drops["chosen side not right"] = len(kept) - len(right)
        kept = right
    n_wanted = data["max_pairs"]
    if n_wanted is not None and n_wanted < len(kept):
        drops["over data.max_pairs"] = len(kept) - n_wanted
        drawn = sorted(random.Random(seed).sample(range(len(kept)), n_wanted))
        kept = [kept[i] for i in drawn]
    if not kept:
        or_any = (
            ", or for questions without gold set data.chosen: any" if drops["chosen side not right"] else ""
        )
        raise DataError(
            f"no pair is left ({format_drops(drops)}); make more with make_prefs.py --max-samples{or_any}"
        )
    return kept, drops


def check_kinds(preferences: list[dict], factors: dict[str, float]) -> None:
    """UsageError for a weight that applies to no pair: most likely a mistyped kind."""
    known = {kind_of(row) for row in preferences}
    for kind in factors:
        if kind not in known:
            raise UsageError(f"data.kind_weights: no pair is of the kind {kind!r}{nearest(str(kind), known)}")


def hold_out(preferences: list[dict], fraction: float, seed: int) -> tuple[list[int], list[int]]:
    """(places of the pairs to train on, of those held out), by group: about `fraction` of them, one at least.

    Groups that are larger than what is left to hold out are trained on; where all are, the smallest is held
    out. DataError if all pairs are of one group.
    """
    groups = sorted({row["group"] for row in preferences})
    random.Random(seed).shuffle(groups)
    n_of = Counter(row["group"] for row in preferences)
    held: set[str] = set()
    n_held = 0
    for group in groups:
        # Half a pair of tolerance rounds the number to the nearest whole one.
        if n_held + n_of[group] <= fraction * len(preferences) + 0.5:
            held.add(group)
            n_held += n_of[group]
    if not held:
        held.add(min(groups, key=lambda group: n_of[group]))
    places: tuple[list[int], list[int]] = ([], [])
    for i, row in enumerate(preferences):
        places[row["group"] in held].append(i)
    if not all(places):
        raise DataError(
            f"{len(preferences)} pairs in {len(groups)} groups: none would be left to train on; "
            "raise --limit or data.max_pairs, or make more with make_prefs.py --max-samples"
        )
    return places


def encode_pairs(
    preferences: list[dict], builder, max_seq_length: int
) -> tuple[list[dict], list[dict], Counter]:
    """Rows of one pair each, the preferences that they are of, and the number of those left out, by reason.

    A row has "id", "suffix" (the prompt behind the builder's prefix), "completion" and "rejected" (token
    ids), "weight" (1), "unit" (the prompt that pairs share) and "answerable". DataError if no row is left.
    """
    tokenizer = builder.tokenizer
    end = end_id(tokenizer)
    rows: list[dict] = []
    fitting: list[dict] = []
    drops: Counter = Counter()
    for row in preferences:
        prompt = builder.build(row)
        # Citations are numbers of chunks; without one, they would name another.
        if prompt.chunks != row["evidence_chunks"]:
            drops["evidence cut to fit the prompt"] += 1
            continue
        chosen, rejected = [[*encode_completion(tokenizer, row[side][0]["content"]), end] for side in SIDES]
        if chosen == rejected:
            drops["equal completions"] += 1
            continue
        if len(prompt.ids) + max(len(chosen), len(rejected)) > max_seq_length:
            drops["completion does not fit"] += 1
            continue
        fitting.append(row)
        rows.append(
            {
                "id": row["sample_id"],
                "suffix": prompt.suffix,
                "completion": chosen,
                "rejected": rejected,
                "weight": 1.0,
                "unit": row["sample_id"],
                "answerable": row["answerable"],
            }
        )
    if not rows:
        remedy = "make_prefs.py makes pairs for this SFT model"
        raise DataError(f"no pair is left ({format_drops(drops)}); {remedy}")
    return rows, fitting, drops


def keep_best_once(rows: list[dict]) -> tuple[list[dict], Counter]:
    """The rows with distinct prompts and chosen completions, each with the weight of all its pairs.

    The mean weight stays what it was, so that a step is no larger for the pairs that are left out.
    """
    kept: dict[tuple, dict] = {}
    for row in rows:
        key = (row["unit"], tuple(row["suffix"]), tuple(row["completion"]))
        if key in kept:
            kept[key]["weight"] += row["weight"]
        else:
            kept[key] = dict(row)
    share = len(kept) / max(len(rows), 1)
    for row in kept.values():
        row["weight"] *= share
    return list(kept.values()), Counter({"the same chosen completion": len(rows) - len(kept)})


def number_rows(*parts: list[dict]) -> None:
    """Give each row its "place" among the rows of all parts."""
    for place, row in enumerate(itertools.chain(*parts)):
        row["place"] = place
