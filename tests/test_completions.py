"""Completions as trained on and as parsed: repair mends the form and never makes an answer look better."""

import pytest

from utils.completions import (
    gold_completion,
    map_citations,
    parse_completion,
    render_completion,
    target_confidence,
)
from utils.text import REFUSAL


def test_completions_keep_key_order_and_separators(sample, unanswerable):
    cited_first = gold_completion(sample, [0, 1, 2, 3])
    assert cited_first == '{"answer": "Warsaw", "citations": [0], "confidence": 0.9}'
    # Chunk 0 was cut, so the second support set is cited under its shown number.
    assert gold_completion(sample, [1, 2]) == '{"answer": "Warsaw", "citations": [1], "confidence": 0.9}'
    refusal = gold_completion(unanswerable, [0, 1])
    assert refusal == '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}'


def test_the_confidence_target_varies_with_the_support(sample, unanswerable):
    # Content words: marie, curie, born; chunk 2 lacks "born" but has two of the three, chunk 1 has one.
    assert target_confidence({**sample, "support_sets": [[2]]}) == 0.9
    assert target_confidence({**sample, "support_sets": [[1]]}) == 0.7
    assert target_confidence(unanswerable) == 0.0


@pytest.mark.parametrize("wrapped", ["[ {} ]", "**{}**", '\\"[{}]\\"', "({}.)"])
@pytest.mark.parametrize("words", ["INSUFFICIENT_EVIDENCE", "Insufficient evidence", "INSUFFICIENT-EVIDENCE"])
def test_a_refusal_is_one_in_whatever_marks(wrapped, words):
    answer = wrapped.format(words)
    text = f'{{"answer": "{answer}", "citations": [], "confidence": 0}}'
    assert parse_completion(text, 5).is_refusal
    assert not parse_completion(text, 5, strict=True).is_refusal


def test_a_strict_parse_reads_no_confidence_out_of_a_text():
    text = '{"answer": "A", "citations": [0], "confidence": "95%"}'
    assert parse_completion(text, 5).confidence == 0.95
    assert parse_completion(text, 5, strict=True).confidence is None


def test_every_gold_completion_is_strictly_valid(samples):
    for row in samples:
        n_chunks = len(row["evidence_chunks"])
        parsed = parse_completion(gold_completion(row, list(range(n_chunks))), n_chunks, strict=True)
        assert parsed.is_valid, (row["id"], parsed.errors)


@pytest.mark.parametrize(
    "text, answer, citations, confidence, repaired",
    [
        ('```json\n{"answer": "A", "citations": [1], "confidence": 0.5}\n```', "A", [1], 0.5, True),
        ('{"answer": "A", "citations": ["[1]", "2"], "confidence": "95%"}', "A", [1, 2], 0.95, True),
        # No number can be read from "nine", so it is -1: a citation of nothing, and still a citation.
        ('{"answer": "A", "citations": [9, "nine"], "confidence": 0.5}', "A", [9, -1], 0.5, True),
        ('{"answer": "insufficient evidence", "citations": [], "confidence": 0}', REFUSAL, [], 0.0, True),
        # Repeats are an error, but nothing to mend.
        ('{"answer": "A", "citations": [2, 2], "confidence": 0.5}', "A", [2, 2], 0.5, False),
        ('{"answer": "A", "citations": "[0, 2]", "confidence": 0.5}', "A", [0, 2], 0.5, True),
        ('{"answer": "A", "citations": "0; 2", "confidence": 0.5}', "A", [0, 2], 0.5, True),
        ('{"answer": "A", "citations": [[0, 2]], "confidence": 0.5}', "A", [0, 2], 0.5, True),
        ('{"answer": "A", "citations": ["0, 2", "x1"], "confidence": 0.5}', "A", [0, 2, -1], 0.5, True),
        ('{"answer": "A", "citations": "chunk 2", "confidence": 0.5}', "A", [-1], 0.5, True),
        ('{"answer": "A", "citations": null, "confidence": 0.5}', "A", [], 0.5, True),
        ('{"answer": "A", "citations": "none", "confidence": 0.5}', "A", [], 0.5, True),
        ('{"answer": "A", "citations": "[]", "confidence": 0.5}', "A", [], 0.5, True),
        ('{"answer": "A", "citations": "[ ]", "confidence": 0.5}', "A", [], 0.5, True),
        ('{"answer": "A", "citations": ["", "0"], "confidence": 0.5}', "A", [0], 0.5, True),
        ('Of {"title": "x"}: {"answer": "A", "citations": [0], "confidence": 0.5}', "A", [0], 0.5, True),
        ('{} {"answer": "A", "citations": [0], "confidence": 0.5}', "A", [0], 0.5, True),
        # An object within another one is no answer.
        ('{"a": {"answer": "A", "citations": [0], "confidence": 0.5}}', None, [], None, True),
        ('{"answer": "A", "citations": [null], "confidence": 0.5}', "A", [-1], 0.5, True),
        ('{"answer": "A", "citations": [], "confidence": true}', "A", [], None, True),
        ('{"answer": "A", "citations": [0], "confidence": NaN}', "A", [0], None, True),
        ('{"answer": "{", "citations": [0], "confidence": 0.5} and more {', "{", [0], 0.5, True),
        # Deep nesting makes json raise RecursionError, which is no ValueError.
        ("[" * 100_000, None, [], None, True),
    ],
)
def test_repair_mends_syntax_and_never_drops_a_wrong_citation(text, answer, citations, confidence, repaired):
    parsed = parse_completion(text, 5)
    assert (parsed.answer, parsed.citations, parsed.confidence) == (answer, citations, confidence)
    assert answer is None or parsed.repaired is repaired
    # Strictly, only the bare words are schema-valid: as an answer, not as a refusal.
    strict = parse_completion(text, 5, strict=True)
    assert strict.is_valid is ("insufficient" in text) and not strict.is_refusal


def test_a_whole_number_with_a_point_is_the_citation_but_no_valid_one():
    parsed = parse_completion('{"answer": "A", "citations": [2.0, 1.5], "confidence": 0.5}', 3)
    assert parsed.citations == [2, -1] and not parsed.is_valid


def test_a_refusal_with_citations_stays_a_refusal_but_is_invalid():
    text = '{"answer": " [INSUFFICIENT_EVIDENCE] ", "citations": [0], "confidence": 0.9}'
    parsed = parse_completion(text, 3)
    assert parsed.is_refusal and parsed.citations == [0]
    assert "refusal with citations or confidence" in parsed.errors


def test_citations_are_mapped_to_the_samples_own_chunk_ids():
    # Chunks 0, 2 and 3 were shown as 0, 1, 2; the prompt had no number 3.
    parsed = parse_completion(render_completion("x", [0, 2, 3], 0.5), 3)
    assert map_citations(parsed, [0, 2, 3]).citations == [0, 3, -1]
