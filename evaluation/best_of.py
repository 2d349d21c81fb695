"""Best of N: which of a sample's N completions is returned, and how much of what they hold is found.

The N are the greedy completion, which comes first, and samples of the same model. Picks see completions and
rewards; `by_oracle` alone sees gold, and is the best that a pick could do. This module runs no model.
"""

import argparse
import random
from collections import Counter
from collections.abc import Hashable, Sequence

import numpy as np

from evaluation.columns import format_interval, format_number
from evaluation.results import score_rows
from evidence.orders import vote_of
from utils.completions import parse_completion
from utils.intervals import Drawn, as_numbers, draw_rates, paired
from utils.jsonl import sha256_value
from utils.scoring import is_right_answer

# The names of the picks in a results file, as models: by the reward, by votes, by the model's own
# log-probability, by chance, and by gold.
BY_REWARD = "by_reward"
BY_ORACLE = "by_oracle"
OPPONENTS = ("by_votes", "by_likelihood", "by_chance")
# What the leads over greedy and other picks, and the share of the gap to the oracle, are given for.
LEADS = ("net_score", "citation_f1", "em_answerable", "refusal_f1")


def _first_of_largest(values: Sequence) -> int:
    """The place of the largest value, of equals the first, so that greedy wins every tie."""
    # `max` returns the first of equals.
    return max(range(len(values)), key=lambda i: values[i])


def _vote(candidates: list[dict]) -> int:
    """The first completion with the answer that most give (self-consistency; Wang et al., 2023)."""
    answers: list[Hashable] = []
    for row in candidates:
        answers.append(vote_of(parse_completion(row["completion"], len(row["shown"]))))
    votes = Counter(answers)
    # An unparsable completion votes for nothing.
    votes[None] = 0
    return _first_of_largest([votes[answer] for answer in answers])


def _gold_worth(row: dict, sample: dict) -> tuple[float, float, float]:
    """(net score, right answer, citation F1) of a completion."""
    terms, parsed = score_rows([row], [sample])
    right = is_right_answer(parsed[0], sample)
    return terms[0]["net_score"], float(right), terms[0]["citation_f1"]


def pick_completions(
    candidates: dict[str, list[dict]], rewards: dict[str, list[float]], samples: list[dict], seed: int
) -> list[dict]:
    """Prediction rows of every pick: for each sample one row per pick, whose "model" is its name.

    `candidates` and `rewards`: sample id -> its N completions, the greedy one first, and their rewards.
    """
    picked = []
    for sample in samples:
        rows = candidates[sample["id"]]
        drawn = random.Random(sha256_value([seed, "by_chance", sample["id"]]))
        worth = [_gold_worth(row, sample) for row in rows]
        places = {
            BY_REWARD: _first_of_largest(rewards[sample["id"]]),
            "by_votes": _vote(rows),
            "by_likelihood": _first_of_largest([row["logp"] for row in rows]),
            "by_chance": drawn.randrange(len(rows)),
            BY_ORACLE: _first_of_largest(worth),
        }
        picked += [{**rows[place], "model": name} for name, place in places.items()]
    return picked


def best_of_report(predictions: list[dict], samples: list[dict], args: argparse.Namespace) -> dict:
    """Leads of the reward's picks over greedy and over other picks, and the share of the gap that they close.

    `predictions`: rows of "sft" (greedy) and of every pick. `args`: flags of the evaluation. "leads": name ->
    paired differences of LEADS with intervals. "gap_closed": metric -> (by_reward - greedy) / (by_oracle -
    greedy), None where there is no gap.
    """
    groups = [sample["group"] for sample in samples]
    drawn: dict[str, Drawn] = {}
    for name in ("sft", BY_REWARD, *OPPONENTS, BY_ORACLE):
        terms, _ = score_rows([row for row in predictions if row["model"] == name], samples)
        drawn[name] = draw_rates(terms, groups, args.seed)
    greedy, best, oracle = (drawn[name].rates for name in ("sft", BY_REWARD, BY_ORACLE))
    closed = {}
    for metric in LEADS:
        gap = oracle[metric] - greedy[metric]
        # NaN, as a rate without such samples is: None in the report.
        closed[metric] = (best[metric] - greedy[metric]) / gap if gap else np.array(np.nan)
    leads = {name: paired(drawn[BY_REWARD], drawn[name], LEADS) for name in ("sft", *OPPONENTS)}
    settings = {"n": args.best_of, "temperature": args.temperature, "reward_model": args.reward_model}
    return settings | {"leads": leads, "gap_closed": as_numbers(closed)}


def best_of_text(found: dict) -> str:
    """The report as text for a terminal."""
    closed = ", ".join(f"{name} {format_number(value)}" for name, value in found["gap_closed"].items())
    lines = [f"best of {found['n']} by the reward; share of the gap from greedy to the oracle: {closed}"]
    for name, deltas in found["leads"].items():
        cells = []
        for metric in LEADS:
            interval = format_interval(deltas["ci95"][metric], sign=True)
            cells.append(f"{metric} {format_number(deltas[metric])} {interval}".rstrip())
        lines.append(f"  lead over {'greedy' if name == 'sft' else name}: {', '.join(cells)}")
    return "\n".join(lines)
