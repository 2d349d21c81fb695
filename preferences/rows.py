"""Preference rows and their statistics: what make_prefs.py writes.

A row loads unchanged in TRL's RewardTrainer and DPOTrainer: prompt, chosen and rejected are lists of chat
messages. This module knows nothing about judges or the pair rule.
"""

from collections import Counter
from dataclasses import dataclass

from preferences.cache import Job
from preferences.kinds import pair_kind
from preferences.label_share import describe_judge, label_share
from utils.completions import Parsed, parse_completion


@dataclass(frozen=True)
class JudgedSample:
    """A sample with its candidates, its judgement row, the scores that decide, and whose scores they are."""

    sample: dict
    candidates: list[dict]
    judgement: dict
    scores: list[float]
    decided_by: str

    @property
    def chunks(self) -> list[dict]:
        """The evidence as the candidates' prompt showed it: chunks that did not fit are missing."""
        return [self.sample["evidence_chunks"][i] for i in self.candidates[0]["shown"]]


def parse_candidate(candidate: dict) -> Parsed:
    """A candidate row, parsed; its citations are numbers in the prompt."""
    return parse_completion(candidate["completion"], len(candidate["shown"]))


def preference_row(judged: JudgedSample, chosen: int, rejected: int, prompt: str) -> dict:
    """The row of one pair; `chosen` and `rejected` are indices of candidates."""
    sample = judged.sample
    candidates = judged.candidates
    score_chosen = judged.scores[chosen]
    score_rejected = judged.scores[rejected]
    return {
        "id": f"{sample['id']}#{chosen}-{rejected}",
        "sample_id": sample["id"],
        "source": sample["source"],
        # Of the evidence: it travels into the card of what is trained on the pair.
        "licence": sample["metadata"].get("licence") or "not stated",
        # train_rm.py keeps all pairs of a group on one side of its split.
        "group": sample["group"],
        "question": sample["question"],
        "answerable": sample["answerable"],
        # As shown, so that the citations of both completions are numbers in this list.
        "evidence_chunks": judged.chunks,
        "kind": pair_kind(parse_candidate(candidates[chosen]), parse_candidate(candidates[rejected])),
        "prompt": [{"role": "user", "content": prompt}],
        "chosen": [{"role": "assistant", "content": candidates[chosen]["completion"]}],
        "rejected": [{"role": "assistant", "content": candidates[rejected]["completion"]}],
        # A difference of two floats carries rounding noise: 0.8 - 0.6 is 0.20000000000000007.
        "margin": round(score_chosen - score_rejected, 6),
        "score_chosen": score_chosen,
        "score_rejected": score_rejected,
        "chosen_model": candidates[chosen]["model"],
        "rejected_model": candidates[rejected]["model"],
        "decided_by": judged.decided_by,
        "judge": {
            "checks_chosen": judged.judgement["checks"][chosen],
            "checks_rejected": judged.judgement["checks"][rejected],
            "llm": judged.judgement["llm"],
        },
    }


def rich_fields(judged: JudgedSample, chosen: int, rejected: int) -> dict:
    """The fields that --output-mode rich adds to a row: both completions parsed, and the sample's gold."""
    added = {}
    for name, i in (("chosen", chosen), ("rejected", rejected)):
        parsed = parse_candidate(judged.candidates[i])
        fields = ("answer", "citations", "confidence", "is_refusal", "errors")
        added[f"{name}_parsed"] = {field: getattr(parsed, field) for field in fields}
    for field in ("answer", "answer_aliases", "support_sets", "support_spans"):
        added[field] = judged.sample[field]
    return added


def format_tallies(
    jobs: list[Job], judgements: list[dict], repeated: dict[str, int], rows: list[dict], left_out: dict
) -> str:
    """Lines about the judge's model, the candidates, and the pairs of each best candidate with the others.

    `repeated` counts the candidates that were left out by reason, `rows` are the result, and `left_out`
    counts the pairs that fitted the margin and are not in it.
    """
    n_distinct = sum(len(candidates) for _, candidates in jobs)
    n_made = sum("made" in row for row in rows)
    n_own = len(rows) - n_made
    reasons = "".join(f", {n:,} {why}" for why, n in repeated.items() if n)
    candidates_line = f"candidates: {n_distinct + sum(repeated.values()):,} read{reasons}"
    n_of_kind = Counter(row["kind"] for row in rows)
    kinds = ", ".join(f"{name} {n}" for name, n in n_of_kind.most_common())
    reasons = "".join(f", {n:,} {why}" for why, n in left_out.items() if n)
    pairs_line = f"pairs: {n_own:,} of candidates, {n_made:,} made{reasons}; {kinds}"
    return "\n".join(filter(None, (describe_judge(judgements), candidates_line, pairs_line)))


def preference_stats(rows: list[dict], judgements: list[dict], n_samples: int, drops: dict[str, int]) -> dict:
    """Counts over the preference rows, and the share of comparisons with the same winner in both orders.

    `drops` are the samples without a pair of their own candidates, by reason.
    """
    n_compared = sum(row["n_compared"] for row in judgements)
    n_agree = sum(row["agree"] for row in judgements)
    models = [f"{row['chosen_model']} over {row['rejected_model']}" for row in rows]
    return {
        "n_pairs": len(rows),
        "n_samples": n_samples,
        "dropped": dict(drops),
        "by_source": dict(Counter(row["source"] for row in rows)),
        "by_kind": dict(Counter(row["kind"] for row in rows)),
        "made": dict(Counter(row["made"] for row in rows if "made" in row)),
        "pairs_by_models": dict(Counter(models)),
        "decided_by": dict(Counter(row["decided_by"] for row in rows)),
        # `rows` is never empty: without a pair make_prefs.py stops before it comes here.
        "mean_margin": sum(row["margin"] for row in rows) / len(rows),
        # Without a judge model nothing is compared.
        "order_consistency": n_agree / n_compared if n_compared else None,
        "label_share": label_share(judgements),
    }
