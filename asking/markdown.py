"""Markdown as blocks: paragraphs, list items, table rows and headings, without their markup.

Link targets, emphasis and list markers are left out of the words, never out of the offsets: a quote is cut
from the file as it is. What is not recognized as markup stays text.
"""

import re

from asking.markdown_inline import Closings, visible_pieces
from asking.markup import Block
from asking.words import Piece, words_of

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
# A file may also begin with a rule, which no key and no comment follows.
_FRONT_MATTER = re.compile(
    r"---[ \t]*\r?\n(?=#|[\w.-]+:(?:[ \t]|\r?\n)).*?\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", re.DOTALL
)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})\s*$")
# Of code, in a list item too. Code within a line may begin with three backticks as well, and ends in it.
_FENCE = re.compile(
    r"(?P<indent> {0,3}(?:(?:[-*+]|\d{1,3}[.)])[ \t]+)?)(?P<marks>`{3,}(?=[^`]*$)|~{3,})", re.DOTALL
)
# An address and perhaps a title in quotes; `[Mary]: I went home` is text, and so is a footnote.
_DEFINITION = re.compile(r" {0,3}\[(?!\^)[^\]]+\]:[ \t]*(?:<[^<>]*>|\S+)(?:[ \t]+[\"'(].*)?\s*$")
_OPENING = re.compile(
    r"[ \t]*(?:>[ \t]?)*(?:[-*+][ \t]+|(?P<number>\d{1,3})[.)][ \t]+|\[\^[^\]]+\]:[ \t]*)(?:\[[ xX]\][ \t]+)?"
)
_QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)+")
_CODE = re.compile(r"(?<!`)(`{1,5})(?!`).*?(?<!`)\1(?!`)")
_BLANK_LINE = re.compile(r"(?:\n|\r(?!\n))[ \t]*(?:\r|\n)")


def _is_rule(line: str) -> bool:
    """True for a line that is drawn as one (`- - -`), and for the line below a table's head."""
    marks = set(line.strip())
    n_drawn = sum(line.count(mark) for mark in "-*_")
    is_indented = len(line) - len(line.lstrip(" ")) > 3 or line.lstrip(" ").startswith("\t")
    is_drawn = marks <= set("-*_ \t") and n_drawn >= 3 and not is_indented
    return is_drawn or (marks <= set("-:| \t") and ("---" in line or {"-", "|"} <= marks))


def _ends_fence(line: str, fence: re.Match) -> bool:
    """True for a line of the marks that opened a fence, at least as many, and nothing else."""
    text = line.strip()
    n_indent = len(line) - len(line.lstrip(" \t"))
    is_like = len(text) >= len(fence["marks"]) and not text.strip(fence["marks"][0])
    # Three spaces more than where the text of the list item begins.
    return is_like and n_indent <= len(fence["indent"].expandtabs(4)) + 3


def _without_closing_marks(heading: str) -> str:
    """A heading's line without the marks at its end (`## Title ##`), which are no words."""
    text = heading.rstrip()
    unmarked = text.rstrip("#")
    return unmarked.rstrip(" \t") if unmarked != text and unmarked.endswith((" ", "\t")) else text


class _Collector:
    """Lines of one block, until a line begins another."""

    def __init__(self, source: str):
        self.source = source
        self.blocks: list[Block] = []
        self._pieces: list[Piece] = []
        # Lines that follow each other are read together: a link may begin in one and end in the next.
        self._lines = (0, 0)
        self.is_quote = False
        # The block began with a list marker.
        self.is_item = False

    @property
    def is_begun(self) -> bool:
        first, last = self._lines
        return first < last or bool(self._pieces)

    def add(self, start: int, end: int, line_start: int | None = None) -> None:
        """Add the text of a line, which begins at `line_start` with marks of a quote, if it is given."""
        first, last = self._lines
        if first == last or last not in (start, line_start):
            self._read_lines()
            first = start
        self._lines = (first, end)

    def add_code(self, start: int, end: int) -> None:
        """Code is text as it is: no mark in it is markup."""
        self._pieces.append((self.source[start:end], start, end))

    def _read_lines(self) -> None:
        self._pieces += visible_pieces(self.source, *self._lines)

    def end(self, level: int = 0) -> None:
        self._read_lines()
        words = words_of(self._pieces)
        if words.texts:
            self.blocks.append(Block(words, level))
        self._pieces = []
        self._lines = (0, 0)
        self.is_item = False


def _begins_item(opening: re.Match | None, collector: _Collector) -> bool:
    """Whether a list marker is one: within a paragraph a number that is not 1 is the end of its sentence."""
    if not opening:
        return False
    return not collector.is_begun or collector.is_item or opening["number"] in (None, "1")


class _Comments:
    """Finds comments of several lines, which no line by itself shows."""

    def __init__(self, source: str):
        self._closings = Closings(source, len(source))
        self._source = source

    def opened_in(self, line: re.Match) -> tuple[int, int] | None:
        """The range of a comment that begins in this line and ends in another one; None without any."""
        if "<!--" not in line.group():
            return None
        # Code shows what a comment looks like.
        text = _CODE.sub(lambda code: " " * len(code.group()), line.group())
        start = text.find("<!--", max(text.rfind("-->"), 0))
        if start < 0:
            return None
        start += line.start()
        end = self._closings.after("-->", line.end())
        is_inline = bool(self._source[line.start() : start].strip())
        # A blank line ends a paragraph, and with it what was open in it.
        if end is None or (is_inline and _BLANK_LINE.search(self._source, start, end)):
            return None
        return start, end


def markdown_blocks(source: str) -> list[Block]:
    """The text of a Markdown file."""
    front_matter = _FRONT_MATTER.match(source)
    collector = _Collector(source)
    comments = _Comments(source)
    fence: re.Match | None = None
    place = front_matter.end() if front_matter else 0
    while place < len(source):
        line = _LINE.match(source, place)
        assert line
        place = line.end()
        if fence and _ends_fence(line.group(), fence):
            fence = None
            collector.end()
        elif fence:
            collector.add_code(line.start(), line.end())
        elif fence := _FENCE.match(line.group()):
            collector.end()
        elif comment := comments.opened_in(line):
            before = _LINE.match(source, line.start(), comment[0])
            place = comment[1]
            if before and before.group().strip():
                _add_line(collector, before)
        else:
            _add_line(collector, line)
    collector.end()
    return collector.blocks


def _add_line(collector: _Collector, line: re.Match) -> None:
    """Add a line outside of code to the block it belongs to."""
    text = line.group()
    start = line.start()
    heading = _HEADING.match(text)
    underline = _UNDERLINE.match(text)
    opening = _OPENING.match(text)
    if underline and collector.is_begun and not (collector.is_item or collector.is_quote):
        collector.end(level=1 if "=" in text else 2)
    elif underline or not text.strip() or _is_rule(text) or _DEFINITION.match(text):
        collector.end()
    elif heading:
        collector.end()
        n_kept = len(_without_closing_marks(text))
        collector.add(start + heading.end(), start + max(n_kept, heading.end()))
        collector.end(level=len(heading.group(1)))
    elif text.lstrip().startswith("|"):
        collector.end()
        collector.add(start, line.end())
        collector.end()
    elif opening and _begins_item(opening, collector):
        collector.end()
        collector.is_item = True
        collector.is_quote = bool(_QUOTE.match(text))
        collector.add(start + opening.end(), line.end())
    else:
        quote = _QUOTE.match(text)
        if bool(quote) != collector.is_quote:
            collector.end()
            collector.is_quote = bool(quote)
        collector.add(start + (quote.end() if quote else 0), line.end(), line_start=start)
