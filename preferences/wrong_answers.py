"""Wrong answers that a reader may take for right: of the gold answer's type, from the sample's own evidence.

Names, numbers and labels are told by surface. This module knows nothing about completions or citations.
"""

import re

from evidence.answer_types import answer_types, written_form
from evidence.paraphrase import begins_any, stems
from evidence.queries import claim_of
from utils.completions import MAX_ANSWER_CHARS
from utils.correctness import is_correct
from utils.schema import is_label_answer
from utils.text import STOP_WORDS, chunk_text, content_words, split_sentences, tokenize

# A number, and the letters that are written to it: "1830s", "3rd".
_NUMBER = re.compile(r"(\d[\d,.]*\d|\d)([^\W\d_]*)")
# A name with its article and with small words inside: "the Philippine Super Liga", "Charles de Gaulle". What
# has an article is no person.
_NAME = re.compile(
    r"(?:\b[Tt]he )?\b[A-Z][\w'’-]*"
    r"(?:(?:\.? ?| (?:al|bin|da|de|del|der|di|du|la|of|van|von|y) (?:the |der |la )?)[A-Z][\w'’-]*)*"
)
# Words that begin sentences, and no names.
_OPENERS = STOP_WORDS | frozenset(
    "after all along also although another because before both during each earlier eventually first "
    "following however later many meanwhile moreover most no not once one only other previously several "
    "since some soon still though through throughout today two under unlike until upon when while "
    "within".split()
)
# Fewer letters are the initials of too many names, and more are none.
_MIN_INITIALS = 3
_MAX_INITIALS = 10
_LABELS = {"supported": "refuted", "refuted": "supported", "yes": "no", "no": "yes"}


def _n_digits(number: str) -> int:
    return sum(character.isdigit() for character in number)


def _number_like(answer: str, text: str) -> list[str]:
    """The numbers of a text that have as many digits as the one in the answer, put in its place.

    What is written to the number belongs to it: a decade takes the place of "1830s", and no year does.
    """
    own = _NUMBER.search(answer)
    if own is None:
        return []
    found = []
    for number in _NUMBER.finditer(text):
        is_like = number[2] == own[2] and _n_digits(number[1]) == _n_digits(own[1])
        if is_like:
            found.append(answer[: own.start()] + number[0] + answer[own.end() :])
    return found


def _name(run: str) -> str:
    """A run of capitalized words without the words in front that begin a sentence; empty for no name."""
    words = run.removesuffix("'s").removesuffix("’s").split()
    article = words[:1] if words[0] in ("the", "The") else []
    words = words[len(article) :]
    while words and words[0].lower() in _OPENERS:
        article = []
        words = words[1:]
    # "Vitamin C. It": a full stop behind an initial ends no sentence, but a function word begins the next.
    is_torn = any(before.endswith(".") and word.lower() in _OPENERS for before, word in zip(words, words[1:]))
    return "" if is_torn or not words else " ".join([*article, *words])


def _names(chunk: dict) -> list[str]:
    """The names in a chunk, in its order, from the title and from each sentence apart.

    A word that only ever begins a sentence is no name.
    """
    runs = dict.fromkeys(_NAME.findall(chunk["title"]))
    for sentence in split_sentences(chunk["text"]):
        for run in _NAME.finditer(sentence):
            if run.start() or " " in run[0]:
                runs[run[0]] = None
    return [name for name in dict.fromkeys(map(_name, runs)) if name]


def _with_metadata(sample: dict) -> dict:
    """A sample or a preference row, which has no metadata, or null."""
    return {**sample, "metadata": sample.get("metadata") or {}}


def _is_of_type(text: str, sample: dict) -> bool:
    """Whether a text could take the place of the gold answer: it looks alike, and is of the types asked for.

    Where surface tells no type, the form and the number of words decide.
    """
    answer = sample["answer"]
    form = written_form(answer)
    if form is None or written_form(text) != form:
        return False
    typed = _with_metadata(sample)
    types = answer_types(typed)
    if not types:
        return len(text.split()) == len(answer.split())
    return answer_types({**typed, "answer": text}) == types


def _is_spelling(word: str, others: frozenset[str]) -> bool:
    """Whether a stem may be another spelling of one of several: it begins like it, with four letters."""
    return len(word) >= 4 and begins_any(word, others)


def _initials(words: list[str]) -> set[str]:
    """The initials of words, all of them and those of no function word."""
    without = [word for word in words if word not in STOP_WORDS]
    firsts = {"".join(word[0] for word in kept) for kept in (words, without)}
    return {letters for letters in firsts if len(letters) >= _MIN_INITIALS}


def _is_abbreviation(one: str, other: str) -> bool:
    """Whether one name is the initials of the other: "NASA", and what it stands for."""
    short = "".join(tokenize(one))
    return " " not in one.strip() and short in _initials(tokenize(other))


def _written_out(answer: str, text: str) -> frozenset[str]:
    """The words of a text whose initials are an answer; none for an answer of several words."""
    short = "".join(tokenize(answer))
    if " " in answer.strip() or not answer.isupper() or not _MIN_INITIALS <= len(short) <= _MAX_INITIALS:
        return frozenset()
    words = tokenize(text)
    found: set[str] = set()
    for start in range(len(words)):
        for end in range(start + len(short), min(start + 2 * len(short), len(words)) + 1):
            if short in _initials(words[start:end]):
                found.update(words[start:end])
    return frozenset(found)


def other_answers(sample: dict) -> list[str]:
    """Wrong answers of the gold answer's kind that the evidence holds, in its order.

    The other label of a verdict or yes/no answer, numbers for an answer with a number, else names; of these,
    only those of the gold answer's type. So a phrase in lower case has none.
    """
    answer = sample["answer"]
    if is_label_answer(answer):
        other = _LABELS.get(answer.lower())
        return [other] if other else []
    found: dict[str, None] = {}
    for chunk in sample["evidence_chunks"]:
        has_number = _NUMBER.search(answer)
        found |= dict.fromkeys(_number_like(answer, chunk_text(chunk)) if has_number else _names(chunk))
    in_question = set(content_words(sample["question"]))
    aliases = sample["answer_aliases"]
    in_answers = stems(" ".join(aliases))
    texts = [chunk_text(chunk) for chunk in sample["evidence_chunks"]]
    written_out: set[str] = set()
    for alias in aliases:
        written_out.update(*(_written_out(alias, text) for text in texts))
    fitting = []
    for one in found:
        is_short_or_long = any(_is_abbreviation(one, a) or _is_abbreviation(a, one) for a in aliases)
        if is_short_or_long or written_out.issuperset(tokenize(one)):
            continue
        # What the question names is not what it asks for.
        if len(one) > MAX_ANSWER_CHARS or set(content_words(one)) <= in_question:
            continue
        # "Georg Friedrich Händel" may be the gold answer "George Frideric Handel".
        is_near = any(word in in_answers or _is_spelling(word, in_answers) for word in stems(one))
        if not is_near and _is_of_type(one, sample) and not is_correct(one, aliases):
            fitting.append(one)
    return fitting


def unfounded_answers(sample: dict) -> list[str]:
    """Answers of the right kind to a question without an answer.

    The labels of a claim or yes/no question, else names and numbers of the evidence that it does not name; of
    these, where the answer that was taken away is known, only what looks like it.
    """
    row = _with_metadata(sample)
    # Without metadata, its question tells a claim.
    if claim_of(row):
        return ["supported", "refuted"]
    wanted = row["metadata"].get("gold_aliases") or [""]
    if is_label_answer(wanted[0]):
        return ["yes", "no"]
    form = written_form(wanted[0])
    in_question = set(content_words(sample["question"]))
    found: dict[str, None] = {}
    for chunk in sample["evidence_chunks"]:
        spans = [*_names(chunk), *(match[1] for match in _NUMBER.finditer(chunk["text"]))]
        found |= dict.fromkeys(one for one in spans if not set(content_words(one)) <= in_question)
    short = [one for one in found if len(one) <= MAX_ANSWER_CHARS]
    return [one for one in short if form is None or written_form(one) == form]
