"""Text for a terminal: characters that would steer it are written as escapes.

Models, documents and files of others reach the terminal through notes, errors and tables. An escape sequence
in one could rewrite what was printed before, set the window's title or hide a link; a mark that turns the
direction of writing could show a name backwards. Half a character (a lone surrogate) cannot be printed at
all. This module does not know where a text comes from.
"""

import io
import re
import sys

# C0 and C1 controls but for tab and line end, DEL, the marks of direction that override or embed others, lone
# surrogates, and the "tags", which nobody sees. Marks that a language needs (RLM, joiners) stay.
_STEERING = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\U000e0000-\U000e007f]"
)


def _escape(match: re.Match) -> str:
    # As JSON writes them: what is printed as JSON means the same as before.
    units = match.group().encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i] << 8 | units[i + 1]:04x}" for i in range(0, len(units), 2))


def literal(text: str) -> str:
    """The text with `\\u001b` for the character ESC, and so on; tabs and line ends stay."""
    return _STEERING.sub(_escape, text)


class LiteralOutput(io.TextIOWrapper):
    """A standard output that is shown literally; `write_raw` is for what this program itself colors."""

    def write(self, text: str) -> int:
        return super().write(literal(text))

    def write_raw(self, text: str) -> int:
        return super().write(text)


def guard_stdout() -> None:
    """From here on, what is printed cannot steer the terminal."""
    out = sys.stdout
    # A notebook or a test has an output of its own kind.
    if type(out) is not io.TextIOWrapper:
        return
    out.flush()
    sys.stdout = LiteralOutput(
        out.buffer,
        encoding=out.encoding,
        errors=out.errors,
        line_buffering=out.line_buffering,
        write_through=out.write_through,
    )
