"""A PDF on standard input -> the text of its pages on standard output, one JSON line each: for asking/pdf.py.

Runs as a process of its own, so that it can be given little time and memory: a PDF of some kilobytes can
unpack to gigabytes, draw a page inside itself or ask for work without an end, and no list of such tricks is
complete. The last line is an object that says how it ended. It imports pypdf and nothing of this project.

    python asking/pdf_child.py SECONDS MEGABYTES MAX_CHARS < file.pdf
"""

import contextlib
import io
import json
import logging
import signal
import sys
from collections.abc import Iterator


def limit_itself(seconds: int, megabytes: int) -> None:
    """End this process after so many seconds, and refuse it more memory, where the system can do that."""
    # Windows has neither; there the parent ends it, and memory has no limit. Nor has it on a Mac, which
    # refuses this limit.
    if hasattr(signal, "alarm"):
        signal.alarm(seconds)
    with contextlib.suppress(ImportError, AttributeError, ValueError, OSError):
        import resource

        n_bytes = megabytes << 20
        resource.setrlimit(resource.RLIMIT_AS, (n_bytes, n_bytes))


def page_texts(data: bytes) -> Iterator[str]:
    """The text of each page. PermissionError for one behind a password, anything else for a broken one."""
    from pypdf import PdfReader

    # It warns of each small fault of a file that it can read all the same.
    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise PermissionError
    for page in reader.pages:
        # A font may name half a character: two halves become one, and one alone U+FFFD.
        yield page.extract_text().encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def write(value: object) -> None:
    sys.stdout.write(json.dumps(value) + "\n")


def ending(max_chars: int) -> dict:
    """Write the texts. How that ended: {"ended": "whole", "large", "locked", "memory" or "broken"}."""
    n_chars = 0
    try:
        for text in page_texts(sys.stdin.buffer.read()):
            n_chars += len(text)
            if n_chars > max_chars:
                return {"ended": "large"}
            write(text)
    except PermissionError:
        return {"ended": "locked"}
    except MemoryError:
        return {"ended": "memory"}
    # pypdf raises errors of many kinds for damaged files, and the user can do the same about all of them.
    except Exception as error:
        what = " ".join(str(error).split())[:100] or type(error).__name__
        return {"ended": "broken", "what": what}
    return {"ended": "whole"}


def main() -> None:
    # Of a script it is its own folder, whose modules have names that packages have too.
    sys.path.pop(0)
    seconds, megabytes, max_chars = map(int, sys.argv[1:])
    limit_itself(seconds, megabytes)
    write(ending(max_chars))


if __name__ == "__main__":
    main()
