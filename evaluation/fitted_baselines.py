"""Baselines fitted on the train samples beside the test file: what surface or question alone can tell.

`surface_model` answers as the probes of the shortcut audit guess; `claim_only` sees no evidence at all.
Neither sees gold of the test samples. A trained model that does not beat them need not have read anything.
"""

import numpy as np

from evaluation.overlap_baselines import answer_from, verdict_answer
from evaluation.thresholds import REFUSED, Answer
from evidence.surface import asks_verdict, surface_of
from evidence.surface_model import QuestionModel, SurfaceModel


def _confidence(probability: float) -> float:
    return round(float(probability), 2)


def surface_answers(samples: list[dict], train: list[dict]) -> list[Answer]:
    """Answers of `surface_model`: it refuses what it guesses to be unanswerable.

    It cites every chunk that is more probably support than not, and at least the most probable one, which its
    span is from.
    """
    sources = sorted({sample["source"] for sample in train})
    model = SurfaceModel(sources).fit(train, [surface_of(sample) for sample in train])
    surfaces = [surface_of(sample) for sample in samples]
    answerable = model.answerable(samples, surfaces)
    support = model.support(samples, surfaces)
    verdicts = model.verdicts(samples, surfaces)

    answers = []
    for i, sample in enumerate(samples):
        if answerable[i] < 0.5:
            answers.append(REFUSED)
            continue
        best = int(np.argmax(support[i]))
        cited = sorted({best, *np.flatnonzero(support[i] >= 0.5).tolist()})
        is_verdict = asks_verdict(sample)
        text = verdict_answer(sample, verdicts[i] >= 0.5) if is_verdict else answer_from(sample, best)
        answers.append((text, cited, _confidence(answerable[i])))
    return answers


def claim_answers(samples: list[dict], train: list[dict]) -> list[Answer]:
    """Answers of `claim_only`: a verdict where the question asks for one, and a refusal anywhere else.

    A question alone has no span to give. Nor can it tell which chunk is support, so a verdict cites them all.
    """
    model = QuestionModel().fit(train)
    answerable = model.answerable(samples)
    verdicts = model.verdicts(samples)
    # The model weighs both classes alike. With their shares on train, this is where the odds are even.
    cut = 1 - model.share_answerable

    answers = []
    for i, sample in enumerate(samples):
        if not asks_verdict(sample) or answerable[i] < cut:
            answers.append(REFUSED)
            continue
        cited = list(range(len(sample["evidence_chunks"])))
        answers.append((verdict_answer(sample, verdicts[i] >= 0.5), cited, _confidence(answerable[i])))
    return answers
