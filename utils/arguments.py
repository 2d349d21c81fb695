"""Command-line flags: a parser whose errors are one line, and the types that the flags of all stages share.

It knows no stage's flags.
"""

import argparse
import difflib
import math
import re
import sys
from collections.abc import Callable, Iterable
from typing import Any

from utils.config_values import MAX_SEED
from utils.errors import UsageError

_MAX_PORT = 65535
# Dashes that word processors and web pages put in place of `--`.
_TYPOGRAPHIC_DASHES = "\u2013\u2014\u2212"
# Numbers of which the first is below zero; argparse knows a single one.
_NUMBERS = re.compile(r"-[\d.]+,")


class StageParser(argparse.ArgumentParser):
    """Raises UsageError, with the flag, what was found and the nearest known flag, and prints no usage."""

    def error(self, message):
        raise UsageError(_plain(message, self))

    def parse_known_args(self, args=None, namespace=None):
        """As argparse, but an unknown flag is named before anything else that may be wrong."""
        # With subcommands, the flags belong to the parser of the subcommand, which comes here too.
        if args is not None and self._subparsers is None:
            self._check_flags(list(args))
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        # None means the command line; read here, so that the check of the flags sees it.
        args = sys.argv[1:] if args is None else args
        return super().parse_args(_joined(list(args)), namespace)

    def _check_flags(self, args: list[str]) -> None:
        known = self._option_string_actions
        for arg in args:
            if arg == "--":
                return
            name = arg.partition("=")[0]
            if arg[:1] in tuple(_TYPOGRAPHIC_DASHES):
                plain = "--" + arg.lstrip("-" + _TYPOGRAPHIC_DASHES)
                raise UsageError(f"{arg}: starts with a typographic dash; write {plain}")
            is_long = name.startswith("--") and name not in known
            # `-config` would be read as `-c onfig`; numbers below zero are values.
            is_short = re.match(r"-[A-Za-z]{2}", name) and f"-{name}" in known
            if is_long or is_short:
                raise UsageError(f"unknown flag {name}{_nearest_flag(name, known)}")


def _joined(args: list[str]) -> list[str]:
    """The arguments with `--split -1,1,1` as `--split=-1,1,1`, which argparse takes for two flags."""
    joined: list[str] = []
    for arg in args:
        if joined and joined[-1].startswith("--") and "=" not in joined[-1] and _NUMBERS.match(arg):
            joined[-1] += f"={arg}"
        else:
            joined.append(arg)
    return joined


def _nearest_flag(name: str, known) -> str:
    flags = [flag for flag in known if flag.startswith("--")]
    word = "--" + name.lstrip("-").replace("_", "-").lower()
    starts = [flag for flag in flags if flag.startswith(word)]
    close = starts[:1] or difflib.get_close_matches(word, flags, n=1)
    return f"; did you mean {close[0]}?" if close else "; --help lists the flags"


def _plain(message: str, parser: argparse.ArgumentParser) -> str:
    """argparse's message as ours: the flag first, the nearest choice named."""
    message = message.removeprefix("argument ")
    message = message.replace("expected one argument", "expected a value; none follows it")
    if found := re.match(r"(.+): invalid choice: (.+) \(choose from (.+)\)$", message):
        flag, value, choices = found.groups()
        # Not at commas alone, which are in some choices of --models.
        names = [choice.strip("' ") for choice in choices.split(", ")]
        close = difflib.get_close_matches(value.strip("'"), names, n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        shown = map(repr, names) if "," in "".join(names) else names
        return f"{flag}: {value} is none of {', '.join(shown)}{hint}"
    if found := re.match(r"the following arguments are required: (.+)$", message):
        # Subcommands have no flag: argparse names them as {first,second}.
        if found[1].startswith("{"):
            *others, last = found[1].strip("{}").split(",")
            return f"name a command: {', '.join(others)} or {last}"
        return f"{found[1]}: must be given; --help shows examples"
    if found := re.match(r"unrecognized arguments: (.+)$", message):
        return f"unexpected {found[1]!r}: no flag before it takes it; --help lists the flags"
    return message


def stage_parser(description: str | None, **settings) -> StageParser:
    """A parser that shows a script's docstring as it is written."""
    formatter = argparse.RawDescriptionHelpFormatter
    return StageParser(description=description, formatter_class=formatter, allow_abbrev=False, **settings)


# --- types of flags


def _number(text: str, kind: Callable, wanted: str):
    try:
        value = kind(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"expected {wanted}, found {text!r}") from None
    return value


def _int_from(least: int, text: str, wanted: str, most: float = math.inf) -> int:
    value = _number(text, int, wanted)
    if not least <= value <= most:
        raise argparse.ArgumentTypeError(f"expected {wanted}, found {text}")
    return value


def positive_int(text: str) -> int:
    """A whole number from 1 on."""
    return _int_from(1, text, "a whole number from 1 on")


def several(text: str) -> int:
    """A whole number from 2 on."""
    return _int_from(2, text, "a whole number from 2 on")


def order_count(text: str) -> int:
    """The value of --orders: a whole number from 2 to 8."""
    return _int_from(2, text, "a whole number from 2 to 8", most=8)


def sample_limit(text: str) -> int | None:
    """The value of --limit: a whole number; None, which means all, for 0."""
    return _int_from(0, text, "a whole number (0: all)") or None


def chunk_count(text: str) -> int:
    """A number of evidence chunks: a support and a negative at least."""
    return _int_from(2, text, "a whole number from 2 on")


def whole_number(text: str) -> int:
    """A whole number from 0 on."""
    return _int_from(0, text, "a whole number from 0 on")


def seed_number(text: str) -> int:
    """A seed that random, numpy and torch all take."""
    value = whole_number(text)
    if value > MAX_SEED:
        raise argparse.ArgumentTypeError(f"expected a seed of at most {MAX_SEED}, found {text}")
    return value


def port_number(text: str) -> int:
    """A port that a user's program may listen on."""
    return _int_from(1024, text, "a port from 1024 to 65535", most=_MAX_PORT)


def _float_between(low: float, high: float, text: str, wanted: str) -> float:
    value = _number(text, float, wanted)
    # NaN fails every comparison.
    if not low <= value <= high or math.isinf(value):
        raise argparse.ArgumentTypeError(f"expected {wanted}, found {text}")
    return value


def share(text: str) -> float:
    """A number from 0 to 1."""
    return _float_between(0, 1, text, "a number from 0 to 1")


def temperature(text: str) -> float:
    """A number from 0 on; 0 is greedy."""
    return _float_between(0, math.inf, text, "a number from 0 on (0 is greedy)")


def bucket_list(text: str) -> list[int]:
    """Ascending lengths in tokens, from numbers separated by commas."""
    wanted = "token counts separated by commas, such as 512,1024"
    buckets = [_int_from(1, part, wanted) for part in text.split(",")]
    return sorted(set(buckets))


def given_flag(
    args: argparse.Namespace, default_of: Callable[[str], Any], names: Iterable[str]
) -> str | None:
    """The first of the flags `names`, as it is typed, that has another value than its default; None without.

    `default_of`: a flag's name -> what it is where it was not given (`parser.get_default`).
    """
    given = (name for name in names if getattr(args, name) != default_of(name))
    name = next(given, None)
    return name and f"--{name.replace('_', '-')}"


def refuse_given(
    args: argparse.Namespace, default_of: Callable[[str], Any], names: Iterable[str], why: str
) -> None:
    """UsageError for the first of the flags `names` that was given."""
    if flag := given_flag(args, default_of, names):
        raise UsageError(f"{flag}: {why}; leave it out")
