"""A completion -> a reply: the answer with its quotes, or the reason why there is none.

It fails closed: an answer that cannot be parsed, cites nothing, cites what was not shown, or cites what its
file does not contain word for word is withheld. It knows no model.
"""

import math
from dataclasses import dataclass, replace
from typing import Any

from asking.checkpoint import AskSettings
from asking.passages import Passage
from asking.quotes import NotVerbatim, Quote, quote_passage
from asking.reply import ANSWERED, WITHHELD, Reply
from evidence.queries import CLAIM_QUESTION, query_of
from utils.calibration import apply_isotonic
from utils.completions import Parsed, parse_completion
from utils.errors import UsageError
from utils.text import verdict_of

# A question that begins like this is a claim to be judged.
CLAIM_START = "claim:"


def split_question(text: str) -> tuple[str, str]:
    """(question as the model was trained on it, words to search with). UsageError for an empty question."""
    text = " ".join(text.split())
    if text.lower().startswith(CLAIM_START):
        claim = text[len(CLAIM_START) :].strip()
        text = CLAIM_QUESTION.format(claim=claim) if claim else ""
    if not text:
        raise UsageError("the question is empty; write one, such as: Who wrote the letter?")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        # Other bytes come from a shell as half characters, which no tokenizer takes.
        raise UsageError(
            f"the question is not UTF-8, from its character {error.start + 1} on; write it in UTF-8"
        ) from error
    return text, query_of({"question": text, "metadata": {}})


@dataclass(frozen=True)
class Shown:
    """A prompt (prompt_schema.Prompt), the passages it was built from, and the same passages, nearest first.

    `prompt.shown[i]` is the place in `passages` of what the prompt calls number i.
    """

    prompt: Any
    passages: list[Passage]
    ranked: list[Passage]

    @property
    def n_shown(self) -> int:
        return len(self.prompt.shown)

    def quote(self, citation: int, answer: str) -> Quote:
        """The quote that a citation means. NotVerbatim if the file does not have it."""
        passage = self.passages[self.prompt.shown[citation]]
        # A verdict is about the whole passage; none of its words is the answer.
        words = "" if verdict_of(answer) else answer
        return quote_passage(passage, self.prompt.chunks[citation]["text"], words)

    def nearest(self) -> list[Quote]:
        """The passages that were shown, nearest first, without those that their file no longer has."""
        quotes = []
        shown = {id(self.passages[place]) for place in self.prompt.shown}
        for passage in self.ranked:
            if id(passage) not in shown:
                continue
            try:
                quotes.append(quote_passage(passage, passage.text, ""))
            except NotVerbatim:
                continue
        return quotes


def _citation_problem(parsed: Parsed, n_shown: int) -> str | None:
    """Why an answer cannot be checked by its citations; None if it can."""
    if not parsed.is_answer:
        return "the model's reply could not be read; ask in other words"
    if not parsed.citations:
        return "it cites no passage"
    wrong = [i for i in parsed.citations if not 0 <= i < n_shown]
    return f"it cites passage {wrong[0]}, but {n_shown} were shown (0-{n_shown - 1})" if wrong else None


def judge(completion: str, probability: float, shown: Shown, settings: AskSettings) -> Reply:
    """The reply that a completion becomes. `probability`: the model's own, of its answer (0-1)."""
    parsed = parse_completion(completion, shown.n_shown)
    isotonic = settings.calibration.get("isotonic") or {}
    reply = Reply(calibrated=bool(isotonic), n_calibration=isotonic.get("n", 0), n_shown=shown.n_shown)
    if parsed.is_refusal:
        return replace(reply, nearest=shown.nearest())
    if problem := _citation_problem(parsed, shown.n_shown):
        return replace(reply, status=WITHHELD, reason=problem, nearest=shown.nearest())

    confidence = apply_isotonic(isotonic, [probability])[0] if isotonic else probability
    reply = replace(reply, confidence=confidence)
    best = reply.shown_confidence
    if best is not None and best < settings.min_confidence:
        # Rounded down: "0.9 or more (the best has 0.90)" would be odd.
        found = math.floor(round(100 * best, 6)) / 100
        wanted = f"{settings.min_confidence:g} or more"
        reason = f"no answer with a confidence of {wanted} (the best has {max(found, 0.01):.2f})"
        return replace(reply, reason=reason, nearest=shown.nearest())
    answer = str(parsed.answer)
    try:
        quotes = [shown.quote(i, answer) for i in parsed.citations]
    except NotVerbatim as missing:
        reply = replace(reply, confidence=None)
        return replace(reply, status=WITHHELD, reason=str(missing), nearest=shown.nearest())
    return replace(reply, status=ANSWERED, answer=answer, quotes=quotes)
