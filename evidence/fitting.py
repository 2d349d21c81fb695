"""Cuts the evidence of a sample until its prompt fits a token limit, without looking at gold.

The same rule serves training and evaluation, so a cut may cost the answer (`Prompt.shows_support` tells).
This module knows no tokenizer and no template: the caller measures.
"""

from collections.abc import Callable

from evidence.retrieval import BM25
from utils.text import chunk_text, split_sentences

# Characters of a word that may stay alone; no longer one is taken for a word.
_LONGEST_WORD = 30


def _without_tail(text: str) -> str:
    """The text without its last sentence, or without a tenth of its words when it is one sentence.

    Always a beginning of the text as it is, because a quote is looked for in its file. A long run without a
    space (Thai, an address) loses a tenth of its characters. One word stays.
    """
    sentences = split_sentences(text)
    if len(sentences) > 1:
        return text.rstrip().removesuffix(sentences[-1]).rstrip()
    # A table or a list is one sentence of hundreds of words: a tenth at a time keeps the number of
    # measurements small.
    n_words = len(text.split())
    if n_words > 1:
        return text.rsplit(None, max(1, n_words // 10))[0]
    return text[: -(len(text) // 10)] if len(text) > _LONGEST_WORD else text


def cut_evidence(
    question: str, chunks: list[dict], n_tokens: Callable[[list[dict]], int], limit: int
) -> tuple[list[int], list[dict]]:
    """(ids of the chunks that are kept, those chunks) such that `n_tokens(kept chunks)` is at most `limit`.

    Chunks go first, the lowest BM25 score to the question before the others; where a long one had to go too,
    those that fit without it come back. Of the last chunk, trailing sentences go, then trailing words; its
    first word always stays, so the result may still be over the limit.
    """
    shown = list(range(len(chunks)))
    scores = BM25(map(chunk_text, chunks)).scores(question)

    def fits(ids: list[int]) -> bool:
        return n_tokens([chunks[i] for i in ids]) <= limit

    dropped: list[int] = []
    while len(shown) > 1 and not fits(shown):
        # Of equal scores, the later chunk goes first.
        dropped.append(min(shown, key=lambda i: (scores[i], -i)))
        shown.remove(dropped[-1])
    # The last one is what was too much; the best of the others first.
    for i in reversed(dropped[:-1]):
        if fits(sorted([*shown, i])):
            shown = sorted([*shown, i])
    kept = [chunks[i] for i in shown]

    # Behind the full stop of Chinese is no space: a text of a single word may have sentences to leave out.
    while n_tokens(kept) > limit and (text := _without_tail(kept[0]["text"])) != kept[0]["text"]:
        kept = [{**kept[0], "text": text}]
    return shown, kept
