"""The output of a source reader: a question with its gold annotation, before evidence is chosen.

Nothing here knows a file format; the readers are in sources/. A passage is its title *and* its text: two
paragraphs may have one title, and untitled ones have nothing but their text.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from evidence.queries import query_of


@dataclass(frozen=True)
class Passage:
    """A run of sentences. `is_gold`: the source marks it as containing the answer.

    In an unanswerable row, a marked passage is the topic: the annotators read it and found no answer there.

    `page`: what gold sets call the passage. By default its title or, without one, a key made from its text.
    The title is for display, and for what belongs to one page across rows (`leak_page`).
    """

    title: str
    sentences: tuple[str, ...]
    is_gold: bool = False
    page: str = ""

    def __post_init__(self) -> None:
        if not self.page:
            # The only way to fill in a field of a frozen object.
            object.__setattr__(self, "page", self.leak_page)

    @property
    def text_key(self) -> str:
        """A key that no passage with another title or text has; spaces, which nobody sees, do not count."""
        text = " ".join(" ".join(self.sentences).split())
        digest = hashlib.sha1(text.encode("utf-8", "replace"), usedforsecurity=False).hexdigest()
        return f"{self.title}#{digest[:12]}"

    @property
    def leak_page(self) -> str:
        """What connects it with rows of the same page: its title or, without one, the key of its text."""
        return leak_page(self.title, self.text_key)


def told_apart(passages: Iterable[Passage]) -> tuple[Passage, ...]:
    """The passages of one row, each with a page of its own.

    The first passage of a title keeps the title as its page; a later one with other text gets its `text_key`.
    One with the same text is the same passage, marked as gold if either is.
    """
    kept: dict[str, Passage] = {}
    pages = set()
    for passage in passages:
        key = passage.text_key
        if key in kept:
            is_gold = kept[key].is_gold or passage.is_gold
            kept[key] = replace(kept[key], is_gold=is_gold)
            continue
        page = key if passage.page in pages else passage.page
        pages.add(page)
        kept[key] = replace(passage, page=page)
    return tuple(kept.values())


def twin_id(sample_id: str) -> str:
    """The id of a sample's unanswerable twin."""
    return f"{sample_id}:unanswerable"


def leak_page(title: str, text: str) -> str:
    """What rows of two splits must not share: the title of a page or, without a title, its text."""
    return title if title.strip() else text


@dataclass(frozen=True)
class Record:
    """One row of a source.

    `gold_sets`: alternative sufficient sets of (page, sentence index), empty if the source has none. The page
    is that of a passage, or the title of a page in the page store.
    `passages`: evidence that comes with the row. `page_titles`: pages to look up in the page store.
    `related_titles`: other pages that an annotated claim names, for negatives alone.
    `titles_name_pages`: False where one title may name many passages, as in a handbook of the user's own.
    There, a yes/no answer's negatives may come from other passages of the support's title.
    `subject`: names by which a chunk may name the question's subject; empty if the source does not tell.
    `names`: a chunk with one of these may give the answer in other words, so it is no negative. For an
    unanswerable record, chunks of `page_titles` are exempt: the annotators read those pages.
    `cues`: stems of the relation asked about. Support must contain one of them, and a chunk that names the
    subject and contains one is no negative.
    `is_read_whole`: the annotators read all of the passages, so what is in no gold set does not answer.
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
    related_titles: tuple[str, ...] = ()
    titles_name_pages: bool = True
    subject: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    cues: frozenset[str] = frozenset()
    is_read_whole: bool = False
    doubt: str = ""
    metadata: dict = field(default_factory=dict)

    @property
    def is_claim(self) -> bool:
        """Whether the row is a claim to be judged, not a question."""
        return "claim" in self.metadata

    @property
    def has_evidence(self) -> bool:
        """Whether the row comes with evidence or, as a claim, names its pages; else it has to be searched."""
        return bool(self.gold_sets or self.passages or self.is_claim)

    @property
    def query(self) -> str:
        """The text that evidence is searched with."""
        return query_of(vars(self))
