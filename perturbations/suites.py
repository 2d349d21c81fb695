"""Suites of perturbations: level -> samples, the same samples in the same order at every level of a suite.

`SUITES` at the end is the only list of suites. A suite is a function of (samples, all samples of the file,
seed). It draws with a generator per sample, so that a sample's perturbation does not depend on the others.
Nothing here knows a model: completions are generated and scored in robustness.py.
"""

import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from perturbations.distractors import DistractorPool
from perturbations.edits import (
    add_distractors,
    counterfactual,
    drop_order,
    drop_support,
    move_gold,
    with_movable_gold,
)
from perturbations.injection import PAYLOADS, plant
from perturbations.measures import obeyed, refused, remembered, unmoved
from perturbations.noise import add_noise
from utils.config import home_path
from utils.errors import DataError
from utils.jsonl import write_jsonl
from utils.runs import format_drops, note

# The level without a perturbation, where levels have names.
CLEAN = "clean"
_N_DISTRACTORS = (2, 4, 8)
# Percent.
_SUPPORT_SHARES = (25, 50, 75, 100)
_NOISE_RATES = (1, 3, 5)


@dataclass
class Suite:
    """Levels of one perturbation, and how they are shown.

    `axis` labels the levels; `left_out`: reason -> number of samples that the suite cannot use.
    `plotted`: metrics that get a curve; `ordered`: the levels have an order, so a line joins them.
    `extra`: metrics of this suite alone, name -> function of (sample, prediction row, parsed completion, that
    of the same sample at the first level) that returns None where the metric does not apply.
    """

    axis: str
    levels: dict[str, list[dict]]
    left_out: Counter[str]
    plotted: tuple[str, ...] = ("em_answerable", "citation_correctness", "refusal_f1", "net_score")
    ordered: bool = True
    extra: dict[str, Callable] = field(default_factory=dict)


def _rng(seed: int, sample: dict, use: str) -> random.Random:
    """A generator for one sample and one use of it."""
    return random.Random(f"{seed}:{sample['id']}:{use}")


# --- evidence added and dropped


def distractors(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    """2, 4 and 8 verified distractors; each level contains those of the level before."""
    pool = DistractorPool(everything)
    most = max(_N_DISTRACTORS)
    drawn = {}
    kept = []
    for sample in samples:
        found = pool.draw(sample, most, _rng(seed, sample, "draw"))
        if found is not None:
            drawn[sample["id"]] = found
            kept.append(sample)
    levels = {"0": kept}
    for n in _N_DISTRACTORS:
        # The same generator at each level, so that the first chunks are inserted at the same places.
        levels[str(n)] = [add_distractors(s, drawn[s["id"]][:n], _rng(seed, s, "place")) for s in kept]
    left_out = Counter({f"fewer than {most} verified distractors": len(samples) - len(kept)})
    return Suite("distractors added", levels, left_out)


def support_drop(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    """A quarter to all of the support removed; the gold is a refusal where no whole support set is left."""
    pool = DistractorPool(everything)
    levels: dict[str, list[dict]] = {"0%": []}
    levels |= {f"{share}%": [] for share in _SUPPORT_SHARES}
    left_out: Counter[str] = Counter()
    for sample in samples:
        rng = _rng(seed, sample, "drop")
        drops = drop_order(sample, rng)
        fillers = pool.draw(sample, 1, rng)
        filler = fillers[0] if fillers else None
        perturbed: list[dict] = [sample]
        for share in _SUPPORT_SHARES:
            found = drop_support(sample, share / 100, drops, filler)
            if found is not None:
                perturbed.append(found)
        # A sample is in all levels or in none, else the levels could not be compared.
        if len(perturbed) < len(levels):
            left_out["no chunk to show in place of the support"] += 1
            continue
        for level, row in zip(levels.values(), perturbed):
            level.append(row)
    plotted = ("em_answerable", "refusal_f1", "refused_of_turned", "hallucination_rate", "net_score")
    return Suite("support dropped", levels, left_out, plotted, extra={"refused_of_turned": refused})


# --- texts changed


def noise(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    """1, 3 and 5% of letters or of words garbled."""
    levels = {CLEAN: samples}
    for kind in ("char", "word"):
        for rate in _NOISE_RATES:
            levels[f"{kind} {rate}%"] = [add_noise(s, kind, rate / 100, seed) for s in samples]
    return Suite("noise in question and evidence", levels, Counter(), ordered=False)


def injection(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    """Instructions, fake JSON, chat control tokens and a false statement in a chunk that is not support."""
    levels = {CLEAN: samples}
    for payload in PAYLOADS:
        levels[payload] = [plant(s, payload, _rng(seed, s, "plant")) for s in samples]
    plotted = ("attack_success_rate", "unmoved_where_uncited", "em_answerable", "refusal_f1", "net_score")
    extra = {"attack_success_rate": obeyed, "unmoved_where_uncited": unmoved}
    return Suite("planted in a chunk", levels, Counter(), plotted, ordered=False, extra=extra)


# --- support moved, answer swapped


def order(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    """The only support chunk at each position in turn."""
    kept = with_movable_gold(samples)
    n_positions = len(kept[0]["evidence_chunks"]) if kept else 0
    levels = {}
    for position in range(n_positions):
        levels[str(position)] = [move_gold(sample, position) for sample in kept]
    reason = "support is not one chunk, or number of chunks is not the usual one"
    left_out = Counter({reason: len(samples) - len(kept)})
    plotted = ("em_answerable", "citation_correctness", "answered_rate")
    return Suite("position of the gold chunk", levels, left_out, plotted)


def swapped(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    """The answer replaced by a similar one in all evidence: does the model follow evidence or memory?"""
    donors = [s for s in everything if s["answerable"]]
    levels: dict[str, list[dict]] = {"original": [], "swapped": []}
    left_out: Counter[str] = Counter()
    for sample in samples:
        found = counterfactual(sample, donors, _rng(seed, sample, "swap"))
        if isinstance(found, str):
            left_out[found] += 1
            continue
        levels["original"].append(sample)
        levels["swapped"].append(found)
    plotted = ("em_answerable", "follows_memory", "citation_correctness", "answered_rate")
    extra = {"follows_memory": remembered}
    return Suite("answer in the evidence", levels, left_out, plotted, ordered=False, extra=extra)


# --- the table

SUITES = {
    "distractors": distractors,
    "support_drop": support_drop,
    "noise": noise,
    "order": order,
    "injection": injection,
    "counterfactual": swapped,
}


def build_suites(
    names: list[str], samples: list[dict], everything: list[dict], seed: int
) -> tuple[dict[str, Suite], Counter]:
    """Name -> suite, without those that fit no sample (a note names them); what all of them left out.

    Foreign chunks and answers come from `everything`, all samples of the file. DataError where no suite fits.
    """
    built = {}
    left_out: Counter = Counter()
    for name in names:
        suite = SUITES[name](samples, everything, seed)
        left_out += suite.left_out
        if any(suite.levels.values()):
            built[name] = suite
        else:
            note(f"{name}: no sample fits ({format_drops(suite.left_out)})")
    if not built:
        raise DataError(
            f"none of {len(samples)} samples fits {', '.join(names)} ({format_drops(left_out)}); "
            "choose other suites with --suite, or samples with answers"
        )
    return built, left_out


def write_samples(directory: str, suites: dict[str, Suite]) -> None:
    """One sample file per level of each suite, named <suite>-<level>.jsonl."""
    for name, suite in suites.items():
        for level, samples in suite.levels.items():
            # "25%" and "char 1%" are no convenient file names.
            safe = level.replace(" ", "-").replace("%", "")
            write_jsonl(home_path(directory) / f"{name}-{safe}.jsonl", samples)
