"""What is judged: samples of a cache with candidates that differ in meaning; what is left out is counted."""

from collections import Counter
from pathlib import Path

from preferences.cache import MODELS, Job
from preferences.cache_states import cached_rows
from preferences.kinds import meaning
from utils.completions import parse_completion
from utils.correctness import is_partial

# Of a sample whose candidates are all empty or right, but not in full.
NO_CANDIDATE = "no candidate is left"


def _is_unclear(row: dict, sample: dict) -> bool:
    """Whether nobody knows if a candidate is right: it has most words of an accepted answer, but not all."""
    answer = parse_completion(row["completion"], len(row["shown"])).answer
    return sample["answerable"] and answer is not None and is_partial(answer, sample["answer_aliases"])


def _why_no_pair(candidates: list[dict], clear: list[dict]) -> str | None:
    """Why a sample has fewer than two candidates to compare; None where it has two.

    `candidates` differ in meaning, and of `clear` it is known whether they are right.
    """
    if len(clear) > 1:
        return None
    if len(candidates) > 1:
        return "one candidate beside those right, but not in full" if clear else NO_CANDIDATE
    # All models, in every repetition, said the same.
    return "same text" if clear else NO_CANDIDATE


def read_candidates(
    cache: Path, samples: list[dict], one_is_enough: bool = False
) -> tuple[list[Job], dict[str, int], dict[str, int]]:
    """The samples with candidates in the cache, each with candidates that differ in meaning, SFT first.

    Also returns the numbers of candidates that are left out by reason, and those of samples with fewer than
    two candidates. Those with none are no jobs (`NO_CANDIDATE`). `one_is_enough`: gold is compared with them.
    """
    by_id: dict[str, list[dict]] = {}
    meanings: dict[str, list] = {}
    left_out = {
        "empty": 0,
        "with the text of another": 0,
        "with the answer and citations of another": 0,
        "right, but not in full": 0,
    }
    for name in MODELS:
        for row in cached_rows(cache, name):
            known = by_id.setdefault(row["id"], [])
            said = meaning(parse_completion(row["completion"], len(row["shown"])))
            # Candidates that say the same cannot be a pair, and would count twice in a candidate's mean over
            # its opponents.
            if not row["completion"].strip():
                left_out["empty"] += 1
            elif any(row["completion"] == other["completion"] for other in known):
                left_out["with the text of another"] += 1
            elif said is not None and said in meanings.setdefault(row["id"], []):
                left_out["with the answer and citations of another"] += 1
            else:
                known.append(row)
                meanings.setdefault(row["id"], []).append(said)
    jobs = []
    lost: Counter[str] = Counter()
    for sample in samples:
        if sample["id"] not in by_id:
            continue
        candidates = sorted(by_id[sample["id"]], key=lambda row: (MODELS.index(row["model"]), row["n"]))
        clear = [row for row in candidates if not _is_unclear(row, sample)]
        left_out["right, but not in full"] += len(candidates) - len(clear)
        reason = _why_no_pair(candidates, clear)
        if reason and not (one_is_enough and clear):
            lost[reason] += 1
        if clear:
            jobs.append((sample, clear))
    return jobs, left_out, dict(lost)
