"""Whether an exported model answers as its checkpoint does: answers and citations of the same prompts.

It compares prediction rows and knows no models.
"""

from utils.completions import parse_completion
from utils.errors import StageError

N_PROMPTS = 100
# Rounding may turn a rare close call; more than this means that something else changed.
MIN_AGREEMENT = 0.99
_MAX_SHOWN = 2


class Differs(StageError):
    """An export answers otherwise than its checkpoint."""


def what_it_says(row: dict) -> tuple[str | None, list[int]]:
    """(answer, citations) of a prediction row: (None, []) for a text that has none."""
    parsed = parse_completion(row["completion"], len(row["shown"]))
    return parsed.answer, parsed.citations


def check_parity(expected: list[dict], found: list[dict], what: str) -> dict:
    """{"n_prompts", "n_answers", "same_answers"} of two lists of rows. Differs below the limit.

    `what` names the export in the message, which also names what differs. "n_answers" of the checkpoint can
    be read; where it is 0, there was nothing to compare.
    """
    differing = []
    for before, after in zip(expected, found, strict=True):
        if what_it_says(before) != what_it_says(after):
            differing.append(f"{before['id']}: {_shown(before)} became {_shown(after)}")
    n_prompts = len(expected)
    agreement = 1 - len(differing) / n_prompts
    if agreement < MIN_AGREEMENT:
        first = "; ".join(differing[:_MAX_SHOWN])
        raise Differs(
            f"{what}: {len(differing)} of {n_prompts} answers or citations differ from the checkpoint's "
            f"(limit {1 - MIN_AGREEMENT:.0%}), nothing was written; {first}"
        )
    n_answers = sum(what_it_says(row)[0] is not None for row in expected)
    return {"n_prompts": n_prompts, "n_answers": n_answers, "same_answers": agreement}


def _shown(row: dict) -> str:
    """What a row says, short enough for a message of one line."""
    answer, citations = what_it_says(row)
    if answer is None:
        return f"no answer ({' '.join(row['completion'].split())!r:.40})"
    return f"{' '.join(answer.split())!r:.60} {citations}"
