"""HTML and plain text as blocks: paragraphs, list items and headings, each with the places of its words.

The parser is that of the standard library: it never fails on a page, and runs no script.
"""

import html
import re
from collections.abc import Callable
from dataclasses import dataclass
from html.parser import HTMLParser

from asking.hidden_elements import HiddenElements
from asking.words import END_MARKS, Piece, Words, words_of

_SKIPPED = frozenset("script style template noscript svg iframe object".split())
_HEADINGS = frozenset("h1 h2 h3 h4 h5 h6 title".split())
_BLOCKS = frozenset(
    "address article aside blockquote body caption center dd details dialog dir div dl dt fieldset "
    "figcaption figure footer form header hgroup hr html legend li main menu nav ol optgroup option p pre "
    "search section summary table tbody tfoot thead tr ul".split()
)
# These end a word but no sentence: a table's row is read as one line.
_SPACES = frozenset("br button input label select td textarea th".split())
# A definition is read with its term, also where it begins with a paragraph.
_DEFINITION = frozenset(["dd"])
_FIRST_PARAGRAPH = frozenset(["div", "p"])
# A first line of at most so many words, without an end mark and with a blank line behind it, is a title.
_MAX_TITLE_WORDS = 12
# The standard library's parser looks for the end of a construct that nothing closes up to the end of the
# page, which takes hours where there are some hundred thousand of them. After this many characters per
# character of the page, what begins like a construct is text.
_MAX_SEARCHES = 20
# Spelled out, because `\r\n?` would take the two halves of a Windows line end for two lines.
_NEWLINE = r"(?:\r\n|\r(?!\n)|(?<!\r)\n)"
_BLANK_LINE = re.compile(rf"{_NEWLINE}[ \t]*(?={_NEWLINE})")
_LIST_ITEM = re.compile(rf"(?:{_NEWLINE}|^)[ \t]*(?:[-*+\u2022]|(?P<number>\d{{1,3}})[.)])[ \t]+(?=\S)")


@dataclass(frozen=True)
class Block:
    """A paragraph or a heading. `level`: 0 for text, 1 for a title, more for headings below it."""

    words: Words
    level: int = 0


class _PageParser(HTMLParser):
    """Collects the visible text of a page as blocks."""

    def __init__(self, source: str):
        # Entities arrive one by one, because only then their places are known.
        super().__init__(convert_charrefs=False)
        self.source = source
        self.blocks: list[Block] = []
        self._pieces: list[Piece] = []
        self._level = 0
        self._n_skipped = 0
        # Elements that would not end the block if they began here.
        self._continuing: frozenset[str] = frozenset()
        self._hidden = HiddenElements(_BLOCKS | _HEADINGS)
        # Characters that may still be searched in vain.
        self._n_left = _MAX_SEARCHES * len(source) + (1 << 20)
        # Where each line begins, as the parser counts lines.
        self._lines = [0, *(match.end() for match in re.finditer("\n", source))]

    @property
    def place(self) -> int:
        """The offset of what is being parsed."""
        line, column = self.getpos()
        return self._lines[line - 1] + column

    def end_block(self) -> None:
        words = words_of(self._pieces)
        if words.texts:
            self.blocks.append(Block(words, self._level))
        self._pieces = []
        self._continuing = frozenset()

    def _add(self, text: str, start: int, end: int) -> None:
        if not self._n_skipped and not self._hidden:
            self._pieces.append((text, start, end))
            if self._continuing is _FIRST_PARAGRAPH and text.strip():
                self._continuing = frozenset()

    def _bounded(self, parse: Callable[..., int], start: int, *options) -> int:
        """Where the construct at `start` ends, -1 without an end; behind its `<` if enough was searched."""
        if self._n_left < 0:
            self.handle_data("<")
            return start + 1
        end = parse(start, *options)
        if end < 0:
            self._n_left -= len(self.rawdata) - start
        return end

    def parse_starttag(self, i: int) -> int:
        return self._bounded(super().parse_starttag, i)

    def parse_endtag(self, i: int) -> int:
        return self._bounded(super().parse_endtag, i)

    def parse_comment(self, i: int, *options) -> int:
        return self._bounded(super().parse_comment, i, *options)

    def parse_html_declaration(self, i: int) -> int:
        return self._bounded(super().parse_html_declaration, i)

    def parse_pi(self, i: int) -> int:
        return self._bounded(super().parse_pi, i)

    def handle_starttag(self, tag: str, attrs: list) -> None:
        if tag in _SKIPPED:
            self._n_skipped += 1
        elif self._hidden.start(tag, attrs):
            if tag in _BLOCKS:
                self.end_block()
        elif tag in self._continuing:
            self._continuing = _FIRST_PARAGRAPH
            self._add(" ", self.place, self.place)
        elif tag in _BLOCKS or tag in _HEADINGS:
            self.end_block()
            if tag == "dt":
                self._continuing = _DEFINITION
            # A heading that nobody closed ends where the next block begins.
            self._level = 0
            if tag in _HEADINGS:
                self._level = 1 if tag == "title" else int(tag[1])
        elif tag in _SPACES:
            self._add(" ", self.place, self.place)

    def handle_startendtag(self, tag: str, attrs: list) -> None:
        # `<svg/>` opens nothing that would have to be closed.
        if tag not in _SKIPPED:
            self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag in _SKIPPED:
            self._n_skipped = max(0, self._n_skipped - 1)
        elif self._hidden.end(tag):
            return
        elif tag == "dt" and self._continuing is _DEFINITION:
            self._add(" ", self.place, self.place)
        elif tag in _BLOCKS or tag in _HEADINGS:
            self.end_block()
            self._level = 0
        elif tag in _SPACES:
            self._add(" ", self.place, self.place)

    def handle_data(self, data: str) -> None:
        self._add(data, self.place, self.place + len(data))

    def _add_reference(self, start: int, end: int) -> None:
        end += self.source[end : end + 1] == ";"
        self._add(html.unescape(self.source[start:end]), start, end)

    def handle_entityref(self, name: str) -> None:
        self._add_reference(self.place, self.place + len(name) + 1)

    def handle_charref(self, name: str) -> None:
        self._add_reference(self.place, self.place + len(name) + 2)


def html_blocks(source: str) -> list[Block]:
    """The visible text of an HTML page."""
    parser = _PageParser(source)
    parser.feed(source)
    parser.close()
    parser.end_block()
    return parser.blocks


def text_blocks(source: str) -> list[Block]:
    """The paragraphs and list items of plain text. A short first line with a blank line below is a title."""
    blocks = []
    ends = [*(match.start() for match in _BLANK_LINE.finditer(source)), len(source)]
    for start, end in zip([0, *ends], ends):
        for first, last in _items(source, start, end):
            words = words_of([(source[first:last], first, last)])
            if words.texts:
                blocks.append(Block(words))
    if len(blocks) > 1 and _is_title(source, blocks[0].words, blocks[1].words.starts[0]):
        blocks[0] = Block(blocks[0].words, level=1)
    return blocks


def _items(source: str, start: int, end: int) -> list[tuple[int, int]]:
    """The ranges of a paragraph, cut where a line begins with a list marker, and without the markers.

    Within sentences, a number that is not 1 at the beginning of a line is the end of one.
    """
    ranges: list[tuple[int, int]] = []
    for marker in _LIST_ITEM.finditer(source, start, end):
        is_within = not ranges and source[start : marker.start()].strip()
        if is_within and marker["number"] not in (None, "1"):
            continue
        ranges.append((start, marker.start()))
        start = marker.end()
    return [*ranges, (start, end)]


def _is_title(source: str, words: Words, next_start: int) -> bool:
    has_end = words.texts[-1].endswith((*END_MARKS, ",", ";", "，", "；"))
    is_short = len(words.texts) <= _MAX_TITLE_WORDS and not has_end
    is_one_line = not re.search(r"[\r\n]", source[words.starts[0] : words.ends[-1]])
    gap = source[words.ends[-1] : next_start]
    return is_short and is_one_line and len(re.findall(_NEWLINE, gap)) > 1
