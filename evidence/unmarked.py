"""Whether a chunk that nobody marked answers a question: the rule for evidence that a search found.

An answer in a page near the question proves nothing by itself: years and places are everywhere. The page must
be named by the question, or be closely related to it; the sentence with the answer must say most of what is
asked; and words that decide (numbers, "first", "last time") must all be said. Rare words weigh more than
common ones. The rule reads words, not meaning; docs/data.md has the figures of a check by hand.
"""

import re
from collections.abc import Callable

from evidence.chunks import Chunk
from evidence.paraphrase import asked_stems, bare_title, stem, stems
from evidence.relations import FILLERS, STATED_BY_PAGE, is_said
from evidence.stated import states_answer
from utils.text import holds_words, normalize_answer, padded_words, split_sentences, tokenize

# Shares of what is asked, weighted by rarity, that have to be said by the sentence with the answer, the
# sentence before it and the title together.
_SAID_ON_NAMED_PAGE = 0.6
_SAID_ON_RELATED_PAGE = 0.7

# The title must say a fifth of the question, so that "Song" is not named by "who sang the song ...", and the
# sentences a third of the rest. Of a title that says half, the sentence may just say what the page is about.
_LEAST_NAMED = 0.2
_REST = 0.33
_HALF = 0.5

# Numbers and words that tell one thing from others of its kind.
_DECIDING = frozenset(stem(word) for word in "first second third final most least only".split())

# A "last time" holds only where the text says that it was the last.
_ASKS_LAST = re.compile(r"\b(last|latest|most recent) (time|year|date)\b|\bwhen\b.*\blast\b", re.IGNORECASE)
_SAYS_LAST = re.compile(r"\b(last|latest|until|since|final|recent(ly)?|current(ly)?|now)\b", re.IGNORECASE)

_IS = re.compile(r" (is|are|was|were) ")

_ASKS_NUMBER = re.compile(r"\b(how (many|much|old|long|tall|far|big)|what year|which year)\b", re.IGNORECASE)
_ASKS_NAME = re.compile(r"^\W*who(se|m)?\b", re.IGNORECASE)
_HAS_NUMBER = re.compile(r"\d|\b(hundred|thousand|million|billion|dozen|half)\b", re.IGNORECASE)


def _is_of_asked_kind(question: str, answer: str) -> bool:
    """False for a number that answers who, or an answer without a number to how many: a coincidence."""
    words = tokenize(answer)
    if _ASKS_NUMBER.search(question):
        return bool(_HAS_NUMBER.search(answer)) or any(stem(word).isdigit() for word in words)
    return not (_ASKS_NAME.search(question) and words and words[0].isdigit())


def _names(question: str, title: str) -> bool:
    """True when a title, without article and parenthesis, is a run of the question's words."""
    words = [stem(word) for word in tokenize(bare_title(title))]
    if words and words[0] in ("the", "a", "an"):
        words = words[1:]
    asked = " ".join(stem(word) for word in tokenize(question))
    return bool(words) and f" {' '.join(words)} " in f" {asked} "


def _defines(sentence: str, title: str) -> bool:
    """True for a sentence that begins with the page's name and says what it is."""
    words = padded_words(sentence)
    name = padded_words(bare_title(title))
    return words[: len(name) + 10].find(name) >= 0 and bool(_IS.search(words))


def _is_deciding(part: str) -> bool:
    # "largest", "oldest": another one of the kind may be meant.
    # "One of the ..." asks for no number.
    return (
        (part[0].isdigit() and part != "1") or part in _DECIDING or (len(part) > 5 and part.endswith("est"))
    )


class OpenQuestion:
    """A question whose answer is looked for in chunks that no source has marked."""

    def __init__(self, question: str, aliases: list[str], rarity: Callable[[str], float]):
        """`aliases`: accepted answers. `rarity`: weight of a stem, from `PagePool.rarity`."""
        self.question = question
        self._asked = asked_stems(question) - FILLERS
        self._weights = {part: rarity(part) for part in self._asked}
        self._total = sum(self._weights.values())
        self._deciding = frozenset(part for part in self._asked if _is_deciding(part))
        self._of_kind = [alias for alias in aliases if _is_of_asked_kind(question, alias)]
        self._answers = {normalize_answer(alias) for alias in self._of_kind}
        self._needles = [padded_words(alias) for alias in self._of_kind]

    def _share(self, parts: frozenset[str], of: frozenset[str]) -> float:
        """Share (0-1), by weight, of the asked stems `of` that are among `parts`; 1 if there are none."""
        total = sum(self._weights[part] for part in of)
        if not total:
            return 1.0
        said = [part for part in of if is_said(part, parts)]
        return sum(self._weights[part] for part in said) / total

    def statement(self, chunk: Chunk) -> tuple[float, float] | None:
        """How well a chunk answers: shares of what is asked, said near the answer and in its sentence.

        None if it does not reach the rule of this module. The higher pair is the better support.
        """
        if not self._total or not holds_words(chunk.words, self._needles):
            return None
        sentences = split_sentences(chunk.text)
        holding = [i for i, text in enumerate(sentences) if self._states_answer(text, chunk.title)]
        found = [self._statement_of(chunk.title, sentences, i) for i in holding]
        return max((shares for shares in found if shares), default=None)

    def _states_answer(self, sentence: str, title: str) -> bool:
        """Whether a sentence states an answer beyond the name of its page, unless that is the answer."""
        if not states_answer(sentence, self._of_kind):
            return False
        words = padded_words(sentence)
        if not self._is_answer(title):
            words = words.replace(padded_words(title), " | ")
        return holds_words(words, self._needles)

    def _statement_of(self, title: str, sentences: list[str], i: int) -> tuple[float, float] | None:
        """`statement` of sentence `i` of a page."""
        # The sentence before often names what "it" and "he" stand for.
        near = " ".join(sentences[max(0, i - 1) : i + 1])
        in_title = stems(title)
        said_near = self._share(stems(near) | in_title, self._asked)
        said_in_sentence = self._share(stems(sentences[i]) | in_title, self._asked)

        if self._share(stems(near) | in_title, self._deciding) < 1:
            return None
        if _ASKS_LAST.search(self.question) and not _SAYS_LAST.search(f"{title} {near}"):
            return None
        if self._is_enough(title, said_near, sentences[i], near):
            return said_near, said_in_sentence
        return None

    def _is_answer(self, title: str) -> bool:
        """True for the page of an answer, whose name may be a shorter or longer form of it."""
        name = stems(bare_title(title))
        return any(2 * len(name & stems(answer)) > len(name) for answer in self._answers)

    def _is_enough(self, title: str, said_near: float, sentence: str, near: str) -> bool:
        """Whether the page is the right one, and enough is said near the answer."""
        in_title = self._share(stems(title), self._asked)
        is_named = in_title >= _LEAST_NAMED and _names(self.question, title)
        is_related = in_title >= _LEAST_NAMED or self._is_answer(title)
        needed = _SAID_ON_NAMED_PAGE if is_named else _SAID_ON_RELATED_PAGE
        if not is_related or said_near < needed:
            return False
        # "Most" says nothing of what there is most of; that it is said at all was checked before.
        rest = self._asked - stems(title) - self._deciding
        # "X is a 1967 film by ..." answers who made it and when, whatever the question's word for it.
        if in_title >= _HALF and _defines(sentence, title):
            rest -= STATED_BY_PAGE
        return self._share(stems(near), rest) >= _REST


def best_statement(
    question: str, aliases: list[str], chunks: list[Chunk], rarity: Callable[[str], float]
) -> Chunk | None:
    """The chunk in which the sentence with the answer says most of what is asked; None if none says enough.

    `aliases` and `rarity`: see `OpenQuestion`.
    """
    asked = OpenQuestion(question, aliases, rarity)
    best = None
    best_shares = (0.0, 0.0)
    for chunk in chunks:
        shares = asked.statement(chunk)
        # Of equals the first one, so the order of the chunks decides.
        if shares and shares > best_shares:
            best = chunk
            best_shares = shares
    return best
