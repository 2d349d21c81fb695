"""The rules of a sample. Those of pairs and of completions to score are in `utils/pair_rules.py`.

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
# A row with one of these is a sample, and must have them all.
_GOLD_FIELDS = ("answer", "answer_aliases", "answerable", "support_sets", "support_spans", "hard_negatives")
_QUESTION_TYPES: dict[str, type] = {"id": str, "question": str, "evidence_chunks": list}
_METADATA_TEXTS = (
    *("claim", "twin_of", "made_from", "unit", "type", "difficulty", "licence"),
    *("made", "support_rule", "canary"),
)


def type_problem(row: dict, types: dict[str, type]) -> str | None:
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


def chunks_problem(chunks: list) -> str | None:
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
    if problem := text_problem(metadata, _METADATA_TEXTS, "metadata."):
        return problem
    popularity = metadata.get("popularity")
    if popularity is not None and not is_number(popularity):
        return f"metadata.popularity must be a number, found {popularity!r:.60}"
    for name in ("gold_aliases", "memory_aliases"):
        aliases = metadata.get(name) or []
        if not isinstance(aliases, list) or not all(isinstance(alias, str) for alias in aliases):
            return f"metadata.{name} must be a list of strings, found {aliases!r:.60}"
    return None


def text_problem(fields: dict, names: tuple[str, ...], prefix: str = "") -> str | None:
    """The first of the optional fields that is neither absent nor null nor a text."""
    for name in names:
        value = fields.get(name)
        if value is not None and not isinstance(value, str):
            return f"{prefix}{name} must be str, found {value!r:.60}"
    return None


def sample_problem(row: dict) -> str | None:
    """The first rule of the sample table that the row breaks, with the value found; None for a valid row."""
    if problem := type_problem(row, _SAMPLE_TYPES):
        return problem
    # The prefix keeps ids of two sources apart when their files are joined.
    if not row["id"].startswith(row["source"] + ":"):
        return f"id {row['id']!r} does not start with its source {row['source']!r} and a colon"
    if not row["question"].strip():
        return "question is empty"
    if not all(isinstance(alias, str) and alias.strip() for alias in row["answer_aliases"]):
        return f"answer_aliases must be non-empty strings, found {row['answer_aliases']!r:.60}"
    return (
        chunks_problem(row["evidence_chunks"])
        or _support_problem(row)
        or _answer_problem(row)
        or _metadata_problem(row["metadata"])
    )


def has_gold(row: dict) -> bool:
    """Whether a row of a file says what is right: a sample does, a question alone does not."""
    return any(row.get(field) is not None for field in _GOLD_FIELDS)


def question_problem(row: dict) -> str | None:
    """The first rule of a question without gold that the row breaks, with the value found."""
    if problem := type_problem(row, _QUESTION_TYPES) or text_problem(row, ("source", "group")):
        return problem
    if not row["id"].strip() or not row["question"].strip():
        return "id or question is empty"
    metadata = row.get("metadata")
    if metadata is not None and not isinstance(metadata, dict):
        return f"field 'metadata' must be dict, found {metadata!r:.60}"
    return chunks_problem(row["evidence_chunks"]) or _metadata_problem(metadata or {})
