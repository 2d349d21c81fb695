"""Completions with the result that the validator must have for each: `prompt_schema.py test` runs them."""

from utils.completions import parse_completion
from utils.text import REFUSAL

_REFUSAL = '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [], "confidence": 0.0}'
_FENCED = '```json\n{"answer": "Paris", "citations": [0], "confidence": 0.9}\n```'
_WORDY = 'Sure! {"answer": "Paris", "citations": ["[1]"], "confidence": "95%"}'
_CITING_REFUSAL = '{"answer": "[INSUFFICIENT_EVIDENCE]", "citations": [1], "confidence": 0.0}'
_BARE_REFUSAL = '{"answer": "INSUFFICIENT_EVIDENCE", "citations": [], "confidence": 0.0}'
# (completion, strict, answer, citations, confidence, valid), with 5 chunks shown. Repair changes the form,
# never what was meant: a citation out of range stays, and a confidence above 1 is unknown, not 1.
SELF_CHECK = [
    ('{"answer": "Paris", "citations": [0, 2], "confidence": 0.9}', True, "Paris", [0, 2], 0.9, True),
    (_REFUSAL, True, REFUSAL, [], 0.0, True),
    (_CITING_REFUSAL, False, REFUSAL, [1], 0.0, False),
    ('{"answer": "Paris", "citations": [7], "confidence": 0.9}', False, "Paris", [7], 0.9, False),
    (_FENCED, True, None, [], None, False),
    (_FENCED, False, "Paris", [0], 0.9, False),
    (_WORDY, False, "Paris", [1], 0.95, False),
    (_BARE_REFUSAL, False, REFUSAL, [], 0.0, False),
    ('{"answer": "Paris", "citations": ["the first"], "confidence": 2}', False, "Paris", [-1], None, False),
    ('{"citations": [0], "confidence": 0.9}', False, None, [], None, False),
    ("Paris", False, None, [], None, False),
    ("", False, None, [], None, False),
]


def failing_cases() -> list[str]:
    """One line per case of SELF_CHECK that the validator gets wrong."""
    failures = []
    for text, strict, *expected in SELF_CHECK:
        parsed = parse_completion(text, 5, strict)
        found = [parsed.answer, parsed.citations, parsed.confidence, parsed.is_valid]
        if found != expected:
            failures.append(f"{text!r} (strict={strict}): expected {expected}, found {found}")
    return failures
