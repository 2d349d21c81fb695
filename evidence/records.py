"""The output of a source reader: a question with its gold annotation, before evidence is chosen.

Nothing here knows a file format; the readers are in sources/.
"""

from dataclasses import dataclass, field

from evidence.retrieval import query_of
from utils.text import split_sentences

# Most passages that are read from a row in DPR layout, per kind: DPR's training files list dozens of
# negatives.
_MAX_POSITIVES = 3
_MAX_NEGATIVES = 10


@dataclass(frozen=True)
class Passage:
    """A titled run of sentences. `is_gold`: the source marks it as containing the answer."""

    title: str
    sentences: tuple[str, ...]
    is_gold: bool = False


@dataclass(frozen=True)
class Record:
    """One row of a source.

    `gold_sets`: alternative sufficient sets of (page title, sentence index), empty if the source has none.
    `passages`: evidence that comes with the row. `page_titles`: pages to look up in the page store.
    `subject`: names by which a chunk may name the question's subject; empty if the source does not tell.
    `names`: a chunk with one of these may give the answer in other words, so it is no negative. For an
    unanswerable record, chunks of `page_titles` are exempt: the annotators read those pages.
    `cues`: stems of the relation asked about. Support must contain one of them, and a chunk that names the
    subject and contains one is no negative.
    `doubt`: why the row cannot be trusted; a row with a doubt is dropped for that reason.
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
        """The text that evidence is searched with."""
        return query_of(vars(self))


def dpr_passages(row: dict) -> list[Passage]:
    """Passages of a row in DPR layout (Karpukhin et al., 2020).

    The row has `ctxs`, or `positive_ctxs` (gold) with `hard_negative_ctxs` and `negative_ctxs`.
    KeyError, TypeError or AttributeError where the row is not in this layout; the reader names file and line.
    """
    marked = [(ctx, bool(ctx.get("isgold"))) for ctx in row.get("ctxs", [])]
    marked += [(ctx, True) for ctx in row.get("positive_ctxs", [])[:_MAX_POSITIVES]]
    for key in ("hard_negative_ctxs", "negative_ctxs"):
        marked += [(ctx, False) for ctx in row.get(key, [])[:_MAX_NEGATIVES]]

    passages = []
    for ctx, is_gold in marked:
        if ctx["text"].strip():
            passages.append(Passage(ctx["title"], tuple(split_sentences(ctx["text"])), is_gold))
    return passages
