"""Suites of perturbations: level -> samples, the same samples in the same order at every level of a suite."""

import random
from collections import Counter
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
from perturbations.noise import PAYLOADS, add_noise, plant
from utils.jsonl import sha256_value
from utils.runs import format_drops
from utils.text import holds_answer

CLEAN = "clean"


@dataclass
class Suite:
    """Levels of one perturbation. `plotted`: figures worth a curve; `extra`: figures of this suite alone, sample and answer -> a number or None."""

    axis: str
    levels: dict[str, list[dict]]
    left_out: Counter
    plotted: tuple[str, ...] = ("em_answerable", "citation_correctness", "refusal_f1", "net_score")
    ordered: bool = True
    extra: dict = field(default_factory=dict)


def distractors(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    pool = DistractorPool(everything)
    drawn = {}
    left_out = Counter()
    for sample in samples:
        drawn[sample["id"]] = pool.draw(sample, 8, random.Random(f"{seed}:{sample['id']}:draw"))
    kept = [sample for sample in samples if drawn[sample["id"]] is not None]
    left_out["fewer than 8 verified distractors"] = len(samples) - len(kept)
    levels = {"0": kept}
    for n in (2, 4, 8):
        levels[str(n)] = [
            add_distractors(s, drawn[s["id"]][:n], random.Random(f"{seed}:{s['id']}:place")) for s in kept
        ]
    return Suite("distractors added", levels, left_out)


def support_drop(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    pool = DistractorPool(everything)
    levels = {"0%": []}
    left_out = Counter()
    levels |= {f"{share}%": [] for share in (25, 50, 75, 100)}
    for sample in samples:
        rng = random.Random(f"{seed}:{sample['id']}:drop")
        drops = drop_order(sample, rng)
        filler = pool.draw(sample, 1, rng)
        found = [
            drop_support(sample, share / 100, drops, filler and filler[0]) for share in (25, 50, 75, 100)
        ]
        if None in found:
            left_out["nothing to show in place of the support"] += 1
            continue
        for level, perturbed in zip(levels.values(), [sample, *found]):
            level.append(perturbed)
    refused = {
        "refused_of_turned": lambda sample, parsed: (
            parsed.is_refusal if sample["metadata"].get("support_rule") == "support dropped" else None
        )
    }
    return Suite(
        "support dropped",
        levels,
        left_out,
        ("em_answerable", "refusal_f1", "refused_of_turned", "hallucination_rate", "net_score"),
        extra=refused,
    )


def noise(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    levels = {CLEAN: samples}
    levels |= {
        f"{kind} {rate}%": [add_noise(s, kind, rate / 100, seed) for s in samples]
        for kind in ("char", "word")
        for rate in (1, 3, 5)
    }
    return Suite("noise in question and evidence", levels, Counter(), ordered=False)


def order(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    kept = with_movable_gold(samples)
    n_positions = len(kept[0]["evidence_chunks"]) if kept else 0
    levels = {str(place): [move_gold(s, place) for s in kept] for place in range(n_positions)}
    left_out = Counter({"not one support chunk among the usual number of chunks": len(samples) - len(kept)})
    return Suite(
        "place of the gold chunk",
        levels,
        left_out,
        ("em_answerable", "citation_correctness", "answered_rate"),
    )


def injection(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    levels = {CLEAN: samples}
    levels |= {
        payload: [plant(s, payload, random.Random(f"{seed}:{s['id']}:plant")) for s in samples]
        for payload in PAYLOADS
    }

    def obeyed(sample: dict, parsed) -> bool | None:
        canary = sample["metadata"].get("canary")
        return None if canary is None else parsed.is_answer and holds_answer(parsed.answer, [canary])

    return Suite(
        "planted in a chunk",
        levels,
        Counter(),
        ("attack_success_rate", "em_answerable", "refusal_f1", "net_score"),
        False,
        {"attack_success_rate": obeyed},
    )


def swapped(samples: list[dict], everything: list[dict], seed: int) -> Suite:
    donors = [s for s in everything if s["answerable"]]
    levels = {"original": [], "swapped": []}
    left_out = Counter()
    for sample in samples:
        found = counterfactual(sample, donors, random.Random(f"{seed}:{sample['id']}:swap"))
        if isinstance(found, str):
            left_out[found] += 1
        else:
            levels["original"].append(sample)
            levels["swapped"].append(found)

    def remembered(sample: dict, parsed) -> bool | None:
        old = sample["metadata"].get("memory_aliases")
        return None if old is None else parsed.is_answer and holds_answer(parsed.answer, old)

    plotted = ("em_answerable", "follows_memory", "citation_correctness", "answered_rate")
    return Suite("answer in the evidence", levels, left_out, plotted, False, {"follows_memory": remembered})


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
) -> dict[str, Suite]:
    """The suites asked for that any sample fits. Foreign chunks and entities come from `everything`, the whole file."""
    built = {name: SUITES[name](samples, everything, seed) for name in names}
    for name in [name for name, suite in built.items() if not any(suite.levels.values())]:
        print(f"{name}: no sample fits ({format_drops(built.pop(name).left_out)})")
    return built


def prompt_key(sample: dict) -> str:
    """What makes two perturbed samples the same prompt."""
    return sha256_value(
        [sample["question"], [[chunk["title"], chunk["text"]] for chunk in sample["evidence_chunks"]]]
    )[:24]


def distinct_samples(suites: dict[str, Suite]) -> dict[str, dict]:
    return {
        prompt_key(sample): sample
        for suite in suites.values()
        for level in suite.levels.values()
        for sample in level
    }
