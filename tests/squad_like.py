"""Invented rows in the shape of SQuAD 2.0 in DPR layout, as public converters write them.

Few articles, many paragraphs per article and many questions per paragraph. The title is the article's, only
the paragraph of the question comes with it, and a question that it does not answer has no answers. A few
questions are asked about several articles, as "What is its population?" is in SQuAD.
"""

import random

_SYLLABLES = ("bran", "tol", "kesk", "odran", "pelt", "vorn", "hask", "lund", "mer", "sil", "gar", "wen")
_ENDINGS = ("holm", "dale", "mere", "vik", "ford", "stad", "ness", "gate")
_KINDS = ("bridge", "mill", "school", "canal", "theater", "archive", "garden", "harbor", "chapel", "market")
_WORDS = (
    *("stone", "river", "wood", "glass", "copper", "winter", "autumn", "farmers", "sailors", "weavers"),
    *("council", "guild", "letters", "maps", "barley", "salt", "wool", "lamps", "bells", "towers"),
    *("meadows", "clouds", "carts", "ovens", "sheep", "ropes", "sails", "orchards", "fences", "wells"),
)
# Sentence and question of a relation. A paragraph states two of them and is asked about two more.
_RELATIONS = (
    ("The architect of the {place} was {answer}.", "Which architect drew the plans of the {place}?"),
    ("The {place} was founded in {answer}.", "When was the {place} founded?"),
    ("A fire destroyed the {place} in {answer}.", "In what year did fire destroy the {place}?"),
    ("The bishop {answer} blessed the {place}.", "Which bishop gave his blessing to the {place}?"),
    ("The {place} belonged to the merchant {answer}.", "To which merchant did the {place} belong?"),
    ("Soldiers occupied the {place} in {answer}.", "When did soldiers occupy the {place}?"),
    ("The painter {answer} decorated the {place}.", "What painter decorated the {place}?"),
    ("The {place} was sold at auction in {answer}.", "In which year was the {place} sold at auction?"),
    ("The poet {answer} praised the {place}.", "Who praised the {place} in a poem?"),
    ("Electric light reached the {place} in {answer}.", "When did electric light come to the {place}?"),
    ("The geologist {answer} surveyed the {place}.", "Which geologist surveyed the {place}?"),
    ("The {place} closed to visitors in {answer}.", "What year did the {place} close to visitors?"),
)


def _name(rng: random.Random) -> str:
    return (rng.choice(_SYLLABLES) + rng.choice(_SYLLABLES) + rng.choice(_ENDINGS)).capitalize()


def _sentences(rng: random.Random, n: int) -> list[str]:
    """Sentences of twelve words that answer none of the questions."""
    found = []
    for _ in range(n):
        first, *others = rng.choices(_WORDS, k=9)
        found.append(f"{first.capitalize()} and {' '.join(others)} were known there.")
    return found


def _paragraph(rng: random.Random, place: str) -> tuple[str, list[tuple[str, list[str]]]]:
    """Text of a paragraph about a place, and (question, answers) of its questions; half have no answer."""
    sentences = _sentences(rng, 2)
    asked = []
    for i, (sentence, question) in enumerate(rng.sample(_RELATIONS, 4)):
        is_year = "in {answer}" in sentence
        answer = str(rng.randint(1500, 1899)) if is_year else f"{_name(rng)} {_name(rng)}"
        if i < 2:
            sentences.append(sentence.format(place=place, answer=answer))
        asked.append((question.format(place=place), [answer] if i < 2 else []))
    if rng.random() < 0.02:
        asked.append(("What was its population at the end of the last century?", []))
    return " ".join(sentences + _sentences(rng, 3)), asked


def squad_rows(n_articles: int, n_paragraphs: int, seed: int = 0) -> list[dict]:
    """Rows of `n_articles` articles, each of about `n_paragraphs` paragraphs with four questions."""
    rng = random.Random(seed)
    rows = []
    for number in range(n_articles):
        article = f"{_name(rng)} {number}"
        for _ in range(rng.randint(n_paragraphs // 2, n_paragraphs * 3 // 2)):
            text, asked = _paragraph(rng, f"{_name(rng)} {rng.choice(_KINDS)}")
            for question, answers in asked:
                ctx = {"title": article, "text": text}
                row_id = f"{len(rows):06d}"
                rows.append({"id": row_id, "question": question, "answers": answers, "positive_ctxs": [ctx]})
    return rows
