"""What is visible of a line of Markdown: link targets, emphasis, comments and pictures are left out.

It knows marks within a line, not what a line is. What is not closed is text.
"""

import html
import re

from asking.words import Piece

_INLINE = re.compile(
    # Of a comment and a picture the opening; `_end_of` looks for the end.
    r"(?P<comment><!--)"
    r"|(?P<image>!\[[^\[\]]*\]\()"
    # The brackets of a link and its target, of which this is the opening; the text between stays.
    r"|\[(?=[^\[\]]+\](?:\(|\[))|(?P<target>(?<=[^\[])\]\()|(?<=[^\[])\]\[[^\]]*\]"
    r"|</?[a-zA-Z][^<>]*>"
    r"|\\(?=[!-/:-@\[-`{-~])"
    r"|(?P<code>`+)|~~"
    # At a word's edge these are emphasis, inside a word they are text: `2*3`, `snake_case`.
    r"|(?<!\w)[*_]{1,3}(?=\S)|(?<=\S)[*_]{1,3}(?!\w)"
    r"|(?P<entity>&(?:#\w+|\w+);)"
    r"|(?P<cell>\|)"
    # What begins the later lines of a quote.
    r"|(?<=[\r\n])[ \t]*(?:>[ \t]?)+",
    re.DOTALL,
)
# An address may have pairs of parentheses: `Juno_(spacecraft)`. Without a pair, the first one ends it.
_TARGET = re.compile(r"(?:(?:[^()\s]|\([^()\s]*\))*|[^)\s]*)(?:\s+\"[^\"]*\")?\)")
_MAX_CODE_MARKS = 5
_NO_ADDRESS = re.compile(r"[)\s]")


class Closings:
    """Finds what closes a mark, in a range that ends at `end`; what is not there is looked for once."""

    def __init__(self, source: str, end: int):
        self._source = source
        self._end = end
        # A million openings without an end would each be searched for it.
        self._absent: set[str] = set()
        # Up to here, no target of a link has an end.
        self._no_target = 0

    def after_code(self, marks: str, start: int) -> int | None:
        """The place behind the run of backticks that ends code which `marks` opened; None without any."""
        # Each number of them is searched for once; nobody writes more than a few.
        if marks in self._absent or len(marks) > _MAX_CODE_MARKS:
            return None
        found = re.compile(f"(?<!`){marks}(?!`)").search(self._source, start, self._end)
        if not found:
            self._absent.add(marks)
            return None
        return found.end()

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


def _end_of(match: re.Match, closings: Closings) -> int | None:
    """Where a mark ends; None for an opening that nothing closes, which is text."""
    if match["comment"]:
        return closings.after("-->", match.end())
    if match["target"]:
        return closings.after_target(match.end())
    if match["code"]:
        # Backticks that nothing closes are no words either.
        return closings.after_code(match["code"], match.end()) or match.end()
    if match["image"]:
        return closings.after_target(match.end()) or closings.after(")", match.end())
    return match.end()


def visible_pieces(source: str, start: int, end: int) -> list[Piece]:
    """The visible pieces of a range of a file."""
    pieces = []
    place = start
    searched = start
    closings = Closings(source, end)
    while match := _INLINE.search(source, searched, end):
        last = _end_of(match, closings)
        searched = match.start() + 1
        if last is None:
            continue
        pieces.append((source[place : match.start()], place, match.start()))
        place = searched = last
        if match["code"] and last > match.end():
            # Code is text as it is: no mark in it is markup.
            n_marks = len(match["code"])
            code = (match.end(), last - n_marks)
            pieces.append((source[slice(*code)], *code))
        elif match["entity"]:
            pieces.append((html.unescape(match["entity"]), match.start(), place))
        elif match["cell"]:
            pieces.append((" ", match.start(), place))
    pieces.append((source[place:end], place, end))
    return pieces
