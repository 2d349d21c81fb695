"""`--hard-rejections`: completions that are worse than the gold one in one known way.

Each is the gold completion of a sample with one change, named after it. A model's own candidates teach what
that model does wrong; these teach what a reader must not let pass. This module knows nothing about models,
judges or pairs.
"""

import random
import re

from evidence.paraphrase import names_in
from evidence.queries import claim_of
from utils.completions import (
    MAX_ANSWER_CHARS,
    gold_completion,
    parse_completion,
    render_completion,
    target_confidence,
)
from utils.correctness import is_correct
from utils.schema import is_label_answer
from utils.text import REFUSAL, content_words

# What a made completion does to the gold one, of answerable samples and, the last, of unanswerable ones.
CONTRASTS = (
    "wrong answer",
    "wrong citation",
    "no citation",
    "extra citation",
    "citation out of range",
    "unsupported answer",
    "refused",
    "padded",
    "copied chunk",
    "over-confident",
    "answered",
)
_NUMBER = re.compile(r"\d[\d,.]*\d|\d")
_LABELS = {"supported": "refuted", "refuted": "supported", "yes": "no", "no": "yes"}


def _number_like(answer: str, text: str) -> list[str]:
    """The numbers of a text that have as many digits as the one in the answer, put in its place."""
    own = _NUMBER.search(answer)
    if own is None:
        return []
    n_digits = sum(character.isdigit() for character in own[0])
    found = []
    for number in _NUMBER.findall(text):
        if sum(character.isdigit() for character in number) == n_digits:
            found.append(answer[: own.start()] + number + answer[own.end() :])
    return found


def other_answers(sample: dict) -> list[str]:
    """Wrong answers of the gold answer's kind that the evidence holds, in its order.

    The other label of a verdict or yes/no answer, numbers for an answer with a number, else names.
    """
    answer = sample["answer"]
    if is_label_answer(answer):
        other = _LABELS.get(answer.lower())
        return [other] if other else []
    found: dict[str, None] = {}
    in_question = set(content_words(sample["question"]))
    for chunk in sample["evidence_chunks"]:
        text = f"{chunk['title']}. {chunk['text']}"
        like = _number_like(answer, text) if _NUMBER.search(answer) else names_in(text)
        # What the question names is not what it asks for.
        found |= dict.fromkeys(one for one in like if not set(content_words(one)) <= in_question)
    aliases = sample["answer_aliases"]
    fitting = []
    for one in found:
        shares_words = any(set(content_words(one)) & set(content_words(alias)) for alias in aliases)
        if len(one) <= MAX_ANSWER_CHARS and not shares_words and not is_correct(one, aliases):
            fitting.append(one)
    return fitting


def _unfounded_answers(sample: dict) -> list[str]:
    """Answers of the right kind to a question without an answer.

    The labels of a claim or yes/no question, else names and numbers of the evidence that it does not name.
    """
    # A preference row has no metadata, but its question tells a claim.
    metadata = sample.get("metadata", {})
    if claim_of({**sample, "metadata": metadata}):
        return ["supported", "refuted"]
    wanted = metadata.get("gold_aliases") or [""]
    if is_label_answer(wanted[0]):
        return ["yes", "no"]
    in_question = set(content_words(sample["question"]))
    found: dict[str, None] = {}
    for chunk in sample["evidence_chunks"]:
        spans = [*names_in(chunk["text"]), *_NUMBER.findall(chunk["text"])]
        found |= dict.fromkeys(one for one in spans if not set(content_words(one)) <= in_question)
    return [one for one in found if len(one) <= MAX_ANSWER_CHARS]


def _cited_otherwise(cited: list[int], sample: dict, shown: list[int]) -> dict[str, list[int]]:
    """Lists of citations that are worse than the gold ones, by name."""
    support = {number for number, chunk in enumerate(shown) if chunk in sample["support_spans"]}
    others = sorted(set(range(len(shown))) - support)
    worse: dict[str, list[int]] = {"no citation": [], "citation out of range": [len(shown)]}
    if others:
        worse["wrong citation"] = others[: len(cited)]
        worse["extra citation"] = sorted([*cited, others[0]])
    return worse


def contrasts(sample: dict, shown: list[int], rng: random.Random, elsewhere: str | None) -> dict[str, str]:
    """Worse completions of a sample by name, as its prompt shows the evidence.

    `shown[i]` is the sample's id of chunk number i; its support must be among them. `elsewhere`: an answer to
    another question, for an answer that no chunk supports.
    """
    if not sample["answerable"]:
        answers = _unfounded_answers(sample)
        if not answers:
            return {}
        cited = rng.randrange(len(shown))
        # What a true answer with this chunk would state.
        confidence = target_confidence({**sample, "answerable": True, "support_sets": [[shown[cited]]]})
        return {"answered": render_completion(rng.choice(answers), [cited], confidence)}
    gold = parse_completion(gold_completion(sample, shown), len(shown))
    confidence = gold.confidence or 0.0
    answer = sample["answer"]
    made = {"refused": render_completion(REFUSAL, [], 0.0)}
    if others := other_answers(sample):
        made["wrong answer"] = render_completion(rng.choice(others), gold.citations, confidence)
    if elsewhere and not is_label_answer(answer) and not is_correct(elsewhere, sample["answer_aliases"]):
        made["unsupported answer"] = render_completion(elsewhere, gold.citations, confidence)
    for name, citations in _cited_otherwise(gold.citations, sample, shown).items():
        made[name] = render_completion(answer, citations, confidence)
    if not is_label_answer(answer) and gold.citations:
        padded = f"The answer is {answer}, as passage {gold.citations[0]} says"
        made["padded"] = render_completion(padded[:MAX_ANSWER_CHARS], gold.citations, confidence)
        text = sample["evidence_chunks"][shown[gold.citations[0]]]["text"]
        if len(text) > 2 * len(answer):
            made["copied chunk"] = render_completion(text[:MAX_ANSWER_CHARS], gold.citations, confidence)
    if confidence < 1:
        made["over-confident"] = render_completion(answer, gold.citations, 1.0)
    return made
