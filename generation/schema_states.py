"""The output schema as a state machine over characters.

`step` maps a state and the next character to the next state, or to None where the character breaks the
schema. The states:

    ("literal", text, next state)          the text must follow, character by character
    ("answer", text so far)                inside the answer's string
    ("escape", answer so far)              after a backslash in it
    ("list", last citation, text so far)   inside the list; the text since the last comma
    ("comma", last citation)               after a comma in the list
    ("confidence", text so far)            inside the number
    ("done",)

This module knows neither tokens nor what a right answer is.
"""

import re
from typing import Any

from utils.completions import MAX_ANSWER_CHARS
from utils.text import REFUSAL

State = tuple[Any, ...]

DONE: State = ("done",)
_CONFIDENCE: State = ("literal", ', "confidence":', ("confidence", ""))
# The literal ends before the space and the bracket, because "[" and "[]" are different tokens: the choice
# starts there.
_AFTER_ANSWER: State = ("literal", ', "citations":', ("list", -1, ""))
# A refusal has no citations and confidence 0.0: nothing is left to choose.
_AFTER_REFUSAL: State = ("literal", ', "citations": [], "confidence": 0.0}', DONE)
START: State = ("literal", '{"answer": "', ("answer", ""))
# A number of 0 to 1 with at most three decimals, and what may become one.
_FULL_CONFIDENCE = re.compile(r" (0|1|1\.0|0\.\d{1,3})")
_CONFIDENCE_SO_FAR = re.compile(r" ?|( 0\.?)|( 1\.?)|( 1\.0)|( 0\.\d{1,3})")


def step(state: State, char: str, n_chunks: int) -> State | None:
    """The state after `char`; None if no valid completion continues like this."""
    kind = state[0]
    if kind == "literal":
        _, text, following = state
        if char != text[0]:
            return None
        return ("literal", text[1:], following) if len(text) > 1 else following
    if kind == "answer":
        return _step_answer(state[1], char)
    if kind == "escape":
        # The others stand for control characters, which no answer has.
        return ("answer", state[1] + char) if char in '"\\/' else None
    if kind == "list":
        return _step_list(state[1], state[2], char, n_chunks)
    if kind == "comma":
        return ("list", state[1], " ") if char == " " else None
    if kind == "confidence":
        return _step_confidence(state[1], char)
    return None


def _step_answer(text: str, char: str) -> State | None:
    """Inside the answer's string: `text` is the answer so far."""
    if char == '"':
        if not text:
            return None
        return _AFTER_REFUSAL if text.strip() == REFUSAL else _AFTER_ANSWER
    opens_with_space = char.isspace() and not text
    # JSON allows no control characters in a string.
    if len(text) == MAX_ANSWER_CHARS or char < " " or opens_with_space:
        return None
    return ("escape", text) if char == "\\" else ("answer", text + char)


def _step_list(last: int, text: str, char: str, n_chunks: int) -> State | None:
    """Inside ` [0, 2]`: `text` is what follows the last comma, `last` the citation before it (-1: none)."""
    opening = " [" if last < 0 else " "
    if len(text) < len(opening):
        return ("list", last, text + char) if char == opening[len(text)] else None
    digits = text.lstrip(" [")
    # Citations are distinct and ascending, and cite chunks that were shown.
    left = range(last + 1, n_chunks)
    if char.isdigit() and char.isascii():
        begins_one = any(str(i).startswith(digits + char) for i in left)
        return ("list", last, text + char) if begins_one else None
    is_number = bool(digits) and int(digits) in left
    if char == "]":
        is_empty = not digits and last < 0
        return _CONFIDENCE if is_number or is_empty else None
    if char == "," and is_number and int(digits) + 1 < n_chunks:
        return ("comma", int(digits))
    return None


def _step_confidence(text: str, char: str) -> State | None:
    """Inside the number: `text` is the number so far, the space before it included."""
    if char == "}":
        return DONE if _FULL_CONFIDENCE.fullmatch(text) else None
    return ("confidence", text + char) if _CONFIDENCE_SO_FAR.fullmatch(text + char) else None
