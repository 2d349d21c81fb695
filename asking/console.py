"""Replies in a terminal: the answer, its passages with the cited words marked, and a loop of questions."""

import contextlib
import io
import itertools
import json
import os
import shutil
import sys
import textwrap
from collections.abc import Callable, Iterator
from typing import TextIO

from asking.quotes import Quote
from asking.reply import ANSWERED, WITHHELD, Reply, printable, printable_part
from utils.errors import StageError, Terminated, UsageError
from utils.runs import note
from utils.terminal import literal

_BOLD = ("\033[1;32m", "\033[0m")
_PLAIN = (">>", "<<")
# Stand-ins while a text is wrapped: one character each, and no text has them.
_OPEN = "\x01"
_CLOSE = "\x02"
_MAX_WIDTH = 100
_PROMPT = "question> "


def _marked(quote: Quote) -> str:
    """The text of a quote on one line, stand-ins around the marked words, or around all of it."""
    parts = []
    place = 0
    for start, end in quote.marked or [(0, len(quote.text))]:
        parts += [printable_part(quote.text[place:start]), _OPEN, printable_part(quote.text[start:end])]
        parts.append(_CLOSE)
        place = end
    parts.append(printable_part(quote.text[place:]))
    return "".join(parts)


def _in_color(out: TextIO) -> bool:
    # https://no-color.org
    return out.isatty() and "NO_COLOR" not in os.environ and os.environ.get("TERM") != "dumb"


def _quote_lines(quote: Quote, color: bool, marks: bool) -> list[str]:
    width = min(shutil.get_terminal_size((80, 24)).columns, _MAX_WIDTH)
    text = _marked(quote) if marks else printable(quote.text)
    wrapped = textwrap.wrap(text, max(width - 4, 20), break_long_words=False, break_on_hyphens=False)
    before, after = _BOLD if color else _PLAIN
    lines = [f"  {printable(quote.place)}"]
    for line in wrapped:
        lines.append("    " + line.replace(_OPEN, before).replace(_CLOSE, after))
    return lines


def reply_text(reply: Reply, color: bool = False) -> str:
    """A reply as lines of text: headline, reason or confidence, passages, what was looked at."""
    headline = printable(reply.headline)
    lines = [f"\033[1m{headline}\033[0m" if color else headline]
    if reply.status == WITHHELD:
        lines.append(f"({printable(reply.reason or '')})")
    if reply.status == ANSWERED:
        lines.append(f"({reply.confidence_words})")
        if reply.doubt:
            lines.append(f"({reply.doubt})")
    quotes = reply.quotes or reply.nearest
    if quotes:
        lines += ["", "cited:" if reply.quotes else "nearest passages:"]
    for quote in quotes:
        # All of a quote is marked for a verdict, whose words no passage has.
        marks = bool(reply.quotes) and (bool(quote.marked) or reply.is_verdict)
        lines += _quote_lines(quote, color, marks)
    return "\n".join([*lines, "", f"{reply.looked_at}, {reply.seconds:.1f} s"])


def _print(text: str, out: TextIO) -> None:
    # Of this module alone, whose colors the standard output of a stage would show as escapes.
    write = getattr(out, "write_raw", out.write)
    try:
        write(text + "\n")
    except UnicodeEncodeError:
        # A terminal that is not UTF-8 shows what it cannot as escapes.
        write(text.encode("ascii", "backslashreplace").decode("ascii") + "\n")
    out.flush()


def print_reply(reply: Reply, as_json: bool, out: TextIO | None = None) -> None:
    """One JSON object on a line, or lines of text."""
    out = out or sys.stdout
    if as_json:
        _print_json(reply.to_json(), out)
    else:
        _print(reply_text(reply, _in_color(out)), out)


def _print_json(found: dict, out: TextIO) -> None:
    _print(literal(json.dumps(found, ensure_ascii=False)), out)


def _print_error(question: str | None, error: StageError, as_json: bool) -> None:
    if as_json:
        _print_json({"question": question, "status": "error", "reason": str(error)}, sys.stdout)


def _print_question(question: str, is_first: bool) -> None:
    _print(("" if is_first else "\n") + f"question: {printable(question)}", sys.stdout)


def ask_each(ask: Callable[[str], Reply], questions: list[str], as_json: bool) -> None:
    """Ask questions, and print the reply to each; above it the question, if there is more than one.

    A question that cannot be asked ends the run with its StageError, after the others are answered.
    """
    errors: list[StageError] = []
    for i, question in enumerate(questions):
        if len(questions) > 1 and not as_json:
            _print_question(question, is_first=i == 0)
        try:
            print_reply(ask(question), as_json)
        except StageError as error:
            errors.append(error)
            _print_error(question, error, as_json)
            if len(questions) > 1:
                note(f"error: {error}")
    if errors and len(questions) > 1:
        found = f"{len(errors)} of {len(questions)} questions could not be asked"
        raise type(errors[0])(f"{found}; each has its reason above") from errors[0]
    if errors:
        raise errors[0]


def _piped_questions() -> Iterator[str]:
    """The lines of stdin that are not blank, without the byte order mark that a program may begin with."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        # As in the arguments of a command, so that one question of other bytes is refused, not all of them.
        sys.stdin.reconfigure(errors="surrogateescape")
    for line in sys.stdin or ():
        if question := line.removeprefix("\ufeff").strip():
            yield question


def questions_of_stdin() -> Iterator[str] | None:
    """The questions that are piped in; None if stdin is a terminal. UsageError if there is none.

    It waits for the first one, so that its lack is said before a model is loaded.
    """
    if sys.stdin and sys.stdin.isatty():
        return None
    questions = _piped_questions()
    first = next(questions, None)
    if first is None:
        raise UsageError("no question given: give one with --question, or one per line on stdin")
    return itertools.chain([first], questions)


# --- the loop


def _read_question() -> str | None:
    """The next line of the terminal; None at its end."""
    try:
        return input(_PROMPT)
    except EOFError:
        # The shell's prompt belongs on a line of its own.
        print()
        return None


def ask_in_a_loop(ask: Callable[[str], Reply], as_json: bool, piped: Iterator[str] | None = None) -> int:
    """Ask `piped` questions, or those typed in the terminal until Ctrl-D. Returns the number asked.

    Ctrl-C cancels a question. With `as_json` each piped question is answered before the next one is read, as
    a program may wait for it; as text all are read first, to know whether there are several.
    """
    shows_questions = False
    if piped is None:
        with contextlib.suppress(ImportError):
            # Importing it gives `input` the arrow keys and a history.
            import readline  # noqa: F401
        note("ask a question, or write `claim: ...` to have it checked; Ctrl-D ends, Ctrl-C cancels")
    elif not as_json:
        questions = list(piped)
        piped = iter(questions)
        shows_questions = len(questions) > 1
    n_asked = 0
    question: str | None = ""
    while True:
        try:
            question = _read_question() if piped is None else next(piped, None)
            if question is None:
                return n_asked
            if not question.strip():
                continue
            if shows_questions:
                _print_question(question, is_first=n_asked == 0)
            print_reply(ask(question.strip()), as_json)
            n_asked += 1
            if piped is None:
                print()
        except Terminated:
            # Only Ctrl-C cancels a question.
            raise
        except KeyboardInterrupt:
            note("\ncanceled; Ctrl-D ends")
        except StageError as error:
            # One bad question does not end a conversation, and whoever counts objects misses none.
            note(f"error: {error}")
            _print_error(question, error, as_json)
