"""A reply: an answer, a refusal or a withheld answer, with its quotes and its confidence in words.

And its texts as they may be shown. It does not know where: terminal and web page take the same.
"""

import unicodedata
from dataclasses import dataclass, field

from asking.quotes import Quote
from utils.calibration import with_succession
from utils.text import verdict_of

ANSWERED = "answered"
REFUSED = "refused"
WITHHELD = "withheld"

# What a calibrated probability is called: the first row whose limit it reaches.
_CONFIDENCE_WORDS = (
    (0.9, "very likely right"),
    (0.7, "likely right"),
    (0.5, "as likely right as wrong"),
    (0.3, "likely wrong"),
    (0.0, "very likely wrong"),
)


def printable(text: str) -> str:
    """A text on one line without control characters: a document must not steer the terminal."""
    text = " ".join(text.split())
    # "Cf" are the marks that turn the direction of writing, and others that nobody sees.
    return "".join(char for char in text if unicodedata.category(char) not in ("Cc", "Cf"))


def printable_part(text: str) -> str:
    """`printable`, keeping a space at either end."""
    inner = printable(text)
    before = " " if text[:1].isspace() else ""
    after = " " if text[-1:].isspace() and text.strip() else ""
    return f"{before}{inner}{after}"


def _rounded(confidence: float | None) -> float | None:
    return None if confidence is None else round(confidence, 4)


@dataclass(frozen=True)
class Reply:
    """The reply to one question. `confidence`: probability (0-1) that answer and citations are right.

    With `calibrated` it was fitted on `n_calibration` validation answers, else it is the model's own
    probability of its answer. None where the model refused: no fit covers refusals.
    `reason`: why the model's answer is not given, None where it is or where the model refused itself; of a
    refusal it is that no answer has the confidence asked for.
    """

    question: str = ""
    status: str = REFUSED
    answer: str | None = None
    confidence: float | None = None
    calibrated: bool = False
    n_calibration: int = 0
    quotes: list[Quote] = field(default_factory=list)
    nearest: list[Quote] = field(default_factory=list)
    n_shown: int = 0
    n_passages: int = 0
    seconds: float = 0.0
    reason: str | None = None

    @property
    def is_refusal(self) -> bool:
        """True where no answer is given, whatever the reason."""
        return self.status != ANSWERED

    @property
    def headline(self) -> str:
        """The answer, or the sentence in its place."""
        if self.status == ANSWERED:
            return str(self.answer)
        if self.status == WITHHELD:
            return "The answer is withheld."
        if self.reason:
            return f"{self.reason[0].upper()}{self.reason[1:]}."
        return "The text does not say."

    @property
    def shown_confidence(self) -> float | None:
        """The confidence that readers see and that is compared with the one asked for; None without one.

        A fit says 1 and 0 of what happened in all and in none of its few answers. By the rule of succession
        it says neither.
        """
        if self.confidence is None or not self.calibrated:
            return self.confidence
        return with_succession(self.confidence, self.n_calibration)

    @property
    def confidence_words(self) -> str:
        """The confidence in words and as a number; empty where there is none."""
        shown = self.shown_confidence
        if shown is None:
            return ""
        if not self.calibrated:
            return f"the model's own probability, not calibrated: {shown:.2f}"
        words = next(words for limit, words in _CONFIDENCE_WORDS if shown >= limit)
        # Thousands of answers come within a rounding error of certainty, and are not certain.
        shown = min(max(shown, 0.01), 0.99)
        return f"{words}: {shown:.2f}, calibrated on {self.n_calibration} validation answers"

    @property
    def looked_at(self) -> str:
        return f"looked at {self.n_shown} of {self.n_passages} passages"

    @property
    def doubt(self) -> str | None:
        """A warning about an answer whose words no quote has; verdicts and yes or no are not looked for."""
        if self.status != ANSWERED or self.is_verdict or any(quote.marked for quote in self.quotes):
            return None
        return "these words are not in the cited passages: check them"

    @property
    def is_verdict(self) -> bool:
        return verdict_of(self.answer or "") is not None

    def to_json(self) -> dict:
        """The reply as one JSON object (docs/ask.md)."""
        return {
            "question": self.question,
            "status": self.status,
            "answer": self.answer,
            "is_refusal": self.is_refusal,
            "reason": self.reason,
            "confidence": _rounded(self.confidence),
            "confidence_shown": _rounded(self.shown_confidence),
            "calibrated": self.calibrated,
            "words_in_quotes": None if self.status != ANSWERED or self.is_verdict else self.doubt is None,
            "quotes": [quote.to_json() for quote in self.quotes],
            "nearest": [quote.to_json() for quote in self.nearest],
            "passages_shown": self.n_shown,
            "passages": self.n_passages,
            "seconds": round(self.seconds, 2),
        }
