"""Whether chunks hold an answer, in whatever form they write its numbers, dates and units."""

from utils.answer_forms import AnswerForm, answer_form
from utils.text import chunk_text, contains_tokens, holds_answer


def _holds_form(text: AnswerForm, answer: AnswerForm) -> bool:
    """Whether a text in normal form has the words of an answer in a run; those of a date in any order."""
    wanted = answer.words
    words = text.words
    if contains_tokens(words, wanted):
        return True
    if not answer.months:
        return False
    n = len(wanted)
    return any(sorted(words[i : i + n]) == sorted(wanted) for i in range(len(words) - n + 1))


def answer_in_chunks(answer: str, chunks: list[dict]) -> bool:
    """True when the title and text of one chunk contain the answer's tokens in sequence.

    As they are written, or with numbers, dates and units in their normal form (`utils/answer_forms.py`).
    """
    texts = [chunk_text(chunk) for chunk in chunks]
    if any(holds_answer(text, [answer]) for text in texts):
        return True
    wanted = answer_form(answer)
    return bool(wanted.words) and any(_holds_form(answer_form(text), wanted) for text in texts)
