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
_RULE = re.compile(r" {0,3}(?:[-*_][ \t]*){3,}\s*$|[ \t]*\|?[ \t:|-]*-{3,}[ \t:|-]*\s*$")
_FENCE = re.compile(r" {0,3}(?:```|~~~)")
_DEFINITION = re.compile(r" {0,3}\[[^\]]+\]:[ \t]*\S")
_OPENING = re.compile(r"[ \t]*(?:>[ \t]?)*(?:[-*+][ \t]+|\d{1,3}[.)][ \t]+)(?:\[[ xX]\][ \t]+)?")
_QUOTE = re.compile(r"[ \t]*(?:>[ \t]?)+")
_INLINE = re.compile(
    r"(?P<comment><!--.*?-->)"
    r"|!\[[^\]]*\]\([^)]*\)"
    # The brackets of a link and its target; the text between stays.
    r"|\[(?=[^\[\]]+\](?:\(|\[))|(?<=[^\[])\](?:\([^)\s]*(?:\s+\"[^\"]*\")?\)|\[[^\]]*\])"
    r"|</?[a-zA-Z][^<>]*>"
    r"|\\(?=[!-/:-@\[-`{-~])"
    r"|`+|~~"
    # At a word's edge these are emphasis, inside a word they are text: `2*3`, `snake_case`.
    r"|(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)"
    r"|(?P<entity>&(?:#\w+|\w+);)"
    r"|(?P<cell>\|)",
    re.DOTALL,
)


def _pieces(source: str, start: int, end: int) -> list[Piece]:
    """The visible pieces of a range of a file."""
    pieces = []
    place = start
    for match in _INLINE.finditer(source, start, end):
        pieces.append((source[place : match.start()], place, match.start()))
        place = match.end()
        if match["entity"]:
            pieces.append((html.unescape(match["entity"]), match.start(), place))
        elif match["cell"]:
            pieces.append((" ", match.start(), place))
    pieces.append((source[place:end], place, end))
    return pieces


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
    elif not text.strip() or _RULE.match(text) or _DEFINITION.match(text):
        collector.end()
    elif heading:
        collector.end()
        # Closing marks (`## Title ##`) are no words.
        n_kept = len(re.sub(r"[ \t]+#+[ \t]*$", "", text.rstrip()))
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
