"""Markdown as blocks: paragraphs, list items, table rows and headings, without their markup.

Link targets, emphasis and list markers are left out of the words, never out of the offsets: a quote is cut
from the file as it is. What is not recognized as markup stays text.
"""

import html
import re

from asking.markup import Block
from asking.words import Piece, words_of

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|$)")
_FRONT_MATTER = re.compile(r"---[ \t]*\r?\n.*?\r?\n(?:---|\.\.\.)[ \t]*(?:\r?\n|$)", re.DOTALL)
_HEADING = re.compile(r" {0,3}(#{1,6})[ \t]+")
_UNDERLINE = re.compile(r" {0,3}(=+|-{2,})\s*$")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:[ \t]*\S")
_OPENING = re.compile(r"[ \t]*(?:>[ \t]?)*(?:[-*+][ \t]+|\d{1,3}[.)][ \t]+)(?:\[[ xX]\][ \t]+)?")
_QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)+")
_INLINE = re.compile(
    # Of a comment and a picture the opening; `_end_of` looks for the end.
    r"(?P<comment><!--)"
    r"|(?P<image>!\[[^\[\]]*\]\()"
    # The brackets of a link and its target, of which this is the opening; the text between stays.
    r"|\[(?=[^\[\]]+\](?:\(|\[))|(?P<target>(?<=[^\[])\]\()|(?<=[^\[])\]\[[^\]]*\]"
    r"|</?[a-zA-Z][^<>]*>"
    r"|\\(?=[!-/:-@\[-`{-~])"
    r"|`+|~~"
    # At a word's edge these are emphasis, inside a word they are text: `2*3`, `snake_case`.
    r"|(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)"
    r"|(?P<entity>&(?:#\w+|\w+);)"
    r"|(?P<cell>\|)",
    re.DOTALL,
)
_TARGET = re.compile(r"[^)\s]*(?:\s+\"[^\"]*\")?\)")
_NO_ADDRESS = re.compile(r"[)\s]")


class _Closings:
    """Finds what closes a mark, in a range that ends at `end`; what is not there is looked for once."""

    def __init__(self, source: str, end: int):
        self._source = source
        self._end = end
        # A million openings without an end would each be searched for it.
        self._absent: set[str] = set()
        # Up to here, no target of a link has an end.
        self._no_target = 0

    def after(self, closing: str, start: int) -> int | None:
        """The place behind the first `closing` from `start` on; None without any."""
        if closing in self._absent:
            return None
        place = self._source.find(closing, start, self._end)
        if place < 0:
            self._absent.add(closing)
            return None
        return place + len(closing)

    def after_target(self, start: int) -> int | None:
        """The place behind the target of a link, whose bracket is before `start`; None if it has no end."""
        if start < self._no_target:
            return None
        if match := _TARGET.match(self._source, start, self._end):
            return match.end()
        stop = _NO_ADDRESS.search(self._source, start, self._end)
        self._no_target = stop.start() if stop else self._end
        return None


def _end_of(match: re.Match, closings: _Closings) -> int | None:
    """Where a mark ends; None for an opening that nothing closes, which is text."""
    if match["comment"]:
        return closings.after("-->", match.end())
    if match["target"]:
        return closings.after_target(match.end())
    return closings.after(")", match.end()) if match["image"] else match.end()


def _pieces(source: str, start: int, end: int) -> list[Piece]:
    """The visible pieces of a range of a file."""
    pieces = []
    place = start
    searched = start
    closings = _Closings(source, end)
    while match := _INLINE.search(source, searched, end):
        last = _end_of(match, closings)
        searched = match.start() + 1
        if last is None:
            continue
        pieces.append((source[place : match.start()], place, match.start()))
        place = searched = last
        if match["entity"]:
            pieces.append((html.unescape(match["entity"]), match.start(), place))
        elif match["cell"]:
            pieces.append((" ", match.start(), place))
    pieces.append((source[place:end], place, end))
    return pieces


def _is_rule(line: str) -> bool:
    """True for a line that is drawn as one (`- - -`), and for the line below a table's head."""
    marks = set(line.strip())
    n_drawn = sum(line.count(mark) for mark in "-*_")
    is_indented = len(line) - len(line.lstrip(" ")) > 3 or line.lstrip(" ").startswith("\t")
    is_drawn = marks <= set("-*_ \t") and n_drawn >= 3 and not is_indented
    return is_drawn or (marks <= set("-:| \t") and "---" in line)


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
        self.pieces: list[Piece] = []
        self.is_quote = False

    def add(self, start: int, end: int) -> None:
        self.pieces += _pieces(self.source, start, end)

    def end(self, level: int = 0) -> None:
        words = words_of(self.pieces)
        if words.texts:
            self.blocks.append(Block(words, level))
        self.pieces = []


def markdown_blocks(source: str) -> list[Block]:
    """The text of a Markdown file."""
    front_matter = _FRONT_MATTER.match(source)
    collector = _Collector(source)
    in_fence = False
    for line in _LINE.finditer(source, front_matter.end() if front_matter else 0):
        if _FENCE.match(line.group()):
            in_fence = not in_fence
            collector.end()
        elif in_fence:
            # Code is text as it is: no mark in it is markup.
            collector.pieces.append((line.group(), line.start(), line.end()))
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
    if underline and collector.pieces:
        collector.end(level=1 if "=" in text else 2)
    elif not text.strip() or _is_rule(text) or _DEFINITION.match(text):
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
    elif opening := _OPENING.match(text):
        collector.end()
        collector.add(start + opening.end(), line.end())
    else:
        quote = _QUOTE.match(text)
        if bool(quote) != collector.is_quote:
            collector.end()
            collector.is_quote = bool(quote)
        collector.add(start + (quote.end() if quote else 0), line.end())
