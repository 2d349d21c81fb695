"""Web addresses with secrets in them: what may be shown of one, and what is sent instead of the secret.

A password before the host (`https://user:password@host/`) and a key in the query (`?token=...`) must not
reach a message, a manifest or a name server. This module opens no connection.
"""

import base64
import re
from urllib.parse import unquote, urlsplit

_HIDDEN = "***"
_USER = re.compile(r"(?<=://)[^/?#\s]*@")
_SECRET_KEYS = "token|key|secret|sig|signature|pass|password|auth|authorization|credential|session"
_SECRET_VALUE = re.compile(rf"([?&;][^=&;#\s]*(?:{_SECRET_KEYS})[^=&;#\s]*=)[^&;#\s]+", re.IGNORECASE)


def without_secrets(text: str) -> str:
    """A text with `***` for the users, passwords and keys of the addresses in it."""
    return _SECRET_VALUE.sub(rf"\1{_HIDDEN}", _USER.sub(f"{_HIDDEN}@", text))


def split_login(url: str) -> tuple[str, str | None]:
    """(the address without its user and password, the Authorization header that they are)."""
    host = urlsplit(url).netloc
    login, at, _ = host.rpartition("@")
    if not at:
        return url, None
    user, _, password = login.partition(":")
    encoded = base64.b64encode(f"{unquote(user)}:{unquote(password)}".encode()).decode()
    return url.replace(f"{login}@", "", 1), f"Basic {encoded}"
