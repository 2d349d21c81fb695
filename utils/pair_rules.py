"""The rules of a preference pair, and of a completion to be scored.

Readers apply them to every row (`utils/schema.py`), also to those that other tools wrote.
"""

from utils.rules import chunks_problem, text_problem, type_problem

# `prompt`, `chosen` and `rejected` are lists of chat messages, so TRL's DPOTrainer and RewardTrainer read the
# rows as they are.
_PREFERENCE_TYPES = {
    "id": str,
    "sample_id": str,
    "source": str,
    "group": str,
    "question": str,
    "evidence_chunks": list,
    "prompt": list,
    "chosen": list,
    "rejected": list,
    "margin": float,
    "score_chosen": float,
    "score_rejected": float,
    "chosen_model": str,
    "rejected_model": str,
    "decided_by": str,
    "judge": dict,
}
# Optional, and counted or printed where they are there.
_PREFERENCE_TEXTS = ("licence", "kind", "made")
# `decided_by` of a pair that make_prefs.py --import took from another tool.
IMPORTED = "imported"

# The kind of a pair that names none.
UNNAMED_KIND = "pair"

_COMPLETION_TYPES: dict[str, type] = {"question": str, "evidence_chunks": list, "completion": str}
# What a row needs to be scored by a reward model.
COMPLETION_FIELDS = ("id", *_COMPLETION_TYPES)


def kind_of(row: dict) -> str:
    """The kind of a preference row, which may be missing or null."""
    return row.get("kind") or UNNAMED_KIND


def messages_problem(name: str, messages: list) -> str | None:
    """The first message of a list that is not {"role": str, "content": str}."""
    if not messages:
        return f"{name} must be a list of chat messages with role and content, found []"
    for i, message in enumerate(messages):
        if not isinstance(message, dict) or not {"role", "content"} <= message.keys():
            return f"{name}[{i}] must be a chat message with role and content, found {message!r:.60}"
        for key in ("role", "content"):
            if not isinstance(message[key], str):
                return f"{name}[{i}].{key} must be str, found {message[key]!r:.60}"
    return None


def _reply_problem(name: str, messages: list[dict]) -> str | None:
    """Why the messages of a side are no reply: one text behind the prompt is scored and trained on."""
    roles = ", ".join(message["role"] for message in messages)
    if roles != "assistant":
        wanted = "one message of the assistant, and what comes before in prompt"
        return f"{name} must be {wanted}; found {roles:.60}"
    return None if messages[0]["content"].strip() else f"{name}[0].content is empty"


def preference_problem(row: dict) -> str | None:
    """The first rule of the preference row that `row` breaks, with the value found; None for a valid row."""
    if problem := type_problem(row, _PREFERENCE_TYPES) or text_problem(row, _PREFERENCE_TEXTS):
        return problem
    if "answerable" not in row:
        return "field 'answerable' is missing"
    # Null for a question without gold.
    if row["answerable"] is not None and not isinstance(row["answerable"], bool):
        return f"field 'answerable' must be bool or null, found {row['answerable']!r:.60}"
    for field in ("prompt", "chosen", "rejected"):
        if problem := messages_problem(field, row[field]):
            return problem
    for side in ("chosen", "rejected"):
        if problem := _reply_problem(side, row[side]):
            return problem
    # A pair of equal texts has a margin of 0 whatever the model does: it cannot teach anything.
    if row["chosen"][0]["content"] == row["rejected"][0]["content"]:
        return "chosen and rejected are the same text"
    checks = row["judge"].get("checks_chosen", {})
    if not isinstance(checks, dict):
        return f"judge.checks_chosen must be dict, found {checks!r:.60}"
    for name in ("margin", "score_chosen", "score_rejected"):
        if not 0 <= row[name] <= 1:
            return f"{name} {row[name]} is outside 0..1"
    if row["score_chosen"] < row["score_rejected"]:
        scores = f"score_chosen {row['score_chosen']} is below score_rejected {row['score_rejected']}"
        return f"{scores}: the sides are turned"
    # Pairs of other tools are answers from memory.
    needs_evidence = row["evidence_chunks"] or row["decided_by"] != IMPORTED
    return chunks_problem(row["evidence_chunks"]) if needs_evidence else None


def completion_problem(row: dict) -> str | None:
    """The first rule of a row to be scored that `row` breaks, with the value found; None for a valid row."""
    missing = [name for name in COMPLETION_FIELDS if name not in row]
    if missing:
        return f"row lacks {', '.join(missing)}; needed are {', '.join(COMPLETION_FIELDS)}"
    # An id is only copied, so it may be a number.
    if not isinstance(row["id"], (str, int)):
        return f"field 'id' must be str, found {row['id']!r:.60}"
    if problem := type_problem(row, _COMPLETION_TYPES):
        return problem
    # An answer from memory can be scored too.
    return chunks_problem(row["evidence_chunks"]) if row["evidence_chunks"] else None
