"""What a source reader yields: a question with its gold, before evidence is chosen."""

from dataclasses import dataclass, field

from utils.text import split_sentences


@dataclass(frozen=True)
class Passage:
    """A titled run of sentences. `is_gold`: the source marks it as holding the answer."""

    title: str
    sentences: tuple[str, ...]
    is_gold: bool = False


@dataclass(frozen=True)
class Record:
    """One row of a source.

    `gold_sets`: alternative sufficient sets of (page title, sentence index), empty when the source has none.
    `passages`: evidence that comes with the row. `page_titles`: pages to look up in the page store.
    `subject`: names by which a chunk may name the question's subject; empty when the source does not tell.
    `names`: a chunk that holds one of these may say the answer in words of its own, so it is no negative (of an unanswerable record:
    unless it stands on one of `page_titles`, which the annotators read).
    `cues`: stems of which the support says one, while a chunk that names the subject and says one is no negative.
    `doubt`: why the row is not to be trusted; such a row is dropped.
    """

    id: str
    source: str
    question: str
    answers: tuple[str, ...]
    answerable: bool
    official_split: str
    gold_sets: tuple[tuple[tuple[str, int], ...], ...] = ()
    passages: tuple[Passage, ...] = ()
    page_titles: tuple[str, ...] = ()
    subject: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    cues: frozenset[str] = frozenset()
    doubt: str = ""
    metadata: dict = field(default_factory=dict)

    @property
    def query(self) -> str:
        """What evidence is searched with: the question, or of a FEVER row the claim alone, without the words that all these questions share."""
        return self.metadata.get("claim", self.question)


def dpr_passages(row: dict) -> list[Passage]:
    """Passages of a row in DPR layout (Karpukhin et al., 2020): `ctxs`, or `positive_ctxs` (gold) and the two kinds of negatives."""
    marked = [(ctx, bool(ctx.get("isgold"))) for ctx in row.get("ctxs", [])]
    marked += [(ctx, True) for ctx in row.get("positive_ctxs", [])[:3]]
    marked += [
        (ctx, False) for key in ("hard_negative_ctxs", "negative_ctxs") for ctx in row.get(key, [])[:10]
    ]
    return [
        Passage(ctx["title"], tuple(split_sentences(ctx["text"])), gold)
        for ctx, gold in marked
        if ctx["text"].strip()
    ]
