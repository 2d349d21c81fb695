"""CLAPNQ (Rosenthal et al., 2025): questions with one passage and the sentences that answer it -> records.

Each line of the files:

    {"id", "input": the question,
     "passages": [{"title", "text", "sentences": [sentence, ...]}],
     "output": [{"answer": written by an annotator, "selected_sentences": [sentence, ...], ...}, ...]}

Annotators read the whole passage, so a sentence that none selected does not answer. A question without an
answer has an empty `answer` and no selected sentence. The written answers are long and in words of their own:
the accepted answer is a run of words that one shares with its sentences, a stand-in (docs/data.md).
"""

import difflib
import functools
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from evidence.paraphrase import stems
from evidence.records import Passage, Record
from sources.fever import unescape
from sources.fields import bad, field, full_text, identifier, items, question_text, text
from sources.json_list import parse_rows
from utils.completions import MAX_ANSWER_CHARS
from utils.text import plain_title

# Comparing takes more than the square of the length. The largest row of the development set has 53,000.
_MAX_COMPARISONS = 300_000


def _cut(words: list[str]) -> str:
    """The first words that fit into an answer, without the punctuation around them."""
    # Without the space in front of the first word.
    n_chars = -1
    for n_kept, word in enumerate(words):
        n_chars += 1 + len(word)
        if n_chars > MAX_ANSWER_CHARS:
            words = words[:n_kept]
            break
    return " ".join(words).strip(" ,;:.\"'(")


def _plain(words: list[str]) -> list[str]:
    """The words without punctuation and in lower case, each in its place."""
    return [re.sub(r"\W", "", word).lower() for word in words]


def shared_runs(written: str, sentence: str) -> list[str]:
    """The runs of words that a written answer has from a sentence, as the sentence spells them."""
    words = sentence.split()
    theirs = written.split()
    pair = (_plain(words), _plain(theirs))
    matches = difflib.SequenceMatcher(None, *pair, autojunk=False).get_matching_blocks()
    return [_cut(words[match.a : match.a + match.size]) for match in matches if match.size]


def _passage(row: dict) -> Passage:
    passages = items(field(row, "passages"), "passages")
    if len(passages) != 1 or not isinstance(passages[0], dict):
        raise bad("passages", "a list of one passage", passages)
    sentences = items(field(passages[0], "sentences"), "passages[0].sentences")
    if not sentences:
        raise bad("passages[0].sentences", "a list with a sentence", sentences)
    clean = tuple(unescape(full_text(sentence, "each of passages[0].sentences")) for sentence in sentences)
    title = full_text(field(passages[0], "title"), "passages[0].title")
    return Passage(plain_title(unescape(title)), clean)


def _annotations(row: dict, passage: Passage) -> list[tuple[str, tuple[int, ...]]]:
    """(written answer, numbers of the selected sentences) per annotator who gave an answer."""
    found = []
    number_of: dict[str, int] = {}
    for i, sentence in enumerate(passage.sentences):
        number_of.setdefault(sentence, i)
    for i, output in enumerate(items(field(row, "output"), "output")):
        if not isinstance(output, dict):
            raise bad(f"output[{i}]", "an object with answer and selected_sentences", output)
        written = unescape(text(field(output, "answer"), f"output[{i}].answer"))
        numbers = set()
        name = f"output[{i}].selected_sentences"
        for sentence in items(field(output, "selected_sentences"), name):
            clean = unescape(full_text(sentence, f"each of {name}"))
            if clean not in number_of:
                raise bad(f"each of {name}", "a sentence of the passage", sentence)
            numbers.add(number_of[clean])
        if bool(written) != bool(numbers):
            raise ValueError(f"output[{i}] needs both an answer and selected_sentences, or neither")
        if written:
            found.append((written, tuple(sorted(numbers))))
    return found


def _is_comparable(annotations: list[tuple[str, tuple[int, ...]]], passage: Passage) -> bool:
    """Whether `shared_runs` has few enough pairs of words to compare, of answers and their sentences."""
    n_words = [len(sentence.split()) for sentence in passage.sentences]
    n_pairs = sum(len(written.split()) * sum(n_words[i] for i in numbers) for written, numbers in annotations)
    return n_pairs <= _MAX_COMPARISONS


def _doubt(answers: list[str], is_answerable: bool, is_comparable: bool) -> str:
    """Why the row may have no accepted answer though it is answerable; empty if it has one."""
    if answers or not is_answerable:
        return ""
    if not is_comparable:
        return "the written answers are too long to be compared with their sentences"
    return "the written answer shares no words with its sentences"


def _answers(annotations: list[tuple[str, tuple[int, ...]]], passage: Passage, question: str) -> list[str]:
    """Per annotator the shared run that says most beyond the question, the one that says most first."""
    asked = stems(question)

    def new_words(run: str) -> tuple[int, int]:
        return len(stems(run) - asked), len(run)

    best = []
    for written, numbers in annotations:
        runs = [run for i in numbers for run in shared_runs(written, passage.sentences[i])]
        best.append(max(runs, key=new_words, default=""))
    usable = [run for run in dict.fromkeys(best) if stems(run) - asked]
    return sorted(usable, key=new_words, reverse=True)


def _to_record(row: dict, official_split: str) -> Record:
    """The record of a row. ValueError if the row is malformed."""
    passage = _passage(row)
    annotations = _annotations(row, passage)
    question = question_text(row, "input")
    is_comparable = _is_comparable(annotations, passage)
    answers = _answers(annotations, passage, question) if is_comparable else []
    gold_sets = []
    for _, numbers in annotations:
        gold_sets.append(tuple((passage.page, i) for i in numbers))
    return Record(
        id=f"clapnq:{identifier(field(row, 'id'), 'id')}",
        source="clapnq",
        question=question,
        answers=tuple(answers),
        answerable=bool(annotations),
        official_split=official_split,
        gold_sets=tuple(dict.fromkeys(gold_sets)),
        passages=(passage,),
        is_read_whole=True,
        doubt=_doubt(answers, bool(annotations), is_comparable),
        metadata={"type": "long answer", "written_answers": [written for written, _ in annotations]},
    )


def read_records(path: Path, official_split: str, on_bad: Callable[[str], None]) -> Iterator[Record]:
    """One record per question."""
    parse = functools.partial(_to_record, official_split=official_split)
    yield from parse_rows(path, on_bad, parse, "not a CLAPNQ row")
