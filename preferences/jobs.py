"""What is judged: samples of a cache with candidates that differ in meaning; what is left out is counted."""

from pathlib import Path

from preferences.cache import MODELS, Job
from preferences.cache_states import cached_rows
from preferences.kinds import meaning
from utils.completions import parse_completion
from utils.correctness import is_partial


def _is_unclear(row: dict, sample: dict) -> bool:
    """Whether nobody knows if a candidate is right: it has most words of an accepted answer, but not all."""
    answer = parse_completion(row["completion"], len(row["shown"])).answer
    return sample["answerable"] and answer is not None and is_partial(answer, sample["answer_aliases"])


def read_candidates(cache: Path, samples: list[dict]) -> tuple[list[Job], dict[str, int]]:
    """The samples with candidates in the cache, each with candidates that differ in meaning, SFT first.

    Also returns the numbers of candidates that are left out by reason.
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
    for sample in samples:
        if by_id.get(sample["id"]):
            candidates = sorted(by_id[sample["id"]], key=lambda row: (MODELS.index(row["model"]), row["n"]))
            clear = [row for row in candidates if not _is_unclear(row, sample)]
            left_out["right, but not in full"] += len(candidates) - len(clear)
            if clear:
                jobs.append((sample, clear))
    return jobs, left_out
