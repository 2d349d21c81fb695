"""Completions: the text that the model is trained to emit, and the validator of the text it does emit.

The validator sees a completion and the number of chunks shown. It knows nothing about gold answers
(`utils/scoring.py`).
"""

import itertools
import json
import re
from dataclasses import dataclass, replace

from utils.json_search import find_object
from utils.json_values import as_answer, as_citations, as_confidence, is_integer, is_number
from utils.strict_json import parse_json, whole_characters
from utils.text import REFUSAL, content_words, tokenize

MAX_ANSWER_CHARS = 120
# Unknown keys of an object that are named.
_MAX_NAMED_KEYS = 8
OUTPUT_SCHEMA: dict = {
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
# Repair accepts the letters of a refusal token in any case, whatever stands around and between its two words.
_NO_LETTERS = re.compile(r"[\W_]+")
_BARE_REFUSAL = _NO_LETTERS.sub("", REFUSAL)


def render_completion(answer: str, citations: list[int], confidence: float) -> str:
    """A completion: one JSON object, keys in this order."""
    # Answer first: a prototype trained with citations first had EM 0.56 in place of 0.91.
    row = {"answer": answer, "citations": citations, "confidence": confidence}
    return json.dumps(row, ensure_ascii=False)


def target_confidence(sample: dict) -> float:
    """Confidence that the gold completion states: 0.0 for a refusal, else 0.9 or 0.7.

    0.9 when the first support set contains at least half of the question's content words. There are two
    levels because a small model cannot tell finer ones apart; the noise of six was a third of the loss of an
    answer (docs/log.md).
    """
    if not sample["answerable"]:
        return 0.0
    support = []
    for i in sample["support_sets"][0]:
        chunk = sample["evidence_chunks"][i]
        support.append(f"{chunk['title']} {chunk['text']}")
    # A question of function words alone has no content words; the empty one is found nowhere.
    wanted = set(content_words(sample["question"])) or {""}
    n_found = len(wanted & set(tokenize(" ".join(support))))
    return 0.9 if 2 * n_found >= len(wanted) else 0.7


def gold_completion(sample: dict, shown: list[int]) -> str:
    """The training target: the answer, and the first support set that is shown whole, as shown numbers.

    `shown[i]` is the sample's id of chunk number i. StopIteration when no support set is shown
    (Prompt.shows_support).
    """
    if not sample["answerable"]:
        return render_completion(REFUSAL, [], 0.0)
    support_set = next(s for s in sample["support_sets"] if set(s) <= set(shown))
    citations = sorted(shown.index(i) for i in support_set)
    return render_completion(sample["answer"], citations, target_confidence(sample))


@dataclass(frozen=True)
class Parsed:
    """A parsed completion. `answer` None: unparsable. Citations as emitted, -1 for a non-integer."""

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


def _schema_errors(row: dict, n_chunks: int) -> list[str]:
    """Every rule that an emitted object breaks; empty for a valid one."""
    unknown = [key for key in row if key not in OUTPUT_SCHEMA["properties"]]
    errors = [f"unknown key {key!r:.60}" for key in unknown[:_MAX_NAMED_KEYS]]
    errors += [f"missing key {key!r}" for key in OUTPUT_SCHEMA["required"] if key not in row]
    # A missing key is one error, so these defaults break no further rule.
    answer = row.get("answer")
    citations = row.get("citations", [])
    confidence = row.get("confidence", 0.0)

    if not isinstance(answer, str) or not answer.strip():
        errors.append("answer is not a text")
    elif len(answer) > MAX_ANSWER_CHARS:
        errors.append(f"answer longer than {MAX_ANSWER_CHARS} characters")

    if not isinstance(citations, list) or not all(is_integer(c) for c in citations):
        errors.append("citations are not a list of integers")
    # Not by a set: integers can be chosen so that they all have one hash.
    elif any(first >= second for first, second in itertools.pairwise(citations)):
        errors.append("citations are not distinct and sorted")
    elif any(not 0 <= c < n_chunks for c in citations):
        shown = f"0-{n_chunks - 1}" if n_chunks else "of none: no chunk was shown"
        errors.append(f"citation out of range {shown}")

    if not is_number(confidence) or not 0 <= confidence <= 1:
        errors.append("confidence is not a number in 0..1")
    # Citing evidence for "insufficient evidence" is contradictory. It is an error, and it stays a refusal.
    if isinstance(answer, str) and answer.strip() == REFUSAL and (citations != [] or confidence != 0):
        errors.append("refusal with citations or confidence")
    return errors


def _parse_object(text: str, strict: bool) -> tuple[dict | None, bool]:
    """(the object or None, whether something around it had to be ignored)."""
    try:
        row = parse_json(text.strip())
    except ValueError:
        row = None
    if isinstance(row, dict):
        return row, False
    return (None if strict else find_object(text)), True


def parse_completion(text: str, n_chunks: int, strict: bool = False) -> Parsed:
    """A completion as answer, citations, confidence and errors; `n_chunks` is the number of chunks shown.

    Strict repairs nothing. Repair mends syntax only (fences, prose or a <think> draft around the object,
    "95%", "[1]", "0, 2", null for no citations, a number as answer, a refusal token without brackets), the
    same for every model, and never drops a wrong citation.
    """
    row, repaired = _parse_object(text, strict)
    if row is None:
        return Parsed(None, [], None, ["no JSON object"])
    errors = _schema_errors(row, n_chunks)
    emitted_answer = row.get("answer")
    answer = as_answer(emitted_answer)
    is_text = isinstance(emitted_answer, str)
    if answer is None or (strict and not is_text):
        return Parsed(None, [], None, errors, repaired)
    # Citations outside a list can only be read by mending them.
    if strict and not isinstance(row.get("citations"), list):
        return Parsed(None, [], None, errors, repaired)

    # A model may emit half a character as an escape, which no results file could contain.
    answer = whole_characters(answer)
    is_refusal = answer == REFUSAL
    emitted = row.get("citations", [])
    confidence = as_confidence(row.get("confidence"))
    if strict:
        confidence = confidence if is_number(row.get("confidence")) else None
        citations = [c if is_integer(c) else -1 for c in emitted]
    else:
        means_refusal = _NO_LETTERS.sub("", answer).upper() == _BARE_REFUSAL
        # A wrong citation is the model's, not the format's.
        citations = as_citations(emitted)
        is_mended = citations != emitted or confidence != row.get("confidence")
        repaired = repaired or is_mended or not is_text or (means_refusal and not is_refusal)
        is_refusal = means_refusal
    return Parsed(REFUSAL if is_refusal else answer, citations, confidence, errors, repaired, is_refusal)


def map_citations(parsed: Parsed, shown: list[int]) -> Parsed:
    """Citations from shown numbers to the sample's chunk ids; a number that was not shown becomes -1."""
    chunk_ids = [shown[c] if 0 <= c < len(shown) else -1 for c in parsed.citations]
    return replace(parsed, citations=chunk_ids)
