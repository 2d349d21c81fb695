"""The rules that each row between stages must keep: one function per kind of row.

build_data.py applies them before it writes a row, and every reader applies them again (`utils/schema.py`).
"""

from utils.json_values import is_integer, is_number
from utils.text import REFUSAL

_SAMPLE_TYPES = {
    "id": str,
    "source": str,
    "question": str,
    "evidence_chunks": list,
    "answer": str,
    "answer_aliases": list,
    "answerable": bool,
    "support_sets": list,
    "support_spans": list,
    "hard_negatives": list,
    "group": str,
    "metadata": dict,
}
# `prompt`, `chosen` and `rejected` are lists of chat messages, so TRL's DPOTrainer and RewardTrainer read the
# rows as they are.
_PREFERENCE_TYPES = {
    "id": str,
    "sample_id": str,
    "source": str,
    "group": str,
    "question": str,
    "answerable": bool,
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
_METADATA_TEXTS = (
    *("claim", "twin_of", "made_from", "unit", "type", "difficulty", "licence"),
    *("made", "support_rule", "canary"),
)
# `decided_by` of a pair that make_prefs.py --import took from another tool.
IMPORTED = "imported"

_COMPLETION_TYPES: dict[str, type] = {"question": str, "evidence_chunks": list, "completion": str}
# What a row needs to be scored by a reward model.
COMPLETION_FIELDS = ("id", *_COMPLETION_TYPES)


def _type_problem(row: dict, types: dict[str, type]) -> str | None:
    for field, kind in types.items():
        if field not in row:
            return f"field {field!r} is missing"
        value = row[field]
        # JSON writes 1.0 as 1 in many languages, so an integer is a number too.
        accepted = (int, float) if kind is float else kind
        is_wrong_bool = isinstance(value, bool) and kind is not bool
        if not isinstance(value, accepted) or is_wrong_bool:
            return f"field {field!r} must be {kind.__name__}, found {value!r:.60}"
    return None


def _index_problem(name: str, values: list, n_chunks: int) -> str | None:
    for value in values:
        if not is_integer(value) or not 0 <= value < n_chunks:
            return f"{name} contains {value!r} but only chunks 0-{n_chunks - 1} exist"
    if values != sorted(set(values)):
        return f"{name} is not sorted and distinct: {values!r:.60}"
    return None


def _chunks_problem(chunks: list) -> str | None:
    if not chunks:
        return "evidence_chunks is empty"
    # `url` and `score` of a chunk are optional, and nothing depends on them.
    for i, chunk in enumerate(chunks):
        fields = chunk if isinstance(chunk, dict) else {}
        if not isinstance(fields.get("title"), str) or not isinstance(fields.get("text"), str):
            return f"evidence_chunks[{i}] needs the strings 'title' and 'text', found {chunk!r:.60}"
        if not chunk["text"].strip():
            return f"evidence_chunks[{i}] has an empty text"
    return None


def _support_problem(row: dict) -> str | None:
    """The first rule about chunk ids that the row breaks; its fields must have the right types."""
    n_chunks = len(row["evidence_chunks"])
    spans = row["support_spans"]
    for name in ("support_spans", "hard_negatives"):
        if problem := _index_problem(name, row[name], n_chunks):
            return problem

    union = set()
    for support_set in row["support_sets"]:
        if not isinstance(support_set, list) or not support_set:
            return f"support_sets contains {support_set!r}, not a non-empty list of chunk ids"
        if problem := _index_problem("support_sets", support_set, n_chunks):
            return problem
        union |= set(support_set)
    if spans != sorted(union):
        union_of = f"the sorted union of support_sets {row['support_sets']!r:.60}"
        return f"support_spans {spans!r:.60} is not {union_of}"

    # A chunk is support or a hard negative: build_data drops a chunk of which it cannot tell.
    if row["hard_negatives"] != [i for i in range(n_chunks) if i not in spans]:
        found = f"hard_negatives {row['hard_negatives']!r:.60}"
        return f"{found} are not all the chunks outside support_spans {spans!r:.60}"
    return None


def _answer_problem(row: dict) -> str | None:
    """The first rule about the answer that the row breaks, answerable or not."""
    answer = row["answer"]
    aliases = row["answer_aliases"]
    if not row["answerable"]:
        if row["support_spans"] or aliases or answer != REFUSAL:
            return f"unanswerable, so answer must be {REFUSAL}, support_spans and answer_aliases empty"
        return None
    if not row["support_spans"]:
        return "answerable but support_spans is empty"
    if answer == REFUSAL or not answer.strip():
        return f"answerable but the answer is {answer!r}"
    if aliases[:1] != [answer]:
        return f"answer_aliases must start with the answer {answer!r}, found {aliases[:1]!r}"
    return None


def _metadata_problem(metadata: dict) -> str | None:
    """The first rule about the metadata fields that other code reads."""
    if problem := _text_problem(metadata, _METADATA_TEXTS, "metadata."):
        return problem
    popularity = metadata.get("popularity")
    if popularity is not None and not is_number(popularity):
        return f"metadata.popularity must be a number, found {popularity!r:.60}"
    for name in ("gold_aliases", "memory_aliases"):
        aliases = metadata.get(name) or []
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            return f"metadata.{name} must be a list of strings, found {aliases!r:.60}"
    return None


def _text_problem(fields: dict, names: tuple[str, ...], prefix: str = "") -> str | None:
    """The first of the optional fields that is neither absent nor null nor a text."""
    for name in names:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            return f"{prefix}{name} must be str, found {value!r:.60}"
    return None


def sample_problem(row: dict) -> str | None:
    """The first rule of the sample table that the row breaks, with the value found; None for a valid row."""
    if problem := _type_problem(row, _SAMPLE_TYPES):
        return problem
    # The prefix keeps ids of two sources apart when their files are joined.
    if not row["id"].startswith(row["source"] + ":"):
        return f"id {row['id']!r} does not start with its source {row['source']!r} and a colon"
    if not row["question"].strip():
        return "question is empty"
    if not all(isinstance(alias, str) and alias.strip() for alias in row["answer_aliases"]):
        return f"answer_aliases must be non-empty strings, found {row['answer_aliases']!r:.60}"
    return (
        _chunks_problem(row["evidence_chunks"])
        or _support_problem(row)
        or _answer_problem(row)
        or _metadata_problem(row["metadata"])
    )


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
    if problem := _type_problem(row, _PREFERENCE_TYPES) or _text_problem(row, _PREFERENCE_TEXTS):
        return problem
    for field in ("prompt", "chosen", "rejected"):
        if problem := messages_problem(field, row[field]):
            return problem
    for side in ("chosen", "rejected"):
        if problem := _reply_problem(side, row[side]):
            return problem
    # A pair of equal texts has a margin of 0 whatever the model does: it cannot teach anything.
    if row["chosen"][0]["content"] == row["rejected"][0]["content"]:
        return "chosen and rejected are the same text"
    if not 0 <= row["margin"] <= 1:
        return f"margin {row['margin']} is outside 0..1"
    # Pairs of other tools are answers from memory.
    needs_evidence = row["evidence_chunks"] or row["decided_by"] != IMPORTED
    return _chunks_problem(row["evidence_chunks"]) if needs_evidence else None


def completion_problem(row: dict) -> str | None:
    """The first rule of a row to be scored that `row` breaks, with the value found; None for a valid row."""
    missing = [name for name in COMPLETION_FIELDS if name not in row]
    if missing:
        return f"row lacks {', '.join(missing)}; needed are {', '.join(COMPLETION_FIELDS)}"
    # An id is only copied, so it may be a number.
    if not isinstance(row["id"], (str, int)):
        return f"field 'id' must be str, found {row['id']!r:.60}"
    if problem := _type_problem(row, _COMPLETION_TYPES):
        return problem
    # An answer from memory can be scored too.
    return _chunks_problem(row["evidence_chunks"]) if row["evidence_chunks"] else None
