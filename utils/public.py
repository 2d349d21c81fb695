"""What a manifest, a report or a card may tell of a run: no folder of this machine, no password.

Values of settings and words of a command pass through here on their way into a file.
"""

import os
import re
from typing import Any

from utils.addresses import without_secrets
from utils.config import portable_path


def _public_text(text: str) -> str:
    # A template or a question may begin with a slash too, but no path has a line end.
    is_path = os.path.isabs(text) and "\n" not in text
    return portable_path(text) if is_path else without_secrets(text)


def public_word(word: str) -> str:
    """A word of a command; of `--output=PATH`, `--set key=PATH` and `--set=key=PATH` the path."""
    flag_or_key = re.match(r"[\w.-]+=", word)
    if flag_or_key is None:
        return _public_text(word)
    return flag_or_key[0] + public_word(word[flag_or_key.end() :])


def public_value(value: Any) -> Any:
    """A value of settings, with all that is in it."""
    if isinstance(value, str):
        return _public_text(value)
    if isinstance(value, dict):
        return {name: public_value(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(public_value(inner) for inner in value)
    return value
