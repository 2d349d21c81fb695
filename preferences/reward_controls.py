"""Controls of a reward: evidence of other questions, and completions that are worse in one known way.

A reward that does not fall with shuffled evidence has not read it; one that a probe outscores can be gamed in
that way. This module makes rows to be scored and counts what came of them; it knows nothing about models.
"""

import random
from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from preferences.contrasts import contrasts
from preferences.support import answer_in_chunks
from utils.completions import parse_completion
from utils.intervals import mean_with_interval
from utils.schema import is_label_answer

# Chosen completions that probes are made of.
MAX_PROBED = 100
_PROSE = "I think that the answer is {answer}."


def with_shuffled_evidence(preferences: list[dict], test: list[int]) -> list[dict]:
    """The test pairs, each with the evidence of the next one of another group; itself if there is none."""
    shuffled = []
    for k, i in enumerate(test):
        own = preferences[i]
        others = [preferences[j] for j in (*test[k + 1 :], *test[:k])]
        other = next((row for row in others if row["group"] != own["group"]), own)
        shuffled.append({**own, "evidence_chunks": other["evidence_chunks"]})
    return shuffled


def _as_gold(row: dict) -> dict | None:
    """A pair's question with its chosen completion as the truth.

    None where the named checks do not say that it is right and supported, or a right refusal: of a wrong
    answer, a probe may be better. Pairs of other tools have no checks.
    """
    checks = row["judge"].get("checks_chosen", {})
    if not all(checks.get(name) for name in ("answer", "support", "precision")):
        return None
    chunks = row["evidence_chunks"]
    parsed = parse_completion(row["chosen"][-1]["content"], len(chunks))
    cited = [c for c in parsed.citations if 0 <= c < len(chunks)]
    if parsed.answer is None or (not parsed.is_refusal and not cited):
        return None
    # Another chunk with the answer may support it too: to cite that one is not worse.
    is_span = not parsed.is_refusal and not is_label_answer(parsed.answer)
    holding = [c for c, chunk in enumerate(chunks) if is_span and answer_in_chunks(parsed.answer, [chunk])]
    return {
        "id": row["id"],
        "group": row["group"],
        "question": row["question"],
        "evidence_chunks": chunks,
        "answer": parsed.answer,
        # Rows of --output-mode rich tell the others.
        "answer_aliases": [parsed.answer, *(row.get("answer_aliases") or [])],
        "answerable": not parsed.is_refusal,
        "support_sets": [cited],
        "support_spans": sorted({*cited, *holding}),
        "confidence": parsed.confidence,
    }


def probe_rows(preferences: list[dict], test: list[int], seed: int) -> list[dict]:
    """Completion rows: of each probed prompt the chosen completion ("probe": None), then its probes.

    A row has "id", "group", "question", "evidence_chunks", "completion" and "probe", the name of what is
    wrong with it.
    """
    rows = []
    known = list(_golds(preferences, test))[:MAX_PROBED]
    spans = [gold["answer"] for _, gold in known if gold["answerable"]]
    for text, gold in known:
        rng = random.Random(f"{seed}:{gold['id']}")
        shown = list(range(len(gold["evidence_chunks"])))
        made = contrasts(gold, shown, rng, spans, gold["confidence"])
        made["unparsable"] = _PROSE.format(answer=gold["answer"])
        facts = {name: gold[name] for name in ("id", "group", "question", "evidence_chunks")}
        rows.append({**facts, "completion": text, "probe": None})
        for probe, completion in made.items():
            # A copy of the clean completion is not worse.
            if completion != text:
                rows.append({**facts, "completion": completion, "probe": probe})
    return rows


def _golds(preferences: list[dict], test: list[int]) -> Iterator[tuple[str, dict]]:
    """(chosen text, what it says as the truth) of the distinct prompts among the test pairs."""
    seen = set()
    for i in test:
        gold = _as_gold(preferences[i])
        prompt = preferences[i]["prompt"][-1]["content"]
        if gold and prompt not in seen:
            seen.add(prompt)
            yield preferences[i]["chosen"][-1]["content"], gold


def probe_report(rows: list[dict], scores: dict[str, np.ndarray], seed: int) -> dict[str, dict]:
    """Per score, the share of each probe that is below the clean completion of its prompt, and of all probes.

    `scores[name]` is (n_rows,), of `probe_rows`. {"reward": {"padded": {"n", "below", "ci95"}, ...}, ...}
    """
    report: dict[str, dict] = {}
    for name, values in scores.items():
        below: dict[str, list[bool]] = defaultdict(list)
        groups: dict[str, list[str]] = defaultdict(list)
        clean = 0.0
        for row, value in zip(rows, values):
            if row["probe"] is None:
                clean = value
                continue
            for part in (row["probe"], "all"):
                below[part].append(bool(value < clean))
                groups[part].append(row["group"])
        report[name] = {}
        for part in sorted(below):
            share, ci95 = mean_with_interval(below[part], groups[part], seed)
            report[name][part] = {"n": len(below[part]), "below": share, "ci95": ci95}
    return report
