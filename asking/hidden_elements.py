"""Whether a place of an HTML page is inside an element that a browser does not show.

By the `hidden` attribute, as a `<dialog>` that is not `open`, or by an inline style without a box (`display:
none`) or without ink (`visibility: hidden`). Style sheets are not read. Ends that may be left out, as that of
`<p>`, follow the HTML standard's rules (section 13.1.2.4) for the element itself; elements inside it end with
it.
"""

import re
from collections import Counter

# They have no end, and no text.
_VOID = frozenset("area base br col embed hr img input link meta param source track wbr".split())
# Of an element whose end may be left out: what begins behind it, besides another one of its kind.
_FOLLOWERS = {
    "li": frozenset(),
    "dt": frozenset(["dd"]),
    "dd": frozenset(["dt"]),
    "td": frozenset(["th", "tr", "tbody", "tfoot"]),
    "th": frozenset(["td", "tr", "tbody", "tfoot"]),
    "tr": frozenset(["tbody", "tfoot"]),
    "thead": frozenset(["tbody", "tfoot"]),
    "tbody": frozenset(["tfoot"]),
    "option": frozenset(["optgroup"]),
}
# More than so many elements of a line within each other are not looked through.
_MAX_UNCLOSED = 20
_STYLE = re.compile(r"(?:^|;)\s*(?:display\s*:\s*none|visibility\s*:\s*hidden)\b", re.IGNORECASE)


def _hides(tag: str, attrs: list[tuple[str, str | None]]) -> bool:
    found = dict(attrs)
    is_closed = tag == "dialog" and "open" not in found
    return is_closed or "hidden" in found or bool(_STYLE.search(found.get("style") or ""))


class HiddenElements:
    """Follows the tags of a page. `blocks`: names of elements that are no part of a line."""

    def __init__(self, blocks: frozenset[str]):
        self._blocks = blocks
        # The hidden element and what is open in it; empty where text is visible.
        self._open: list[str] = []
        # The same names, because the list may be long.
        self._n_open: Counter[str] = Counter()

    def __bool__(self) -> bool:
        return bool(self._open)

    def start(self, tag: str, attrs: list[tuple[str, str | None]]) -> bool:
        """Note a start tag. True if what follows it is hidden."""
        while (place := self._ended_by(tag)) is not None:
            self._close_to(place)
        if tag not in _VOID and (self._open or _hides(tag, attrs)):
            self._open.append(tag)
            self._n_open[tag] += 1
        return bool(self._open)

    def end(self, tag: str) -> bool:
        """Note an end tag. True if it is that of a hidden element, or of one inside."""
        if not self._open:
            return False
        if self._n_open[tag]:
            place = len(self._open) - 1
            while self._open[place] != tag:
                place -= 1
            self._close_to(place)
            return True
        # The end of what is around a hidden element is its end.
        if tag in self._blocks:
            self._close_to(0)
        return bool(self._open)

    def _ended_by(self, tag: str) -> int | None:
        """The place of the innermost open element whose end is where this one begins; None without any."""
        lowest = max(0, len(self._open) - _MAX_UNCLOSED)
        for place in range(len(self._open) - 1, lowest - 1, -1):
            if self._ends_before(self._open[place], tag):
                return place
            # Words that somebody forgot to end, as by `</b>`, end with the element around them.
            if self._open[place] in self._blocks:
                return None
        return None

    def _ends_before(self, open_tag: str, tag: str) -> bool:
        if open_tag == "p":
            return tag in self._blocks
        return open_tag in _FOLLOWERS and (tag == open_tag or tag in _FOLLOWERS[open_tag])

    def _close_to(self, place: int) -> None:
        self._n_open.subtract(self._open[place:])
        del self._open[place:]
