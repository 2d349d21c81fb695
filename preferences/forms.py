"""Rows of other tools, UltraFeedback (binarized) and RewardBench, as preference rows, and the way back.

Both have `prompt`, `chosen` and `rejected`. In UltraFeedback each side is the whole conversation, in
RewardBench a text; the fields of a row tell which it is. This module knows nothing about files.
"""

from collections.abc import Callable
from typing import Any

from utils.errors import DataError
from utils.jsonl import sha256_value
from utils.pair_rules import IMPORTED, kind_of, messages_problem, preference_problem

# Scores of UltraFeedback are 0-10, ours 0-1.
_MAX_SCORE = 10
# Fields of a preference row that an exported row has too, so that it can be imported again without a loss
# to train_rm.py. A row of another tool may have them or not.
_KEPT = (
    *("sample_id", "source", "licence", "group", "question", "answerable", "evidence_chunks"),
    *("kind", "made", "chosen_model", "rejected_model", "decided_by"),
)


# --- import


def _plain(messages: list[dict]) -> list[dict]:
    """Role and content alone: other tools add names and ids, which differ between equal messages."""
    return [{"role": message["role"], "content": message["content"]} for message in messages]


def _checked_messages(name: str, value: Any, role: str) -> list[dict]:
    """Messages of a field, which may be a text of `role`. DataError for anything else."""
    if isinstance(value, str):
        return [{"role": role, "content": value}]
    if not isinstance(value, list):
        raise DataError(f"{name} must be a text or a list of chat messages, found {value!r:.60}")
    if problem := messages_problem(name, value):
        raise DataError(problem)
    return _plain(value)


def _prompt(row: dict, before: list[dict]) -> list[dict]:
    """The messages that both sides answer; `before`: what they hold before their last message."""
    given = row.get("prompt")
    if before and not isinstance(given, list):
        # The field repeats one of these messages, or all of them as one text.
        texts = [message["content"].strip() for message in before]
        if isinstance(given, str) and not any(text in given or given.strip() in text for text in texts):
            raise DataError(
                "prompt is in none of the messages that chosen and rejected hold before their last"
            )
        return before
    prompt = _checked_messages("prompt", given, "user")
    system = row.get("system")
    if not before and isinstance(system, str) and system.strip():
        return [{"role": "system", "content": system}, *prompt]
    if before and prompt != before:
        raise DataError("prompt differs from the conversation that chosen and rejected hold")
    return prompt


def _score(row: dict, name: str) -> float:
    score: Any = row.get(name)
    is_number = isinstance(score, (int, float)) and not isinstance(score, bool)
    if not is_number or not 0 <= score <= _MAX_SCORE:
        raise DataError(f"{name} must be a number of 0-{_MAX_SCORE}, found {score!r:.60}")
    return score


def _scores(row: dict) -> tuple[float, float]:
    """The scores of both sides, 0-1. Without scores the chosen side has 1 and the rejected one 0."""
    if row.get("score_chosen") is None and row.get("score_rejected") is None:
        return 1.0, 0.0
    chosen = _score(row, "score_chosen")
    rejected = _score(row, "score_rejected")
    if chosen <= rejected:
        raise DataError(f"score_chosen {chosen} is not above score_rejected {rejected}")
    return round(chosen / _MAX_SCORE, 6), round(rejected / _MAX_SCORE, 6)


def _name(row: dict, source: str, number: int) -> str:
    """The id of an imported row: its own, with the subset if it is a number, else that of its line."""
    own = row.get("id", row.get("prompt_id"))
    if isinstance(own, str) and own:
        return own
    return f"{source}:{row.get('subset') or 'row'}:{number if own is None else own}"


def imported_row(row: dict, number: int) -> dict:
    """The preference row of another tool's row on line `number`. DataError, with the reason, if it is bad."""
    chosen = _checked_messages("chosen", row.get("chosen"), "assistant")
    rejected = _checked_messages("rejected", row.get("rejected"), "assistant")
    if chosen[:-1] != rejected[:-1]:
        raise DataError("chosen and rejected differ before their last message: they answer different prompts")
    prompt = _prompt(row, chosen[:-1])
    question = "\n\n".join(message["content"] for message in prompt)
    if not question.strip():
        raise DataError("prompt is empty")
    score_chosen, score_rejected = _scores(row)
    source = "rewardbench" if row.get("subset") else "ultrafeedback"
    name = _name(row, source, number)
    found: dict[str, Any] = {
        "id": name,
        "sample_id": name,
        "source": source,
        "licence": "not stated",
        # Pairs of one prompt are on one side of the split of train_rm.py.
        "group": f"{source}:{sha256_value(question)[:12]}",
        "question": question,
        "answerable": True,
        "evidence_chunks": [],
        "kind": row.get("subset") or IMPORTED,
        "prompt": prompt,
        "chosen": chosen[-1:],
        "rejected": rejected[-1:],
        "margin": round(score_chosen - score_rejected, 6),
        "score_chosen": score_chosen,
        "score_rejected": score_rejected,
        "chosen_model": "not stated",
        "rejected_model": "not stated",
        "decided_by": IMPORTED,
        "judge": {},
    }
    # Other tools mean other things by a question.
    is_own = {"sample_id", "evidence_chunks"} <= row.keys()
    kept = _KEPT if is_own else [field for field in _KEPT if field != "question"]
    found |= {field: row[field] for field in kept if row.get(field) is not None}
    if problem := preference_problem(found):
        raise DataError(problem)
    return found


# --- export


def _exported(row: dict) -> dict:
    """What both forms have of a preference row."""
    found = {field: row[field] for field in _KEPT if field in row}
    for name in ("score_chosen", "score_rejected"):
        found[name] = round(_MAX_SCORE * row[name], 6)
    return {**found, "prompt": "\n\n".join(message["content"] for message in row["prompt"])}


def ultrafeedback_row(row: dict) -> dict:
    """A preference row as UltraFeedback (binarized) has it: each side is the whole conversation."""
    sides = {side: row["prompt"] + row[side] for side in ("chosen", "rejected")}
    return {**_exported(row), "prompt_id": row["id"], **sides}


def rewardbench_row(row: dict) -> dict:
    """A preference row as RewardBench has it: sides are texts, and the kind of the pair is its subset."""
    sides = {side: row[side][0]["content"] for side in ("chosen", "rejected")}
    return {**_exported(row), "id": row["id"], "subset": kind_of(row), **sides}


FORMS: dict[str, Callable[[dict], dict]] = {
    "ultrafeedback": ultrafeedback_row,
    "rewardbench": rewardbench_row,
}
