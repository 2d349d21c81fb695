"""`--hard-rejections`: completions that are worse than the gold one in one known way.

Each is the gold completion of a sample with one change, named after it. A model's own candidates teach what
that model does wrong; these teach what a reader must not let pass. This module knows nothing about models,
judges or pairs.
"""

import random
from collections.abc import Sequence

from preferences.wrong_answers import other_answers, unfounded_answers
from utils.completions import (
    MAX_ANSWER_CHARS,
    gold_completion,
    parse_completion,
    render_completion,
    target_confidence,
)
from utils.correctness import is_correct
from utils.schema import is_label_answer
from utils.text import REFUSAL, chunk_text, holds_answer

# Answers to other questions that are tried for one without support.
_N_TRIED = 8

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


def _cited_otherwise(cited: list[int], sample: dict, shown: list[int]) -> dict[str, list[int]]:
    """Lists of citations that are worse than the gold ones, by name."""
    support = {number for number, chunk in enumerate(shown) if chunk in sample["support_spans"]}
    others = sorted(set(range(len(shown))) - support)
    worse: dict[str, list[int]] = {"no citation": [], "citation out of range": [len(shown)]}
    if others:
        worse["wrong citation"] = others[: len(cited)]
        worse["extra citation"] = sorted([*cited, others[0]])
    return worse


def _unsupported(answers: Sequence[str], sample: dict, shown: list[int]) -> str | None:
    """The first of these answers that is wrong and that no shown chunk holds; None for a verdict."""
    if is_label_answer(sample["answer"]):
        return None
    texts = [chunk_text(sample["evidence_chunks"][i]) for i in shown]
    for answer in answers:
        is_held = any(holds_answer(text, [answer]) for text in texts)
        if not is_held and not is_correct(answer, sample["answer_aliases"]):
            return answer
    return None


def contrasts(
    sample: dict,
    shown: list[int],
    rng: random.Random,
    elsewhere: Sequence[str],
    confidence: float | None = None,
) -> dict[str, str]:
    """Worse completions of a sample by name, as its prompt shows the evidence.

    `shown[i]` is the sample's id of chunk number i; its support must be among them. `elsewhere`: answers to
    other questions, of which some are tried for one that no chunk holds. `confidence`: what those of an
    answerable sample state, where that is not what the gold completion states.
    """
    tried = rng.sample(elsewhere, min(_N_TRIED, len(elsewhere)))
    if not sample["answerable"]:
        answers = unfounded_answers(sample)
        if not answers:
            return {}
        cited = rng.randrange(len(shown))
        # What a true answer with this chunk would state.
        stated = target_confidence({**sample, "answerable": True, "support_sets": [[shown[cited]]]})
        return {"answered": render_completion(rng.choice(answers), [cited], stated)}
    gold = parse_completion(gold_completion(sample, shown), len(shown))
    if confidence is None:
        confidence = gold.confidence or 0.0
    answer = sample["answer"]
    made = {"refused": render_completion(REFUSAL, [], 0.0)}
    if others := other_answers(sample):
        made["wrong answer"] = render_completion(rng.choice(others), gold.citations, confidence)
    if unsupported := _unsupported(tried, sample, shown):
        made["unsupported answer"] = render_completion(unsupported, gold.citations, confidence)
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
