"""Completions: what the model is trained to emit, and the validator that parses what it did emit."""

import json
import re
from dataclasses import dataclass, replace

from utils.jsonl import parse_json
from utils.text import REFUSAL, content_words, tokenize

MAX_ANSWER_CHARS = 120
OUTPUT_SCHEMA = {
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "title": "Completion",
    "type": "object",
    "properties": {
        "answer": {"type": "string", "minLength": 1, "maxLength": MAX_ANSWER_CHARS},
        "citations": {"type": "array", "items": {"type": "integer", "minimum": 0}, "uniqueItems": True},
        "confidence": {"type": "number", "minimum": 0, "maximum": 1},
    },
    "required": ["answer", "citations", "confidence"],
    "additionalProperties": False,
}


def render_completion(answer: str, citations: list[int], confidence: float) -> str:
    return json.dumps(
        {"answer": answer, "citations": citations, "confidence": confidence}, ensure_ascii=False
    )


def target_confidence(sample: dict) -> float:
    """Confidence that the gold completion states: 0.0 on a refusal, 0.9 when the support holds half of the question's content words, else 0.7.

    Two levels: finer ones cannot be told apart by a small model, and their noise was a third of the loss of an answer (docs/log.md).
    """
    if not sample["answerable"]:
        return 0.0
    support = " ".join(
        f"{sample['evidence_chunks'][i]['title']} {sample['evidence_chunks'][i]['text']}"
        for i in sample["support_sets"][0]
    )
    wanted = set(content_words(sample["question"])) or {""}
    return 0.9 if 2 * len(wanted & set(tokenize(support))) >= len(wanted) else 0.7


def gold_completion(sample: dict, shown: list[int]) -> str:
    """What the model is trained to emit: the answer, the first support set that is shown, as shown numbers."""
    if not sample["answerable"]:
        return render_completion(REFUSAL, [], 0.0)
    support_set = next(s for s in sample["support_sets"] if set(s) <= set(shown))
    return render_completion(
        sample["answer"], sorted(shown.index(i) for i in support_set), target_confidence(sample)
    )


@dataclass(frozen=True)
class Parsed:
    """A parsed completion. `answer` None: unparsable. Citations as emitted; what is no integer stands as -1."""

    answer: str | None
    citations: list[int]
    confidence: float | None
    errors: list[str]
    repaired: bool = False
    is_refusal: bool = False

    @property
    def is_answer(self) -> bool:
        return self.answer is not None and not self.is_refusal

    @property
    def is_valid(self) -> bool:
        """Valid against the schema without any repair."""
        return self.answer is not None and not self.errors and not self.repaired


def _find_object(text: str) -> dict | None:
    """The first JSON object inside a text (fences or prose around it)."""
    for match in re.finditer(r"\{", text):
        try:
            value, _ = json.JSONDecoder().raw_decode(text[match.start() :])
        except (ValueError, RecursionError):
            continue
        if isinstance(value, dict):
            return value
    return None


def _as_citation(value) -> int:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = re.fullmatch(r"\s*\[?(\d{1,6})\]?\s*", value) if isinstance(value, str) else None
    return int(match.group(1)) if match else -1


def _as_confidence(value) -> float | None:
    if isinstance(value, str) and (match := re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?|\.\d+)\s*(%?)\s*", value)):
        value = float(match.group(1)) / (100 if match.group(2) else 1)
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return float(value) if is_number and 0 <= value <= 1 else None


def _schema_errors(row: dict, n_chunks: int) -> list[str]:
    errors = [f"unknown key {key!r}" for key in row if key not in OUTPUT_SCHEMA["properties"]]
    errors += [f"missing key {key!r}" for key in OUTPUT_SCHEMA["required"] if key not in row]
    answer = row.get("answer")
    citations = row.get("citations", [])
    confidence = row.get("confidence", 0.0)
    if not isinstance(answer, str) or not answer.strip():
        errors.append("answer is not a text")
    elif len(answer) > MAX_ANSWER_CHARS:
        errors.append(f"answer longer than {MAX_ANSWER_CHARS} characters")
    if not isinstance(citations, list) or any(
        not isinstance(c, int) or isinstance(c, bool) for c in citations
    ):
        errors.append("citations are not a list of integers")
    elif citations != sorted(set(citations)):
        errors.append("citations are not distinct and sorted")
    elif any(not 0 <= c < n_chunks for c in citations):
        errors.append(f"citation out of range 0-{n_chunks - 1}")
    if not isinstance(confidence, (int, float)) or isinstance(confidence, bool) or not 0 <= confidence <= 1:
        errors.append("confidence is not a number in 0..1")
    if isinstance(answer, str) and answer.strip() == REFUSAL and (citations != [] or confidence != 0):
        errors.append("refusal with citations or confidence")
    return errors


def parse_completion(text: str, n_chunks: int, strict: bool = False) -> Parsed:
    """A completion as answer, citations, confidence and errors.

    Strict repairs nothing. Repair mends syntax only (fences, prose around the object, "95%", "[1]", a refusal token without
    brackets), the same for every model, and never drops a wrong citation.
    """
    try:
        row = parse_json(text.strip())
    except ValueError:
        row = None
    repaired = not isinstance(row, dict)
    if repaired:
        row = None if strict else _find_object(text)
    if row is None:
        return Parsed(None, [], None, ["no JSON object"])
    errors = _schema_errors(row, n_chunks)
    answer = row.get("answer")
    if (
        not isinstance(answer, str)
        or not answer.strip()
        or (strict and errors and not isinstance(row.get("citations"), list))
    ):
        return Parsed(None, [], None, errors, repaired)
    citations = (
        row["citations"]
        if isinstance(row.get("citations"), list)
        else [row["citations"]]
        if "citations" in row
        else []
    )
    confidence = row.get("confidence")
    is_refusal = answer.strip() == REFUSAL
    if not strict:
        bare = answer.strip().strip("[].").replace(" ", "_").upper()
        is_refusal, repaired = (
            bare == REFUSAL.strip("[]"),
            repaired or (bare == REFUSAL.strip("[]") and not is_refusal),
        )
        mended = [_as_citation(c) for c in citations], _as_confidence(confidence)
        repaired = repaired or mended != (citations, confidence)
        citations, confidence = mended
    else:
        citations = [c if isinstance(c, int) and not isinstance(c, bool) else -1 for c in citations]
        confidence = _as_confidence(confidence)
    return Parsed(
        REFUSAL if is_refusal else answer.strip(), citations, confidence, errors, repaired, is_refusal
    )


def map_citations(parsed: Parsed, shown: list[int]) -> Parsed:
    """Citations from shown numbers to the sample's chunk ids; a number that was not shown becomes -1."""
    return replace(parsed, citations=[shown[c] if 0 <= c < len(shown) else -1 for c in parsed.citations])
